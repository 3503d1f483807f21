"""Storage of a store's files: a folder, or a prefix in S3-compatible object storage. Keys are relative to the store."""

from __future__ import annotations

from actstore.paths import is_url
from actstore.store.files.base import File, Location, Lock, Sink, Storage
from actstore.store.files.local import LocalStorage

__all__ = ["File", "Location", "Lock", "Sink", "Storage", "is_url", "storage_at"]


def storage_at(location: Location) -> Storage:
    """The storage at a local path or an ``s3://bucket/prefix`` URL; neither reads nor creates anything.

    Raises
    ------
    StoreError
        for a URL of another scheme, without a bucket or prefix, or with credentials in it.
    """
    if not is_url(location):
        return LocalStorage.at_path(location)
    from actstore.store.files.s3 import S3Storage

    return S3Storage.at_url(str(location))
