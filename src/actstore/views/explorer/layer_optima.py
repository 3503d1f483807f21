"""Optima of the channels of one layer, as the explorer shows them: read once for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.tables.optima import Optima, open_optima, optima_names
from actstore.views.arrays import Floats
from actstore.views.figures.optima import best_of, plane_of

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Statuses of which there is no image to look at.
BLANK = ("dead", "constant")


@dataclass(frozen=True)
class Optimum:
    """The best image of one channel."""

    #: float32 (input_channel, y, x): of a volume, its middle slice.
    image: Floats
    #: One of :data:`actstore.analysis.optima.STATUSES`.
    status: str
    #: The objective that it reaches, and the highest of any sample of the data.
    value: float
    data_max: float
    #: Samples of the data that reach most, by number, the strongest first; empty while blocks are missing.
    samples: NDArray[np.int64]


class LayerOptima:
    """Optima of one store, of all its groups of optima of channels, in alphabetical order."""

    def __init__(self, store: Store) -> None:
        opened = [open_optima(store, name) for name in optima_names(store)]
        self._groups = [one for one in opened if one.noun == "channel"]
        self._read: LRUCache[str, dict[int, Optimum]] = LRUCache(8)

    @property
    def layers(self) -> list[str]:
        """Layers that have some."""
        return list(dict.fromkeys(layer for group in self._groups for layer in group.layers))

    def of(self, layer: str) -> Mapping[int, Optimum]:
        """Channel to its optimum.

        Raises
        ------
        StoreError
            if there is none of this layer.
        """
        if (found := self._read.get(layer)) is None:
            groups = [group for group in self._groups if layer in group.layers]
            if not groups:
                have = ", ".join(self.layers)
                there = f"there are optima of {have}" if have else "`actstore visualise SPEC` computes optima"
                raise StoreError(f"the store has no optima of {layer}: {there}")
            self._read[layer] = found = _read(groups[0], layer)
        return found


def _read(group: Optima, layer: str) -> dict[int, Optimum]:
    channels = group.channels(layer)
    at, z = list(channels.values()), plane_of(group, None)
    best = best_of(group, at)
    images = group.group["image"].isel(layer_channel=at)
    every = np.asarray((images if z is None else images.isel(z=z)).values, np.float32)
    small = group.small.isel(layer_channel=at)
    found = {}
    for i, (channel, (seed, status)) in enumerate(zip(channels, best, strict=True)):
        own = small.isel(layer_channel=i)
        samples = np.atleast_1d(own["top_sample"].values).astype(np.int64)
        found[channel] = Optimum(
            every[i, seed],
            status,
            float(own["final"].isel(seed=seed)),
            float(own["data_max"]),
            samples[samples >= 0],
        )
    return found
