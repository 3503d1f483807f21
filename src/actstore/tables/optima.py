"""Optima of a store: the group that activation maximisation filled, and its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.optima import STATUSES, above_data
from actstore.errors import StoreError
from actstore.tables.catalogue import Unanswerable
from actstore.tables.rows import LAYER_COLUMNS, sample_columns, take

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Where the groups of features lie, and the key of the settings in what a group says of itself.
FEATURES, SETTINGS = "features/", "visualise"
#: The objective at the first and the last image, and over the data.
_VALUES = ("start", "final")
_DATA = ("data_max", "data_mean", "data_std")
#: Arrays of one small file a unit.
_SMALL = (
    *_VALUES, *_DATA, "status", "curve", "top_sample", "top_value", "top_position", "top_start", "top_stop",
)  # fmt: skip


@dataclass(frozen=True)
class Optima:
    """One group of optima of an open store."""

    store: Store
    #: Last part of the group's path.
    name: str
    #: Lazy, with committed units only.
    group: xr.Dataset
    #: The resolved table ``[visualise]`` of the spec.
    settings: Mapping[str, Any]

    @property
    def size(self) -> tuple[int, ...]:
        """([z,] y, x) of the images in pixels."""
        return tuple(self.group["image"].shape[3:])

    @property
    def noun(self) -> str:
        """What ``channel`` numbers: a channel of the layer, or one of the settings' directions, or a class."""
        objective = str(self.settings.get("objective"))
        return objective if objective in ("direction", "class") else "channel"

    @property
    def input_size(self) -> tuple[int, ...]:
        """([z,] y, x) of the inputs that the data were looked at in."""
        return self.store.layout.space

    @property
    def samples_known(self) -> bool:
        """Whether rows of ``store.samples`` are those that ``top_sample`` counts: not while blocks are missing."""
        return not self.store.missing

    @cached_property
    def small(self) -> xr.Dataset:
        """Everything but the images, in memory; ``top_sample`` is -1 where the sample is not known.

        Raises
        ------
        StoreError
            if a sample is named that the store does not have.
        """
        found = self.group[list(_SMALL)].compute()
        if not self.samples_known:
            return found.assign(top_sample=xr.full_like(found["top_sample"], -1))
        last, samples = int(found["top_sample"].max()), len(self.store.samples)
        if last >= samples:
            raise StoreError(
                f"{FEATURES}{self.name} of {self.store.path} names sample {last}, and the store has 0..{samples - 1}: "
                "compute the optima again"
            )
        return found

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of the group."""
        return list(dict.fromkeys(self.small["layer"].values.tolist()))

    def channels(self, layer: str) -> dict[int, int]:
        """Channel to position along ``layer_channel``, of one layer.

        Raises
        ------
        KeyError
            naming the layers that there are.
        """
        at = np.flatnonzero(self.small["layer"].values == layer)
        if len(at) == 0:
            raise KeyError(f"no optima of layer {layer!r}: there are {', '.join(self.layers)}")
        return {int(self.small["channel"].values[i]): int(i) for i in at}

    def channel(self, layer: str, channel: int) -> int:
        """Position of a channel along ``layer_channel``.

        Raises
        ------
        KeyError
            naming the layers that there are.
        StoreError
            naming the channels that there are.
        """
        found = self.channels(layer)
        if channel not in found:
            first, *more = found
            there = f"{first}..{first + len(more)}" if list(found) == [*range(first, first + len(found))] else None
            raise StoreError(
                f"no optimum of {self.noun} {channel} of {layer}: there are {there or ', '.join(map(str, found))}"
            )
        return found[channel]


def optima_names(store: Store) -> list[str]:
    """Names of the groups of optima of which something is committed, in alphabetical order."""
    return [
        path.removeprefix(FEATURES)
        for path, group in store.groups.items()
        if path.startswith(FEATURES) and SETTINGS in group.identity and store.group_committed(path).any()
    ]


def open_optima(store: Store, of: str | None = None) -> Optima:
    """The optima of a store: those named ``of``, which may be left out where there is one group only.

    Raises
    ------
    Unanswerable
        if the store holds none.
    StoreError
        if there are several and none is named, or none of that name; it names those that there are.
    """
    names = optima_names(store)
    if not names:
        raise Unanswerable("the store holds no optima: `actstore visualise SPEC` computes them")
    if of and of not in names:
        raise StoreError(f"no optima {of!r}: there are {', '.join(names)}")
    if not of and len(names) > 1:
        raise StoreError(f"{store.path} holds several optima, {', '.join(names)}: choose one with `of`, or --of NAME")
    name = of or names[0]
    path = FEATURES + name
    return Optima(store, name, store.group(path), store.groups[path].identity[SETTINGS])


def optima_table(optima: Optima) -> pd.DataFrame:
    """A row of each image: its channel, status and objective, that of the data, and the strongest sample.

    Columns ``layer, module, channel, seed, status, start, final, data_max, data_mean, data_std, above_data, patient,
    frame, slice, value``, of patches with ``patch`` after ``slice``. ``above_data`` is a nullable bool, as
    :func:`actstore.analysis.optima.above_data`; ``frame``, ``slice`` and ``patch`` are nullable whole numbers, without
    a value where no sample is known.
    """
    small = optima.small
    shape = (small.sizes["layer_channel"], small.sizes["seed"])
    row, seed = (index.ravel() for index in np.indices(shape))
    columns: dict[str, Any] = {name: take(small[name].values, row) for name in (*LAYER_COLUMNS, "channel")}
    columns["seed"] = small["seed"].values[seed]
    columns["status"] = take(np.asarray(STATUSES), small["status"].transpose("layer_channel", "seed").values.ravel())
    for name in (*_VALUES, *_DATA):
        each = small[name].broadcast_like(small["final"]).transpose("layer_channel", "seed")
        columns[name] = each.values.ravel().astype(np.float64)
    above = above_data(small, size=optima.size, input_size=optima.input_size).values.ravel()
    columns["above_data"] = pd.array(above, dtype="Float64").astype("boolean")
    strongest = small.isel(rank=0)
    sample = strongest["top_sample"].values[row]
    known = sample >= 0
    for name in sample_columns(optima.store.samples):
        values = optima.store.samples[name].to_numpy()
        if name == "patient":
            columns[name] = np.where(known, values[sample].astype(object), "")
        else:
            columns[name] = pd.Series(values[sample]).astype("Int64").where(known).array
    columns["value"] = np.where(known, strongest["top_value"].values[row].astype(np.float64), np.nan)
    return pd.DataFrame(columns)
