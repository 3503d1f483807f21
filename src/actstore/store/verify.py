"""Reads a whole store and lists damaged, missing and stray files."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

from actstore.errors import DamageError, StoreError, one_line
from actstore.store import commits, metadata
from actstore.store.attributes import layout_of, names_channels, read_attributes, token_of
from actstore.store.coordinates import root_coordinates, score_coordinates, statistic_coordinates
from actstore.store.files import storage_at
from actstore.store.files.base import TEMPORARY, Location, Storage
from actstore.store.groups import Group, groups_of, read_groups
from actstore.store.layout import ArrayLayout, SmallLayout, has_checksum
from actstore.store.reader import MEND, ShardReader, read_small
from actstore.store.schema import FILTERS, WEIGHT, Schema

#: Shards read in parallel; reading and checksums release the interpreter lock.
THREADS = 2

DamageKind = Literal["metadata", "copy", "coordinate", "commit", "content", "statistics", "stray"]
VerifyProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Damage:
    """One file that differs from what was written."""

    #: Decides the repair: metadata from its copy, a copy from the metadata, the capture of a block, …
    kind: DamageKind
    key: str
    what: str
    #: The block that owns the file; ``None`` for files of the whole store.
    block: int | None = None
    #: Name of the volume, or of the unit of another job.
    volume: str = ""
    #: The group of a job; "" for the capture.
    group: str = ""

    def __str__(self) -> str:
        return f"{self.volume or 'store'}: {self.key}: {self.what}"


@dataclass(frozen=True)
class Verification:
    """The result of `verify`."""

    damage: tuple[Damage, ...]
    #: Number of committed blocks, and of all blocks.
    committed: int
    blocks: int
    #: For each group of a job: its name, committed units, all units.
    groups: tuple[tuple[str, int, int], ...]
    files: int
    bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether the store is complete, undamaged and not empty."""
        return not self.damage and self.committed == self.blocks > 0


def verify(location: Location, *, progress: VerifyProgress | None = None) -> Verification:
    """Check presence, length and checksum of everything that the store at ``location`` should hold.

    Parameters
    ----------
    progress
        called after every unit with its name, units finished and units to check.

    Returns
    -------
    what was found. Volumes without a commit record and files that belong to nothing count as damage.

    Raises
    ------
    StoreError
        if there is no store, or its metadata and their copy are both unreadable.
    """
    start = time.perf_counter()
    storage = storage_at(location)
    damage, texts = _check_metadata(storage)
    attributes = json.loads(texts["zarr.json"])["attributes"] if texts else _without_copy(storage)
    groups = tuple(groups_of(json.loads(texts["zarr.json"]))) if texts else read_groups(storage)
    store = _Expected(storage, attributes, groups)
    damage += store.coordinates(texts)
    for group in store.groups:
        damage += group.records()
    # List files after the records, so that blocks committed meanwhile are not checked.
    store.look()
    todo = [(group, block) for group in store.groups for block in sorted(group.samples)]
    with ThreadPoolExecutor(max(THREADS, storage.threads)) as pool:
        futures = {pool.submit(group.block, block): group.names[block] for group, block in todo}
        try:
            for finished, future in enumerate(as_completed(futures), start=1):
                damage += future.result()
                if progress is not None:
                    progress(futures[future], finished, len(todo))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    damage += store.strays(texts)
    return Verification(
        damage=tuple(sorted(damage, key=lambda found: (-1 if found.block is None else found.block, found.key))),
        committed=len(store.capture.samples),
        blocks=store.capture.schema.blocks,
        groups=tuple((group.schema.group, len(group.samples), group.schema.blocks) for group in store.groups[1:]),
        files=len(store.there),
        bytes=sum(store.there.values()),
        seconds=time.perf_counter() - start,
    )


def _check_metadata(storage: Storage) -> tuple[list[Damage], dict[str, bytes]]:
    """Compare metadata with their copy byte by byte. Returns the damage, and the copy, empty if it is damaged."""
    try:
        texts = metadata.read_copy(storage)
    except DamageError as error:
        if not storage.exists("zarr.json"):
            read_attributes(storage)  # raises with what is there instead
        return [Damage("copy", metadata.KEY, str(error).partition(": ")[2] or str(error)), *_against_root(storage)], {}
    damage = []
    for key, text in texts.items():
        found = storage.read(key)
        if found != text:
            damage.append(Damage("metadata", key, "is missing" if found is None else "differs from its copy"))
    return damage, texts


def _against_root(storage: Storage) -> Iterator[Damage]:
    for key, text in metadata.consolidated(storage.read("zarr.json") or b"{}").items():
        found = storage.read(key)
        if found is None or not metadata.same(found, text):
            yield Damage("metadata", key, "is missing" if found is None else "differs from the root's")


def _without_copy(storage: Storage) -> dict[str, Any]:
    try:
        return read_attributes(storage)
    except StoreError as error:
        raise StoreError(
            f"{storage}: its zarr.json is damaged, and the copy of the metadata too: restore zarr.json from a backup, "
            "or capture at another path"
        ) from error


def _found(look: Callable[[], str]) -> str:
    """What ``look`` returns, or the damage that it raises. A storage that does not answer is an error, not damage."""
    try:
        return look()
    except DamageError as error:
        return str(error).partition(f": {MEND}")[0]
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EISDIR):
            raise StoreError(f"{one_line(error)}: see that it can be read, then verify again") from error
        return f"cannot be read: {error.strerror}"


class _Checked:
    """Checks the blocks of one group."""

    def __init__(self, storage: Storage, schema: Schema, token: int, names: Sequence[str]) -> None:
        self.storage, self.schema, self.token, self.names = storage, schema, token, names
        #: Number of samples in each committed block.
        self.samples: dict[int, int] = {}

    def records(self) -> Iterator[Damage]:
        """Check commit records, and collect the blocks to check."""
        for block, name in enumerate(self.names):
            if what := self._record(self.schema.record, block):
                yield Damage("commit", self.schema.record.key(block), what, block, name, self.schema.group)
            else:
                self.samples[block] = 0

    def count(self, there: Mapping[str, int]) -> None:
        """Infer the number of samples of each block from the size of most of its shards."""
        for block in self.samples:
            counts = []
            for array in self.schema.sharded:
                size = there.get(array.key(block), 0) - array.index_bytes
                samples, rest = divmod(size, array.sample_stride)
                if not rest and 0 < samples <= array.slots:
                    counts.append(samples)
            self.samples[block] = max(counts, key=counts.count, default=0)

    def _record(self, record: SmallLayout, block: int) -> str:
        """What is wrong with a block's entry in ``record``."""

        def look() -> str:
            found = read_small(self.storage, record, block)
            if found is None or not found[0]:
                return "is missing: the volume is not committed"
            if int(found[0]) != self.token:
                return f"is of another run (fingerprint {int(found[0]):016x}, this store's is {self.token:016x})"
            return ""

        return _found(look).removeprefix(f"{self.storage.at(record.key(block))} ")

    def block(self, block: int) -> list[Damage]:
        """Check every file of a committed block."""
        return [
            Damage(kind, key, what, block, self.names[block], self.schema.group)
            for kind, key, what in self._files_of(block)
            if what
        ]

    def _files_of(self, block: int) -> Iterator[tuple[DamageKind, str, str]]:
        for array in self.schema.arrays:
            yield "content", array.key(block), self._array(array, block)
        for subgroup in self.schema.subgroups:
            yield "statistics", subgroup.record.key(block), self._record(subgroup.record, block)
            for array in subgroup.arrays:
                yield "statistics", array.key(block), self._array(array, block)

    def _array(self, array: ArrayLayout | SmallLayout, block: int) -> str:
        def look() -> str:
            if isinstance(array, SmallLayout):
                return "is missing" if read_small(self.storage, array, block) is None else ""
            with ShardReader(self.storage, array.key(block), array, self.samples[block]) as shard:
                shard.check()
            return ""

        return _found(look).removeprefix(f"{self.storage.at(array.key(block))} ")


def _shape(text: bytes) -> list[int]:
    """The shape that an array's metadata state; of one dim where they are damaged, which is found elsewhere."""
    try:
        found: list[int] = json.loads(text)["shape"]
    except (ValueError, KeyError, TypeError):
        return [0]
    return found


class _Expected:
    """Checks everything that a store should hold."""

    def __init__(self, storage: Storage, attributes: Mapping[str, Any], groups: Sequence[Group]) -> None:
        self.storage = storage
        layout = layout_of(attributes)
        self.capture = _Checked(storage, layout.capture, token_of(attributes), attributes["blocks"])
        jobs = [_Checked(storage, group.schema, group.token, group.names) for group in groups]
        self.groups = (self.capture, *jobs)
        #: Path of each coordinate to the job's group that it belongs to.
        self._coordinates = dict.fromkeys(
            root_coordinates(layout.version, channels=names_channels(attributes), images=layout.classified), ""
        )
        self._coordinates |= {f"statistics/{name}": "" for name in statistic_coordinates(layout.version)}
        if attributes.get(FILTERS):
            self._coordinates[f"{FILTERS}/{WEIGHT}"] = ""
        self._coordinates |= {f"outputs/{name}": "" for name in score_coordinates(bool(layout.scored))}
        self._coordinates |= {
            f"{group.name}/{name}": group.name for group in groups for name in group.schema.coordinates
        }
        #: Path of each file to its size.
        self.there: dict[str, int] = {}

    def coordinates(self, texts: Mapping[str, bytes]) -> Iterator[Damage]:
        for key, group in self._coordinate_keys(texts).items():
            content = self.storage.read(key)
            if content is None:
                yield Damage("coordinate", key, "is missing", group=group)
            elif not has_checksum(content):
                yield Damage("coordinate", key, "is damaged (length or checksum)", group=group)

    def _coordinate_keys(self, texts: Mapping[str, bytes]) -> dict[str, str]:
        keys = {}
        for path, group in self._coordinates.items():
            text = texts.get(f"{path}/zarr.json") or self.storage.read(f"{path}/zarr.json") or b'{"shape": [0]}'
            keys[f"{path}/{'.'.join(('c', *('0' for _ in _shape(text))))}"] = group
        return keys

    def look(self) -> None:
        """List the files, and infer how many samples each committed block has."""
        self.there = dict(self.storage.files())
        for group in self.groups:
            group.count(self.there)

    def strays(self, texts: Mapping[str, bytes]) -> Iterator[Damage]:
        """Files of killed attempts, and files that belong to nothing.

        Files of an uncommitted volume do not count, since its capture replaces them.
        """
        owners = [(commits.block_arrays(group.schema), group.schema.blocks) for group in self.groups]
        known: Collection[str] = {*texts, metadata.KEY, *self._coordinate_keys(texts)}
        for key in self.there:
            if TEMPORARY in key:
                yield Damage("stray", key, "is left of an attempt that was killed")
            elif key not in known and not (metadata.is_metadata(key) and not texts):
                found = [(commits.block_of(key, arrays), blocks) for arrays, blocks in owners]
                if not any(block is not None and block < blocks for block, blocks in found):
                    yield Damage("stray", key, "belongs to nothing in this store")
