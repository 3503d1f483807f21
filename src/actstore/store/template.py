"""What a new store consists of: all metadata and coordinates, made once. Workers only fill regions afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import MemoryStore

from actstore.conditions import Condition
from actstore.store import metadata
from actstore.store.files import Storage
from actstore.store.layout import SEPARATOR
from actstore.store.schema import StoreLayout

if TYPE_CHECKING:
    from actstore.data.volume import VolumeFile, VolumeHeader

SAMPLE_COORDINATES = (
    "patient",
    "frame",
    "slice",
    "phase",
    "group",
    "block",
    "valid",
    "depth",
    "height",
    "width",
    "spacing",
)
CONDITION_COORDINATES = ("transform", "target", "strength", "perturbation_source", "region")
KEYS: Any = {"name": "default", "separator": SEPARATOR}
CODECS: dict[str, Any] = {
    "filters": None,
    "serializer": BytesCodec(endian="little"),
    "compressors": (Crc32cCodec(),),
    "chunk_key_encoding": KEYS,
}


@dataclass(frozen=True)
class Block:
    """One block of a run: a volume and the slots it owns."""

    index: int
    file: VolumeFile
    #: ``None`` where the header could not be read; the block then fails by itself.
    header: VolumeHeader | None
    #: Samples it will hold: slices for a 2D network, 1 for a 3D one.
    samples: int

    @property
    def name(self) -> str:
        return str(self.file.key)


def sample_coordinates(blocks: Sequence[Block], slots: int) -> dict[str, NDArray[Any]]:
    """Coordinates along ``sample`` for every slot; unused slots are ``valid = False``."""
    n = len(blocks) * slots
    used = np.zeros(n, dtype=bool)
    volume = np.repeat(np.arange(len(blocks)), slots)
    position = np.tile(np.arange(slots), len(blocks))
    shape = np.zeros((len(blocks), 3), dtype=np.int64)
    spacing = np.full((len(blocks), 3), np.nan)
    for block in blocks:
        if block.header is not None:
            used[block.index * slots : block.index * slots + block.samples] = True
            shape[block.index] = block.header.shape
            spacing[block.index] = block.header.spacing

    def per_block(values: Sequence[Any]) -> NDArray[Any]:
        return np.asarray(values)[volume]

    return {
        "patient": per_block([b.file.key.patient for b in blocks]),
        "frame": per_block([b.file.key.frame for b in blocks]).astype(np.int64),
        "slice": position.astype(np.int64),
        "phase": per_block([b.file.phase for b in blocks]),
        "group": per_block([b.file.group for b in blocks]),
        "block": volume.astype(np.int64),
        "valid": used,
        "depth": shape[volume, 0],
        "height": shape[volume, 1],
        "width": shape[volume, 2],
        "spacing": spacing[volume],
    }


def condition_coordinates(conditions: Sequence[Condition]) -> dict[str, NDArray[Any]]:
    """The index and the parts of every condition, along ``condition``."""
    return {
        "condition": np.asarray([c.name for c in conditions]),
        "transform": np.asarray([c.transform for c in conditions]),
        "target": np.asarray([c.target for c in conditions]),
        "strength": np.asarray([c.strength for c in conditions], dtype=np.float64),
        "perturbation_source": np.asarray([c.source or "" for c in conditions]),
        "region": np.asarray([c.region for c in conditions]),
    }


def is_stored(coordinate: str, schema: int) -> bool:
    """Whether a store of that schema has the coordinate."""
    return schema > 2 or coordinate != "region"


def files_of(
    layout: StoreLayout,
    blocks: Sequence[Block],
    conditions: Sequence[Condition],
    class_names: Sequence[str],
    attributes: Mapping[str, Any],
) -> dict[str, bytes]:
    """Every file of a store without any block, by key: metadata and coordinates."""
    root, files = _in_memory()
    _coordinates(root, layout, blocks, conditions, class_names)
    root.update_attributes(
        {**attributes, "coordinates": " ".join((*SAMPLE_COORDINATES, *CONDITION_COORDINATES))},
    )
    records = (layout.source, layout.committed, layout.reduced)
    for small in (layout.applicable, layout.confusion, *records, *layout.statistics):
        _create(root, small.path, small.shape, small.dims, small.dtype, chunks=small.chunk)
    for array in layout.sharded:
        chunking = {"chunks": array.chunk_shape, "shards": array.shard_shape}
        _create(root, array.path, array.shape, array.dims, array.dtype, **chunking)
    _create(root, metadata.ARRAY, (metadata.room(files()),), ("metadata_byte",), "uint8")
    with warnings.catch_warnings():
        # Consolidated metadata is an extension that zarr, xarray and tensorstore accept; zarr warns others may not.
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(root.store)
    made = files()
    return {**made, metadata.KEY: metadata.as_copy(made)}


def coordinate_files(
    layout: StoreLayout, blocks: Sequence[Block], conditions: Sequence[Condition], class_names: Sequence[str]
) -> dict[str, bytes]:
    """The chunks of every coordinate, by key."""
    root, files = _in_memory()
    _coordinates(root, layout, blocks, conditions, class_names)
    return {key: content for key, content in files().items() if not metadata.is_metadata(key)}


def update_coordinates(storage: Storage, wanted: Mapping[str, bytes], *, fsync: bool = False) -> None:
    """Bring coordinates up to date: files of uncommitted blocks may have been mended, or a chunk damaged."""
    for key, content in wanted.items():
        if storage.read(key) != content:
            storage.write(key, content, fsync=fsync)


def _in_memory() -> tuple[zarr.Group, Callable[[], dict[str, bytes]]]:
    content: dict[str, Any] = {}
    root = zarr.create_group(MemoryStore(content), zarr_format=3)
    return root, lambda: {key: value.to_bytes() for key, value in content.items()}


def _coordinates(
    root: zarr.Group,
    layout: StoreLayout,
    blocks: Sequence[Block],
    conditions: Sequence[Condition],
    class_names: Sequence[str],
) -> None:
    coordinates = {**sample_coordinates(blocks, layout.slots), **condition_coordinates(conditions)}
    for name, values in coordinates.items():
        dims = ("condition",) if name in CONDITION_COORDINATES or name == "condition" else ("sample", "axis")
        _coordinate(root, name, values, dims[: values.ndim])
    for name in ("true_class", "predicted_class"):
        _coordinate(root, name, np.asarray(class_names), (name,))
    _coordinate(root, "axis", np.asarray(["z", "y", "x"]), ("axis",))


def _coordinate(root: zarr.Group, name: str, values: NDArray[Any], dims: tuple[str, ...]) -> None:
    if values.dtype.kind == "U":
        array = _create(root, name, values.shape, dims, "string", fill_value="", filters="auto", serializer="auto")
        content: NDArray[Any] = values.astype(object)
    else:
        array, content = _create(root, name, values.shape, dims, values.dtype), values
    # Also a chunk of fill values alone: a coordinate's missing file then always means damage.
    array.with_config({"write_empty_chunks": True})[...] = content


def _create(
    root: zarr.Group, path: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: Any, **settings: Any
) -> Any:
    """An array of one chunk, raw and with a crc32c, unless ``settings`` say otherwise."""
    defaults = {"chunks": shape, "fill_value": None if dtype == "string" else _fill_value(dtype)}
    return root.create_array(path, shape=shape, dtype=dtype, dimension_names=dims, **{**CODECS, **defaults, **settings})


def _fill_value(dtype: np.dtype[Any] | str) -> Any:
    kind = np.dtype(dtype).kind
    return np.nan if kind == "f" else False if kind == "b" else 0
