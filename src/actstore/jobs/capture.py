"""The main job: computes, writes and commits every block of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actstore.cluster.main_guard import refuse_in_worker
from actstore.code.imports import is_importing
from actstore.data.discovery import digest_block
from actstore.errors import DataError, SpecError, StoreError
from actstore.jobs.blocks import FILES_AT_ONCE, Block
from actstore.jobs.creation import ensure_store, mend_coordinates
from actstore.jobs.engine import BlockReport
from actstore.jobs.job import Report
from actstore.jobs.plan.plan import Plan, check_resources, make_plan
from actstore.jobs.runner import Progress, run
from actstore.spec.spec import Spec
from actstore.store.files.base import Location
from actstore.store.reader import read_small
from actstore.tables import rescaled, unchanged
from actstore.tables.rescaled import Rescaled
from actstore.tables.unchanged import Unchanged


@dataclass(frozen=True)
class Summary:
    """What a capture did."""

    #: Path or ``s3://`` URL of the store.
    store: Location
    done: int
    skipped: int
    failed: tuple[Report, ...]
    #: Blocks that were not begun because the run was stopped.
    left: int
    samples: int
    inferred: int
    forward_passes: int
    bytes: int
    seconds: float
    #: Largest resident set of any worker, bytes.
    peak_memory: int
    #: `Plan.caveats`: doubtful entries of the volumes' headers.
    caveats: tuple[tuple[str, str], ...] = ()
    #: Conditions that changed nothing in some of ``samples``.
    unchanged: tuple[Unchanged, ...] = ()
    #: Conditions whose normalisation rescaled unperturbed pixels in some of ``samples``.
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
    warn: Callable[[str], None] = lambda message: None,
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
        called on the first Ctrl-C or SIGTERM: blocks in flight are still finished and committed.
    warn
        called before the first block if the prediction of one volume does not fit its label (`Plan.check`).

    Returns
    -------
    what was done; ``failed`` lists the blocks that could not be computed.

    Raises
    ------
    ActstoreError
        if nothing can be computed: the spec, data, network, cluster or store cannot be used, or the run does not fit.

    Examples
    --------
    >>> summary = actstore.capture(actstore.load_spec("run.toml"), cluster="inline")
    >>> summary.complete
    True
    """
    start = time.perf_counter()
    spec = spec.with_cluster(cluster)
    _refuse_nested(spec)
    plan = make_plan(spec, store=store, workers=workers, device=device, timing=False)
    if plan.check and (warning := plan.check.warning()):
        warn(warning)
    with plan.store.creating():
        made = plan.store.is_empty()
        plan = ensure_store(plan)

    def before(done: NDArray[np.bool_]) -> None:
        check_remaining(plan, done)
        if not made:
            mend_coordinates(plan)

    outcome = run(
        plan.job,
        plan.store,
        plan.placement,
        before=before,
        progress=progress,
        stopping=stopping,
    )
    reports = [report for report in outcome.reports if isinstance(report, BlockReport)]
    return Summary(
        store=plan.store.location,
        done=len(outcome.reports) - len(outcome.failed),
        skipped=outcome.skipped,
        failed=outcome.failed,
        left=outcome.left,
        samples=sum(r.samples for r in reports),
        inferred=sum(r.inferred for r in reports),
        forward_passes=sum(r.forward_passes for r in reports),
        bytes=sum(r.bytes for r in reports),
        seconds=time.perf_counter() - start,
        peak_memory=max((r.peak_memory for r in outcome.reports), default=0),
        caveats=plan.caveats,
        unchanged=unchanged.of_blocks(spec.conditions, ((r.unchanged, r.held) for r in reports if not r.failed)),
        rescaled=rescaled.of_blocks(spec.conditions, (r.rescaled for r in reports if not r.failed)),
    )


def _refuse_nested(spec: Spec) -> None:
    """Refuse a script that captures on import, by a worker or for code that the spec names."""
    if is_importing():
        raise SpecError(
            f"{spec.model.source!r} or a transform lies in a module that starts a capture when it is imported: put "
            'that behind `if __name__ == "__main__":`'
        )
    refuse_in_worker(spec.cluster.kind)


def check_remaining(plan: Plan, done: NDArray[np.bool_]) -> None:
    """Check what a store holds before the rest is computed.

    Raises
    ------
    StoreError
        if files of a committed block changed.
    PlanError
        if what remains does not fit the disk or memory.
    """
    _check_sources(plan, done)
    if not done.all():
        check_resources(plan, sum(plan.layout.capture.block_bytes(b.samples) for b in plan.blocks if not done[b.index]))


def _check_sources(plan: Plan, done: NDArray[np.bool_]) -> None:
    """Refuse to continue if files of a committed block changed since it was computed."""

    def changed(block: Block) -> str:
        record = plan.layout.source
        stored = read_small(plan.store, record, block.index)
        if stored is None:
            return f"{block.name}: the record of its files is gone; `actstore verify STORE --repair` computes it again"
        try:
            same = stored.tobytes() == digest_block(block.file)
        except DataError as error:
            return str(error)
        return "" if same else f"{block.name}: its files changed since it was captured"

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        problems = [p for p in pool.map(changed, (b for b in plan.blocks if done[b.index])) if p]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreError(
            f"{plan.store} holds other data: {problems[0]}{more}; restore the files or choose another store path"
        )
