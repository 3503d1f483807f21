"""What every storage can do; the guarantees that blocks and readers rest on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: A path on a local or shared file system, or a URL.
Location = Path | str
#: Marks a file that has not got its name yet.
TEMPORARY = ".partial-"


class File(Protocol):
    """A file or object opened for reading at any position."""

    size: int

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill ``view`` from ``offset`` on; how many bytes there were."""
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """A file or object that is written from its beginning and appears whole, under its name, on ``close``."""

    def append(self, memory: NDArray[np.uint8], start: int, stop: int, *, last: bool) -> None:
        """Write ``memory[start:stop]``, which may be used for something else when this returns.

        Memory is page-aligned, ``start`` is the file position modulo the page size; what lies before ``start`` in its
        page and behind ``stop`` in its page may be overwritten.
        """
        ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Let go of what was not closed; nothing of it is seen by readers."""
        ...


class Lock(Protocol):
    """A store's lock while it is held."""

    @property
    def held(self) -> bool:
        """False as soon as another process has it, or may have it."""
        ...


class Storage(Protocol):
    """Files of one store. Picklable, cheap, without credentials."""

    #: Small files read at the same time.
    threads: int
    #: Bytes read at a time from a large file.
    piece_bytes: int

    @property
    def location(self) -> Location: ...

    def at(self, key: str) -> str:
        """Where ``key`` lies, for messages."""
        ...

    def read(self, key: str) -> bytes | None:
        """A whole file, or ``None`` where there is none."""
        ...

    def fill(self, key: str, content: bytearray) -> int | None:
        """Read a file whose size is that of ``content`` into it.

        Returns
        -------
        the file's size, whether it fits or not; ``None`` where there is no file.
        """
        ...

    def open(self, key: str) -> File:
        """Raises ``FileNotFoundError`` where there is no file."""
        ...

    def write(self, key: str, content: bytes, *, fsync: bool = False) -> None:
        """Write or replace a file, atomically."""
        ...

    def sink(self, key: str, size: int, *, fsync: bool = False) -> Sink:
        """A file of ``size`` bytes to be written in pieces."""
        ...

    def exists(self, key: str) -> bool: ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; those that are not there are no error."""
        ...

    def files(self) -> Iterator[tuple[str, int]]:
        """Every file with its size, temporary ones too, in no order."""
        ...

    def is_empty(self) -> bool:
        """Whether nothing is there that a new store would overwrite."""
        ...

    def create(self, files: Mapping[str, bytes], *, fsync: bool = False) -> None:
        """Make a store of ``files``, which appears whole or not at all.

        Raises
        ------
        StoreError
            if it cannot be written, or another one appeared there meanwhile.
        """
        ...

    def creating(self) -> AbstractContextManager[object]:
        """Entered around the question whether there is a store and its `create`."""
        ...

    def locked(self) -> AbstractContextManager[Lock]:
        """Keep a second capture away from the store.

        Raises
        ------
        StoreError
            if another capture is writing to it.
        """
        ...

    def free_bytes(self) -> int | None:
        """Bytes that can still be written; ``None`` where that is not known."""
        ...

    def zarr(self) -> Any:
        """What ``zarr.open_group`` takes, for reading."""
        ...
