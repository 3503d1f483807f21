"""Keeps a second capture away from a store in a bucket, where no kernel releases the lock of a killed process."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import uuid
from datetime import datetime
from threading import Event, Thread
from typing import Any

from actstore.errors import StoreError
from actstore.store.files.bucket import library, naming, short

#: Seconds between renewals of the lease, and seconds without renewal after which it expires: five renewals may fail.
RENEWAL = 20.0
EXPIRY = 120.0

log = logging.getLogger(__name__)


class Lease:
    """An object next to the store, created only if absent, and renewed while a capture runs."""

    def __init__(self, bucket: Any, path: str, url: str) -> None:
        self._bucket = bucket
        self._path = path
        #: URL of the store, for messages.
        self._url = url
        self._etag = ""
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._renewals = 0
        self._released = Event()
        self._thread = Thread(target=self._renew, name="actstore-lease", daemon=True)
        self._lost = False
        #: Start time of the last successful renewal.
        self._renewed = time.monotonic()

    def acquire(self) -> None:
        obstore = library()
        with naming(self._url):
            try:
                self._put("create")
            except obstore.exceptions.AlreadyExistsError:
                self._take_over()
        self._thread.start()

    def _put(self, mode: Any) -> None:
        self._renewals += 1
        began = time.monotonic()
        content = json.dumps({"owner": self._owner, "renewals": self._renewals}).encode()
        found = library().put(self._bucket, self._path, content, mode=mode, use_multipart=False)
        self._etag, self._renewed = found["e_tag"], began

    def _take_over(self) -> None:
        """Take a lease that was not renewed for `EXPIRY` seconds by the server's clock; raise otherwise."""
        obstore = library()
        store = self._bucket
        refusal = StoreError(
            f"another job is writing to {self._url}: wait for it to end, or {EXPIRY:.0f} s where it was "
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
        obstore, store = library(), self._bucket
        path = f"{self._path}.{uuid.uuid4().hex}"
        obstore.put(store, path, b"")
        try:
            found: datetime = obstore.head(store, path)["last_modified"]
        finally:
            obstore.delete(store, path)
        return found

    @property
    def held(self) -> bool:
        """False once another job holds the lease, or may hold it because the last renewal is too old."""
        return not self._lost and time.monotonic() - self._renewed < EXPIRY - RENEWAL

    def _renew(self) -> None:
        precondition = library().exceptions.PreconditionError
        while self.held and not self._released.wait(RENEWAL):
            try:
                try:
                    self._put({"e_tag": self._etag})
                except precondition:
                    if not self._is_ours():
                        self._lost = True
                        log.warning("%s: another job took the lease", self._url)
            except Exception as error:
                log.warning("%s: the lease could not be renewed: %s", self._url, short(error))

    def _is_ours(self) -> bool:
        """Whether the lease is ours. The server refuses a repeated renewal if only the first one's answer was lost."""
        began = time.monotonic()
        try:
            found = library().get(self._bucket, self._path)
            owner = json.loads(bytes(found.bytes()))["owner"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        if owner != self._owner:
            return False
        self._etag, self._renewed = found.meta["e_tag"], began
        return True

    def release(self) -> None:
        """Release the lease, unless another job may hold it by now."""
        self._released.set()
        self._thread.join()
        if self.held:
            with naming(self._url):
                if self._is_ours():
                    library().delete(self._bucket, self._path)
