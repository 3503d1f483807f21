"""A second copy of a store's metadata, with a checksum, since `zarr.json` files have none."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from actstore.errors import DamageError
from actstore.store.files.base import Storage
from actstore.store.layout import CHECKSUM_BYTES, has_checksum, with_checksum

#: The array (byte,) uint8 whose one chunk holds the copy: compressed JSON of {key: text}, then zeros.
ARRAY = "metadata"
KEY = f"{ARRAY}/c.0"


def is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] == "zarr.json"


def _texts(files: Mapping[str, bytes]) -> bytes:
    """The metadata among ``files``, compressed."""
    texts = {key: content.decode() for key, content in sorted(files.items()) if is_metadata(key)}
    return zlib.compress(json.dumps(texts, ensure_ascii=False).encode())


def room(files: Mapping[str, bytes]) -> int:
    """Bytes to reserve for the copy of these files and of the root's consolidated metadata."""
    return 4096 + 4 * len(_texts(files))


def fits(files: Mapping[str, bytes]) -> bool:
    """Whether the array `ARRAY` among ``files`` has room for their copy."""
    size: int = json.loads(files[f"{ARRAY}/zarr.json"])["shape"][0]
    return len(_texts(files)) <= size


def as_copy(files: Mapping[str, bytes]) -> bytes:
    """The chunk of the array `ARRAY`: the metadata among ``files``, including the array's own."""
    (size,) = json.loads(files[f"{ARRAY}/zarr.json"])["shape"]
    body = _texts(files).ljust(size, b"\0")
    return with_checksum(body)


def read_copy(storage: Storage) -> dict[str, bytes]:
    """Every ``zarr.json`` as it was when the store was made, by key.

    Raises
    ------
    DamageError
        if the copy is missing or damaged.
    """
    content = storage.read(KEY)
    if content is None:
        raise DamageError(f"{storage.at(KEY)}, the copy of the metadata, is missing")
    if not has_checksum(content):
        raise DamageError(f"{storage.at(KEY)}, the copy of the metadata, is damaged (length or checksum)")
    texts: dict[str, str] = json.loads(zlib.decompressobj().decompress(content[:-CHECKSUM_BYTES]))
    return {key: text.encode() for key, text in texts.items()}


def consolidated(root: bytes) -> dict[str, bytes]:
    """Every ``zarr.json`` according to the root's consolidated metadata; formatting may differ from the files'."""
    entries = json.loads(root).get("consolidated_metadata", {}).get("metadata", {})
    return {f"{path}/zarr.json": _spelled(entry) for path, entry in entries.items()}


def _spelled(entry: Mapping[str, Any]) -> bytes:
    """An entry as in its own file, where groups hold no consolidated metadata."""
    return json.dumps({key: value for key, value in entry.items() if key != "consolidated_metadata"}, indent=2).encode()


def same(found: bytes, wanted: bytes) -> bool:
    """Whether two pieces of metadata are equal as JSON."""
    try:
        return bool(json.loads(found) == json.loads(wanted))
    except ValueError:
        return False
