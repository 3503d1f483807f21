"""Reads the persisted statistics of a store of any schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.measures.names import MEASURES, PER_CONDITION
from actstore.store import commits, lazy
from actstore.store.arrays import Arrays
from actstore.store.files.base import Location, Storage
from actstore.store.layout import ArrayLayout
from actstore.store.reader import read_smalls
from actstore.store.schema import Layer, StoreLayout

if TYPE_CHECKING:
    import dask.array as da


class PersistedStatistics:
    """Statistics that capture or `reduce_store` persisted: one array; before schema 4 one per layer and name."""

    def __init__(self, storage: Storage, layout: StoreLayout, token: int) -> None:
        self.storage, self.layout, self.token = storage, layout, token
        #: Stays True once found: statistics can be added while a store is open, but not removed.
        self._whole = False

    def whole(self, blocks: NDArray[np.bool_]) -> bool:
        """Whether all of ``blocks``, bool (block), have their statistics."""
        if not self._whole:
            done = commits.committed(self.storage, self.layout.statistics, self.token, mending=True)
            self._whole = bool(done[blocks].all())
        return self._whole

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

    def network(self, name: str, blocks: lazy.BlockSamples) -> da.Array | None:
        """A statistic of the channels of all layers: (sample, condition, layer_channel).

        None where it is not one array, before schema 4, or not persisted.
        """
        if self.layout.version < 4 or name not in self.layout.statistic_names:
            return None
        return lazy.small(self.storage, self.layout.statistic, blocks, self.layout.statistic_names.index(name))

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


class OpenedStore(Protocol):
    """What `layer_statistics` asks of a store."""

    storage: Storage
    layout: StoreLayout
    attributes: dict[str, Any]
    block_samples: lazy.BlockSamples
    persisted: PersistedStatistics

    @property
    def path(self) -> Location: ...

    @property
    def reduced(self) -> bool: ...

    def require_kept(self, layer: Layer, instead: str = "") -> Layer: ...


def layer_statistics(
    store: OpenedStore, layer: Layer, names: Iterable[str] | None, persisted: bool | None
) -> dict[str, tuple[tuple[str, ...], da.Array]]:
    """Dims and lazy values of statistics of a layer, read where they are persisted and reduced otherwise.

    Arguments and errors as `Store.statistics`.
    """
    sources = _Sources(store, names, persisted)
    arrays = sources.read_of(layer)
    if sources.reduced:
        array = sources.activation(layer)
        arrays |= lazy.statistics(store.storage, array, store.block_samples, sources.reduced)
    return {name: arrays[name] for name in sources.names}


def computed_statistics(
    store: OpenedStore, names: Iterable[str] | None, persisted: bool | None
) -> list[dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]]:
    """As `layer_statistics`, of each layer, in memory."""
    from dask.base import compute

    sources = _Sources(store, names, persisted)
    layers = store.layout.layers
    found: list[dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]]
    (found,) = compute([sources.read_of(layer) for layer in layers])
    if sources.reduced:
        arrays = [sources.activation(layer) for layer in layers]
        reduced = lazy.compute_statistics(store.storage, arrays, store.block_samples, sources.reduced)
        for values, more in zip(found, reduced, strict=True):
            values |= more
    return [{name: values[name] for name in sources.names} for values in found]


class _Sources:
    """Which of the statistics ``names`` of a store are ``read`` because they are persisted, and which ``reduced``."""

    def __init__(self, store: OpenedStore, names: Iterable[str] | None, persisted: bool | None) -> None:
        self.store = store
        self.names = tuple(dict.fromkeys(names or store.layout.statistic_names))
        if unknown := [name for name in self.names if name not in MEASURES]:
            raise StoreError(f"unknown statistic {unknown[0]!r}: choose from {', '.join(MEASURES)}")
        if persisted and not store.reduced:
            raise StoreError(
                f"{store.path} has volumes without persisted statistics: run `actstore reduce {store.path}`"
            )
        there = store.layout.statistic_names
        self.read = [n for n in self.names if n in there and (store.reduced if persisted is None else persisted)]
        self.reduced = tuple(name for name in self.names if name not in self.read)
        if persisted and self.reduced:
            raise StoreError(f"{self.reduced[0]} is not persisted, only {', '.join(there)}: leave out persisted=True")

    def read_of(self, layer: Layer) -> dict[str, tuple[tuple[str, ...], da.Array]]:
        """Dims and lazy values of those of a layer that are persisted."""
        return {name: self.store.persisted.lazily(layer, name, self.store.block_samples) for name in self.read}

    def activation(self, layer: Layer) -> ArrayLayout:
        """The activation that the others are reduced from.

        Raises
        ------
        StoreError
            if it was not kept.
        """
        there = self.store.layout.statistic_names
        if not layer.kept and (taken := [name for name in self.reduced if name not in there]):
            self.store.require_kept(layer, f"{taken[0]} is taken from them, ask for {', '.join(there)}")
        return self.store.layout.activation(self.store.require_kept(layer))


def network_statistic(arrays: Arrays, persisted: PersistedStatistics, name: str) -> xr.DataArray | None:
    """As :meth:`actstore.store.store.Store.network_statistic`, where every committed block has its statistics."""
    data = persisted.network(name, arrays.blocks)
    if data is None:
        return None
    dims, layers = ("sample", "condition", "channel"), arrays.layout.layers
    each = [layer for layer in layers for _ in range(layer.channels)]
    along = {
        "layer": [layer.name for layer in each],
        "module": [layer.label for layer in each],
        "channel": np.concatenate([np.arange(layer.channels) for layer in layers]),
    }
    coords = arrays.coordinates(dims).assign({key: ("channel", values) for key, values in along.items()})
    return xr.DataArray(data, dims=dims, coords=coords, name=name)
