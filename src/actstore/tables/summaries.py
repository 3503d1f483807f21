"""Short tables for the terminal and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from actstore.analysis.evidence import perturbations
from actstore.analysis.segmentation.counts import true_pixels
from actstore.analysis.segmentation.overlap import dice
from actstore.measures.names import MOST, TOP
from actstore.tables.build import build_table

if TYPE_CHECKING:
    from actstore.store.store import Store


def dice_summary(store: Store) -> pd.DataFrame:
    """Mean Dice of each class over slices that contain it: under each perturbation, and the original on the same ones.

    Columns ``class_name, condition, samples, patients, original, perturbed, change, change_low, change_high`` of the
    table ``dice-mean``; the interval of the change is over patients, NaN where they are too few.
    """
    columns = ("class_name", "condition", "samples", "patients", "original", "perturbed", "change")
    return build_table(store, "dice-mean")[[*columns, "change_low", "change_high"]]


def original_dice(store: Store) -> pd.DataFrame:
    """Mean Dice of each class on untouched images, over slices that contain it: ``class_name, samples, dice``."""
    confusion = store.confusion.isel(condition=[0]).compute()
    overlaps = dice(confusion, regions=store.members).isel(condition=0)
    present = true_pixels(confusion.isel(condition=0), store.members) > 0
    rows = []
    for name in store.members:
        values = overlaps.sel(class_name=name).values[present.sel(class_name=name).values]
        mean = float(values.mean()) if len(values) else np.nan
        rows.append({"class_name": name, "samples": len(values), "dice": mean})
    return pd.DataFrame(rows)


def case_summary(store: Store) -> pd.DataFrame:
    """How many samples fell into each kind of failure: ``condition, target, case, samples, patients, share``."""
    cases = build_table(store, "cases")
    keys = ["condition", "target", "case"]
    found = cases.groupby(keys, observed=True)["patient"].agg(samples="size", patients="nunique").reset_index()
    found["share"] = found["samples"] / found.groupby("condition")["samples"].transform("sum")
    order = {name: i for i, name in enumerate(store.conditions.index)}
    found = found.assign(order=found["condition"].map(order))
    ranked = found.sort_values(["order", "samples", "case"], ascending=[True, False, True])
    return ranked.drop(columns="order").reset_index(drop=True)


def frequency_summary(store: Store, *, top: int = TOP, most: int = MOST) -> pd.DataFrame:
    """The most frequent top channels of every layer: a row a layer, a column a perturbation, ``channel (count)``."""
    return most_frequent_by_layer(store, build_table(store, "frequency", top=top, most=most))


def most_frequent_by_layer(store: Store, frequency: pd.DataFrame) -> pd.DataFrame:
    """As :func:`frequency_summary`, of the table ``frequency`` with one row a layer, condition and channel."""
    pairs = zip(frequency["channel"], frequency["count"], strict=True)
    cells = frequency.assign(cell=[f"{channel}\u00a0({count})" for channel, count in pairs])
    wide = cells.groupby(["layer", "condition"], observed=True)["cell"].agg(" · ".join).unstack("condition")
    perturbed = store.conditions.index[perturbations(store.applicable)]
    conditions = [name for name in perturbed if name in wide.columns]
    wide = wide.reindex(index=list(store.layers.index), columns=conditions).fillna("")
    return wide.rename_axis(columns=None).reset_index()
