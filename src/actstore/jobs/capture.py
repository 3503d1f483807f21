"""The main job: every block of a run computed, written and committed."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.cluster import LostWorker, connect, refuse_in_worker
from actstore.cluster.interrupt import stoppable
from actstore.code.imports import is_importing
from actstore.data import digest_files
from actstore.errors import DataError, SpecError, StoreError
from actstore.jobs.engine import BlockReport, closing_engine, run_block
from actstore.jobs.plan import Plan, check_resources, make_plan, ring_samples
from actstore.spec.spec import Spec
from actstore.store import commits
from actstore.store.attributes import read_attributes, window_of
from actstore.store.files import Location, Lock
from actstore.store.fingerprint import differences
from actstore.store.reader import read_small
from actstore.store.schema import SCHEMA_VERSION
from actstore.store.template import Block, coordinate_files, files_of, update_coordinates
from actstore.tables import rescaled, unchanged
from actstore.tables.rescaled import Rescaled
from actstore.tables.unchanged import Unchanged
from actstore.units import counted

Progress = Callable[[BlockReport, int, int], None]


@dataclass(frozen=True)
class Summary:
    """What a capture did."""

    #: Where the store lies: a path, or an ``s3://`` URL.
    store: Location
    done: int
    skipped: int
    failed: tuple[BlockReport, ...]
    #: Blocks that were not begun, since an end was asked for.
    left: int
    samples: int
    inferred: int
    forward_passes: int
    bytes: int
    seconds: float
    #: Largest resident set of any worker, bytes.
    peak_memory: int
    #: `Plan.caveats`: what was taken with care in the volumes' headers.
    caveats: tuple[tuple[str, str], ...] = ()
    #: Conditions that changed nothing in some of ``samples``.
    unchanged: tuple[Unchanged, ...] = ()
    #: Conditions under which normalisation rescaled what was not perturbed in some of ``samples``.
    rescaled: tuple[Rescaled, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.failed and not self.left


def capture(
    spec: Spec,
    *,
    store: Location | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> Summary:
    """Compute every block of ``spec`` that the store does not hold yet.

    Parameters
    ----------
    store
        where to write instead of ``spec.store.path``: a path, or ``s3://bucket/run.zarr``.
    cluster
        instead of ``spec.cluster.kind``: ``inline`` (this process), ``local`` (Dask worker processes), ``cuda``,
        ``slurm``, ``kubernetes``, the address of a scheduler, or its JSON file.
    progress
        called after every block with its report, blocks finished and blocks to do.
    stopping
        called when Ctrl-C or SIGTERM asked for an end: blocks in flight are still finished and committed.

    Returns
    -------
    what was done; ``failed`` lists blocks that could not be computed, while all others were.

    Raises
    ------
    ActstoreError
        if nothing can be computed: spec, data, network, cluster or store cannot be used, or the run cannot fit.
    """
    start = time.perf_counter()
    spec = spec.with_cluster(cluster)
    _refuse_nested(spec)
    plan = make_plan(spec, store=store, workers=workers, device=device, timing=False)
    with plan.store.creating():
        plan = ensure_store(plan)
    reports: list[BlockReport] = []
    with plan.store.locked() as lock:
        todo = remaining(plan)
        if todo:
            with closing(_computed(plan, todo, lock, stopping)) as running:
                for report in running:
                    reports.append(report)
                    if progress is not None:
                        progress(report, len(reports), len(todo))
            reports = _confirmed(plan, reports)
            commits.sweep(plan.store, plan.layout, ())
    failed = tuple(sorted((r for r in reports if r.failed), key=lambda r: r.block))
    computed = [r for r in reports if not r.failed]
    return Summary(
        store=plan.store.location,
        done=len(reports) - len(failed),
        skipped=len(plan.blocks) - len(todo),
        failed=failed,
        left=len(todo) - len(reports),
        samples=sum(r.samples for r in reports),
        inferred=sum(r.inferred for r in reports),
        forward_passes=sum(r.forward_passes for r in reports),
        bytes=sum(r.bytes for r in reports),
        seconds=time.perf_counter() - start,
        peak_memory=max((r.peak_memory for r in reports), default=0),
        caveats=plan.caveats,
        unchanged=unchanged.of_blocks(spec.conditions, ((r.unchanged, r.held) for r in computed)),
        rescaled=rescaled.of_blocks(spec.conditions, (r.rescaled for r in computed)),
    )


def _refuse_nested(spec: Spec) -> None:
    """Refuse a script that captures whenever it is imported: by a worker, or for code that the spec names."""
    if is_importing():
        raise SpecError(
            f"{spec.model.factory!r} or a transform lies in a module that starts a capture when it is imported: put "
            'that behind `if __name__ == "__main__":`'
        )
    refuse_in_worker(spec.cluster.kind)


def _computed(plan: Plan, todo: Sequence[Block], lock: Lock, stopping: Callable[[], None]) -> Generator[BlockReport]:
    """The final report of each block, as they end; fewer where an end was asked for."""
    waiting = deque(todo)
    attempts: Counter[int] = Counter()
    with (
        stoppable(stopping) as stop,
        connect(
            plan.spec.cluster,
            min(plan.workers, len(todo)),
            memory=plan.worker_memory,
            storage=plan.store,
            stopped=lambda: stop.requested,
        ) as executor,
        closing_engine(),
    ):

        def next_block() -> Block | None:
            return waiting.popleft() if waiting and lock.held and not stop.requested else None

        for block, result in executor.run(partial(run_block, plan.job), next_block):
            attempts[block.index] += 1
            if isinstance(result, LostWorker):
                yield BlockReport(block.index, block.name, error=str(result))
            elif result.failed and attempts[block.index] <= plan.spec.run.retries and not stop.requested:
                waiting.append(block)
            else:
                yield replace(result, attempts=attempts[block.index])
        if not lock.held:
            raise StoreError(f"another capture took over {plan.store}: wait for it to end, then run again")


def _confirmed(plan: Plan, reports: Sequence[BlockReport]) -> list[BlockReport]:
    """Reports, failed where a block that was reported done is not there whole after all."""
    done = commits.finished(plan.store, plan.layout, plan.fingerprint.token, mending=True)
    samples = {report.block: plan.blocks[report.block].samples for report in reports if not report.failed}
    lacking = commits.incomplete(plan.store, plan.layout, samples)
    lacking |= {block: plan.layout.committed.chunk_key(block) for block in samples if not done[block]}
    plan.store.delete(plan.layout.committed.chunk_key(block) for block in lacking)
    return [
        replace(
            report, error=f"{plan.store.at(lacking[report.block])} was lost after it was written: run capture again"
        )
        if report.block in lacking
        else report
        for report in reports
    ]


def prepare_store(plan: Plan) -> tuple[Plan, list[Block]]:
    """`ensure_store`, then `remaining`: for callers that no second capture can disturb."""
    plan = ensure_store(plan)
    return plan, remaining(plan)


def ensure_store(plan: Plan) -> Plan:
    """Create the plan's store, or check that the one that is there belongs to the same run.

    Returns
    -------
    the plan with the store's own number of slots, its rule of where conditions apply and, where the spec has none, its
    batch size.

    Raises
    ------
    StoreError
        if the path holds something else, another run, or another schema.
    PlanError
        if the run does not fit the disk or memory.
    """
    if not plan.store.is_empty():
        stored = check_same_run(plan)
        layout = replace(plan.layout, slots=int(stored["slots"]))
        # Another batch size would change the last bits of what is still to come.
        batch_size = plan.spec.run.batch_size or int(stored.get("batch_size", plan.batch_size))
        return replace(
            plan,
            layout=layout,
            ring_samples=ring_samples(layout, plan.device),
            batch_size=batch_size,
            applies=stored.get("applies", "present"),
        )
    check_resources(plan, plan.bytes)
    conditions, classes = plan.spec.conditions, plan.spec.class_names
    files = files_of(plan.layout, plan.blocks, conditions, classes, attributes(plan))
    plan.store.create(files, fsync=plan.spec.store.fsync)
    return plan


def remaining(plan: Plan) -> list[Block]:
    """The blocks that the plan's store does not hold yet; what earlier attempts at them left is deleted.

    Sample coordinates are brought up to date.

    Raises
    ------
    StoreError
        if files of a committed block changed, or a record is of another run.
    PlanError
        if what remains does not fit the disk or memory.
    """
    done = commits.finished(plan.store, plan.layout, plan.fingerprint.token, mending=True)
    _check_sources(plan, done)
    # The largest first: the last to end are then short, and no worker waits long for another.
    todo = sorted((b for b in plan.blocks if not done[b.index]), key=lambda block: -block.samples)
    if todo:
        commits.sweep(plan.store, plan.layout, [block.index for block in todo])
        check_resources(plan, sum(plan.layout.block_bytes(block.samples) for block in todo))
    conditions, classes = plan.spec.conditions, plan.spec.class_names
    files = coordinate_files(plan.layout, plan.blocks, conditions, classes)
    update_coordinates(plan.store, files, fsync=plan.spec.store.fsync)
    return todo


def attributes(plan: Plan) -> dict[str, object]:
    """The store's root attributes: schema, spec, fingerprint, layers, classes, what was found in data and network."""
    from actstore.cluster.versions import versions

    return {
        "schema": SCHEMA_VERSION,
        "spec": plan.spec.model_dump(mode="json"),
        "folder": str(plan.spec.folder),
        "identity": plan.identity,
        "fingerprint": plan.fingerprint.as_json(),
        "layers": [layer.as_json() for layer in plan.layout.layers],
        "grid": [grid.as_json() for grid in plan.grids],
        "classes": list(plan.spec.class_names),
        "blocks": [block.name for block in plan.blocks],
        "discovery": plan.discovery.as_json(),
        "caveats": [list(caveat) for caveat in plan.caveats],
        "slots": plan.layout.slots,
        "batch_size": plan.batch_size,
        "repeatable": plan.repeatable.as_json(),
        "applies": plan.applies,
        "versions": versions(),
    }


def check_same_run(plan: Plan) -> dict[str, Any]:
    """Attributes of the plan's store.

    Raises
    ------
    StoreError
        if it is of another run, saying in what it differs, or of an older schema.
    """
    stored = read_attributes(plan.store)
    if stored["schema"] != SCHEMA_VERSION:
        raise StoreError(
            f"{plan.store} has schema {stored['schema']}, which this actstore reads and does not continue (it writes "
            f"{SCHEMA_VERSION}): choose another store path"
        )
    theirs, mine = stored["fingerprint"], plan.fingerprint.as_json()
    if theirs["run"] == mine["run"]:
        if stored["slots"] < plan.layout.slots:
            largest = max(plan.blocks, key=lambda block: block.samples)
            raise StoreError(
                f"{plan.store} has room for {counted(stored['slots'], 'slice')} a volume, {largest.name} has "
                f"{largest.samples} now: choose another store path"
            )
        return stored
    reasons = []
    changes: list[str] = []
    if theirs["weights"] != mine["weights"]:
        reasons.append(f"other weights (sha256 {theirs['weights'][:12]} → {mine['weights'][:12]})")
    if theirs["data"] != mine["data"]:
        reasons.append(f"other data ({_list_changes(stored['blocks'], [b.name for b in plan.blocks])})")
    if theirs["spec"] != mine["spec"]:
        changes = list(differences(_with_window(stored["identity"]), _with_window(plan.identity)))
        reasons.append(f"another spec ({'; '.join(changes[:3])}{'; …' if len(changes) > 3 else ''})")
    elif theirs["layers"] != mine["layers"]:
        reasons.append("other layers (the network's structure changed)")
    begun = any(plan.store.exists(plan.layout.committed.chunk_key(i)) for i in range(len(stored["blocks"])))
    mend = "choose another store path" if begun else "it holds no volume yet: delete it, or choose another store path"
    if len(reasons) == len(changes) == 1 and changes[0].startswith("preprocess.window: "):
        mend = (
            f'set data.preprocess.window = "{window_of(stored["identity"])}" to continue it as it was begun, or {mend}'
        )
    raise StoreError(f"{plan.store} belongs to another run: {', '.join(reasons)}; {mend}")


def _with_window(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {**identity, "preprocess": {**identity["preprocess"], "window": window_of(identity)}}


def _list_changes(stored: Sequence[str], mine: Sequence[str]) -> str:
    changes = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for kind, names in (("new", sorted({*mine} - {*stored})), ("gone", sorted({*stored} - {*mine})))
        if names
    ]
    return "; ".join(changes)


def _check_sources(plan: Plan, done: NDArray[np.bool_]) -> None:
    """Refuse to continue where files of a committed block are no longer those it was computed from."""

    def changed(block: Block) -> str:
        record = plan.layout.source
        stored = read_small(plan.store, record, block.index)
        if stored is None:
            return f"{block.name}: the record of its files is gone; `actstore verify STORE --repair` computes it again"
        try:
            same = stored.tobytes() == digest_files(block.file)
        except DataError as error:
            return str(error)
        return "" if same else f"{block.name}: its files changed since it was captured"

    with ThreadPoolExecutor(8) as pool:
        problems = [p for p in pool.map(changed, (b for b in plan.blocks if done[b.index])) if p]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreError(
            f"{plan.store} holds other data: {problems[0]}{more}; restore the files or choose another store path"
        )
