"""Ways to damage a finished store at a random place, as accidents do."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from crc32c import crc32c

from actstore.store import commits
from actstore.store.attributes import layout_of, read_attributes
from actstore.store.coordinates import root_coordinates
from actstore.store.files import LocalStorage
from actstore.store.files.base import TEMPORARY
from actstore.store.layout import CHECKSUM_BYTES, ArrayLayout
from actstore.store.schema import SCHEMA_VERSION, StoreLayout


@dataclass(frozen=True)
class Wound:
    """The damaged file, and the text that a report must show."""

    key: str
    what: str
    block: int | None = None
    volume: str = ""
    #: Whether other files count as damaged because of it.
    spreads: bool = False


class Place:
    """A random block and array of a store."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        attributes = read_attributes(LocalStorage(root))
        self.layout: StoreLayout = layout_of(attributes)
        self.block = rng.randrange(self.layout.blocks)
        self.volume: str = attributes["blocks"][self.block]
        self.array: ArrayLayout = rng.choice(self.layout.capture.sharded)
        self.key = self.array.key(self.block)

    def wound(self, what: str, key: str = "") -> Wound:
        return Wound(key or self.key, what, self.block, self.volume)


def flip(path: Path, rng: random.Random, start: int = 0, stop: int | None = None) -> None:
    """Flip one bit of the file's bytes from ``start`` to ``stop``."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(start, len(content) if stop is None else stop)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _bit_in_a_shard(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    flip(root / place.key, rng, 0, (root / place.key).stat().st_size - place.array.index_bytes)
    return place.wound("wrong checksum of slot")


def _bit_in_an_index(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    flip(root / place.key, rng, (root / place.key).stat().st_size - place.array.index_bytes)
    return place.wound("damaged shard index")


def _bit_in_metadata(root: Path, rng: random.Random) -> Wound:
    path = rng.choice(sorted(root.rglob("zarr.json")))
    key = path.relative_to(root).as_posix()
    flip(path, rng)
    return Wound(key, "differs from its copy")


def _missing_metadata(root: Path, rng: random.Random) -> Wound:
    path = rng.choice(sorted(root.rglob("zarr.json")))
    path.unlink()
    return Wound(path.relative_to(root).as_posix(), "is missing")


def _bit_in_the_copy(root: Path, rng: random.Random) -> Wound:
    flip(root / "metadata/c.0", rng)
    return Wound("metadata/c.0", "is damaged")


def _bit_in_a_coordinate(root: Path, rng: random.Random) -> Wound:
    (path,) = (root / rng.choice(root_coordinates(SCHEMA_VERSION, channels=False))).glob("c.*")
    flip(path, rng)
    return Wound(path.relative_to(root).as_posix(), "is damaged")


def _bit_in_a_small_file(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    capture = place.layout.capture
    small = rng.choice([*capture.small, place.layout.statistics.record, *place.layout.statistics.small])
    flip(root / small.key(place.block), rng)
    return place.wound("is damaged", small.key(place.block))


def _missing_shard(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    (root / place.key).unlink()
    return place.wound("missing")


def _truncated_shard(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    content = (root / place.key).read_bytes()
    (root / place.key).write_bytes(content[: rng.randrange(len(content))])
    return place.wound("bytes instead of")


def _missing_inner_chunk(root: Path, rng: random.Random) -> Wound:
    """An index in which the chunk was never written, as Zarr writes it, with a correct checksum."""
    place = Place(root, rng)
    path = root / place.key
    content = bytearray(path.read_bytes())
    start = len(content) - place.array.index_bytes
    index = np.frombuffer(content, "<u8", offset=start, count=(place.array.index_bytes - CHECKSUM_BYTES) // 8)
    index = index.reshape(-1, 2).copy()
    there = np.flatnonzero(index[:, 0] != np.iinfo(np.uint64).max)
    index[rng.choice(list(there))] = np.iinfo(np.uint64).max
    body = index.tobytes()
    content[start:] = body + crc32c(body).to_bytes(CHECKSUM_BYTES, "little")
    path.write_bytes(content)
    return place.wound("no inner chunk")


def _missing_commit(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    key = place.layout.capture.record.key(place.block)
    (root / key).unlink()
    return place.wound("not committed", key)


def _foreign_commit(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    commits.write_record(LocalStorage(root), place.layout.capture.record, place.block, rng.randrange(1, 2**63))
    return place.wound("is of another run", place.layout.capture.record.key(place.block))


def _torn_commit(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    key = place.layout.capture.record.key(place.block)
    flip(root / key, rng)
    return place.wound("is damaged", key)


def _stray_temporary(root: Path, rng: random.Random) -> Wound:
    place = Place(root, rng)
    key = f"{place.key}{TEMPORARY}{rng.randrange(16**12):012x}"
    (root / key).write_bytes(rng.randbytes(100))
    return Wound(key, "attempt that was killed")


def _stray_other(root: Path, rng: random.Random) -> Wound:
    key = f"{rng.choice(['layers', 'inputs', 'statistics'])}/notes {rng.randrange(99)}.txt"
    (root / key).write_text("mine")
    return Wound(key, "belongs to nothing")


DAMAGE: dict[str, Callable[[Path, random.Random], Wound]] = {
    "bit in a shard": _bit_in_a_shard,
    "bit in a shard index": _bit_in_an_index,
    "bit in metadata": _bit_in_metadata,
    "missing metadata": _missing_metadata,
    "bit in the copy of metadata": _bit_in_the_copy,
    "bit in a coordinate": _bit_in_a_coordinate,
    "bit in a small file": _bit_in_a_small_file,
    "missing shard": _missing_shard,
    "truncated shard": _truncated_shard,
    "missing inner chunk": _missing_inner_chunk,
    "missing commit": _missing_commit,
    "commit of another run": _foreign_commit,
    "torn commit": _torn_commit,
    "stray temporary file": _stray_temporary,
    "stray file": _stray_other,
}
