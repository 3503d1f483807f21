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
    # Dask sets up logging when it is imported, before a started process has its parent's settings. From here on a
    # worker that is asked to end while it sends a sign of life says nothing of it.
    for name, level in dask.config.get("logging", {}).items():
        logging.getLogger(name).setLevel(level.upper())
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
