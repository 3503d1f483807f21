"""Runs tasks one after another in this process, or a few at a time on each worker of a Dask cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol, TypeVar

from actstore.errors import ActstoreError, ClusterError, one_line

T = TypeVar("T")
R = TypeVar("R")

#: Tasks submitted per worker: one infers while the other reads its files or finishes writing.
IN_FLIGHT = 2
#: How often a task is submitted again after its worker was lost.
WORKER_LOSSES = 2
#: Seconds between checks for new workers while no task ends.
POLL = 2.0


class LostWorker(ActstoreError):
    """The workers of a task died more often than `WORKER_LOSSES` allows."""


class Executor(Protocol):
    """Runs a function over items and yields each item with its result, or with `LostWorker`."""

    def run(self, function: Callable[[T], R], next_item: Callable[[], T | None]) -> Iterator[tuple[T, R | LostWorker]]:
        """Run until all tasks have ended and ``next_item`` returns ``None``; a result may make it return more items."""
        ...


class Inline:
    """One item after another in this process."""

    def run(self, function: Callable[[T], R], next_item: Callable[[], T | None]) -> Iterator[tuple[T, R | LostWorker]]:
        while (item := next_item()) is not None:
            yield item, function(item)


class Threads:
    """At most ``count`` items at a time in threads of this process: for work that releases the interpreter lock."""

    def __init__(self, count: int) -> None:
        self.count = count

    def run(self, function: Callable[[T], R], next_item: Callable[[], T | None]) -> Iterator[tuple[T, R | LostWorker]]:
        held: dict[Future[R], T] = {}
        with ThreadPoolExecutor(self.count) as pool:
            while True:
                while len(held) < self.count and (item := next_item()) is not None:
                    held[pool.submit(function, item)] = item
                if not held:
                    return
                for future in wait(held, return_when=FIRST_COMPLETED).done:
                    yield held.pop(future), future.result()


class Dask:
    """At most `IN_FLIGHT` tasks per worker on a Dask cluster, whose workers may come and go."""

    def __init__(self, client: Any, *, patience: float, keep_up: Callable[[], None] = lambda: None) -> None:
        self.client = client
        #: Seconds to wait while there is no worker.
        self.patience = patience
        #: Called now and then to replace lost workers.
        self.keep_up = keep_up
        self._seen = time.monotonic()

    def run(self, function: Callable[[T], R], next_item: Callable[[], T | None]) -> Iterator[tuple[T, R | LostWorker]]:
        from concurrent.futures import CancelledError

        from distributed import wait as wait_for

        held: dict[Any, T] = {}
        # Items whose worker died, perhaps because of the other item it held: run each once more, alone.
        suspects: deque[T] = deque()
        alone = False
        self._seen = time.monotonic()
        try:
            while True:
                workers = self._workers()
                while not alone and len(held) < IN_FLIGHT * workers and (item := next_item()) is not None:
                    held[self.client.submit(function, item, pure=False, retries=0)] = item
                if not held:
                    alone = bool(suspects)
                    item = suspects.popleft() if suspects else next_item()
                    if item is None:
                        return
                    held[self.client.submit(function, item, pure=False, retries=0)] = item
                self.keep_up()
                try:
                    wait_for(list(held), timeout=POLL, return_when="FIRST_COMPLETED")
                except TimeoutError:
                    continue
                except CancelledError as error:
                    raise self._lost() from error
                for future in [future for future in held if future.done()]:
                    item = held.pop(future)
                    result = self._result(future)
                    if isinstance(result, LostWorker) and not alone:
                        suspects.append(item)
                        continue
                    alone = False
                    yield item, result
        finally:
            # Cancel if the consumer stops iterating; otherwise the workers would go on.
            if held and self.client.status == "running":
                self.client.cancel(list(held), force=True)

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        if future.status in ("cancelled", "lost"):
            raise self._lost()
        try:
            return future.result()
        except KilledWorker as error:
            return LostWorker(
                f"its worker died {error.allowed_failures + 1} times (last on {error.last_worker.address}): "
                "its memory limit is the usual reason; use fewer --workers or a smaller run.batch_size"
            )
        except Exception as error:
            return LostWorker(one_line(error))
        finally:
            future.release()

    def _workers(self) -> int:
        """Number of workers.

        Raises
        ------
        ClusterError
            if the scheduler does not answer, or there was no worker for longer than ``patience``.
        """
        if self.client.status != "running":
            raise self._lost()
        try:
            count = len(self.client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError, KeyError, RuntimeError) as error:
            raise self._lost() from error
        now = time.monotonic()
        if count:
            self._seen = now
        elif now - self._seen > self.patience:
            raise ClusterError(
                f"no worker for {self.patience:.0f} s at {self._address()}: see that workers can start and reach the "
                "scheduler, or raise cluster.startup_timeout; run again to continue"
            )
        return count

    def _address(self) -> str:
        return str(self.client.scheduler.address) if self.client.scheduler else "the scheduler"

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"the scheduler at {self._address()} was lost: what is committed is kept; start it again, then run the "
            "same command to continue"
        )
