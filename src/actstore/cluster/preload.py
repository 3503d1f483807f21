"""Dask loads this into every local worker.

Only the parent process handles Ctrl-C, and it ends its workers. A lazy array that a task computes is computed by that
task, not by the cluster, which would need another of its threads.
"""

from __future__ import annotations

import logging
import signal
import threading

import dask


def dask_setup(_worker: object) -> None:
    dask.config.set(scheduler="synchronous")
    # Dask sets up logging on import, before a worker process has its parent's settings. Without this, a worker that is
    # closed during a heartbeat prints an error.
    for name, level in dask.config.get("logging", {}).items():
        logging.getLogger(name).setLevel(level.upper())
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
