"""Buckets through obstore, which reads endpoint, region and credentials from the usual ``AWS_…`` environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from actstore.errors import StoreError, needing, one_line

#: How often obstore repeats a failed request.
RETRIES: Any = {"max_retries": 5}
#: A part of an upload may take this long on a slow link; the library's own limit is 30 s.
TIMEOUT = "10m"


@cache
def library() -> Any:
    """The module obstore.

    Raises
    ------
    MissingError
        if it is not installed.
    """
    with needing("a store at a URL"):
        import obstore
    return obstore


def opened(bucket: str, prefix: str = "") -> Any:
    """obstore's handle of a bucket, one per process: its threads do not survive a fork."""
    return _opened(bucket, prefix, os.getpid())


@cache
def _opened(bucket: str, prefix: str, _process: int) -> Any:
    library()
    from obstore.store import S3Store

    try:
        return S3Store(bucket, prefix=prefix or None, retry_config=RETRIES, client_options=_client())
    except Exception as error:
        raise StoreError(f"s3://{bucket} cannot be used: {short(error)}; check the AWS_… environment") from error


def _client() -> Any:
    """Options of the HTTP client, which replace what the library reads from the environment."""
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
    return {"timeout": TIMEOUT, "allow_http": plain}


def short(error: BaseException) -> str:
    """One line without the server's page, the error's debug form with whole requests, and secrets in URLs."""
    text = one_line(error).split(" Debug source:")[0].split(": <")[0]
    return re.sub(r"\?\S+", "?…", re.sub(r"://[^/\s]+@", "://…@", text))


@contextmanager
def naming(where: str, *, may_be_missing: bool = False) -> Iterator[None]:
    """Turn errors of the object store into one line that names the object; ``may_be_missing`` exempts absence."""
    exceptions = library().exceptions
    try:
        yield
    except (exceptions.BaseError, OSError) as error:
        if isinstance(error, FileNotFoundError) and may_be_missing:
            raise
        raise StoreError(
            f"{where}: {short(error)}; check the bucket, AWS_ENDPOINT_URL and credentials, then run again"
        ) from error
