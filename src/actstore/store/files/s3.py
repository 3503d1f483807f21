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
from actstore.store.files.objects import READ_AHEAD, Objects

#: Bytes of one part of a multipart upload; smaller objects take one request.
PART = 64 * 2**20


@dataclass(frozen=True)
class S3Storage(Objects):
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
            raise StoreError(
                f"store URL {url!r} is none that actstore knows: use s3://bucket/run.zarr, https://… or a path"
            )
        if any(part in ("", ".", "..") for part in prefix.split("/")):
            raise StoreError(f"store URL {url!r} has an empty, '.' or '..' part: use s3://bucket/run.zarr")
        return cls(parts.netloc, prefix)

    def __str__(self) -> str:
        return self.location

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def check_writable(self) -> None:
        return None

    def at(self, key: str) -> str:
        return f"{self.location}/{key}"

    def write(self, key: str, content: bytes, *, fsync: bool = False) -> None:
        with self.naming(""):
            library().put(self.store, self.path(key), content)

    def sink(self, key: str, size: int, *, fsync: bool = False) -> S3Sink:
        return S3Sink(self, key, size)

    def lacking(self, keys: Iterable[str]) -> str:
        return ""

    def delete(self, keys: Iterable[str]) -> None:
        paths = [self.path(key) for key in keys]
        with self.naming(""):
            if paths:
                library().delete(self.store, paths)

    def files(self) -> Iterator[tuple[str, int]]:
        with self.naming(""):
            for batch in library().list(self.store, self.prefix):
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
        lease = Lease(self.store, f"{self.prefix}.lock", self.location)
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
    def store(self) -> Any:
        return opened(self.bucket)

    def path(self, key: str) -> str:
        return f"{self.prefix}/{key}"

    def naming(self, key: str) -> AbstractContextManager[None]:
        return naming(self.at(key), may_be_missing=bool(key))


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
        with self._storage.naming(self._key):
            if self._writer is None:
                self._writer = library().open_writer(
                    self._storage.store, self._storage.path(self._key), buffer_size=PART
                )
            # Copy: the writer keeps the bytes until it has a whole part.
            self._writer.write(memory[start:stop].tobytes())

    def close(self) -> None:
        with self._storage.naming(self._key):
            if self._whole is None:
                self._writer.close()
            else:
                path = self._storage.path(self._key)
                library().put(self._storage.store, path, self._whole, use_multipart=False)
        self.abandon()

    def abandon(self) -> None:
        self._writer = self._whole = None
