"""Dask loads this into every local worker: only the parent process handles Ctrl-C, and it ends its workers."""

from __future__ import annotations

import signal
import threading


def dask_setup(_worker: object) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
