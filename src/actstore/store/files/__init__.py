"""Storage of a store's files: a folder, a prefix in S3-compatible object storage, or a web server, to read. Keys are
relative to the store."""

from __future__ import annotations

from actstore.paths import is_url
from actstore.store.files.base import File, Location, Lock, Sink, Storage
from actstore.store.files.local import LocalStorage

__all__ = ["File", "Location", "Lock", "Sink", "Storage", "is_url", "storage_at", "writable_at"]


def storage_at(location: Location) -> Storage:
    """The storage at a path, an ``s3://bucket/prefix`` URL or an ``https://`` address; neither reads nor creates.

    Raises
    ------
    StoreError
        for a URL of another scheme, without a bucket or prefix, or with credentials in it.
    """
    if not is_url(location):
        return LocalStorage.at_path(location)
    if str(location).partition("://")[0].lower() in ("http", "https"):
        from actstore.store.files.http import HttpStorage

        return HttpStorage.at_url(str(location))
    from actstore.store.files.s3 import S3Storage

    return S3Storage.at_url(str(location))


def writable_at(location: Location) -> Storage:
    """As :func:`storage_at`, for a store that is to be written.

    Raises
    ------
    StoreError
        for an ``http://`` or ``https://`` address too, which can only be read.
    """
    found = storage_at(location)
    found.check_writable()
    return found
