"""Commit records: a block is done when its record exists, written last and atomically."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.layout import SmallLayout
from actstore.reader import read_small
from actstore.schema import StoreLayout
from actstore.shards import TEMPORARY, write_small

log = logging.getLogger(__name__)


def block_files(layout: StoreLayout, block: int) -> Iterator[str]:
    """Every file that ``block`` owns below the store's root, its commit records first."""
    yield layout.committed.chunk_key(block)
    yield layout.reduced.chunk_key(block)
    for small in (layout.source, layout.applicable, layout.confusion, *layout.statistics):
        yield small.chunk_key(block)
    for array in layout.sharded:
        yield array.shard_key(block)


def clear(root: Path, layout: StoreLayout, block: int) -> None:
    """Delete whatever an earlier attempt left of ``block``, its commit record first."""
    for key in block_files(layout, block):
        (root / key).unlink(missing_ok=True)


def sweep(root: Path, layout: StoreLayout) -> None:
    """Delete temporary files of attempts that were killed. Only while no worker writes to the store."""
    folders = {(root / key).parent for key in block_files(layout, 0)}
    for folder in folders:
        with os.scandir(folder) as entries:
            strays = [entry.path for entry in entries if TEMPORARY in entry.name]
        for stray in strays:
            os.unlink(stray)


def commit(root: Path, layout: StoreLayout, block: int, token: int, *, fsync: bool = False) -> None:
    """Declare ``block`` done.

    Raises
    ------
    StoreError
        if a file of it is not there: a second capture, or a worker taken for dead, cleared the block meanwhile.
    """
    content: tuple[SmallLayout, ...] = (layout.source, layout.applicable, layout.confusion)
    if not layout.keeps_all:
        content = (*content, layout.reduced, *layout.statistics)
    keys = [*(small.chunk_key(block) for small in content), *(array.shard_key(block) for array in layout.sharded)]
    for path in (root / key for key in keys):
        if not path.exists():
            raise StoreError(f"{path} vanished before its block was committed: run one capture at a time into a store")
    record = layout.committed
    write_small(root / record.chunk_key(block), np.asarray([token], dtype=record.dtype), fsync=fsync)


def finished(root: Path, layout: StoreLayout, token: int, *, mending: bool = False) -> NDArray[np.bool_]:
    """Which blocks have all that cannot be had from the rest of the store, bool (block).

    Where tensors are not kept that includes statistics. Arguments and errors as `committed`.
    """
    done = committed(root, layout, token, mending=mending)
    return done if layout.keeps_all else done & committed(root, layout, token, reduced=True, mending=True)


def is_finished(root: Path, layout: StoreLayout, block: int, token: int) -> bool:
    """Whether this run has done ``block``, as `finished`."""
    for record in (layout.committed,) if layout.keeps_all else (layout.committed, layout.reduced):
        try:
            found = read_small(root / record.chunk_key(block), record.dtype, record.chunk)
        except StoreError:
            return False
        if found is None or int(found[0]) != token:
            return False
    return True


def committed(
    root: Path, layout: StoreLayout, token: int, *, reduced: bool = False, mending: bool = False
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
    for block in range(layout.blocks):
        path = root / record.chunk_key(block)
        try:
            found = read_small(path, record.dtype, record.chunk)
        except StoreError:
            if not mending:
                raise
            continue
        if found is None or found[0] == 0:
            continue
        if int(found[0]) != token:
            raise StoreError(
                f"{path} was committed by another run (fingerprint {int(found[0]):016x}, this store's is "
                f"{token:016x}): remove this file and run capture again"
            )
        done[block] = True
    return done


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep a second capture away from the store while this one writes; the kernel lets go when the process ends.

    File systems without locks are used without.

    Raises
    ------
    StoreError
        if another capture is writing to the store.
    """
    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another capture is writing to {root}: wait for it to end, then run again") from error
        except OSError:
            log.warning("%s: this file system has no locks; see that no second capture writes to it", root)
        yield
    finally:
        os.close(folder)
