"""Arrays of a store's committed blocks, lazy and with coordinates, or one map of one sample, read now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.store import lazy
from actstore.store.attributes import names_channels
from actstore.store.coordinates import PATCH_COORDINATES, condition_coordinates, read_coordinates
from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.listings import sample_listing
from actstore.store.schema import Layer, StoreLayout
from actstore.store.single import read_single


class Arrays:
    """Reads arrays of the blocks that are ``committed``, bool (block); unused slots are hidden."""

    def __init__(
        self, storage: Storage, attributes: Mapping[str, Any], layout: StoreLayout, committed: NDArray[np.bool_]
    ) -> None:
        self.storage, self.layout = storage, layout
        self.class_names: tuple[str, ...] = tuple(attributes["classes"])
        channels = names_channels(attributes)
        coordinates = read_coordinates(storage, layout.version, channels=channels, images=layout.classified)
        used = coordinates["valid"].reshape(layout.blocks, layout.slots)
        #: Number of samples in each committed block, in order: (block, samples).
        self.blocks = lazy.BlockSamples(tuple((int(b), int(used[b].sum())) for b in np.flatnonzero(committed)))
        slots = np.flatnonzero((used & committed[:, None]).reshape(-1))
        #: Columns of the samples, and further coordinates along them.
        self.sample, self.boxes = sample_listing(coordinates, slots)
        #: Coordinates of patches along the samples; empty before schema 4.
        self.patch = {name: coordinates[name][slots] for name in PATCH_COORDINATES if name in coordinates}
        #: Columns of the conditions.
        self.condition = {name: coordinates[name] for name in ("condition", *condition_coordinates(channels))}

    def coordinates(self, dims: tuple[str, ...], layer: Layer | None = None) -> xr.Coordinates:
        """What arrays along ``dims`` have as coordinates, and those of ``layer`` its channels too."""
        coords: dict[str, Any] = {}
        for name, values in (self.sample | self.boxes).items():
            coords[name] = ("sample", values)
        if "condition" in dims:
            coords |= {name: ("condition", values) for name, values in self.condition.items()}
        if "true_class" in dims:
            coords |= {"true_class": list(self.class_names), "predicted_class": list(self.class_names)}
        if "class_name" in dims:
            coords["class_name"] = list(self.layout.scored or self.class_names)
            own = self.layout.score_coordinates()[1:]
            coords |= {axis.name: (axis.name, axis.values) for axis in own if axis.name in dims}
        if layer is not None:
            coords |= {"channel": np.arange(layer.channels), "layer": layer.name, "module": layer.label}
        return xr.Coordinates(coords)

    def sharded(self, array: ArrayLayout, name: str, layer: Layer | None = None) -> xr.DataArray:
        """A sharded array, lazy: along the dims of ``array``."""
        data = lazy.sharded(self.storage, array, self.blocks)
        return xr.DataArray(data, dims=array.dims, coords=self.coordinates(array.dims, layer), name=name)

    def small(self, array: SmallLayout, name: str) -> xr.DataArray:
        """An array of small files, lazy: along the dims of ``array``."""
        data = lazy.small(self.storage, array, self.blocks)
        return xr.DataArray(data, dims=array.dims, coords=self.coordinates(array.dims), name=name)

    def dataset(self, arrays: Mapping[str, tuple[tuple[str, ...], Any]], layer: Layer) -> xr.Dataset:
        """Arrays of a layer's channels, each as dims and values."""
        dims = max((dims for dims, _ in arrays.values()), key=len)
        return xr.Dataset(arrays, coords=self.coordinates(dims, layer))

    def single(self, array: ArrayLayout, sample: int, **index: int | str) -> NDArray[Any]:
        """One map of one sample, at an ``index`` along the dims before space, as :func:`read_single`."""
        return read_single(self.storage, array, self.blocks, sample, index, list(self.condition["condition"]))
