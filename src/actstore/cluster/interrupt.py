"""Ctrl-C and SIGTERM: the first stops the run in good order, the second ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether the user asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def stoppable(said: Callable[[], None]) -> Iterator[Stop]:
    """On the first SIGINT or SIGTERM call ``said`` and set `Stop`; on the second raise ``KeyboardInterrupt``.

    Does nothing outside the main thread, where Python delivers signals.
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
