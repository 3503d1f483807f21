"""Tables of what edits of channels do: the effect of each, curves over growing sets, and areas between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.channels.frequency import channel_numbers
from actstore.analysis.interventions.against_random import against_random
from actstore.analysis.interventions.cumulative import RANDOM, RANKED, areas, over_repeats
from actstore.analysis.interventions.effects import SHARES, effects
from actstore.analysis.uncertainty.bootstrap import bootstrap_mean
from actstore.store.coordinates import CHANNELS
from actstore.tables.passes import EACH, LAYER, SINGLE, Intervention, Passes, having
from actstore.tables.rows import LAYER_COLUMNS, RESTS_ON, build_rows, with_channels

#: Of an edit that is not tested.
_NONE = {"p": np.nan, "q": np.nan, "tests": 0, "note": ""}
_ENDS = ("low", "high", "error")
_PASSES = ("intervention", "quantity", "condition", "donor", "target", "class_name")
EFFECTS_COLUMNS = (
    *_PASSES, *LAYER_COLUMNS, "edit", "order", "count", "channel", "chosen", *RESTS_ON, "unedited", "edited", "loss",
    "effect", *_ENDS, "p", "q", "tests", "note",
)  # fmt: skip
CUMULATIVE_COLUMNS = (
    *_PASSES, *LAYER_COLUMNS, "order", "count", "repeats", *RESTS_ON, "dice", "dice_low", "dice_high", "dice_error",
    "effect", *_ENDS, "note",
)  # fmt: skip
AREAS_COLUMNS = (*_PASSES, *LAYER_COLUMNS, "order", *RESTS_ON, "area", *_ENDS, "note")


def effects_table(found: Sequence[Passes], *, resamples: int) -> pd.DataFrame:
    """The effect of each edit on each class, in columns :data:`EFFECTS_COLUMNS`.

    Of every edit but growing sets, which :func:`cumulative_table` has; see
    :func:`actstore.analysis.interventions.effects.effects`, and for ``p`` and ``q`` of channels that are edited alone
    :func:`actstore.analysis.interventions.against_random.against_random`.

    Raises
    ------
    Unanswerable
        if the interventions edit growing sets only.
    """
    parts = []
    for passes in having(found, SINGLE, 'channels = "each"'):
        one = passes.one
        at = one.having(SINGLE)
        own = passes.differences.isel(edit=at)
        values = effects(own, resamples=resamples)
        tests = _tests(own["part"])
        known = values["effect"].notnull()
        values = values.assign({"tests": tests["tests"], **{name: tests[name].where(known) for name in ("p", "q")}})
        values["note"] = values["note"].where(values["note"] != "", tests["note"])
        there = own["part"].notnull() & own["whole"].notnull()
        means = {"edited": passes.edited.isel(edit=at), "unedited": passes.unedited, "loss": own["whole"]}
        beside = {name: array.reset_coords(drop=True).where(there).mean("sample") for name, array in means.items()}
        shares = xr.DataArray(np.isin(one.quantities, SHARES), dims="condition")
        beside["loss"] = beside["loss"].where(shares)
        parts.append(_rows(one, values.assign(beside).assign(_channels(one, at)), EFFECTS_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def cumulative_table(found: Sequence[Passes], *, resamples: int) -> pd.DataFrame:
    """Dice and effect against the number of channels, by order, in columns :data:`CUMULATIVE_COLUMNS`.

    ``repeats`` is of how many sets of that size each sample's value is the mean. An order by effect was made from the
    same patients, and looks better than it would in others.

    Raises
    ------
    Unanswerable
        if no intervention edits growing sets.
    """
    parts = []
    for passes in _cumulative(found):
        one = passes.one
        part = over_repeats(passes.differences["part"])
        dice = over_repeats(passes.edited).where(part.notnull())
        means = bootstrap_mean(dice, resamples=resamples)
        values = effects(xr.Dataset({"part": part, "whole": passes.differences["whole"]}), resamples=resamples)
        more = {"dice": means["mean"], **{f"dice_{end}": means[end] for end in _ENDS}}
        parts.append(_rows(one, values.assign(more).reset_coords("repeats"), CUMULATIVE_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def areas_table(found: Sequence[Passes], *, resamples: int) -> pd.DataFrame:
    """The area between each order and random sets, by layer and over all, in columns :data:`AREAS_COLUMNS`.

    See :func:`actstore.analysis.interventions.cumulative.areas`.

    Raises
    ------
    Unanswerable
        if no intervention edits growing sets.
    """
    parts = []
    for passes in _cumulative(found):
        part = over_repeats(passes.differences["part"])
        values = areas(part, passes.differences["whole"], resamples=resamples)
        parts.append(_rows(passes.one, values, AREAS_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def _cumulative(found: Sequence[Passes]) -> list[Passes]:
    return having(found, (*RANKED, RANDOM), 'channels = "cumulative"')


def _tests(part: xr.DataArray) -> xr.Dataset:
    """p, q and note of the edits of one channel alone: (condition, edit, class_name)."""
    alone = part.isel(edit=np.flatnonzero(part["order"].values == EACH))
    if not alone.sizes["edit"]:
        like = part.isel(sample=0, drop=True)
        return xr.Dataset({name: xr.full_like(like, none, np.asarray(none).dtype) for name, none in _NONE.items()})
    found = against_random(alone.rename(edit="channel")).rename(channel="edit")
    return found.assign(tests=found["tests"].broadcast_like(found["p"])).reindex(edit=part["edit"], fill_value=_NONE)


def _channels(one: Intervention, at: NDArray[np.intp]) -> dict[str, Any]:
    """Which channels each edit changes: the ``channel`` of one that is edited alone, -1 else, and all as text."""
    chosen = one.group["chosen"].isel(edit=at).transpose("condition", "edit", "channel").values
    alone = chosen.sum(axis=-1) == 1
    texts = channel_numbers(chosen).astype(object)
    texts[:, one.orders[at] == LAYER] = "all"
    dims = ("condition", "edit")
    return {"channel": (dims, np.where(alone, chosen.argmax(axis=-1), -1)), "chosen": (dims, texts.astype(str))}


def _rows(one: Intervention, values: xr.Dataset, columns: Sequence[str]) -> pd.DataFrame:
    """A row for each condition, edit or curve, and class, the perturbed class first."""
    conditions = one.store.conditions
    targets = [str(conditions["target"].get(name, "")) for name in one.perturbations]
    classes = [str(name) for name in values["class_name"].values]
    along = next(str(dim) for dim in values.dims if dim not in ("condition", "class_name"))
    order = [sorted(range(len(classes)), key=lambda k, target=target: classes[k] != target) for target in targets]  # type: ignore[misc]
    number = values.sizes[along]
    at = {
        "condition": np.repeat(np.arange(len(targets)), number * len(classes)),
        along: np.tile(np.repeat(np.arange(number), len(classes)), len(targets)),
        "class_name": np.concatenate([np.tile(own, number) for own in order]),
    }
    names = with_channels(columns, one.store.confusion)
    inputs = [str(conditions[CHANNELS].get(name, "")) for name in one.perturbations] if CHANNELS in names else []
    given = {
        "intervention": xr.DataArray(one.name),
        "quantity": xr.DataArray(one.quantities, dims="condition"),
        "condition": xr.DataArray(one.conditions, dims="condition"),
        "donor": xr.DataArray(one.donor or ""),
        "target": xr.DataArray(targets, dims="condition"),
        CHANNELS: xr.DataArray(inputs, dims="condition"),
    }
    table = build_rows(
        {name: given[name] if name in given else values[name].reset_coords(drop=True) for name in names},
        at,
        rows=len(at["condition"]),
    )
    if "channel" in table:
        table["channel"] = table["channel"].astype("Int64").where(table["channel"] >= 0)
    return table
