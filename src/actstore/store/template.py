"""Creates groups: one process writes all metadata and coordinates. Workers then only fill regions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import MemoryStore

from actstore.store import metadata
from actstore.store.files.base import Storage
from actstore.store.layout import SEPARATOR, ArrayLayout, SmallLayout
from actstore.store.schema import Coordinate, Schema

KEYS: Any = {"name": "default", "separator": SEPARATOR}
CODECS: dict[str, Any] = {
    "filters": None,
    "serializer": BytesCodec(endian="little"),
    "compressors": (Crc32cCodec(),),
    "chunk_key_encoding": KEYS,
}


def files_of(
    schema: Schema, coordinates: Mapping[str, Sequence[Coordinate]], attributes: Mapping[str, Any]
) -> dict[str, bytes]:
    """Every file of a store without blocks, by key: metadata and coordinates.

    Parameters
    ----------
    coordinates
        by path of their group; "" for the root. A group that the schema does not have is made for them.
    """
    root, files = _in_memory()
    root.update_attributes(dict(attributes))
    _fill(root, schema, coordinates)
    _create(root, metadata.ARRAY, (metadata.room(files()),), ("metadata_byte",), "uint8")
    made = _consolidated(root, files)
    return {**made, metadata.KEY: metadata.as_copy(made)}


def add_group(
    storage: Storage, schema: Schema, coordinates: Sequence[Coordinate], attributes: Mapping[str, Any]
) -> None:
    """Add an empty group to a store, its consolidated metadata and their copy.

    The root's metadata are replaced last, so that readers see the whole group or nothing. If interrupted, the copy is
    ahead of the root, and `actstore verify --repair` completes it.
    """
    # After an interrupted attempt the copy may already list the group.
    texts = {k: text for k, text in metadata.read_copy(storage).items() if not k.startswith(f"{schema.group}/")}
    root, files = _in_memory(texts)
    for depth in range(schema.group.count("/") + 1):
        root.require_group("/".join(schema.group.split("/")[: depth + 1]))
    root[schema.group].update_attributes(dict(attributes))
    _fill(root, schema, {schema.group: coordinates})
    made = _consolidated(root, files)
    if not metadata.fits(made):
        _create(root, metadata.ARRAY, (metadata.room(made),), ("metadata_byte",), "uint8", overwrite=True)
        made = _consolidated(root, files)
    changed = {key: content for key, content in made.items() if texts.get(key) != content or key == "zarr.json"}
    for key in sorted(changed, key=lambda key: (key == "zarr.json", metadata.is_metadata(key))):
        if key == "zarr.json":
            storage.write(metadata.KEY, metadata.as_copy(made))
        storage.write(key, changed[key])


def coordinate_files(coordinates: Iterable[Coordinate], group: str = "") -> dict[str, bytes]:
    """The chunks of coordinates of a group, by key."""
    root, files = _in_memory()
    for coordinate in coordinates:
        _coordinate(root, coordinate, group)
    return {key: content for key, content in files().items() if not metadata.is_metadata(key)}


def update_coordinates(storage: Storage, wanted: Mapping[str, bytes], *, fsync: bool = False) -> None:
    """Update coordinates: files of uncommitted blocks may have been replaced, or a chunk damaged."""
    for key, content in wanted.items():
        if storage.read(key) != content:
            storage.write(key, content, fsync=fsync)


def _in_memory(texts: Mapping[str, bytes] | None = None) -> tuple[zarr.Group, Callable[[], dict[str, bytes]]]:
    from zarr.core.buffer import default_buffer_prototype

    prototype = default_buffer_prototype()
    content: dict[str, Any] = {key: prototype.buffer.from_bytes(text) for key, text in (texts or {}).items()}
    store = MemoryStore(content)
    if texts:
        root = zarr.open_group(store, mode="r+", use_consolidated=False)
    else:
        root = zarr.create_group(store, zarr_format=3)
    return root, lambda: {key: value.to_bytes() for key, value in content.items()}


def _consolidated(root: zarr.Group, files: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
    with warnings.catch_warnings():
        # zarr, xarray and tensorstore accept consolidated metadata; zarr warns that others may not.
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(root.store)
    return files()


def _fill(root: zarr.Group, schema: Schema, coordinates: Mapping[str, Sequence[Coordinate]]) -> None:
    """Add the coordinates and arrays of the group and its subgroups."""
    for path, found in coordinates.items():
        if path and found:
            root.require_group(path)
        for coordinate in found:
            _coordinate(root, coordinate, path)
        if names := [coordinate.name for coordinate in found if coordinate.dims[0] != coordinate.name]:
            node = root.require_group(path) if path else root
            node.update_attributes({"coordinates": " ".join(names)})
    for group in schema.schemas:
        for array in (group.record, *group.arrays):
            _create(root, array.path, array.shape, array.dims, array.dtype, **_chunking(array))


def _chunking(array: ArrayLayout | SmallLayout) -> dict[str, Any]:
    if isinstance(array, ArrayLayout):
        return {"chunks": array.chunk_shape, "shards": array.shard_shape}
    return {"chunks": array.section, "shards": array.chunk} if array.sectioned else {"chunks": array.chunk}


def _coordinate(root: zarr.Group, coordinate: Coordinate, group: str = "") -> None:
    path = f"{group}/{coordinate.name}" if group else coordinate.name
    values, dims = coordinate.values, coordinate.dims
    if values.dtype.kind == "U":
        array = _create(root, path, values.shape, dims, "string", fill_value="", filters="auto", serializer="auto")
        content: NDArray[Any] = values.astype(object)
    else:
        array, content = _create(root, path, values.shape, dims, values.dtype), values
    if coordinate.attributes:
        array.update_attributes(dict(coordinate.attributes))
    # Write even a chunk of fill values, so that a coordinate's missing file always means damage.
    array.with_config({"write_empty_chunks": True})[...] = content


def _create(
    root: zarr.Group, path: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: Any, **settings: Any
) -> Any:
    """Create an array of one raw chunk with a crc32c, unless ``settings`` say otherwise."""
    defaults = {"chunks": shape, "fill_value": None if dtype == "string" else _fill_value(dtype)}
    return root.create_array(path, shape=shape, dtype=dtype, dimension_names=dims, **{**CODECS, **defaults, **settings})


def _fill_value(dtype: np.dtype[Any] | str) -> Any:
    kind = np.dtype(dtype).kind
    return np.nan if kind == "f" else False if kind == "b" else 0
