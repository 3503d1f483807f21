"""Loaded by Dask into every local worker: Ctrl-C is for the process that asked for the work, which ends its workers."""

from __future__ import annotations

import signal
import threading


def dask_setup(_worker: object) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
