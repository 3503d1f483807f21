"""Starts the workers that a spec asks for, or connects to an existing scheduler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from actstore.cluster.executors import IN_FLIGHT, POLL, WORKER_LOSSES, Dask, Executor, Inline
from actstore.cluster.main_guard import STARTED_HERE, guarded_main
from actstore.cluster.versions import versions
from actstore.errors import ActstoreError, ClusterError, needing, one_line
from actstore.paths import LOOPBACK
from actstore.spec.cluster import Cluster
from actstore.store.files.base import Storage

#: Let workers keep the memory that they free. Distributed's default returns it to the system at once, so that every
#: tensor of a forward pass needs fresh pages, which doubles its time.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": 2**30,
    "MALLOC_MMAP_THRESHOLD_": 2**30,
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
}


@contextmanager
def _inline() -> Iterator[Inline]:
    yield Inline()


#: Failed units come back as reports and lost workers as task errors. What these loggers print beyond that, while a
#: cluster starts and shuts down, would look like a failure.
_QUIET = ("distributed", "distributed.client", "tornado", "tornado.application")


@contextmanager
def _configured(settings: Cluster) -> Iterator[None]:
    import dask
    import distributed  # noqa: F401  The import merges defaults, which must outlive these settings.

    before = {name: logging.getLogger(name).level for name in _QUIET}
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with dask.config.set(
            {
                "distributed.scheduler.allowed-failures": WORKER_LOSSES,
                "distributed.scheduler.worker-ttl": f"{settings.worker_timeout}s",
                "distributed.worker.daemon": True,
                "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
                "distributed.worker.preload": ["actstore.cluster.preload"],
                # Less than the default of 15: none of our workers comes back, and its replacement waits for this.
                "distributed.deploy.lost-worker-timeout": "5s",
                "logging": dict.fromkeys(_QUIET, "critical"),  # in the started processes
                "distributed.admin.tick.limit": "60s",  # no warnings while a network keeps the interpreter busy
            }
        ):
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _library(module: str, kind: str) -> Any:
    with needing(f"cluster {kind!r}"):
        return import_module(module)


def _local(settings: Cluster, workers: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers,
        threads_per_worker=IN_FLIGHT,
        processes=True,
        host=settings.host or LOOPBACK,
        dashboard_address=settings.dashboard,
        silence_logs=logging.ERROR,
        # Not "auto": it means the worker's share of the cores, which is too little with few workers on many cores.
        **({"memory_limit": settings.memory} if settings.memory else {}),
    )


def _cuda(settings: Cluster, workers: int) -> Any:
    """One single-threaded process per GPU."""
    return _library("dask_cuda", "cuda").LocalCUDACluster(
        n_workers=workers,
        threads_per_worker=1,
        host=settings.host or LOOPBACK,
        dashboard_address=settings.dashboard,
        memory_limit=settings.memory or "auto",
        silence_logs=logging.ERROR,
    )


def _kubernetes(settings: Cluster, workers: int) -> Any:
    """The cluster of the manifest: without one, dask-kubernetes starts a command that distributed has removed."""
    chosen = settings.kubernetes
    if chosen.manifest is None or not chosen.manifest.is_file():
        raise ClusterError(
            f"cluster.kubernetes.manifest {str(chosen.manifest or '')!r} is no file: name a DaskCluster manifest"
        )
    operator = _library("dask_kubernetes.operator", "kubernetes")
    return operator.KubeCluster(namespace=chosen.namespace, custom_cluster_spec=str(chosen.manifest))


_MAKERS: Mapping[str, Callable[[Cluster, int], Any]] = {
    "local": _local,
    "cuda": _cuda,
    "kubernetes": _kubernetes,
}


def _nothing() -> None:
    return


def _made(settings: Cluster, workers: int, memory: int) -> tuple[Any, Callable[[], None]]:
    """A cluster, and a function to call now and then that replaces lost workers."""
    try:
        if settings.kind != "slurm":
            return _MAKERS[settings.kind](settings, workers), _nothing
        with needing("cluster 'slurm'"):
            from actstore.cluster.slurm import Jobs

        jobs = Jobs(settings, workers, memory, threads=IN_FLIGHT, environment=WORKER_ENVIRONMENT)
        return jobs.cluster, jobs.keep_up
    except ActstoreError:
        raise
    except Exception as error:
        raise ClusterError(f"cluster {settings.kind!r} does not start: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """The first cause, without distributed's wrapping."""
    while error.__cause__ is not None:
        error = error.__cause__
    if "failed to start" in str(error):
        return "a worker process ended while it began; what it said stands above"
    return one_line(error)


@contextmanager
def _started(
    settings: Cluster, workers: int, memory: int, storage: Storage, stopped: Callable[[], bool]
) -> Iterator[Dask]:
    with _configured(settings), guarded_main() if settings.kind in STARTED_HERE else nullcontext():
        cluster, keep_up = _made(settings, workers, memory)
        with cluster, _joined(settings, storage, cluster, keep_up=keep_up, stopped=stopped) as executor:
            yield executor


@contextmanager
def _existing(settings: Cluster, storage: Storage, stopped: Callable[[], bool]) -> Iterator[Dask]:
    with _configured(settings):
        if settings.kind.endswith(".json"):
            if not Path(settings.kind).is_file():
                raise ClusterError(
                    f"{settings.kind}: no such scheduler file; `dask scheduler --scheduler-file` writes it"
                )
            with _joined(settings, storage, scheduler_file=settings.kind, stopped=stopped) as executor:
                yield executor
        else:
            with _joined(settings, storage, settings.kind, stopped=stopped) as executor:
                yield executor


def _security(settings: Cluster) -> Any:
    from distributed.security import Security

    if settings.tls_ca is None:
        return None
    for path in (settings.tls_ca, settings.tls_cert, settings.tls_key):
        if path is None or not path.is_file():
            raise ClusterError(f"{path}: no such file; give the PEM files that the scheduler's were made with")
    return Security(
        tls_ca_file=str(settings.tls_ca),
        tls_client_cert=str(settings.tls_cert),
        tls_client_key=str(settings.tls_key),
        require_encryption=True,
    )


@contextmanager
def _joined(
    settings: Cluster,
    storage: Storage,
    address: Any = None,
    *,
    scheduler_file: str | None = None,
    keep_up: Callable[[], None] = _nothing,
    stopped: Callable[[], bool],
) -> Iterator[Dask]:
    """A client whose workers have the same versions as this process."""
    from distributed import Client

    where = settings.kind
    try:
        client = Client(address, scheduler_file=scheduler_file, security=_security(settings))
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"no scheduler answers at {where}: {one_line(error)}; start it with `dask scheduler`, or correct the "
            "address and its TLS files"
        ) from error
    with client:
        _await_worker(client, where, settings.startup_timeout, keep_up, stopped)
        _check_workers(client, storage)
        yield Dask(client, patience=settings.startup_timeout, keep_up=keep_up)


def _await_worker(
    client: Any, where: str, patience: float, keep_up: Callable[[], None], stopped: Callable[[], bool]
) -> None:
    end = time.monotonic() + patience
    while True:
        if stopped():
            raise ClusterError(f"stopped while waiting for workers at {where}; the same command continues")
        try:
            client.wait_for_workers(1, timeout=min(POLL, patience))
            return
        except TimeoutError as error:
            if time.monotonic() > end:
                raise ClusterError(
                    f"no worker came to {where} within {patience:.0f} s: start workers, look at their logs, or raise "
                    "cluster.startup_timeout"
                ) from error
            keep_up()


def _check_workers(client: Any, storage: Storage) -> None:
    from actstore.cluster.checks import SameAsClient

    try:
        client.register_plugin(SameAsClient(versions(), storage, storage.read("zarr.json") or b""))
    except ClusterError:
        raise
    except Exception as error:
        raise ClusterError(
            f"a worker cannot run actstore: {one_line(error)}; install the same actstore there as here"
        ) from error


def connect(
    settings: Cluster, workers: int, *, memory: int, storage: Storage, stopped: Callable[[], bool] = lambda: False
) -> AbstractContextManager[Executor]:
    """An executor on the cluster that ``settings`` describe.

    Parameters
    ----------
    workers
        how many to start; ignored by an existing scheduler.
    memory
        predicted peak of a worker in bytes; the memory of a SLURM job unless the settings say otherwise.
    storage
        the store, which every worker must be able to read.
    stopped
        polled while waiting for the first worker; returns True to give up.

    Raises
    ------
    ClusterError
        on entering, if the cluster does not start, no worker comes, or workers differ from this process.
    """
    if settings.kind == "inline":
        return _inline()
    if settings.kind == "slurm" or settings.kind in _MAKERS:
        return _started(settings, workers, memory, storage, stopped)
    return _existing(settings, storage, stopped)
