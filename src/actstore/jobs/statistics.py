"""Per-channel statistics of a block, reduced from shard buffers or shards and persisted with a record of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from actstore.measures.kernel import Reduction, reduce_chunk
from actstore.measures.names import METRICS, STATISTICS
from actstore.store import commits
from actstore.store.files import Storage
from actstore.store.layout import ArrayLayout
from actstore.store.reader import Piece, maps_of, reduce_groups
from actstore.store.schema import StoreLayout
from actstore.store.shards import write_small

if TYPE_CHECKING:
    from actstore.jobs.ring import Slot


class BlockStatistics:
    """MAD and MSE (sample, condition, channel), mean and std of the original (sample, channel) of every layer."""

    def __init__(self, layout: StoreLayout, samples: int) -> None:
        self.layout = layout
        self.samples = samples
        self._values = [
            {name: np.full(layout.statistic(layer, name).chunk, np.nan) for name in STATISTICS}
            for layer in layout.layers
        ]

    def add(self, slot: Slot, reduced: Sequence[Mapping[str, NDArray[np.float64]]]) -> None:
        """Take what a device ``reduced`` of each layer of the slot's samples; reduce them here where that is empty."""
        samples = slice(slot.first, slot.first + slot.count)
        for layer, of_device in enumerate(reduced):
            for name in STATISTICS:
                self._values[layer][name][samples] = of_device[name]
        for layer, buffer in enumerate(slot.activations if not reduced else ()):
            assert buffer is not None
            channels = buffer.layout.chunk[1]
            for group in range(buffer.layout.grid[1]):
                found = reduce_chunk(maps_of(buffer.view[:, :, group : group + 1]), STATISTICS)
                where = slice(group * channels, (group + 1) * channels)
                for name, values in zip(STATISTICS, found, strict=True):
                    _place(self._values[layer][name], samples, where, values)

    def read(self, storage: Storage, layer: int, piece: Piece) -> None:
        """Reduce the samples of one layer that are stored already."""
        array = self.layout.activation(self.layout.layers[layer])
        reduced = reduce_pieces([piece], storage=storage, layout=array, names=STATISTICS)
        for name, found in zip(STATISTICS, reduced, strict=True):
            self._values[layer][name][piece.first : piece.first + piece.count] = found

    def write(
        self,
        storage: Storage,
        block: int,
        token: int,
        *,
        fsync: bool = False,
        before: Callable[[], None] = lambda: None,
    ) -> int:
        """Persist the statistics of ``block``, their record last; ``before`` each file. Returns bytes written."""
        size = 0
        for layer, values in zip(self.layout.layers, self._values, strict=True):
            for name, content in values.items():
                small = self.layout.statistic(layer, name)
                before()
                size += write_small(storage, small.chunk_key(block), content, fsync=fsync)
        before()
        return size + commits.write_record(storage, self.layout.reduced, block, token, fsync=fsync)


def reduce_pieces(
    pieces: Sequence[Piece], *, storage: Storage, layout: ArrayLayout, names: tuple[str, ...]
) -> tuple[NDArray[np.float64], ...]:
    """Statistics of samples of several shards, reduced inner chunk by inner chunk while it is in the cache.

    Returns
    -------
    one array for each of ``names``: metrics (sample, condition, channel), "mean" and "std" (sample, channel).
    """
    samples = sum(piece.count for piece in pieces)
    conditions, channels = layout.sample_shape[:2]
    results = tuple(
        np.empty((samples, conditions, channels) if name in METRICS else (samples, channels)) for name in names
    )
    position = 0
    for piece in pieces:
        for inside, group, found in reduce_groups(storage, layout, piece, partial(Reduction, names=names)):
            samples_here = slice(position + inside.start, position + inside.stop)
            for result, values in zip(results, found, strict=True):
                _place(result, samples_here, group, values)
        position += piece.count
    return results


def _place(target: NDArray[Any], samples: slice, channels: slice, values: NDArray[Any]) -> None:
    """Put what was found for (sample, channel[, condition]) where it belongs in (sample[, condition], channel)."""
    if values.ndim == 3:
        target[samples, :, channels] = values.swapaxes(1, 2)
    else:
        target[samples, channels] = values
