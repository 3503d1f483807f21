"""A store below a prefix of a bucket: objects appear whole, a lease object keeps a second capture away."""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from actstore.errors import StoreError, one_line

#: Bytes fetched ahead of sequential reads: a request costs some ten milliseconds.
READ_AHEAD = 16 * 2**20
#: Bytes fetched when an object is opened: its end, where a shard's index lies.
TAIL = 64 * 2**10
#: Bytes of one part of a multipart upload.
PART = 16 * 2**20
#: Seconds between two renewals of the lease, and without one after which it counts as given up.
RENEWAL = 20.0
EXPIRY = 120.0

#: Requests that fail are tried again this often.
RETRIES: Any = {"max_retries": 5}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class S3Storage:
    """Objects ``s3://bucket/prefix/…``; endpoint, region and credentials come from the usual ``AWS_…`` environment."""

    bucket: str
    prefix: str
    threads = 16
    piece_bytes = READ_AHEAD

    @classmethod
    def at_url(cls, url: str) -> S3Storage:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise StoreError(f"store URL cannot be read: {error}; use s3://bucket/run.zarr") from error
        prefix = parts.path.strip("/")
        if parts.username or parts.password:
            raise StoreError(
                f"the store URL for bucket {parts.hostname!r} holds credentials: take them out and set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if parts.scheme != "s3" or not parts.netloc or not prefix or parts.query or parts.fragment:
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
                return bytes(_obstore().get(self._store, self._path(key)).bytes())
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
            _obstore().put(self._store, self._path(key), content)

    def sink(self, key: str, size: int, *, fsync: bool = False) -> S3Sink:
        return S3Sink(self, key)

    def exists(self, key: str) -> bool:
        with self._naming(key):
            try:
                _obstore().head(self._store, self._path(key))
            except FileNotFoundError:
                return False
            return True

    def delete(self, keys: Iterable[str]) -> None:
        paths = [self._path(key) for key in keys]
        with self._naming(""):
            if paths:
                _obstore().delete(self._store, paths)

    def files(self) -> Iterator[tuple[str, int]]:
        with self._naming(""):
            for batch in _obstore().list(self._store, self.prefix):
                for entry in batch:
                    yield entry["path"][len(self.prefix) + 1 :], entry["size"]

    def is_empty(self) -> bool:
        """Whether there is no root metadata, which is written last."""
        return not self.exists("zarr.json")

    def create(self, files: Mapping[str, bytes]) -> None:
        for key in sorted(files, key=lambda key: key == "zarr.json"):
            self.write(key, files[key])

    def creating(self) -> AbstractContextManager[Lease]:
        return self.locked()

    @contextmanager
    def locked(self) -> Iterator[Lease]:
        lease = Lease(self)
        lease.acquire()
        try:
            yield lease
        finally:
            lease.release()

    def free_bytes(self) -> None:
        return None

    def zarr(self) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(_bucket(self.bucket, self.prefix), read_only=True)

    @property
    def _store(self) -> Any:
        return _bucket(self.bucket)

    def _path(self, key: str) -> str:
        return f"{self.prefix}/{key}"

    @contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        """Errors of the object store as one line that names the object; that ``key`` is not there is none of them."""
        exceptions = _obstore().exceptions
        try:
            yield
        except (exceptions.BaseError, OSError) as error:
            if isinstance(error, FileNotFoundError) and key:
                raise
            raise StoreError(
                f"{self.at(key)}: {_short(error)}; check the bucket, AWS_ENDPOINT_URL and credentials, then run again"
            ) from error


def _short(error: BaseException) -> str:
    """Without the server's page and the debug form of the error, which holds whole requests."""
    return one_line(error).split(" Debug source:")[0].split(": <")[0]


@cache
def _obstore() -> Any:
    try:
        import obstore
    except ImportError as error:
        raise StoreError("stores at s3:// need obstore: pip install 'actstore[s3]'") from error
    return obstore


@cache
def _bucket_of(bucket: str, prefix: str, _process: int) -> Any:
    _obstore()
    from obstore.store import S3Store

    try:
        return S3Store(bucket, prefix=prefix or None, retry_config=RETRIES)
    except Exception as error:
        raise StoreError(f"s3://{bucket} cannot be used: {_short(error)}; check the AWS_… environment") from error


def _bucket(bucket: str, prefix: str = "") -> Any:
    return _bucket_of(bucket, prefix, os.getpid())


class S3File:
    """An object read by ranges, ahead where reads follow each other."""

    def __init__(self, storage: S3Storage, key: str) -> None:
        self._storage, self._key = storage, key
        with storage._naming(key):
            found = _obstore().get(storage._store, storage._path(key), options={"range": {"suffix": TAIL}})
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
                content = _obstore().get_range(
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
    """An upload of one request, or of parts, that the server puts together on ``close``."""

    def __init__(self, storage: S3Storage, key: str) -> None:
        self._storage, self._key = storage, key
        self._writer: Any = None

    def append(self, memory: NDArray[np.uint8], start: int, stop: int, *, last: bool) -> None:
        with self._storage._naming(self._key):
            if self._writer is None:
                self._writer = _obstore().open_writer(
                    self._storage._store, self._storage._path(self._key), buffer_size=PART
                )
            # A copy: the writer keeps what it is given until it has a whole part.
            self._writer.write(memory[start:stop].tobytes())

    def close(self) -> None:
        with self._storage._naming(self._key):
            self._writer.close()

    def abandon(self) -> None:
        self._writer = None


class Lease:
    """An object beside the store, made only where there is none, and renewed while a capture runs."""

    def __init__(self, storage: S3Storage) -> None:
        self._storage = storage
        self._path = f"{storage.prefix}.lock"
        self._etag = ""
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._renewals = 0
        self._released = Event()
        self._thread = Thread(target=self._renew, name="actstore-lease", daemon=True)
        self.held = True

    def acquire(self) -> None:
        obstore = _obstore()
        with self._storage._naming(""):
            try:
                self._put("create")
            except obstore.exceptions.AlreadyExistsError:
                self._take_over()
        self._thread.start()

    def _put(self, mode: Any) -> None:
        self._renewals += 1
        content = json.dumps({"owner": self._owner, "renewals": self._renewals}).encode()
        found = _obstore().put(self._storage._store, self._path, content, mode=mode, use_multipart=False)
        self._etag = found["e_tag"]

    def _take_over(self) -> None:
        """Take a lease that was not renewed for `EXPIRY` seconds by the server's clock; refuse otherwise."""
        obstore = _obstore()
        store = self._storage._store
        refusal = StoreError(
            f"another capture is writing to {self._storage}: wait for it to end, or {EXPIRY:.0f} s where it was "
            "killed, then run again"
        )
        try:
            theirs = obstore.head(store, self._path)
            if (self._server_time() - theirs["last_modified"]).total_seconds() < EXPIRY:
                raise refusal
            self._put({"e_tag": theirs["e_tag"]})
        except (FileNotFoundError, obstore.exceptions.PreconditionError) as error:
            raise refusal from error

    def _server_time(self) -> datetime:
        obstore, store = _obstore(), self._storage._store
        path = f"{self._path}.{uuid.uuid4().hex}"
        obstore.put(store, path, b"")
        try:
            found: datetime = obstore.head(store, path)["last_modified"]
        finally:
            obstore.delete(store, path)
        return found

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL):
            try:
                self._put({"e_tag": self._etag})
            except _obstore().exceptions.PreconditionError:
                if self._is_ours():
                    continue
                self.held = False
                log.warning("%s: another capture took the lease", self._storage)
                return
            except Exception as error:
                log.warning("%s: the lease could not be renewed: %s", self._storage, _short(error))

    def _is_ours(self) -> bool:
        """A renewal whose answer was lost, and that was tried again, is refused though the first try succeeded."""
        try:
            found = _obstore().get(self._storage._store, self._path)
            self._etag = found.meta["e_tag"]
            return bool(json.loads(bytes(found.bytes()))["owner"] == self._owner)
        except FileNotFoundError:
            return False

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        if self.held:
            with self._storage._naming(""):
                _obstore().delete(self._storage._store, self._path)
