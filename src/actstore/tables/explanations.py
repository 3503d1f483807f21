"""Explanations of a store: the groups that `actstore explain` filled, and the tables that say how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.maps.landmarks import landmarks
from actstore.analysis.uncertainty.bootstrap import bootstrap_mean
from actstore.errors import StoreError
from actstore.tables.catalogue import Unanswerable
from actstore.tables.job_groups import JobGroup, Kind
from actstore.tables.rows import RESTS_ON

#: Where the groups of explanations lie, and the key of the settings in what a group says of itself.
EXPLAIN, SETTINGS = "explain/", "explain"
#: The arrays of maps: of classes, and of channels.
MAP, PROJECTION = "map", "projection"
#: The trivial order, which others are compared with: whatever is nearest to the middle of the class.
DISTANCE = "distance"
_ENDS = ("low", "high", "error")
_OF_CLASSES = ("explanation", "method", "condition", "class_name")
_OF_MAPS = (*_OF_CLASSES, "layer", "rank")
DELETION_COLUMNS = (
    *_OF_CLASSES, "order", "deleted", *RESTS_ON, "probability", *_ENDS, "excess", "excess_low", "excess_high",
    "excess_error", "note",
)  # fmt: skip
RANDOMISATION_COLUMNS = (*_OF_MAPS, "permuted", "sign", *RESTS_ON, "spearman", *_ENDS, "note")
LANDMARKS_COLUMNS = (*_OF_MAPS, "landmark", *RESTS_ON, "energy", "area", "concentration", *_ENDS, "note")


@dataclass(frozen=True)
class Explanation(JobGroup):
    """One explanation of an open store; its settings are the resolved table ``[[explain]]`` of the spec."""

    @property
    def of_channels(self) -> bool:
        """Whether channels are projected back, and no classes explained."""
        return PROJECTION in self.group

    @property
    def maps(self) -> xr.DataArray:
        """(sample, condition, class_name, [z,] y, x), or (sample, condition, layer, rank, [z,] y, x); lazy."""
        return self.group[PROJECTION if self.of_channels else MAP]

    @property
    def method(self) -> str:
        return str(self.settings["method"])

    def row(self, sample: int) -> int:
        """Where a sample of the store, by its number, lies in the explanation.

        Raises
        ------
        StoreError
            if it is not explained yet.
        """
        at = np.flatnonzero(self.samples == sample)
        if not len(at):
            raise StoreError(f"sample {sample} has no part in {self.path} yet: `actstore explain SPEC` continues it")
        return int(at[0])


#: Explanations of stores.
EXPLANATIONS = Kind(Explanation, "explanation", EXPLAIN, SETTINGS, "actstore explain SPEC")


def deletion_table(found: Sequence[Explanation], *, resamples: int) -> pd.DataFrame:
    """What is left of a class's probability when tiles are deleted in some order, in columns :data:`DELETION_COLUMNS`.

    Means over the samples in which the class is predicted, with intervals over patients. ``excess`` is how much more
    is left than when those nearest to the middle of the class are deleted, sample by sample: a map that beats this
    trivial order has it below 0.

    Raises
    ------
    Unanswerable
        if none of the explanations was made with deletion.
    """
    parts = []
    for one in _having(found, "deletion", "deletion = 16 below [[explain]], of classes"):
        left = one.group["deletion"].compute()
        means = bootstrap_mean(left, resamples=resamples)
        excess = bootstrap_mean(left - left.sel(order=DISTANCE, drop=True), resamples=resamples)
        more = {"excess": excess["mean"], **{f"excess_{end}": excess[end] for end in _ENDS}}
        parts.append(_rows(one, means.rename(mean="probability").assign(more), DELETION_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def randomisation_table(found: Sequence[Explanation], *, resamples: int) -> pd.DataFrame:
    """How alike maps are with permuted weights, in columns :data:`RANDOMISATION_COLUMNS`.

    ``spearman`` is the mean rank correlation over samples of the map, or of its magnitude, with that of the network in
    which so many layers of weights are ``permuted``, with intervals over patients.

    Raises
    ------
    Unanswerable
        if none of the explanations was made with randomisation.
    """
    parts = []
    for one in _having(found, "randomisation", "randomisation = [1, 2, 4] below [[explain]]"):
        means = bootstrap_mean(one.group["randomisation"].compute(), resamples=resamples)
        parts.append(_rows(one, means.rename(mean="spearman"), RANDOMISATION_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def landmarks_table(found: Sequence[Explanation], *, resamples: int) -> pd.DataFrame:
    """The share of maps' energy over the share of the area on each class, in columns :data:`LANDMARKS_COLUMNS`.

    Means over the samples whose label has the class, with intervals of ``concentration`` over patients; see
    :func:`actstore.analysis.landmarks`.
    """
    parts = []
    for one in found:
        store = one.store
        label = store.label.isel(sample=one.samples)
        each = landmarks(one.maps, label, class_names=store.class_names, regions=store.members).compute()
        means = bootstrap_mean(each["concentration"], resamples=resamples).rename(mean="concentration")
        there = each["concentration"].notnull()
        shares = {name: each[name].where(there).mean("sample") for name in ("energy", "area")}
        parts.append(_rows(one, means.assign(shares), LANDMARKS_COLUMNS))
    return pd.concat(parts, ignore_index=True)


def _having(found: Sequence[Explanation], array: str, setting: str) -> list[Explanation]:
    """Those with an array."""
    if kept := [one for one in found if array in one.group]:
        return kept
    names = ", ".join(one.name for one in found)
    raise Unanswerable(f"{names}: made without {array}; set {setting} and explain it again under another name")


def _rows(one: Explanation, values: xr.Dataset, columns: Sequence[str]) -> pd.DataFrame:
    """A row for each cell of ``values``, sorted by its dims in the order of ``columns``."""
    dims = [name for name in columns if name in values.dims]
    plain = values.drop_vars([name for name in values.coords if name not in dims])
    frame = plain.transpose(*dims).to_dataframe().reset_index()
    # Of classes and of channels alike, where tables are joined.
    empty: dict[str, Any] = {"class_name": "", "layer": "", "rank": pd.NA}
    given = {"explanation": one.name, "method": one.method} | {k: v for k, v in empty.items() if k not in frame}
    frame = frame.assign(**given)
    if "rank" in columns:
        frame["rank"] = frame["rank"].astype("Int64")
    return frame[list(columns)]
