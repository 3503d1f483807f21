"""Mends what `verify` found, touching nothing else: metadata from their copy, blocks by computing them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actstore.cluster import refuse_in_worker
from actstore.errors import ActstoreError, StoreError
from actstore.jobs.capture import Progress, capture, check_same_run
from actstore.jobs.plan import make_plan
from actstore.jobs.reduce import reduce_store
from actstore.spec.spec import Spec
from actstore.store import metadata
from actstore.store.attributes import layout_of, read_attributes, window_of
from actstore.store.files import Location, Storage, storage_at
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
    """Mend ``damage`` of the store at ``location``; blocks that were never captured are computed as well.

    Parameters
    ----------
    spec
        instead of the one in the store: where data or weights were moved. Other options as `actstore.capture`'s.

    Raises
    ------
    ActstoreError
        if blocks must be computed again and cannot be; what was mended stays mended.
    """
    refuse_in_worker(cluster or "local")
    storage = storage_at(location)
    kinds = {found.kind for found in damage}
    with storage.locked():
        _restore_metadata(storage, damage)
        storage.delete(found.key for found in damage if found.kind == "stray")
    attributes = read_attributes(storage)
    layout = layout_of(attributes)
    lost = {found.block for found in damage if found.kind in _NEEDS_NETWORK}
    if not layout.keeps_all:
        lost |= {found.block for found in damage if found.kind == "statistics"}
    reduced = {found.block for found in damage if found.kind == "statistics"}
    computing = bool(lost) or "coordinate" in kinds
    if computing:
        # Before anything is given up: can they be computed at all, and would it be the same run?
        spec = (spec or spec_of(attributes)).with_cluster(cluster)
        check_same_run(make_plan(spec, store=location, workers=workers, device=device, timing=False))
    with storage.locked():
        storage.delete(layout.committed.chunk_key(block) for block in lost if block is not None)
        storage.delete(layout.reduced.chunk_key(block) for block in lost | reduced if block is not None)
    failure = ""
    if computing and spec is not None:
        summary = capture(spec, store=location, workers=workers, device=device, progress=progress, stopping=stopping)
        if summary.failed:
            first = summary.failed[0]
            count = counted(len(summary.failed), "damaged volume")
            failure = f"{count} could not be computed again: {first.volume}: {first.error}"
        elif summary.left:
            failure = (
                f"{counted(summary.left, 'damaged volume is', 'damaged volumes are')} left: the same command continues"
            )
    if "statistics" in kinds and layout.keeps_all:
        reduce_store(Store(location))
    if failure:
        raise StoreError(failure)


_NEEDS_NETWORK = ("commit", "content")


def spec_of(attributes: dict[str, Any]) -> Spec:
    """The spec that a store was captured with; its window of normalisation also where that was no choice yet.

    Raises
    ------
    StoreError
        if it cannot be used here.
    """
    data = attributes["spec"]["data"]
    preprocess = {"window": window_of(attributes["identity"]), **data["preprocess"]}
    content = {**attributes["spec"], "data": {**data, "preprocess": preprocess}}
    try:
        return Spec.from_mapping(content, folder=Path(attributes.get("folder", ".")), name="the store's spec")
    except ActstoreError as error:
        raise StoreError(f"{error}; give one that fits with --spec") from error


def _restore_metadata(storage: Storage, damage: Sequence[Damage]) -> None:
    """From the copy; the copy from the files, as the root's consolidated metadata lists them."""
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
