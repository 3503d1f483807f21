"""Keeps an attempt at a block from writing over another one that has committed it."""

from __future__ import annotations

import time

from actstore.store import commits
from actstore.store.files import Storage
from actstore.store.schema import StoreLayout

#: Seconds between two looks: whoever stood still for longer may have been taken for lost.
PATIENCE = 1.0


class Superseded(Exception):
    """The block was committed by a worker that was given it while this one was taken for lost."""


class Fence:
    """Stands before every write to a block; looks at its record where time has passed since the last one."""

    def __init__(self, storage: Storage, layout: StoreLayout, block: int, token: int) -> None:
        self._asked = storage, layout, block, token
        self._looked = float("-inf")

    def check(self) -> None:
        """Return where the block is still this attempt's to write.

        Raises
        ------
        Superseded
            if it is committed.
        """
        # The clock goes on while a process is stopped.
        if time.monotonic() - self._looked > PATIENCE:
            if commits.is_finished(*self._asked):
                raise Superseded
            self._looked = time.monotonic()
