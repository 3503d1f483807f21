"""Persists per-channel statistics of blocks that have none, so that later tables read kilobytes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from actstore.errors import DamageError, StoreError
from actstore.jobs.statistics import BlockStatistics
from actstore.store import commits
from actstore.store.reader import Piece, read_small

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Blocks reduced at the same time; reading, checksums and NumPy's loops run without the interpreter lock.
THREADS = 2


def reduce_store(store: Store, *, progress: Callable[[str, int, int], None] | None = None) -> int:
    """Persist MAD and MSE (sample, condition, channel), mean and std of the original (sample, channel) of each block.

    A capture has done so already; this does it again for blocks whose statistics are not there, or damaged.

    Parameters
    ----------
    progress
        called after every block with its volume, blocks finished and blocks to do.

    Returns
    -------
    how many blocks were reduced.

    Raises
    ------
    StoreError
        if a chunk of a committed block is damaged or missing, or statistics are that only the network can give again.
    """
    done = commits.committed(store.storage, store.layout, store.token, reduced=True, mending=True)
    for block, _ in store.parts:
        if done[block] and not _readable(store, block):
            # Without its record a block's statistics are taken again, here or, if they need the network, by capture.
            store.storage.delete([store.layout.reduced.chunk_key(block)])
            done[block] = False
    todo = [(block, samples) for block, samples in store.parts if not done[block]]
    if todo and not store.layout.keeps_all:
        raise StoreError(
            f"statistics of {store.attributes['blocks'][todo[0][0]]} are damaged, and the tensors to take them again "
            "from were not kept: `actstore capture SPEC` computes the volume again"
        )
    with ThreadPoolExecutor(THREADS) as pool:
        futures = {pool.submit(_reduce_block, store, block, samples): block for block, samples in todo}
        try:
            for finished, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress is not None:
                    progress(store.attributes["blocks"][futures[future]], finished, len(todo))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    store.__dict__.pop("reduced", None)
    return len(todo)


def _readable(store: Store, block: int) -> bool:
    """Whether every persisted statistic of ``block`` is there and whole."""
    try:
        return all(read_small(store.storage, small, block) is not None for small in store.layout.statistics)
    except DamageError:
        return False


def _reduce_block(store: Store, block: int, samples: int) -> None:
    statistics = BlockStatistics(store.layout, samples)
    for i, layer in enumerate(store.layout.layers):
        array = store.layout.activation(layer)
        statistics.read(store.storage, i, Piece(array.shard_key(block), samples, 0, samples))
    statistics.write(store.storage, block, store.token)
