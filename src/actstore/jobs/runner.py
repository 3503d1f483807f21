"""Runs a job: creates its group, skips what is committed, computes the rest on workers, commits and reports."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock as ThreadLock
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from actstore.cluster.executors import Executor, Inline, LostWorker, Threads
from actstore.cluster.interrupt import stoppable
from actstore.errors import BlockError, StoreError, one_line
from actstore.jobs.job import Compute, Job, Report, Unit
from actstore.jobs.out import Out
from actstore.store import commits
from actstore.store.attributes import layout_of, read_attributes, token_of
from actstore.store.fence import Superseded
from actstore.store.files.base import Lock, Storage
from actstore.store.fingerprint import differences
from actstore.store.groups import Group, check_name, group_token, read_groups
from actstore.store.template import add_group, coordinate_files, update_coordinates
from actstore.units import counted

if TYPE_CHECKING:
    from actstore.spec.cluster import Cluster
    from actstore.spec.spec import Spec

log = logging.getLogger(__name__)

Progress = Callable[[Report, int, int], None]
#: Memory that a cluster's job gets for a worker of which none is predicted, bytes; ``cluster.memory`` replaces it. A
#: worker that reduces volumes of 230 MB peaks at 291 MiB (measured); the rest is for jobs with a network.
WORKER_MEMORY = 2**30
#: Characters of a change of settings that is quoted.
LONGEST_CHANGE = 160


@dataclass(frozen=True)
class Workers:
    """Where and how units are computed: on Dask workers as ``cluster`` says, or in this process."""

    #: Dask workers; ``None`` is this process.
    cluster: Cluster | None = None
    count: int = 1
    #: Predicted peak memory of a worker, bytes.
    memory: int = WORKER_MEMORY
    device: str = "cpu"
    #: How often a failed unit is tried again.
    retries: int = 0
    fsync: bool = False

    @classmethod
    def of(cls, spec: Spec, count: int, device: str, memory: int) -> Self:
        """``count`` workers as a spec asks for them."""
        return cls(spec.cluster, count, memory, device, spec.run.retries, spec.store.fsync)


@dataclass(frozen=True)
class Outcome:
    """The result of running a job."""

    reports: tuple[Report, ...]
    #: Units that were committed before.
    skipped: int
    #: Units that were not begun because the run was stopped.
    left: int

    @property
    def failed(self) -> tuple[Report, ...]:
        return tuple(sorted((report for report in self.reports if report.failed), key=lambda report: report.unit))


def run(
    job: Job,
    storage: Storage,
    workers: Workers,
    *,
    before: Callable[[NDArray[np.bool_]], None] = lambda done: None,
    progress: Progress | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> Outcome:
    """Compute every unit of ``job`` that the store does not hold yet.

    Parameters
    ----------
    before
        called with the units that are done, bool (unit), before anything is deleted or computed; may raise, or clear
        units whose records it withdraws.
    progress
        called after every unit with its report, units finished and units to do; its method ``starting``, if it has
        one, before worker processes start, with their number.
    stopping
        called on the first Ctrl-C or SIGTERM: units in flight are still finished and committed.

    Raises
    ------
    StoreError
        if the group belongs to another job, a record belongs to another run, or another run is writing.
    """
    with storage.locked() as lock:
        token = ensure_group(job, storage)
        done = commits.finished(storage, job.schema, token, mending=True)
        before(done)
        # Largest first: the last units are then short, and no worker waits long for another.
        units = job.units()
        todo = sorted((unit for unit in units if not done[unit.index]), key=lambda unit: -unit.samples)
        reports: list[Report] = []
        if todo:
            commits.sweep(storage, job.schema, [unit.index for unit in todo])
            task = Task(job, storage, token, workers.device, workers.fsync)
            starting = getattr(progress, "starting", None)
            if starting is not None and workers.cluster is not None and workers.cluster.starts:
                starting(min(workers.count, len(todo)))
            with closing(_computed(task, workers, todo, lock, stopping)) as running:
                for report in running:
                    reports.append(report)
                    if progress is not None:
                        progress(report, len(reports), len(todo))
            reports = _confirmed(task, todo, reports)
            commits.sweep(storage, job.schema, ())
    return Outcome(tuple(reports), len(units) - len(todo), len(todo) - len(reports))


def ensure_group(job: Job, storage: Storage) -> int:
    """Create the job's group if it is missing, and repair its coordinates. Returns the token of its records.

    Raises
    ------
    StoreError
        if a group of that name belongs to another job, or to this one with other settings.
    """
    attributes, schema = read_attributes(storage), job.schema
    captured = layout_of(attributes).capture
    if schema in captured.schemas:
        return token_of(attributes)
    units, coordinates = job.units(), job.coordinates()
    if [unit.index for unit in units] != list(range(schema.blocks)):
        raise ValueError(f"{schema.group}: units {[unit.index for unit in units]} are not 0 to {schema.blocks - 1}")
    if along := [coordinate.name for coordinate in coordinates if coordinate.dims[0] == "sample"]:
        raise ValueError(f"{schema.group}: {along[0]} lies along sample, whose coordinates are the capture's")
    require_whole(storage, int((~commits.finished(storage, captured, token_of(attributes))).sum()))
    groups = {group.name: group for group in read_groups(storage)}
    for name in job.needs:
        _require(storage, name, groups.get(name))
    identity = json.loads(json.dumps(dict(job.identity())))
    token = group_token(attributes["fingerprint"]["run"], identity)
    wanted = Group(schema, made_by(job), identity, token, tuple((unit.name, unit.samples) for unit in units))
    found = groups.get(schema.group)
    if found is None:
        check_name(schema.group, json.loads(storage.read("zarr.json") or b"{}"))
        add_group(storage, schema, coordinates, wanted.as_attributes())
    elif found.as_attributes() != wanted.as_attributes():
        raise StoreError(
            f"{storage.at(schema.group)} is of another job ({_difference(found, wanted)}): give it another name"
        )
    update_coordinates(storage, coordinate_files(coordinates, schema.group))
    return token


def require_whole(storage: Storage, missing: int) -> None:
    """Refuse a further job on a store that lacks ``missing`` volumes."""
    if missing:
        raise StoreError(
            f"{storage} lacks {counted(missing, 'volume')}, and jobs need all: run `actstore capture SPEC` first"
        )


def _require(storage: Storage, name: str, group: Group | None) -> None:
    """Refuse a job that reads a group which is not whole."""
    if group is None:
        raise StoreError(f"{storage} has no group {name}, which this job reads: run that job first")
    if missing := int((~commits.finished(storage, group.schema, group.token, mending=True)).sum()):
        raise StoreError(
            f"{storage.at(name)} lacks {counted(missing, 'unit')}, and this job reads all: run that job again first"
        )


def made_by(job: Job) -> str:
    """The class of a job as ``module:Class``."""
    return f"{type(job).__module__}:{type(job).__qualname__}"


def _difference(found: Group, wanted: Group) -> str:
    if found.made_by != wanted.made_by:
        return f"{found.made_by} made it"
    changes = list(differences(found.identity, wanted.identity))
    if not changes and found.units != wanted.units:
        changes = ["other units"]
    # A list of layers with all that is known of them says less than its name.
    changes = [change if len(change) <= LONGEST_CHANGE else f"other {change.partition(':')[0]}" for change in changes]
    return "; ".join(changes[:3]) or "its arrays have other shapes"


@dataclass(frozen=True)
class Task:
    """What a worker needs for any unit of a job; sent with every unit."""

    job: Job
    storage: Storage
    token: int
    device: str
    fsync: bool


def _computed(
    task: Task, workers: Workers, todo: Sequence[Unit], lock: Lock, stopping: Callable[[], None]
) -> Generator[Report]:
    """The final report of each unit as it ends; fewer if the run is stopped."""
    waiting = deque(todo)
    attempts: Counter[int] = Counter()
    with (
        stoppable(stopping) as stop,
        _connected(workers, task.storage, len(todo), lambda: stop.requested) as executor,
        releasing(),
    ):

        def next_unit() -> Unit | None:
            return waiting.popleft() if waiting and lock.held and not stop.requested else None

        for unit, result in executor.run(partial(run_unit, task), next_unit):
            attempts[unit.index] += 1
            if isinstance(result, LostWorker):
                yield Report(unit.index, unit.name, error=str(result))
            elif result.failed and attempts[unit.index] <= workers.retries and not stop.requested:
                waiting.append(unit)
            else:
                yield replace(result, attempts=attempts[unit.index])
        if not lock.held:
            raise StoreError(f"another job took over {task.storage}: wait for it to end, then run again")


def _connected(
    workers: Workers, storage: Storage, units: int, stopped: Callable[[], bool]
) -> AbstractContextManager[Executor]:
    if workers.cluster is None:
        return nullcontext(Inline() if workers.count == 1 else Threads(workers.count))
    from actstore.cluster.launch import connect

    count = min(workers.count, units)
    return connect(workers.cluster, count, memory=workers.memory, storage=storage, stopped=stopped)


def _confirmed(task: Task, todo: Sequence[Unit], reports: Sequence[Report]) -> list[Report]:
    """The reports, changed to failed for units that are reported done but have missing files."""
    storage, schema = task.storage, task.job.schema
    done = commits.finished(storage, schema, task.token, mending=True)
    by_index = {unit.index: unit for unit in todo}
    samples = {report.unit: by_index[report.unit].samples for report in reports if not report.failed}
    lacking = commits.incomplete(storage, schema, samples)
    lacking |= {unit: schema.record.key(unit) for unit in samples if not done[unit]}
    storage.delete(schema.record.key(unit) for unit in lacking)
    return [
        replace(report, error=f"{storage.at(lacking[report.unit])} was lost after it was written: run again")
        if report.unit in lacking
        else report
        for report in reports
    ]


class _Opened:
    """A job that is open in this process, and how to close it."""

    def __init__(self, task: Task) -> None:
        self.key = (task.job, task.device)
        self._stack = ExitStack()
        self.compute: Compute = self._stack.enter_context(task.job.open(task.device))

    def close(self) -> None:
        self._stack.close()


_opened: _Opened | None = None
_opening = ThreadLock()


def run_unit(task: Task, unit: Unit) -> Report:
    """Compute and commit ``unit``; a failure becomes a report. The job is opened once per process.

    Two units may run in one process at once: one computes while the other reads its files or finishes writing.
    """
    start = time.perf_counter()
    try:
        report = compute_unit(_open(task), task, unit)
    except Exception as error:
        log.debug("unit %s failed", unit.name, exc_info=True)
        report = Report(unit.index, unit.name, error=_reason(error))
    return replace(report, seconds=time.perf_counter() - start, peak_memory=peak_memory())


def compute_unit(compute: Compute, task: Task, unit: Unit) -> Report:
    """Compute, write and commit one unit.

    Raises
    ------
    ActstoreError, OSError
        if the unit fails; nothing of it is then committed.
    """
    out = Out(task.storage, task.job.schema, unit.index, unit.samples, task.token, fsync=task.fsync)
    try:
        out.check()
        report = compute(unit, out)
        out.commit()
    except Superseded:
        return Report(unit.index, unit.name)
    return replace(report, samples=unit.samples, bytes=out.bytes)


def _open(task: Task) -> Compute:
    global _opened
    with _opening:
        if _opened is None or _opened.key != (task.job, task.device):
            release()
            _opened = _Opened(task)
        return _opened.compute


def release() -> None:
    """Close the job that `run_unit` keeps open for this process's next unit."""
    global _opened
    if _opened is not None:
        _opened.close()
        _opened = None


@contextmanager
def releasing() -> Iterator[None]:
    """Call `release` on exit, for units that ran in this process."""
    try:
        yield
    finally:
        release()


def peak_memory() -> int:
    """Largest resident set size of this process so far, in bytes.

    Linux hands ``ru_maxrss`` on from parent to child, so a worker's own peak is read from ``/proc`` where that exists.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_bytes().splitlines() if line.startswith(b"VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reason(error: Exception) -> str:
    if isinstance(error, BlockError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}: fix that and run again"
    return one_line(error)
