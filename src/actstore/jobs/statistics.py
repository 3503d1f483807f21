"""Per-channel statistics of a block, reduced from shard buffers or from shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actstore.jobs.out import Out
from actstore.measures.kernel import Reduction
from actstore.store.files.base import Storage
from actstore.store.reader import Piece, maps_of
from actstore.store.reductions import reduce_pieces
from actstore.store.schema import StoreLayout

if TYPE_CHECKING:
    from actstore.jobs.ring import Buffers


class BlockStatistics:
    """Statistics of every layer of one block: float64 (sample, statistic, condition, layer_channel)."""

    def __init__(self, layout: StoreLayout, samples: int) -> None:
        self.layout = layout
        self.names = layout.statistic_names
        self._channels = [layout.channels_of(layer) for layer in layout.layers]
        self._values = np.full((samples, len(self.names), layout.conditions, layout.channels), np.nan)

    def add(self, buffers: Buffers, reduced: Sequence[NDArray[np.float64] | None]) -> None:
        """Add the statistics (sample, statistic, condition, channel) of each layer; where there are none, reduce the
        layer's buffer."""
        samples = slice(buffers.first, buffers.first + buffers.count)
        for channels, buffer, found in zip(self._channels, buffers.activations, reduced, strict=True):
            if found is not None:
                self._values[samples, :, :, channels] = found
                continue
            assert buffer is not None
            width = buffer.layout.chunk[1]
            for group in range(buffer.layout.grid[1]):
                where = slice(channels.start + group * width, channels.start + (group + 1) * width)
                reduce = Reduction(maps_of(buffer.view[:, :, group : group + 1]), self.names)
                reduce(self._values[samples, :, :, where].transpose(1, 0, 3, 2))

    def read(self, storage: Storage, layer: int, piece: Piece) -> None:
        """Reduce stored samples of one layer."""
        array = self.layout.activation(self.layout.layers[layer])
        reduced = reduce_pieces([piece], storage=storage, layout=array, names=self.names)
        samples = slice(piece.first, piece.first + piece.count)
        self._values[samples, :, :, self._channels[layer]] = reduced.swapaxes(0, 1)

    def put(self, out: Out, prefix: str = "") -> None:
        """Write the statistics of the block; names begin with ``prefix``."""
        if self.layout.version > 3:
            out.put(f"{prefix}value", self._values)
            return
        for layer, channels in zip(self.layout.layers, self._channels, strict=True):
            for number, name in enumerate(self.names):
                older = self.layout.older_statistic(layer, name)
                values = self._values[:, number, :, channels]
                out.put(f"{prefix}{layer.name}/{name}", values if len(older.chunk) == 3 else values[:, 0])
