"""A store below a prefix of a bucket: objects appear whole, and a lease object keeps a second capture away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.store.files.bucket import library, naming, opened
from actstore.store.files.lease import Lease

#: Bytes fetched ahead of sequential reads, since a request costs some ten milliseconds.
READ_AHEAD = 16 * 2**20
#: Bytes fetched from an object's end when it is opened: a shard's index lies there.
TAIL = 64 * 2**10
#: Bytes of one part of a multipart upload; smaller objects take one request.
PART = 64 * 2**20


@dataclass(frozen=True)
class S3Storage:
    """Objects ``s3://bucket/prefix/…``; endpoint, region and credentials come from the usual ``AWS_…`` environment."""

    bucket: str
    prefix: str
    threads = 16
    piece_bytes = READ_AHEAD
    held_bytes = PART

    @classmethod
    def at_url(cls, url: str) -> S3Storage:
        if "@" in url or "?" in url:
            # The message omits the URL, since any part of it may be a secret.
            raise StoreError(
                "a store URL holds credentials or options ('@', '?'): take them out, use s3://bucket/run.zarr, and set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise StoreError(f"store URL cannot be read: {error}; use s3://bucket/run.zarr") from error
        prefix = parts.path.strip("/")
        if parts.scheme != "s3" or not parts.netloc or ":" in parts.netloc or not prefix or parts.fragment:
            raise StoreError(f"store URL {url!r} is none that actstore knows: use s3://bucket/run.zarr, or a path")
        if any(part in ("", ".", "..") for part in prefix.split("/")):
            raise StoreError(f"store URL {url!r} has an empty, '.' or '..' part: use s3://bucket/run.zarr")
        return cls(parts.netloc, prefix)

    def __str__(self) -> str:
        return self.location

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def at(self, key: str) -> str:
        return f"{self.location}/{key}"

    def read(self, key: str) -> bytes | None:
        with self._naming(key):
            try:
                return bytes(library().get(self._store, self._path(key)).bytes())
            except FileNotFoundError:
                return None

    def fill(self, key: str, content: bytearray) -> int | None:
        found = self.read(key)
        if found is None:
            return None
        if len(found) == len(content):
            content[:] = found
        return len(found)

    def open(self, key: str) -> S3File:
        return S3File(self, key)

    def write(self, key: str, content: bytes, *, fsync: bool = False) -> None:
        with self._naming(""):
            library().put(self._store, self._path(key), content)

    def sink(self, key: str, size: int, *, fsync: bool = False) -> S3Sink:
        return S3Sink(self, key, size)

    def exists(self, key: str) -> bool:
        with self._naming(key):
            try:
                library().head(self._store, self._path(key))
            except FileNotFoundError:
                return False
            return True

    def lacking(self, keys: Iterable[str]) -> str:
        return ""

    def delete(self, keys: Iterable[str]) -> None:
        paths = [self._path(key) for key in keys]
        with self._naming(""):
            if paths:
                library().delete(self._store, paths)

    def files(self) -> Iterator[tuple[str, int]]:
        with self._naming(""):
            for batch in library().list(self._store, self.prefix):
                for entry in batch:
                    yield entry["path"][len(self.prefix) + 1 :], entry["size"]

    def is_empty(self) -> bool:
        """Whether the root metadata, which is written last, is missing."""
        return not self.exists("zarr.json")

    def create(self, files: Mapping[str, bytes], *, fsync: bool = False) -> None:
        for key in sorted(files, key=lambda key: key == "zarr.json"):
            self.write(key, files[key])

    def creating(self) -> AbstractContextManager[Lease]:
        return self.locked()

    @contextmanager
    def locked(self) -> Iterator[Lease]:
        lease = Lease(self._store, f"{self.prefix}.lock", self.location)
        lease.acquire()
        try:
            yield lease
        finally:
            lease.release()

    def free_bytes(self) -> None:
        return None

    def zarr(self) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(opened(self.bucket, self.prefix), read_only=True)

    @property
    def _store(self) -> Any:
        return opened(self.bucket)

    def _path(self, key: str) -> str:
        return f"{self.prefix}/{key}"

    def _naming(self, key: str) -> AbstractContextManager[None]:
        return naming(self.at(key), may_be_missing=bool(key))


class S3File:
    """An object read by ranges, with read-ahead for sequential reads."""

    def __init__(self, storage: S3Storage, key: str) -> None:
        self._storage, self._key = storage, key
        with storage._naming(key):
            found = library().get(storage._store, storage._path(key), options={"range": {"suffix": TAIL}})
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
            with self._storage._naming(self._key):
                content = library().get_range(
                    self._storage._store, self._storage._path(self._key), start=offset, end=fetched
                )
            self._ahead, self._start = memoryview(content), offset
        self._next = end
        part = self._ahead[offset - self._start : end - self._start]
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._ahead = self._tail = memoryview(b"")


class S3Sink:
    """An upload in one request, or in parts that the server joins on ``close``."""

    def __init__(self, storage: S3Storage, key: str, size: int) -> None:
        self._storage, self._key = storage, key
        self._whole = bytearray() if size <= PART else None
        self._writer: Any = None

    def append(self, memory: NDArray[np.uint8], start: int, stop: int, *, last: bool) -> None:
        if self._whole is not None:
            self._whole += memory[start:stop].data
            return
        with self._storage._naming(self._key):
            if self._writer is None:
                self._writer = library().open_writer(
                    self._storage._store, self._storage._path(self._key), buffer_size=PART
                )
            # Copy: the writer keeps the bytes until it has a whole part.
            self._writer.write(memory[start:stop].tobytes())

    def close(self) -> None:
        with self._storage._naming(self._key):
            if self._whole is None:
                self._writer.close()
            else:
                path = self._storage._path(self._key)
                library().put(self._storage._store, path, self._whole, use_multipart=False)
        self.abandon()

    def abandon(self) -> None:
        self._writer = self._whole = None
