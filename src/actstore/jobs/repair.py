"""Repairs only what `verify` found: restores metadata from the copy and computes damaged blocks again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from importlib import import_module

from actstore.cluster.main_guard import refuse_in_worker
from actstore.errors import StoreError, one_line
from actstore.jobs.capture import capture
from actstore.jobs.creation import check_same_run
from actstore.jobs.job import Job, Report
from actstore.jobs.plan.budget import choose_device
from actstore.jobs.plan.plan import make_plan
from actstore.jobs.reduce import reduce_store, workers_of
from actstore.jobs.runner import Progress, run
from actstore.jobs.stored_spec import spec_of
from actstore.spec.cluster import cluster_without_spec
from actstore.spec.spec import Spec
from actstore.store import commits, metadata
from actstore.store.attributes import layout_of, read_attributes
from actstore.store.files import writable_at
from actstore.store.files.base import Location, Storage
from actstore.store.groups import Group, read_groups
from actstore.store.schema import SCHEMA_VERSION
from actstore.store.store import Store
from actstore.store.verify import Damage
from actstore.units import counted


def repair(
    location: Location,
    damage: Sequence[Damage],
    *,
    spec: Spec | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Repair ``damage`` of the store at ``location``, and compute blocks that were never captured.

    Parameters
    ----------
    spec
        replaces the spec in the store, if data or weights were moved, or for its ``[cluster]``, which no store holds.
        Other options as in `actstore.capture`.

    Raises
    ------
    ActstoreError
        if blocks must be computed again and cannot be; other repairs remain.
    """
    refuse_in_worker(cluster or "local")
    if cluster and spec is None:
        cluster_without_spec(cluster)
    given, elsewhere = spec, cluster or "inline"
    storage = writable_at(location)
    with storage.locked():
        _restore_metadata(storage, damage)
        storage.delete(found.key for found in damage if found.kind == "stray")
    attributes = read_attributes(storage)
    layout = layout_of(attributes)
    of_capture = [found for found in damage if not found.group]
    needs_network = {"commit", "content"} if layout.keeps_all else {"commit", "content", "statistics"}
    lost = {found.block for found in of_capture if found.kind in needs_network and found.block is not None}
    unreduced = {found.block for found in of_capture if found.kind == "statistics" and found.block is not None}
    computing = bool(lost) or any(found.kind == "coordinate" for found in of_capture)
    if computing and layout.version < SCHEMA_VERSION:
        if layout.keeps_all and unreduced - lost:
            reduce_store(Store(location))
        raise StoreError(
            f"{storage} has schema {layout.version}, which is read but not continued: capture the damaged volumes to "
            "another store"
        )
    if computing:
        # Before deleting anything, check that the blocks can be computed and belong to the same run.
        spec = (spec or spec_of(attributes)).with_cluster(cluster)
        check_same_run(make_plan(spec, store=location, workers=workers, device=device, timing=False))
    groups = {group.name: group for group in read_groups(storage)}
    with storage.locked():
        commits.withdraw(storage, layout.capture, lost)
        commits.withdraw(storage, layout.statistics, unreduced - lost)
        for found in damage:
            if found.group and found.block is not None:
                commits.withdraw(storage, groups[found.group].schema, [found.block])
    failures = []
    if computing and spec is not None:
        summary = capture(spec, store=location, workers=workers, device=device, progress=progress, stopping=stopping)
        failures += _failure(summary.failed, summary.left, "volume")
    if unreduced and layout.keeps_all:
        store = Store(location)
        where = workers_of(store, elsewhere, workers, given)
        reduce_store(store, workers=where, progress=progress, stopping=stopping)
    damaged = sorted({found.group for found in damage if found.group})
    jobs = {name: job_of(storage, groups[name], spec) for name in damaged}
    # What a job reads is repaired before it.
    for name in TopologicalSorter({name: job.needs for name, job in jobs.items()}).static_order():
        if name in jobs:
            where = replace(workers_of(Store(location), elsewhere, workers, given), device=choose_device(device))
            outcome = run(jobs[name], storage, where, progress=progress, stopping=stopping)
            failures += _failure(outcome.failed, outcome.left, "unit", f" of {name}")
    if failures:
        raise StoreError(failures[0])


def _failure(failed: Sequence[Report], left: int, what: str, of: str = "") -> list[str]:
    if failed:
        count = f"{counted(len(failed), f'damaged {what}')}{of}"
        return [f"{count} could not be computed again: {failed[0].name}: {failed[0].error}"]
    if left:
        count = counted(left, f"damaged {what}{of} is", f"damaged {what}s{of} are")
        return [f"{count} left: the same command continues"]
    return []


def job_of(storage: Storage, group: Group, spec: Spec | None = None) -> Job:
    """The job that made a group.

    Raises
    ------
    StoreError
        if its class cannot be imported here.
    """
    module, _, name = group.made_by.partition(":")
    try:
        found: type[Job] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise StoreError(
            f"{group.name} was computed by {group.made_by}, which cannot be imported here ({one_line(error)}): "
            "install it, then repair again"
        ) from error
    return found.again(storage, group.identity, spec)


def _restore_metadata(storage: Storage, damage: Sequence[Damage]) -> None:
    """Restore metadata from the copy, and the copy from the files that the root's consolidated metadata lists."""
    wanted = sorted({found.key for found in damage if found.kind == "metadata"})
    lost_copy = any(found.kind == "copy" for found in damage)
    if not wanted and not lost_copy:
        return
    texts = metadata.consolidated(storage.read("zarr.json") or b"{}") if lost_copy else metadata.read_copy(storage)
    for key in wanted:
        storage.write(key, texts[key])
    if lost_copy:
        kept = {key: storage.read(key) or b"" for key in ("zarr.json", *texts)}
        storage.write(metadata.KEY, metadata.as_copy(kept))
