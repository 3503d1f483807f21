"""Reading objects by whole and by ranges, of a bucket or of a web server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from actstore.store.files.bucket import library

#: Bytes fetched ahead of sequential reads, since a request costs some ten milliseconds.
READ_AHEAD = 16 * 2**20
#: Bytes fetched from an object's end when it is opened: a shard's index lies there.
TAIL = 64 * 2**10


class Objects(ABC):
    """What reading needs of a storage of objects: obstore's handle, the path of a key, and errors that name it."""

    @property
    @abstractmethod
    def store(self) -> Any:
        """obstore's handle."""

    @abstractmethod
    def path(self, key: str) -> str:
        """Where ``key`` lies below that handle."""

    @abstractmethod
    def naming(self, key: str) -> AbstractContextManager[None]:
        """Turn errors into one line that names ``key``; that of a missing object stays ``FileNotFoundError``."""

    def read(self, key: str) -> bytes | None:
        with self.naming(key):
            try:
                return bytes(library().get(self.store, self.path(key)).bytes())
            except FileNotFoundError:
                return None

    def fill(self, key: str, content: bytearray) -> int | None:
        found = self.read(key)
        if found is None:
            return None
        if len(found) == len(content):
            content[:] = found
        return len(found)

    def open(self, key: str) -> ObjectFile:
        return ObjectFile(self, key)

    def exists(self, key: str) -> bool:
        return self.written(key) is not None

    def written(self, key: str) -> tuple[Any, ...] | None:
        with self.naming(key):
            try:
                found = library().head(self.store, self.path(key))
            except FileNotFoundError:
                return None
        return found["last_modified"], found["e_tag"]


class ObjectFile:
    """An object read by ranges, with read-ahead for sequential reads."""

    def __init__(self, storage: Objects, key: str) -> None:
        self._storage, self._key = storage, key
        with storage.naming(key):
            found = library().get(storage.store, storage.path(key), options={"range": {"suffix": TAIL}})
            self.size: int = found.meta["size"]
            self._tail = memoryview(bytes(found.bytes()))
        self._ahead = memoryview(b"")
        self._start = self._next = 0

    def read_into(self, view: memoryview, offset: int) -> int:
        wanted = min(len(view), max(0, self.size - offset))
        tail_start = self.size - len(self._tail)
        if offset >= tail_start:
            view[:wanted] = self._tail[offset - tail_start : offset - tail_start + wanted]
            return wanted
        end = offset + wanted
        if not self._start <= offset <= end <= self._start + len(self._ahead):
            fetched = min(self.size, max(end, offset + READ_AHEAD if offset == self._next else 0))
            with self._storage.naming(self._key):
                content = library().get_range(
                    self._storage.store, self._storage.path(self._key), start=offset, end=fetched
                )
            self._ahead, self._start = memoryview(content), offset
        self._next = end
        part = self._ahead[offset - self._start : end - self._start]
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._ahead = self._tail = memoryview(b"")
