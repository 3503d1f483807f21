"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether an end was asked for."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stoppable(said: Callable[[], None]) -> Iterator[Stop]:
    """Take the first SIGINT or SIGTERM as a request, of which ``said`` is told; the second is a ``KeyboardInterrupt``.

    Only in the main thread, where signals arrive; elsewhere nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(_signal: int, _frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        said()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
