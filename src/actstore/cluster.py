"""Where blocks are computed: this process, or Dask workers. The only module that imports distributed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

from actstore.errors import ActstoreError, PlanError, one_line

T = TypeVar("T")
R = TypeVar("R")

#: Tasks submitted a worker: one infers, the other reads its files or ends its writing; none hoards.
IN_FLIGHT = 2
#: Times that a block is given again after the worker that held it was lost.
WORKER_LOSSES = 2

#: Workers keep the memory that they free: distributed's own setting gives it back at once, and then every tensor of a
#: forward pass is made of fresh pages, which doubles its time.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": 2**30,
    "MALLOC_MMAP_THRESHOLD_": 2**30,
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
}

log = logging.getLogger(__name__)


class LostWorker(ActstoreError):
    """A task whose workers died, more often than it is retried."""


class Executor(Protocol):
    """Runs a function over items and yields each item with its result, or the error that took its worker."""

    def run(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R | LostWorker]]: ...


class Inline:
    """One item after another in this process."""

    def run(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R | LostWorker]]:
        for item in items:
            yield item, function(item)


class Dask:
    """At most two tasks a worker in flight on a Dask cluster."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R | LostWorker]]:
        from distributed import KilledWorker, as_completed

        remaining = iter(items)
        pending = as_completed()
        held: dict[Any, T] = {}

        def submit_next() -> None:
            for item in remaining:
                future = self.client.submit(function, item, pure=False, retries=0)
                held[future] = item
                pending.add(future)
                return

        workers = max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))
        for _ in range(IN_FLIGHT * workers):
            submit_next()
        for future in pending:
            item = held.pop(future)
            try:
                result: R | LostWorker = future.result()
            except KilledWorker as error:
                result = LostWorker(
                    f"its worker died {WORKER_LOSSES + 1} times (last on {error.last_worker.address}): "
                    "its memory limit is the usual reason; use fewer --workers or a smaller run.batch_size"
                )
            except Exception as error:
                result = LostWorker(one_line(error))
            future.release()
            submit_next()
            yield item, result


@contextmanager
def _local(workers: int) -> Iterator[Dask]:
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": WORKER_LOSSES,
        "distributed.worker.daemon": True,
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.worker.preload": ["actstore.preload"],
        # Failures of blocks come back as reports, lost workers as errors of their tasks; what else distributed logs
        # while it shuts down would read as a failure.
        "logging": dict.fromkeys(("distributed", "distributed.client", "tornado", "tornado.application"), "critical"),
        "distributed.admin.tick.limit": "60s",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=IN_FLIGHT,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Dask(client)


@contextmanager
def _inline() -> Iterator[Inline]:
    yield Inline()


def connect(cluster: str, workers: int) -> AbstractContextManager[Executor]:
    """An executor for ``--cluster``: ``inline`` or ``local``.

    Raises
    ------
    PlanError
        for a cluster of another name.
    """
    if cluster == "inline":
        return _inline()
    if cluster == "local":
        return _local(workers)
    raise PlanError(f"cluster {cluster!r} is unknown: use inline or local")
