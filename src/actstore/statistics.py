"""Per-channel statistics of a block, reduced from shard buffers or shards and persisted with a record of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.kernel import reduce_chunk
from actstore.layout import ArrayLayout
from actstore.schema import STATISTICS, StoreLayout
from actstore.shards import ShardBuffer, write_small


class BlockStatistics:
    """MAD and MSE (sample, condition, channel), mean and std of the original (sample, channel) of every layer."""

    def __init__(self, layout: StoreLayout, samples: int) -> None:
        self.layout = layout
        self.samples = samples
        self._values = [
            {name: np.full(layout.statistic(layer, name).chunk, np.nan) for name in STATISTICS}
            for layer in layout.layers
        ]

    def add(self, buffers: Sequence[ShardBuffer]) -> None:
        """Reduce the samples that ``buffers``, in the order of ``layout.sharded``, hold."""
        activations = buffers[len(buffers) - len(self.layout.layers) :]
        for layer, buffer in enumerate(activations):
            self.add_chunks(layer, buffer.first, buffer.view)

    def add_chunks(self, layer: int, first: int, chunks: NDArray[Any]) -> None:
        """Reduce samples of one layer, given by inner chunk: (sample, \\*grid, \\*chunk) as in a shard."""
        array = self.layout.activation(self.layout.layers[layer])
        count = len(chunks)
        for start, maps in channel_groups(chunks, array):
            stop = start + maps.shape[1]
            for name, found in zip(STATISTICS, reduce_chunk(maps, STATISTICS), strict=True):
                values = self._values[layer][name][first : first + count]
                if found.ndim == 3:
                    values[:, :, start:stop] = found.swapaxes(1, 2)
                else:
                    values[:, start:stop] = found

    def write(self, root: Path, block: int, token: int, *, fsync: bool = False) -> int:
        """Persist the statistics of ``block``, their record last. Returns bytes written."""
        size = 0
        for layer, values in zip(self.layout.layers, self._values, strict=True):
            for name, content in values.items():
                small = self.layout.statistic(layer, name)
                size += write_small(root / small.chunk_key(block), content, fsync=fsync)
        record = self.layout.reduced
        content = np.asarray([token], dtype=record.dtype)
        return size + write_small(root / record.chunk_key(block), content, fsync=fsync)


def channel_groups(chunks: NDArray[Any], array: ArrayLayout) -> list[tuple[int, NDArray[Any]]]:
    """Inner chunks (sample, \\*grid, \\*chunk) as pairs of first channel and maps.

    Maps are (sample, channel, condition, \\*space): views where an inner chunk holds all conditions, else copies.
    """
    n = len(array.grid)
    per_group = array.chunk[1]
    squeezed = chunks.squeeze(axis=tuple(range(3, 1 + n)))
    groups = []
    for group in range(array.grid[1]):
        maps = squeezed[:, :, group]
        conditions_first = maps.reshape(len(maps), -1, *maps.shape[3:]) if maps.shape[1] > 1 else maps[:, 0]
        groups.append((group * per_group, conditions_first.swapaxes(1, 2)))
    return groups
