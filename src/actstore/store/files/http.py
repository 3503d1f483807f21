"""A store below an ``http://`` or ``https://`` address, for reading: any web server that answers range requests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn
from urllib.parse import urlsplit

from actstore.errors import StoreError
from actstore.store.files.base import Lock, Sink
from actstore.store.files.bucket import library, short
from actstore.store.files.objects import READ_AHEAD, Objects

SCHEMES = ("http", "https")
#: Seconds after which a server that says nothing is given up, and how often a request is repeated.
TIMEOUT = 60
RETRIES = 2


@dataclass(frozen=True)
class HttpStorage(Objects):
    """Files ``https://host/path/…``, read only; the root's metadata are consolidated, so that nothing is listed."""

    url: str
    threads = 16
    piece_bytes = READ_AHEAD
    held_bytes = 0

    @classmethod
    def at_url(cls, url: str) -> HttpStorage:
        if "@" in url or "?" in url:
            # The message omits the URL, since any part of it may be a secret.
            raise StoreError(
                "a store's address holds credentials or options ('@', '?'): take them out, use https://host/run.zarr"
            )
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018  # raises where it is no number
        except ValueError as error:
            raise StoreError(f"the address {url!r} cannot be read: {error}; use https://host/run.zarr") from error
        path = parts.path.strip("/")
        if parts.scheme not in SCHEMES or not parts.hostname or not path or parts.fragment:
            raise StoreError(f"the address {url!r} names no store: use https://host/run.zarr")
        return cls(f"{parts.scheme}://{parts.netloc}/{path}")

    def __str__(self) -> str:
        return self.url

    @property
    def location(self) -> str:
        return self.url

    def check_writable(self) -> NoReturn:
        raise StoreError(f"{self.url} can only be read: write to a folder or to s3://bucket/run.zarr")

    def at(self, key: str) -> str:
        return f"{self.url}/{key}"

    @property
    def store(self) -> Any:
        return _opened(self.url, os.getpid())

    def path(self, key: str) -> str:
        return key

    @contextmanager
    def naming(self, key: str) -> Iterator[None]:
        exceptions = library().exceptions
        where = self.at(key)
        try:
            yield
        except FileNotFoundError:
            raise
        except exceptions.NotSupportedError as error:
            raise StoreError(
                f"{where}: the server sends whole files only: use one that answers range requests, or copy the store"
            ) from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise StoreError(f"{where}: the server refuses it: ask for access, or copy the store") from error
        except (exceptions.BaseError, OSError) as error:
            raise StoreError(f"{where}: {_reason(error)}; check the address and the server, then run again") from error

    def is_empty(self) -> bool:
        """Whether there is no root metadata."""
        return not self.exists("zarr.json")

    def zarr(self) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self.store, read_only=True)

    def files(self) -> Iterator[tuple[str, int]]:
        raise StoreError(f"{self.url}: files cannot be listed over HTTP; copy the store, or run this where it lies")

    def free_bytes(self) -> None:
        return None

    def write(self, key: str, content: bytes, *, fsync: bool = False) -> None:
        self.check_writable()

    def sink(self, key: str, size: int, *, fsync: bool = False) -> Sink:
        self.check_writable()

    def lacking(self, keys: Iterable[str]) -> str:
        self.check_writable()

    def delete(self, keys: Iterable[str]) -> None:
        self.check_writable()

    def create(self, files: Mapping[str, bytes], *, fsync: bool = False) -> None:
        self.check_writable()

    def creating(self) -> AbstractContextManager[object]:
        self.check_writable()

    def locked(self) -> AbstractContextManager[Lock]:
        self.check_writable()


@cache
def _opened(url: str, _process: int) -> Any:
    """obstore's handle, one per process: its threads do not survive a fork."""
    library()
    from obstore.store import HTTPStore

    patience = f"{round(TIMEOUT * 1000)}ms"
    options: Any = {"timeout": patience, "connect_timeout": patience, "allow_http": True}
    retries: Any = {"max_retries": RETRIES}
    try:
        return HTTPStore(url, client_options=options, retry_config=retries)
    except Exception as error:
        raise StoreError(f"{url} cannot be used: {short(error)}; check the address") from error


def _reason(error: BaseException) -> str:
    """What went wrong, in words; obstore says it only in its debug form."""
    text = str(error)
    if "TimedOut" in text or "kind: Timeout" in text:
        return f"no answer within {TIMEOUT} s"
    if "response body error" in text:
        return "the answer was cut off"
    if "Connect" in text or "dns error" in text:
        return "the server cannot be reached"
    return short(error)
