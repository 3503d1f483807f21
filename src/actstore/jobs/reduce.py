"""The job that persists per-channel statistics of blocks that have none, so that later tables read kilobytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from actstore.errors import DamageError, StoreError
from actstore.jobs.job import Compute, PlainUnit, Report
from actstore.jobs.out import Out
from actstore.jobs.runner import Progress, Workers, run
from actstore.jobs.statistics import BlockStatistics
from actstore.store import commits
from actstore.store.files.base import Storage
from actstore.store.reader import Piece, read_small
from actstore.store.schema import Coordinate, Schema, StoreLayout
from actstore.store.store import Store

if TYPE_CHECKING:
    from actstore.spec.spec import Spec

#: Default if neither the caller nor the spec sets a number.
WORKERS = 2


@dataclass(frozen=True)
class ReduceJob:
    """Statistics of the tensors of every committed block; fills the group ``statistics``."""

    storage: Storage
    layout: StoreLayout
    blocks: tuple[PlainUnit, ...]

    @property
    def schema(self) -> Schema:
        return self.layout.statistics

    @property
    def needs(self) -> Sequence[str]:
        return ()

    def identity(self) -> Mapping[str, Any]:
        return {}

    def coordinates(self) -> Sequence[Coordinate]:
        return ()

    def units(self) -> Sequence[PlainUnit]:
        return self.blocks

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        yield self._compute

    def _compute(self, block: PlainUnit, out: Out) -> Report:
        statistics = BlockStatistics(self.layout, block.samples)
        for i, array in enumerate(self.layout.activations):
            statistics.read(self.storage, i, Piece(array.key(block.index), block.samples, 0, block.samples))
        statistics.put(out)
        return Report(block.index, block.name)

    @classmethod
    def of(cls, store: Store) -> Self:
        """The job for the blocks that ``store`` holds."""
        names = store.attributes["blocks"]
        return cls(
            store.storage, store.layout, tuple(PlainUnit(b, names[b], samples) for b, samples in store.block_samples)
        )

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        return cls.of(Store(storage.location))


def reduce_store(
    store: Store,
    *,
    workers: Workers | None = None,
    progress: Progress | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> int:
    """Persist `actstore.measures.names.STATISTICS` of every block: see `Store.statistics`.

    A capture does this already; this repeats it for blocks whose statistics are missing or damaged.

    Parameters
    ----------
    workers
        where to compute; by default in this process.
    progress
        called after every block with its report, blocks finished and blocks to do.

    Returns
    -------
    number of blocks reduced.

    Raises
    ------
    StoreError
        if a chunk of a committed block is damaged or missing, or statistics are that only a new capture can compute.
    """
    job = ReduceJob.of(store)
    if not _lost(job, commits.committed(store.storage, job.schema, store.token, mending=True)):
        return 0  # Without a lock: the store may be read-only.

    def withdraw(done: NDArray[np.bool_]) -> None:
        lost = _lost(job, done)
        # Without its record a block's statistics are taken again: here or, if they need the network, by capture.
        commits.withdraw(store.storage, job.schema, [block.index for block in lost])
        done[[block.index for block in lost]] = False
        if lost and not store.layout.keeps_all:
            raise StoreError(
                f"statistics of {lost[0].name} are damaged, and the tensors to take them again from were not kept: "
                "`actstore capture SPEC` computes the volume again"
            )

    outcome = run(
        job, store.storage, workers or Workers(count=WORKERS), before=withdraw, progress=progress, stopping=stopping
    )
    if outcome.failed:
        first = outcome.failed[0]
        raise StoreError(f"{first.name}: {first.error}")
    return len(outcome.reports)


def _lost(job: ReduceJob, done: NDArray[np.bool_]) -> list[PlainUnit]:
    """Blocks without a record of their statistics, or with one although a statistic cannot be read."""
    return [block for block in job.blocks if not done[block.index] or not _readable(job, block.index)]


def workers_of(store: Store, cluster: str | None, count: int | None, spec: Spec | None = None) -> Workers:
    """Workers as ``[cluster]`` of ``spec`` says, of the kind ``cluster`` if given; without both, in this process.

    ``count`` is by default ``run.workers`` of the spec that the store was captured with. Without ``spec``, the kind is
    one that has a default for every setting: a store holds nothing of ``[cluster]``.

    Raises
    ------
    SpecError
        if the kind is unknown, or needs settings that are missing.
    """
    kind = cluster or (spec.cluster.kind if spec else "inline")
    if kind == "inline":
        return Workers(count=count or WORKERS)
    from actstore.cluster.main_guard import refuse_in_worker
    from actstore.spec.cluster import cluster_of_kind, cluster_without_spec

    refuse_in_worker(kind)
    stated = store.attributes["spec"]["run"].get("workers")
    settings = cluster_of_kind(spec.cluster, kind) if spec else cluster_without_spec(kind)
    return Workers(settings, count or stated or WORKERS)


def _readable(job: ReduceJob, block: int) -> bool:
    """Whether every persisted statistic of ``block`` exists and is undamaged."""
    try:
        return all(read_small(job.storage, array, block) is not None for array in job.schema.small)
    except DamageError:
        return False
