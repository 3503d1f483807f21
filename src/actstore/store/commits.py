"""Commit records: a block is done when its record exists, written last and atomically."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actstore.errors import DamageError, StoreError
from actstore.store.files import Storage
from actstore.store.files.base import TEMPORARY
from actstore.store.layout import SmallLayout
from actstore.store.reader import each, read_small
from actstore.store.schema import StoreLayout
from actstore.store.shards import write_small

_CHUNK_KEY = re.compile(r"(?P<array>.+)/c\.(?P<block>0|[1-9]\d*)(?P<rest>(\.0)*)")


def small_files(layout: StoreLayout) -> Iterator[SmallLayout]:
    """Arrays of which every committed block has one unsharded chunk, its commit records first."""
    yield from (layout.committed, layout.reduced, layout.source, layout.applicable, layout.confusion)
    yield from layout.statistics


def block_files(layout: StoreLayout, block: int) -> Iterator[str]:
    """Every file that ``block`` owns below the store's root, its commit records first."""
    for small in small_files(layout):
        yield small.chunk_key(block)
    for array in layout.sharded:
        yield array.shard_key(block)


def block_of(key: str, arrays: Mapping[str, str]) -> int | None:
    """The block that owns the file at ``key`` of one of ``arrays`` (`block_arrays`); ``None`` for any other file."""
    found = _CHUNK_KEY.fullmatch(key)
    return int(found["block"]) if found and arrays.get(found["array"]) == found["rest"] else None


def block_arrays(layout: StoreLayout) -> dict[str, str]:
    """Paths of the arrays that blocks fill, and how the names of their files end behind the block's number."""
    return {key.rpartition("/")[0]: key.rpartition("/c.0")[2] for key in block_files(layout, 0)}


def sweep(storage: Storage, layout: StoreLayout, unfinished: Collection[int]) -> None:
    """Delete what attempts at ``unfinished`` blocks left, and temporary files of any attempt.

    Records go first, so that no block without its files ever counts as done; and last, since a worker of a capture that
    was killed may still be ending such a block, and commit it meanwhile.
    """
    arrays, unfinished = block_arrays(layout), set(unfinished)
    keys = [key for key, _ in storage.files() if TEMPORARY in key or block_of(key, arrays) in unfinished]
    records = [record.chunk_key(block) for record in (layout.committed, layout.reduced) for block in unfinished]
    storage.delete(records)
    storage.delete(keys)
    storage.delete(records)


def incomplete(storage: Storage, layout: StoreLayout, samples: Mapping[int, int]) -> dict[int, str]:
    """Blocks of which a file is missing or has another size than it must, and the first such file.

    Parameters
    ----------
    samples
        of each block to look at.
    """
    there = dict(storage.files())
    found: dict[int, str] = {}
    for block, count in samples.items():
        sizes = {small.chunk_key(block): small.chunk_bytes for small in small_files(layout)}
        sizes |= {array.shard_key(block): array.shard_bytes(count) for array in layout.sharded}
        wrong = [key for key, size in sizes.items() if there.get(key) != size]
        if wrong:
            found[block] = wrong[0]
    return found


def commit(storage: Storage, layout: StoreLayout, block: int, token: int, *, fsync: bool = False) -> None:
    """Declare ``block`` done.

    Raises
    ------
    StoreError
        if a file of it is not there: something else than its worker deleted it meanwhile.
    """
    content: tuple[SmallLayout, ...] = (layout.source, layout.applicable, layout.confusion)
    if not layout.keeps_all:
        content = (*content, layout.reduced, *layout.statistics)
    keys = [*(small.chunk_key(block) for small in content), *(array.shard_key(block) for array in layout.sharded)]
    for key in keys:
        if not storage.exists(key):
            raise StoreError(
                f"{storage.at(key)} vanished before its block was committed: run one capture at a time into a store"
            )
    write_record(storage, layout.committed, block, token, fsync=fsync)
    if not storage.exists(layout.source.chunk_key(block)):
        # Swept between the look and the record, by a capture that took this worker's for dead.
        storage.delete([layout.committed.chunk_key(block)])
        raise StoreError(f"{storage.at(layout.source.chunk_key(block))} vanished while its block was committed")


def write_record(storage: Storage, record: SmallLayout, block: int, token: int, *, fsync: bool = False) -> int:
    """Write ``token`` as the block's entry in ``record``. Returns bytes written."""
    return write_small(storage, record.chunk_key(block), np.asarray([token], dtype=record.dtype), fsync=fsync)


def finished(storage: Storage, layout: StoreLayout, token: int, *, mending: bool = False) -> NDArray[np.bool_]:
    """Which blocks have all that cannot be had from the rest of the store, bool (block).

    Where tensors are not kept that includes statistics. Arguments and errors as `committed`.
    """
    done = committed(storage, layout, token, mending=mending)
    return done if layout.keeps_all else done & committed(storage, layout, token, reduced=True, mending=True)


def is_finished(storage: Storage, layout: StoreLayout, block: int, token: int) -> bool:
    """Whether this run has done ``block``, as `finished`."""
    for record in (layout.committed,) if layout.keeps_all else (layout.committed, layout.reduced):
        try:
            found = read_small(storage, record, block)
        except DamageError:
            return False
        if found is None or int(found[0]) != token:
            return False
    return True


def committed(
    storage: Storage, layout: StoreLayout, token: int, *, reduced: bool = False, mending: bool = False
) -> NDArray[np.bool_]:
    """Which blocks are done, bool (block).

    Parameters
    ----------
    reduced
        ask for the statistics' records instead.
    mending
        a damaged record counts as none: the caller computes its block again.

    Raises
    ------
    StoreError
        if a record is damaged or carries another run's fingerprint.
    """
    record = layout.reduced if reduced else layout.committed
    done = np.zeros(layout.blocks, dtype=bool)

    def look(blocks: Sequence[tuple[int, int]], _before: int) -> None:
        for block, _ in blocks:
            try:
                found = read_small(storage, record, block)
            except DamageError:
                if not mending:
                    raise
                continue
            if found is None or found[0] == 0:
                continue
            if int(found[0]) != token:
                raise StoreError(
                    f"{storage.at(record.chunk_key(block))} was committed by another run (fingerprint "
                    f"{int(found[0]):016x}, this store's is {token:016x}): `actstore verify STORE --repair` computes "
                    "its block again"
                )
            done[block] = True

    each(storage, look, [(block, 1) for block in range(layout.blocks)])
    return done
