"""The main job: every block of a run computed, written and committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore import commits
from actstore.block import BlockReport, closing_engine, run_block
from actstore.cluster import LostWorker, connect
from actstore.data import digest_files
from actstore.errors import DataError, StoreError
from actstore.fingerprint import differences
from actstore.plan import Plan, check_resources, make_plan, ring_samples
from actstore.reader import read_small
from actstore.spec import Spec
from actstore.store import read_attributes
from actstore.template import Block, create, update_samples

Progress = Callable[[BlockReport, int, int], None]


@dataclass(frozen=True)
class Summary:
    """What a capture did."""

    store: Path
    done: int
    skipped: int
    failed: tuple[BlockReport, ...]
    samples: int
    inferred: int
    forward_passes: int
    bytes: int
    seconds: float
    #: Largest resident set of any worker, bytes.
    peak_memory: int

    @property
    def complete(self) -> bool:
        return not self.failed


def capture(
    spec: Spec,
    *,
    store: Path | None = None,
    cluster: str = "local",
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Summary:
    """Compute every block of ``spec`` that the store does not hold yet.

    Parameters
    ----------
    store
        where to write instead of ``spec.store.path``.
    cluster
        ``local`` (Dask worker processes) or ``inline`` (this process).
    progress
        called after every block with its report, blocks finished and blocks to do.

    Returns
    -------
    what was done; ``failed`` lists blocks that could not be computed, while all others were.

    Raises
    ------
    ActstoreError
        if nothing can be computed: spec, data, network or store cannot be used, or the run cannot fit.
    """
    start = time.perf_counter()
    connect(cluster, 1)  # Not entered: refuses an unknown name before anything is written.
    plan = make_plan(spec, store=store, workers=1 if cluster == "inline" else workers, device=device, timing=False)
    plan = ensure_store(plan)
    reports: list[BlockReport] = []
    with commits.locked(plan.store):
        todo = remaining(plan)
        if todo:
            with connect(cluster, min(plan.workers, len(todo))) as executor, closing_engine():
                for block, result in executor.run(partial(run_block, plan.job), todo):
                    if isinstance(result, LostWorker):
                        result = BlockReport(block.index, block.name, error=str(result))
                    reports.append(result)
                    if progress is not None:
                        progress(result, len(reports), len(todo))
            commits.sweep(plan.store, plan.layout)
    failed = tuple(sorted((r for r in reports if r.failed), key=lambda r: r.block))
    return Summary(
        store=plan.store,
        done=len(reports) - len(failed),
        skipped=len(plan.blocks) - len(todo),
        failed=failed,
        samples=sum(r.samples for r in reports),
        inferred=sum(r.inferred for r in reports),
        forward_passes=sum(r.forward_passes for r in reports),
        bytes=sum(r.bytes for r in reports),
        seconds=time.perf_counter() - start,
        peak_memory=max((r.peak_memory for r in reports), default=0),
    )


def prepare_store(plan: Plan) -> tuple[Plan, list[Block]]:
    """`ensure_store`, then `remaining`: for callers that no second capture can disturb."""
    plan = ensure_store(plan)
    return plan, remaining(plan)


def ensure_store(plan: Plan) -> Plan:
    """Create the plan's store, or check that the one that is there belongs to the same run.

    Returns
    -------
    the plan with the store's own number of slots and, where the spec has none, its batch size.

    Raises
    ------
    StoreError
        if the path holds something else, another run, or a newer schema.
    PlanError
        if the run does not fit the disk or memory.
    """
    path = plan.store
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        stored = _check_same_run(plan)
        layout = replace(plan.layout, slots=int(stored["slots"]))
        # Another batch size would change the last bits of what is still to come.
        batch_size = plan.spec.run.batch_size or int(stored.get("batch_size", plan.batch_size))
        return replace(plan, layout=layout, ring_samples=ring_samples(layout, plan.device), batch_size=batch_size)
    check_resources(plan, plan.bytes)
    create(path, plan.layout, plan.blocks, plan.spec.conditions, plan.spec.class_names, attributes(plan))
    return plan


def remaining(plan: Plan) -> list[Block]:
    """The blocks that the plan's store does not hold yet; sample coordinates are brought up to date.

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
        check_resources(plan, sum(plan.layout.block_bytes(block.samples) for block in todo))
        commits.sweep(plan.store, plan.layout)
    update_samples(plan.store, plan.layout, plan.blocks)
    return todo


def attributes(plan: Plan) -> dict[str, object]:
    """The store's root attributes: schema, spec, fingerprint, layers, classes, versions."""
    from actstore.provenance import versions
    from actstore.schema import SCHEMA_VERSION

    return {
        "schema": SCHEMA_VERSION,
        "spec": plan.spec.model_dump(mode="json"),
        "identity": plan.identity,
        "fingerprint": plan.fingerprint.as_json(),
        "layers": [layer.as_json() for layer in plan.layout.layers],
        "classes": list(plan.spec.class_names),
        "blocks": [block.name for block in plan.blocks],
        "slots": plan.layout.slots,
        "batch_size": plan.batch_size,
        "versions": versions(),
    }


def _check_same_run(plan: Plan) -> dict[str, Any]:
    stored = read_attributes(plan.store)
    theirs, mine = stored["fingerprint"], plan.fingerprint.as_json()
    if theirs["run"] == mine["run"]:
        if stored["slots"] < plan.layout.slots:
            largest = max(plan.blocks, key=lambda block: block.samples)
            raise StoreError(
                f"{plan.store} has room for {stored['slots']} slices a volume, {largest.name} has {largest.samples} "
                "now: choose another store path"
            )
        return stored
    reasons = []
    if theirs["weights"] != mine["weights"]:
        reasons.append(f"other weights (sha256 {theirs['weights'][:12]} → {mine['weights'][:12]})")
    if theirs["data"] != mine["data"]:
        reasons.append(f"other data ({_list_changes(stored['blocks'], [b.name for b in plan.blocks])})")
    if theirs["spec"] != mine["spec"]:
        changes = list(differences(stored["identity"], plan.identity))
        reasons.append(f"another spec ({'; '.join(changes[:3])}{'; …' if len(changes) > 3 else ''})")
    elif theirs["layers"] != mine["layers"]:
        reasons.append("other layers (the network's structure changed)")
    raise StoreError(f"{plan.store} belongs to another run: {', '.join(reasons)}; choose another store path")


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
        stored = read_small(plan.store / record.chunk_key(block.index), record.dtype, record.chunk)
        if stored is None:
            return f"{block.name}: the record of its files is gone; delete its commit record and capture again"
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
