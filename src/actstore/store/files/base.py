"""The storage protocol, with the guarantees that writers and readers rely on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: A path on a local or shared file system, or a URL.
Location = Path | str
#: Part of the name of a file that is not complete yet.
TEMPORARY = ".partial-"


class File(Protocol):
    """A file or object open for reading at any position."""

    size: int

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill ``view`` from ``offset`` on. Returns the number of bytes read."""
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """A file or object that is written from its beginning and appears whole, under its name, on ``close``."""

    def append(self, memory: NDArray[np.uint8], start: int, stop: int, *, last: bool) -> None:
        """Write ``memory[start:stop]``. The caller may reuse the memory when this returns.

        Memory is page-aligned, and ``start`` is the file position modulo the page size. The call may overwrite bytes
        before ``start`` and after ``stop`` in their pages.
        """
        ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Discard an unclosed file; readers never see any of it."""
        ...


class Lock(Protocol):
    """A lock on a store."""

    @property
    def held(self) -> bool:
        """False as soon as another process holds the lock, or may hold it."""
        ...


class Storage(Protocol):
    """Files of one store. Picklable, cheap, without credentials."""

    #: Small files read at the same time.
    threads: int
    #: Bytes read at a time from a large file.
    piece_bytes: int
    #: Bytes of a file that are held in memory until it is written.
    held_bytes: int

    @property
    def location(self) -> Location: ...

    def check_writable(self) -> None:
        """Refuse a storage that can only be read; neither reads nor creates anything.

        Raises
        ------
        StoreError
            naming where a store can be written.
        """
        ...

    def at(self, key: str) -> str:
        """Where ``key`` lies, for messages."""
        ...

    def read(self, key: str) -> bytes | None:
        """A whole file, or ``None`` if it does not exist."""
        ...

    def fill(self, key: str, content: bytearray) -> int | None:
        """Read a file into ``content``, which should have the file's size.

        Returns
        -------
        the file's size, even if it differs; ``None`` if there is no file.
        """
        ...

    def open(self, key: str) -> File:
        """Open a file for reading; raises ``FileNotFoundError`` if it does not exist."""
        ...

    def write(self, key: str, content: bytes, *, fsync: bool = False) -> None:
        """Write or replace a file, atomically."""
        ...

    def sink(self, key: str, size: int, *, fsync: bool = False) -> Sink:
        """A file of ``size`` bytes to be written in pieces."""
        ...

    def exists(self, key: str) -> bool: ...

    def written(self, key: str) -> Hashable:
        """Differs whenever a file has been written anew, if only with the same content; ``None`` if there is none."""
        ...

    def lacking(self, keys: Iterable[str]) -> str:
        """The first of the ``keys`` just written that no longer exists, "" if all exist.

        Object storage guarantees what it acknowledged, so that it needs no check; each would be a request.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; missing ones are not an error."""
        ...

    def files(self) -> Iterator[tuple[str, int]]:
        """Every file with its size, temporary ones too, in no order."""
        ...

    def is_empty(self) -> bool:
        """Whether a new store would overwrite nothing."""
        ...

    def create(self, files: Mapping[str, bytes], *, fsync: bool = False) -> None:
        """Create a store of ``files``, which appears whole or not at all.

        Raises
        ------
        StoreError
            if it cannot be written, or another store appeared there meanwhile.
        """
        ...

    def creating(self) -> AbstractContextManager[object]:
        """Lock held while checking for a store and calling `create`."""
        ...

    def locked(self) -> AbstractContextManager[Lock]:
        """Keep a second capture away from the store.

        Raises
        ------
        StoreError
            if another job is writing to it.
        """
        ...

    def free_bytes(self) -> int | None:
        """Bytes that can still be written; ``None`` if unknown."""
        ...

    def zarr(self) -> Any:
        """What ``zarr.open_group`` takes, for reading."""
        ...
