"""Reads a whole store and says what of it is not as it was written."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

from actstore.errors import DamageError, StoreError, one_line
from actstore.store import commits, metadata
from actstore.store.attributes import layout_of, read_attributes, token_of
from actstore.store.files import Location, Storage, storage_at
from actstore.store.files.base import TEMPORARY
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.reader import MEND, ShardReader, read_small
from actstore.store.schema import StoreLayout
from actstore.store.template import CONDITION_COORDINATES, SAMPLE_COORDINATES, is_stored

COORDINATES = (*SAMPLE_COORDINATES, "condition", *CONDITION_COORDINATES, "true_class", "predicted_class", "axis")
#: Shards read at the same time; reading and checksums run without the interpreter lock.
THREADS = 2

Kind = Literal["metadata", "copy", "coordinate", "commit", "content", "statistics", "stray"]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was written."""

    #: What is needed to mend it: metadata from its copy, a copy from the metadata, the capture of a block, …
    kind: Kind
    key: str
    what: str
    #: The block that owns the file; ``None`` for files of the whole store.
    block: int | None = None
    volume: str = ""

    def __str__(self) -> str:
        return f"{self.volume or 'store'}: {self.key}: {self.what}"


@dataclass(frozen=True)
class Verification:
    """What a look at every byte of a store found."""

    damage: tuple[Damage, ...]
    #: Blocks that are committed, and all.
    committed: int
    blocks: int
    files: int
    bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether there is something, all of it, and all as it was written."""
        return not self.damage and self.committed == self.blocks > 0


def verify(location: Location, *, progress: Progress | None = None) -> Verification:
    """Check presence, length and checksum of everything that the store at ``location`` should hold.

    Parameters
    ----------
    progress
        called after every block with its volume, blocks finished and blocks to check.

    Returns
    -------
    what was found. A volume without a commit record counts as damage; so do files that belong to nothing.

    Raises
    ------
    StoreError
        if there is no store, or its metadata and their copy are both unreadable.
    """
    start = time.perf_counter()
    storage = storage_at(location)
    damage, texts = _check_metadata(storage)
    attributes = json.loads(texts["zarr.json"])["attributes"] if texts else _without_copy(storage)
    store = _Expected(storage, attributes)
    damage += store.coordinates(texts)
    damage += store.records()
    # After the records: whatever a capture commits meanwhile is not looked at.
    store.look()
    done = sorted(store.samples)
    with ThreadPoolExecutor(max(THREADS, storage.threads)) as pool:
        futures = {pool.submit(store.block, block): block for block in done}
        try:
            for finished, future in enumerate(as_completed(futures), start=1):
                damage += future.result()
                if progress is not None:
                    progress(store.volumes[futures[future]], finished, len(done))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    damage += store.strays(texts)
    return Verification(
        damage=tuple(sorted(damage, key=lambda found: (-1 if found.block is None else found.block, found.key))),
        committed=len(done),
        blocks=store.layout.blocks,
        files=len(store.there),
        bytes=sum(store.there.values()),
        seconds=time.perf_counter() - start,
    )


def _check_metadata(storage: Storage) -> tuple[list[Damage], dict[str, bytes]]:
    """Metadata compared with their copy, bit by bit; the copy, empty where it cannot be trusted."""
    try:
        texts = metadata.read_copy(storage)
    except DamageError as error:
        if not storage.exists("zarr.json"):
            read_attributes(storage)  # says what is there instead
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
    """What ``look`` says, or the damage that it met. A storage that does not answer is an error, not damage."""
    try:
        return look()
    except DamageError as error:
        return str(error).partition(f": {MEND}")[0]
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EISDIR):
            raise StoreError(f"{one_line(error)}: see that it can be read, then verify again") from error
        return f"cannot be read: {error.strerror}"


class _Expected:
    """What a store should hold, looked for."""

    def __init__(self, storage: Storage, attributes: Mapping[str, Any]) -> None:
        self.storage = storage
        self.layout: StoreLayout = layout_of(attributes)
        self.token = token_of(attributes)
        self.volumes: list[str] = attributes["blocks"]
        self._names = [name for name in COORDINATES if is_stored(name, attributes["schema"])]
        #: Files with their sizes.
        self.there: dict[str, int] = {}
        #: Samples of each committed block.
        self.samples: dict[int, int] = {}

    def coordinates(self, texts: Mapping[str, bytes]) -> Iterator[Damage]:
        for key in self._coordinate_keys(texts):
            content = self.storage.read(key)
            if content is None:
                yield Damage("coordinate", key, "is missing")
            elif not metadata.has_checksum(content):
                yield Damage("coordinate", key, "is damaged (length or checksum)")

    def _coordinate_keys(self, texts: Mapping[str, bytes]) -> Iterator[str]:
        for name in self._names:
            text = texts.get(f"{name}/zarr.json") or self.storage.read(f"{name}/zarr.json") or b'{"shape": [0]}'
            yield f"{name}/{'.'.join(('c', *('0' for _ in json.loads(text)['shape'])))}"

    def records(self) -> Iterator[Damage]:
        """Commit records; afterwards it is known which blocks are to be looked at."""
        for block, volume in enumerate(self.volumes):
            if what := self._record(self.layout.committed, block):
                yield Damage("commit", self.layout.committed.chunk_key(block), what, block, volume)
            else:
                self.samples[block] = 0

    def look(self) -> None:
        """List the files; the size of a block's shards says how many samples it has, and all must then agree."""
        self.there = dict(self.storage.files())
        label = self.layout.label
        for block in self.samples:
            size = self.there.get(label.shard_key(block), 0)
            samples, rest = divmod(size - label.index_bytes, label.sample_stride)
            if rest or not 0 < samples <= self.layout.slots:
                samples = self._samples_of_others(block)
            self.samples[block] = samples

    def _samples_of_others(self, block: int) -> int:
        counts = [0]
        for array in self.layout.sharded:
            samples, rest = divmod(self.there.get(array.shard_key(block), 0) - array.index_bytes, array.sample_stride)
            if not rest and 0 < samples <= self.layout.slots:
                counts.append(samples)
        return max(counts, key=counts.count)

    def _record(self, record: SmallLayout, block: int) -> str:
        """What is wrong with a block's entry in ``record``."""

        def look() -> str:
            found = read_small(self.storage, record, block)
            if found is None or not found[0]:
                return "is missing: the volume is not committed"
            if int(found[0]) != self.token:
                return f"is of another run (fingerprint {int(found[0]):016x}, this store's is {self.token:016x})"
            return ""

        return _found(look).removeprefix(f"{self.storage.at(record.chunk_key(block))} ")

    def block(self, block: int) -> list[Damage]:
        """Every file of a committed block."""
        return [
            Damage(kind, key, what, block, self.volumes[block]) for kind, key, what in self._files_of(block) if what
        ]

    def _files_of(self, block: int) -> Iterator[tuple[Kind, str, str]]:
        layout = self.layout
        for small in (layout.source, layout.applicable, layout.confusion):
            yield "content", small.chunk_key(block), self._small(small, block)
        for array in layout.sharded:
            yield "content", array.shard_key(block), self._shard(array.shard_key(block), array, self.samples[block])
        yield "statistics", layout.reduced.chunk_key(block), self._record(layout.reduced, block)
        for small in layout.statistics:
            yield "statistics", small.chunk_key(block), self._small(small, block)

    def _small(self, small: SmallLayout, block: int) -> str:
        def look() -> str:
            return "is missing" if read_small(self.storage, small, block) is None else ""

        return _found(look).removeprefix(f"{self.storage.at(small.chunk_key(block))} ")

    def _shard(self, key: str, array: ArrayLayout, samples: int) -> str:
        def look() -> str:
            with ShardReader(self.storage, key, array, samples) as shard:
                shard.check()
            return ""

        return _found(look).removeprefix(f"{self.storage.at(key)} ")

    def strays(self, texts: Mapping[str, bytes]) -> Iterator[Damage]:
        """Files of attempts that were killed, and files that belong to nothing.

        Not those of a volume that is not committed, which its capture replaces.
        """
        arrays = commits.block_arrays(self.layout)
        known: Collection[str] = {*texts, metadata.KEY, *self._coordinate_keys(texts)}
        for key in self.there:
            if TEMPORARY in key:
                yield Damage("stray", key, "is left of an attempt that was killed")
            elif key not in known and not (metadata.is_metadata(key) and not texts):
                block = commits.block_of(key, arrays)
                if block is None or block >= self.layout.blocks:
                    yield Damage("stray", key, "belongs to nothing in this store")
