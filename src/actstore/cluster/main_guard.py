"""Detects scripts that start workers on import: each worker process imports the script that started it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actstore.errors import ClusterError

#: Clusters whose workers are child processes of this one and import its script.
STARTED_HERE = ("local", "cuda")
#: Environment variable with the path of a file that a worker creates when the script began a job in it.
_REPORT = "ACTSTORE_UNGUARDED"
_MEND = "put the call behind `if __name__ == \"__main__\":`, or use cluster = 'inline'"


def refuse_in_worker(kind: str) -> None:
    """Refuse to run a job in a process that is still importing the script that started it.

    A worker under `guarded_main` exits silently, and `guarded_main` reports the error. ``kind`` is the cluster's.

    Raises
    ------
    ClusterError
        in a worker that `guarded_main` did not start.
    """
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    if report := os.environ.get(_REPORT):
        Path(report).touch()
        raise SystemExit(1)
    if kind in STARTED_HERE:
        raise ClusterError(f"this script starts a job in each process that imports it: {_MEND}")


@contextmanager
def guarded_main() -> Iterator[None]:
    """Report workers that import an unguarded script, while this process starts them.

    Raises
    ------
    ClusterError
        if they cannot import the script, or the script begins the same work again.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is not None and getattr(main, "__spec__", None) is None and not Path(file).is_file():
        raise ClusterError(
            f"workers import the script that starts them, and {file} is no file: save the script and {_MEND}"
        )
    with tempfile.TemporaryDirectory(prefix="actstore-") as folder:
        report = Path(folder, "unguarded")
        os.environ[_REPORT] = str(report)
        try:
            yield
        except Exception:
            if not report.exists():
                raise
            raise ClusterError(f"the workers import {file}, which starts the job again: {_MEND}") from None
        finally:
            os.environ.pop(_REPORT, None)
