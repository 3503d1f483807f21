"""Commit records: a block is done when its record exists, written last and atomically."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from actstore.errors import DamageError, StoreError
from actstore.store.files.base import TEMPORARY, Storage
from actstore.store.layout import SmallLayout
from actstore.store.reader import each, read_small
from actstore.store.schema import Schema
from actstore.store.shards import write_small

_FILE_KEY = re.compile(r"(?P<array>.+)/c\.(?P<block>0|[1-9]\d*)(?P<rest>(\.0)*)")


def block_of(key: str, arrays: Mapping[str, str]) -> int | None:
    """The block that owns the file at ``key`` of one of ``arrays`` (`block_arrays`); ``None`` for any other file."""
    found = _FILE_KEY.fullmatch(key)
    return int(found["block"]) if found and arrays.get(found["array"]) == found["rest"] else None


def block_arrays(schema: Schema) -> dict[str, str]:
    """Path of each array that blocks fill, and the end of its file names after the block number."""
    return {key.rpartition("/")[0]: key.rpartition("/c.0")[2] for key in schema.files(0)}


def sweep(storage: Storage, schema: Schema, unfinished: Collection[int]) -> None:
    """Delete the files that attempts at ``unfinished`` blocks left, and all temporary files.

    Delete records first, so that no block without files ever counts as done. Delete them again at the end, since a
    worker of a killed run may still finish such a block and commit it in between.
    """
    arrays, unfinished = block_arrays(schema), set(unfinished)
    keys = [key for key, _ in storage.files() if TEMPORARY in key or block_of(key, arrays) in unfinished]
    records = [record for block in unfinished for record in records_of(schema, block)]
    storage.delete(records)
    storage.delete(keys)
    storage.delete(records)


def records_of(schema: Schema, block: int) -> list[str]:
    """Keys of the commit records of ``block``, the schema's own first."""
    return [group.record.key(block) for group in reversed(schema.schemas)]


def withdraw(storage: Storage, schema: Schema, blocks: Iterable[int]) -> None:
    """Delete the commit records of ``blocks``, so that they count as not done."""
    storage.delete([record for block in blocks for record in records_of(schema, block)])


def incomplete(storage: Storage, schema: Schema, samples: Mapping[int, int]) -> dict[int, str]:
    """Blocks with a missing file or a file of wrong size, and the first such file.

    Parameters
    ----------
    samples
        of each block to look at.
    """
    there = dict(storage.files())
    found: dict[int, str] = {}
    for block, count in samples.items():
        wrong = [key for key, size in schema.sizes(block, count).items() if there.get(key) != size]
        if wrong:
            found[block] = wrong[0]
    return found


def commit(storage: Storage, schema: Schema, block: int, token: int, *, fsync: bool = False) -> None:
    """Mark ``block`` as done.

    Raises
    ------
    StoreError
        if one of its files is missing, because another process deleted it.
    """
    keys = [array.key(block) for group in schema.needed for array in group.arrays]
    if gone := storage.lacking(keys):
        raise StoreError(f"{storage.at(gone)} vanished before it was committed: run one job at a time into a store")
    write_record(storage, schema.record, block, token, fsync=fsync)
    first = schema.arrays[0].key(block)
    if not storage.exists(first):
        # Another run considered this worker dead and swept the file between the check and the record.
        storage.delete([schema.record.key(block)])
        raise StoreError(f"{storage.at(first)} vanished while it was committed: run one job at a time into a store")


def write_record(storage: Storage, record: SmallLayout, block: int, token: int, *, fsync: bool = False) -> int:
    """Write ``token`` as the block's entry in ``record``. Returns bytes written."""
    return write_small(storage, record, block, np.asarray([token], dtype=record.dtype), fsync=fsync)


def finished(storage: Storage, schema: Schema, token: int, *, mending: bool = False) -> NDArray[np.bool_]:
    """Which blocks have everything that cannot be computed from the rest of the store, bool (block).

    Arguments and errors as `committed`.
    """
    done = committed(storage, schema, token, mending=mending)
    for group in schema.needed:
        if group is not schema:
            done &= committed(storage, group, token, mending=True)
    return done


def is_finished(storage: Storage, schema: Schema, block: int, token: int) -> bool:
    """Whether this run has done ``block``, as `finished`."""
    for group in reversed(schema.needed):
        try:
            found = read_small(storage, group.record, block)
        except DamageError:
            return False
        if found is None or int(found[0]) != token:
            return False
    return True


def committed(storage: Storage, schema: Schema, token: int, *, mending: bool = False) -> NDArray[np.bool_]:
    """Which blocks have the record of this group, bool (block).

    Parameters
    ----------
    mending
        treat a damaged record as missing: the caller computes it again.

    Raises
    ------
    StoreError
        if a record is damaged or carries another run's fingerprint.
    """
    record = schema.record
    done = np.zeros(schema.blocks, dtype=bool)

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
                    f"{storage.at(record.key(block))} was committed by another run (fingerprint "
                    f"{int(found[0]):016x}, this store's is {token:016x}): `actstore verify STORE --repair` computes "
                    "it again"
                )
            done[block] = True

    each(storage, look, [(block, 1) for block in range(schema.blocks)])
    return done
