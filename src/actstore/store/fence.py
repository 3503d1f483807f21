"""Keeps an attempt at a block from overwriting another attempt that committed it."""

from __future__ import annotations

import time

from actstore.store import commits
from actstore.store.files.base import Storage
from actstore.store.schema import Schema

#: Seconds between two checks: the scheduler may consider a worker lost that was suspended for longer.
PATIENCE = 1.0


class Superseded(Exception):
    """Another worker committed the block while the scheduler considered this one lost."""


class Fence:
    """Called before every write to a block; reads the block's record if `PATIENCE` has passed since the last check."""

    def __init__(self, storage: Storage, schema: Schema, block: int, token: int) -> None:
        self._asked = storage, schema, block, token
        self._looked = float("-inf")

    def check(self) -> None:
        """Raise if another attempt has committed the block.

        Raises
        ------
        Superseded
            if it is committed.
        """
        # The clock continues while the process is suspended.
        if time.monotonic() - self._looked > PATIENCE:
            if commits.is_finished(*self._asked):
                raise Superseded
            self._looked = time.monotonic()
