"""The three tables that answer a study's first questions, small enough to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from actstore import analysis
from actstore.spec import BACKGROUND
from actstore.tables import build_table

if TYPE_CHECKING:
    from actstore.store import Store


def dice_summary(store: Store) -> pd.DataFrame:
    """Mean Dice of each class over the slices that contain it: original, then under each condition.

    Columns ``class_name, samples, original`` and one a perturbing condition. ``samples`` counts slices that contain the
    class; a condition's mean is over those of them where it applies.
    """
    confusion = store.confusion.compute()
    dice = analysis.dice(confusion, applicable=store.applicable).compute()
    present = confusion.isel(condition=0).sum("predicted_class") > 0
    rows = []
    for name in (c for c in store.class_names if c != BACKGROUND):
        contains = present.sel(true_class=name).values
        values = dice.sel(class_name=name).values[contains]
        means = [float(np.nanmean(column)) if np.isfinite(column).any() else np.nan for column in values.T]
        rows.append(
            {
                "class_name": name,
                "samples": int(contains.sum()),
                **dict(zip(store.conditions.index, means, strict=True)),
            }
        )
    return pd.DataFrame(rows)


def case_summary(store: Store) -> pd.DataFrame:
    """How many samples fell into each kind of failure: columns ``condition, target, case, samples, share``."""
    cases = build_table(store, "cases")
    order = {name: i for i, name in enumerate(store.conditions.index)}
    counted = cases.groupby(["condition", "target", "case"], observed=True).size().rename("samples").reset_index()
    totals = counted.groupby("condition", observed=True)["samples"].transform("sum")
    counted["share"] = counted["samples"] / totals
    counted["order"] = [order[name] for name in counted["condition"]]
    return (
        counted.sort_values(["order", "samples"], ascending=[True, False]).drop(columns="order").reset_index(drop=True)
    )


def frequency_summary(store: Store, *, top: int = 3, most: int = 7) -> pd.DataFrame:
    """The most frequent top channels of every layer: one row a layer, one column a condition, ``channel (count)``."""
    frequency = build_table(store, "frequency", top=top, most=most)
    cells = frequency.assign(cell=[f"{c} ({n})" for c, n in zip(frequency["channel"], frequency["count"], strict=True)])
    wide = cells.groupby(["layer", "condition"], observed=True)["cell"].agg(" ".join).unstack("condition")
    conditions = [name for name in store.conditions.index if name in wide.columns]
    return wide.reindex(index=list(store.layers.index), columns=conditions).fillna("").reset_index()
