"""What a store knows of one channel besides its maps: back-projections, strongest samples, and channels like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from actstore.conditions import ORIGINAL
from actstore.tables.explanations import EXPLANATIONS, PROJECTION
from actstore.views.arrays import Floats
from actstore.views.explorer.likeness import Likeness

if TYPE_CHECKING:
    from actstore.store.store import Store


class ChannelFindings:
    """Of the channels of one store; what is persisted of a layer is read by :class:`Likeness`, which shares it."""

    def __init__(self, store: Store, likeness: Likeness) -> None:
        self._store, self._likeness = store, likeness
        every = [EXPLANATIONS.open(store, name) for name in EXPLANATIONS.names(store)]
        self._projected = [one for one in every if one.of_channels]
        self._correlation: LRUCache[str, Floats] = LRUCache(8)

    def strongest(self, layer: str, channel: int, number: int) -> tuple[NDArray[np.intp], Floats]:
        """Samples whose original reaches most in a channel, the strongest first, and its maximum there."""
        points = self._likeness.read(layer)
        maximum = points[:, points.shape[1] // 2 + channel]
        known = np.flatnonzero(np.isfinite(maximum))
        order = known[np.argsort(-maximum[known], kind="stable")][:number]
        return order, maximum[order]

    def alike(self, layer: str, channel: int, number: int) -> tuple[NDArray[np.intp], Floats]:
        """Channels whose maximum rises and falls with this one's over the samples, and the correlation.

        Pearson's, of the original; the strongest first, either way. Empty where a channel is constant.
        """
        if (matrix := self._correlation.get(layer)) is None:
            points = self._likeness.read(layer)
            self._correlation[layer] = matrix = _correlation(points[:, points.shape[1] // 2 :])
        own = matrix[channel].copy()
        own[channel] = np.nan
        known = np.flatnonzero(np.isfinite(own))
        order = known[np.argsort(-np.abs(own[known]), kind="stable")][:number]
        return order, own[order]

    def projection(self, layer: str, channel: int, sample: int, condition: str, plane: int | None) -> Floats | None:
        """The channel's back-projection onto the input: float32 (y, x); None where there is none.

        Under the condition, or where that was not explained, on the original.
        """
        for one in self._projected:
            group = one.group
            layers, names = group["layer"].values.tolist(), group["condition"].values.tolist()
            rows = np.flatnonzero(one.samples == sample)
            if layer not in layers or not len(rows):
                continue
            for name in (condition, ORIGINAL):
                if name in names:
                    own = group.isel(sample=int(rows[0]), condition=names.index(name), layer=layers.index(layer))
                    ranks = np.flatnonzero(own["channel"].values == channel)
                    if len(ranks):
                        values = own[PROJECTION].isel(rank=int(ranks[0]))
                        shown = values if plane is None else values.isel(z=plane)
                        return np.asarray(shown.values, np.float32)
        return None


def _correlation(values: Floats) -> Floats:
    """Between the columns of (sample, channel): (channel, channel), NaN for those that are constant."""
    known = values[np.isfinite(values).all(axis=1)]
    centred = known - known.mean(axis=0) if len(known) else known
    size = np.sqrt((centred**2).sum(axis=0))
    # Rounding alone is no variation.
    size[size <= 1e-9 * np.abs(known).max(axis=0, initial=0)] = np.nan
    scaled = centred / size
    found: Floats = scaled.T @ scaled
    return found
