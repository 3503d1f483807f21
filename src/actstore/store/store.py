"""Opening a store: lazy, committed blocks only, without torch or the network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.conditions import TARGET
from actstore.errors import StoreError, one_line
from actstore.geometry import Grid
from actstore.measures.names import MEASURES, METRICS, STATISTICS
from actstore.store import commits, lazy
from actstore.store.attributes import REPAIR, layout_of, read_attributes, token_of, window_of
from actstore.store.files import Location, storage_at
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.reader import Piece, read_map
from actstore.store.schema import Layer
from actstore.store.template import CONDITION_COORDINATES, SAMPLE_COORDINATES, is_stored
from actstore.units import counted

if TYPE_CHECKING:
    import zarr

    from actstore.case_rules import CaseRules


class MissingBlocksWarning(UserWarning):
    """The store is not complete: reductions see its committed blocks only."""


class Store:
    """A store opened for reading. Every array is lazy; unused slots and uncommitted blocks are hidden."""

    def __init__(self, location: Location) -> None:
        self.storage = storage_at(location)
        self.attributes = read_attributes(self.storage)
        classes: list[str] = self.attributes["classes"]
        self.layout = layout_of(self.attributes)
        self.class_names = tuple(classes)
        self.token = token_of(self.attributes)
        #: Which blocks are done, bool (block).
        self.committed = commits.finished(self.storage, self.layout, self.token)
        coordinates = self._coordinates()
        used = coordinates["valid"].reshape(self.layout.blocks, self.layout.slots)
        #: Samples that each committed block holds, in order: (block, samples).
        self.parts = lazy.Parts(tuple((int(b), int(used[b].sum())) for b in np.flatnonzero(self.committed)))
        slots = np.flatnonzero((used & self.committed[:, None]).reshape(-1))
        self._sample = {
            name: coordinates[name][slots] for name in SAMPLE_COORDINATES if name not in ("valid", "spacing")
        }
        for i, axis in enumerate("zyx"):
            self._sample[f"spacing_{axis}"] = coordinates["spacing"][slots, i]
        self._condition = {name: coordinates[name] for name in ("condition", *CONDITION_COORDINATES)}

    @property
    def path(self) -> Location:
        """Where the store lies: a path, or an ``s3://`` URL."""
        return self.storage.location

    def _coordinates(self) -> dict[str, NDArray[Any]]:
        import zarr

        names = [*SAMPLE_COORDINATES, "condition", *CONDITION_COORDINATES]
        names = [name for name in names if is_stored(name, self.attributes["schema"])]
        try:
            root = zarr.open_group(self.storage.zarr(), mode="r")
            arrays = {name: _array(root, name) for name in names}
            gone = [name for name, array in arrays.items() if array.nchunks_initialized < array.nchunks]
            if gone:
                raise FileNotFoundError(f"no chunk of {', '.join(gone)}")
            found = {name: _plain(array[...]) for name, array in arrays.items()}
        except Exception as error:
            raise StoreError(
                f"{self.path} is damaged: its coordinates cannot be read ({one_line(error)}); {REPAIR}"
            ) from error
        # A store of schema 2 holds no controls.
        return {"region": np.where(found["target"] == "", "", TARGET), **found}

    @property
    def missing(self) -> list[str]:
        """Volumes that are not committed."""
        return [name for name, done in zip(self.attributes["blocks"], self.committed, strict=True) if not done]

    @property
    def classes(self) -> dict[str, int]:
        """Class name to index in ``label`` and ``prediction``."""
        return {name: i for i, name in enumerate(self.class_names)}

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row a layer in network order: module, type, channels, size, bytes of its tensors stored so far."""
        rows = []
        samples = self.parts.samples
        for layer in self.layout.layers:
            array = self.layout.activation(layer)
            rows.append(
                {
                    "layer": layer.name,
                    "module": layer.label,
                    "type": layer.type,
                    "channels": layer.channels,
                    "size": layer.space,
                    "bytes": samples * array.sample_stride if layer.kept else 0,
                }
            )
        return pd.DataFrame(rows).set_index("layer")

    @cached_property
    def grids(self) -> dict[str, Grid]:
        """Where the pixels of each layer lie on the network's input; as the network had it when the store was made.

        Older stores hold how far each layer was found to be shifted, to 1/8 of an input pixel, or nothing: then the
        step between pixels is taken to be the ratio of the sizes.
        """
        layers, space = self.layout.layers, self.layout.space
        stored = self.attributes.get("grid", [[0.0] * len(space)] * len(layers))
        return {
            layer.name: Grid.from_json(found)
            if isinstance(found, dict)
            else Grid.shifted(layer.space, space, found, "measured" if "grid" in self.attributes else "assumed")
            for layer, found in zip(layers, stored, strict=True)
        }

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a sample: patient, frame, slice, phase, group, block, size in pixels, spacing in millimetres."""
        return pd.DataFrame(self._sample).rename_axis("sample")

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """One row a condition: its name, transform, target class, strength, source, and the region that it changes."""
        return pd.DataFrame(self._condition).set_index("condition")

    def __getitem__(self, layer: str) -> xr.DataArray:
        """Activations of a layer, lazy: (sample, condition, channel, [z,] y, x), NaN where not applicable.

        Raises
        ------
        KeyError
            naming the layers that there are.
        StoreError
            if the layer's tensors were not kept.
        """
        found = self._kept(layer)
        return self._read(self.layout.activation(found), "activation", found)

    def map(self, layer: str, sample: int, condition: int | str, channel: int) -> NDArray[np.floating]:
        """One channel of one sample in one condition: ([z,] y, x), NaN where not applicable.

        Reads and checks the one inner chunk that it lies in, whatever the size of the layer.

        Raises
        ------
        KeyError, IndexError
            if there is no such layer or condition, sample or channel.
        StoreError
            if the chunk is damaged or missing, or the layer's tensors were not kept.
        """
        return self._one(self.layout.activation(self._kept(layer)), sample, condition=condition, channel=channel)

    def picture(
        self, name: Literal["image", "label", "prediction"], sample: int, condition: int | str = 0
    ) -> NDArray[Any]:
        """One sample's ``image``, ``label`` or ``prediction`` in one condition: ([z,] y, x), as the array of that name.

        Reads and checks the one inner chunk that it lies in. A label is of every condition.

        Raises
        ------
        KeyError, IndexError
            if there is no such condition or sample.
        StoreError
            if the chunk is damaged or missing.
        """
        if name == "label":
            return self._one(self.layout.label, sample)
        return self._one(self.layout.image if name == "image" else self.layout.prediction, sample, condition=condition)

    def _one(self, array: ArrayLayout, sample: int, **index: int | str) -> NDArray[Any]:
        """One map of one sample, at an ``index`` along the dims before space."""
        names = list(self._condition["condition"])
        if isinstance(condition := index.get("condition"), str):
            if condition not in names:
                raise KeyError(f"no condition {condition!r}: there are {', '.join(names)}")
            index["condition"] = names.index(condition)
        blocks = self._sample["block"]
        at = {name: int(i) for name, i in index.items()}
        sizes = (len(blocks), *array.sample_shape)
        for (name, value), size in zip({"sample": sample, **at}.items(), sizes, strict=False):
            if not 0 <= value < size:
                raise IndexError(f"{name} {value} is outside 0..{size - 1}")
        block = int(blocks[sample])
        first = sample - int(np.searchsorted(blocks, block))
        piece = Piece(array.shard_key(block), dict(self.parts)[block], first, 1)
        return read_map(self.storage, array, piece, tuple(at.values()))

    def _layer(self, name: str) -> Layer:
        for layer in self.layout.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layout.layers]
        raise KeyError(f"no layer {name!r}: there are {names[0]} … {names[-1]}")

    def _kept(self, name: str) -> Layer:
        layer = self._layer(name)
        if not layer.kept:
            keep = self.attributes["identity"].get("keep")
            raise StoreError(
                f"the tensors of {name} ({layer.label}) are not in {self.path}, which was captured with store.keep = "
                f"{keep!r}: use statistics({name!r}), or capture to another store with the layer in store.keep"
            )
        return layer

    def _read(self, array: ArrayLayout, name: str, layer: Layer | None = None) -> xr.DataArray:
        data = lazy.sharded(self.storage, array, self.parts)
        return xr.DataArray(data, dims=array.dims, coords=self._coords(array.dims, layer), name=name)

    def _coords(self, dims: tuple[str, ...], layer: Layer | None = None) -> xr.Coordinates:
        coords: dict[str, Any] = {}
        for name, values in self._sample.items():
            coords[name] = ("sample", values)
        if "condition" in dims:
            coords["condition"] = self._condition["condition"]
            coords |= {name: ("condition", self._condition[name]) for name in CONDITION_COORDINATES}
        if "true_class" in dims:
            coords |= {"true_class": list(self.class_names), "predicted_class": list(self.class_names)}
        if layer is not None:
            coords |= {"channel": np.arange(layer.channels), "layer": layer.name, "module": layer.label}
        return xr.Coordinates(coords)

    @property
    def image(self) -> xr.DataArray:
        """Inputs as the network saw them: (sample, condition, [z,] y, x) float32, NaN where not applicable."""
        return self._read(self.layout.image, "image")

    @property
    def label(self) -> xr.DataArray:
        """Ground truth: (sample, [z,] y, x) uint8 class index."""
        return self._read(self.layout.label, "label")

    @property
    def prediction(self) -> xr.DataArray:
        """The network's class index: (sample, condition, [z,] y, x) uint8, 0 where not applicable."""
        return self._read(self.layout.prediction, "prediction")

    @property
    def applicable(self) -> xr.DataArray:
        """(sample, condition) bool: whether the condition was inferred for the sample."""
        return self._small(self.layout.applicable, "applicable")

    @property
    def confusion(self) -> xr.DataArray:
        """(sample, condition, true_class, predicted_class) int64 pixel counts inside the image."""
        return self._small(self.layout.confusion, "confusion")

    @property
    def case_rules(self) -> CaseRules:
        """The thresholds of the run's spec."""
        from actstore.case_rules import CaseRules

        return CaseRules(**self.attributes["spec"].get("cases", {}))

    @property
    def cases(self) -> xr.DataArray:
        """The kind of failure of each prediction: (sample, condition) str, "" where there is none; lazy."""
        from actstore import analysis

        return analysis.cases(self.confusion, self.case_rules, applicable=self.applicable)

    @property
    def rescaling(self) -> xr.DataArray:
        """By how much normalisation stretched what was not perturbed: (sample, condition) float64; lazy.

        As :func:`actstore.analysis.rescaling`; inputs are read only where the run's normalisation can do so.
        """
        from actstore import analysis

        preprocess = self.attributes["identity"]["preprocess"]
        if preprocess["normalize"] == "none" or window_of(self.attributes["identity"]) == "original":
            return self.applicable.where(self.applicable).astype(np.float64).rename("factor")
        return analysis.rescaling(self.image, self.label, self.class_names)

    def _small(self, array: SmallLayout, name: str) -> xr.DataArray:
        data = lazy.small(self.storage, array, self.parts)
        return xr.DataArray(data, dims=array.dims, coords=self._coords(array.dims), name=name)

    @cached_property
    def reduced(self) -> bool:
        """Whether the statistics of every committed block are persisted."""
        done = commits.committed(self.storage, self.layout, self.token, reduced=True, mending=True)
        return bool(done[self.committed].all())

    def statistics(self, layer: str, names: Sequence[str] = STATISTICS, *, persisted: bool | None = None) -> xr.Dataset:
        """Per-channel statistics of a layer, lazy; those not read come from one pass over its shards, all together.

        Parameters
        ----------
        names
            of the metrics "mad", "mse", "mean_difference", "cosine", "psnr" and "ssim" against the original, (sample,
            condition, channel), and "mean" and "std" of the original, (sample, channel); float64. Definitions:
            :func:`actstore.analysis.statistics`.
        persisted
            read what capture or `reduce_store` persisted, which is "mad", "mse", "mean" and "std", or reduce the
            activations; by default each name is read if every committed block has it, and reduced otherwise.

        Raises
        ------
        KeyError
            naming the layers that there are.
        StoreError
            if a name is unknown, statistics shall be read that are not persisted, or reduced from tensors not kept.
        """
        found = self._layer(layer)
        names = tuple(dict.fromkeys(names))
        if unknown := [name for name in names if name not in MEASURES]:
            raise StoreError(f"unknown statistic {unknown[0]!r}: choose from {', '.join(MEASURES)}")
        if persisted and not self.reduced:
            raise StoreError(f"{self.path} has blocks without persisted statistics: run `actstore reduce {self.path}`")
        read = [name for name in names if name in STATISTICS and (self.reduced if persisted is None else persisted)]
        rest = tuple(name for name in names if name not in read)
        if persisted and rest:
            raise StoreError(f"{rest[0]} is not persisted, only {', '.join(STATISTICS)}: leave out persisted=True")
        if not found.kept and (taken := [name for name in rest if name not in STATISTICS]):
            raise StoreError(
                f"{taken[0]} is taken from tensors, and those of {layer} ({found.label}) are not in {self.path}, which "
                f"was captured with store.keep = {self.attributes['identity'].get('keep')!r}: ask for "
                f"{', '.join(STATISTICS)}, or capture to another store with the layer in store.keep"
            )
        small = {name: self.layout.statistic(found, name) for name in read}
        arrays = {name: (array.dims, lazy.small(self.storage, array, self.parts)) for name, array in small.items()}
        if rest:
            arrays |= lazy.statistics(self.storage, self.layout.activation(self._kept(layer)), self.parts, rest)
        dims = ("sample", "condition", "channel") if {*names} & {*METRICS} else ("sample", "channel")
        return xr.Dataset({name: arrays[name] for name in names}, coords=self._coords(dims, found))

    @cached_property
    def tree(self) -> xr.DataTree:
        """The whole store as an `xarray.DataTree` in network order, coordinates attached to every group."""
        nodes: dict[str, xr.Dataset] = {
            "/": xr.Dataset(
                {"applicable": self.applicable, "confusion": self.confusion}, attrs={"path": str(self.path)}
            ),
            "/inputs": xr.Dataset({"image": self.image, "label": self.label}),
            "/outputs": xr.Dataset({"prediction": self.prediction}),
        }
        for layer in filter(lambda layer: layer.kept, self.layout.layers):
            nodes[f"/layers/{layer.name}"] = xr.Dataset({"activation": self[layer.name]})
        for layer in self.layout.layers:
            nodes[f"/statistics/{layer.name}"] = self.statistics(layer.name)
        return xr.DataTree.from_dict(nodes)

    @property
    def nbytes(self) -> int:
        """Bytes of the committed blocks."""
        return sum(self.layout.block_bytes(n) for _, n in self.parts)

    def __repr__(self) -> str:
        samples = self.parts.samples
        missing = len(self.missing)
        return (
            f"<actstore.Store {self.path}: {counted(len(self.parts), 'block')}"
            f"{f' ({missing} missing)' if missing else ''}, {counted(samples, 'sample')}, "
            f"{counted(self.layout.conditions, 'condition')}, "
            f"{counted(len(self.layout.layers), 'layer')}>"
        )


def open_store(path: Location) -> Store:
    """Open the store at ``path``, or at an ``s3://`` URL, for reading; nothing but metadata and coordinates is read.

    Warns
    -----
    MissingBlocksWarning
        if blocks are not committed; they are hidden.

    Raises
    ------
    StoreError
        if there is no store, one of a schema that is not read, or one with a damaged commit record.
    """
    store = Store(path)
    if store.missing:
        first = ", ".join(store.missing[:3]) + (", …" if len(store.missing) > 3 else "")
        warnings.warn(
            f"{path}: {len(store.missing)} of {counted(store.layout.blocks, 'block is', 'blocks are')} missing "
            f"({first}); "
            "`actstore capture SPEC` computes them",
            MissingBlocksWarning,
            stacklevel=2,
        )
    return store


def _array(root: zarr.Group, name: str) -> Any:
    return root[name]


def _plain(values: Any) -> NDArray[Any]:
    """Strings as fixed-width unicode, which every NumPy, pandas and xarray understands; other arrays as they are."""
    array = np.asarray(values)
    return np.asarray(array.tolist(), dtype=str) if array.dtype.kind in "OT" else array
