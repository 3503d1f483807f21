"""Reads the persisted statistics of a store of any schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actstore.measures.names import PER_CONDITION
from actstore.store import commits, lazy
from actstore.store.files import Storage
from actstore.store.reader import read_smalls
from actstore.store.schema import Layer, StoreLayout

if TYPE_CHECKING:
    import dask.array as da


class Statistics:
    """Statistics that capture or `reduce_store` persisted: one array; before schema 4 one per layer and name."""

    def __init__(self, storage: Storage, layout: StoreLayout, token: int) -> None:
        self.storage, self.layout, self.token = storage, layout, token
        #: Stays True once found: statistics can be added while a store is open, but not removed.
        self._persisted = False

    def persisted(self, blocks: NDArray[np.bool_]) -> bool:
        """Whether all of ``blocks``, bool (block), have their statistics."""
        if not self._persisted:
            done = commits.committed(self.storage, self.layout.statistics, self.token, mending=True)
            self._persisted = bool(done[blocks].all())
        return self._persisted

    def lazily(self, layer: Layer, name: str, blocks: lazy.BlockSamples) -> tuple[tuple[str, ...], da.Array]:
        """Dims and values of one statistic of a layer: (sample, condition, channel), or (sample, channel)."""
        if self.layout.version < 4:
            older = self.layout.older_statistic(layer, name)
            return older.dims, lazy.small(self.storage, older, blocks)
        every = lazy.small(self.storage, self.layout.statistic, blocks, self.layout.statistic_names.index(name))
        values = every[:, :, self.layout.channels_of(layer)]
        if name in PER_CONDITION:
            return ("sample", "condition", "channel"), values
        return ("sample", "channel"), values[:, 0]

    def of_block(self, name: str, block: int, samples: int) -> NDArray[np.float64]:
        """One statistic of all channels of a block with ``samples`` samples: (sample, condition, layer_channel).

        Raises
        ------
        DamageError
            if one of its files is damaged or missing.
        """
        if self.layout.version > 3:
            number = self.layout.statistic_names.index(name)
            return read_smalls(self.storage, self.layout.statistic, [(block, samples)], number)
        values = [
            read_smalls(self.storage, self.layout.older_statistic(layer, name), [(block, samples)])
            for layer in self.layout.layers
        ]
        return np.concatenate([v if v.ndim == 3 else v[:, None] for v in values], axis=-1)
