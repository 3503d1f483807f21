"""Persists per-channel statistics block by block, so that later tables read kilobytes instead of every activation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

import numpy as np

from actstore import commits
from actstore.analysis.kernel import reduce_chunk
from actstore.reader import read_samples
from actstore.schema import STATISTICS
from actstore.shards import write_small

if TYPE_CHECKING:
    from actstore.store import Store

#: Blocks reduced at the same time; reading, checksums and NumPy's loops run without the interpreter lock.
THREADS = 2


def reduce_store(store: Store, *, progress: Callable[[str, int, int], None] | None = None) -> int:
    """Persist MAD and MSE (sample, condition, channel), mean and std of the original (sample, channel) of each block.

    Blocks whose statistics are there already are left alone.

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
        if a chunk of a committed block is damaged or missing.
    """
    done = commits.committed(store.path, store.layout, store.token, reduced=True)
    todo = [(block, samples) for block, samples in store.parts if not done[block]]
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
    return len(todo)


def _reduce_block(store: Store, block: int, samples: int) -> None:
    layout = store.layout
    for layer in layout.layers:
        array = layout.activation(layer)
        path = store.path / array.shard_key(block)
        results = {name: np.full(layout.statistic(layer, name).chunk, np.nan) for name in STATISTICS}
        for sample in range(samples):
            maps = read_samples(path, array, samples, first=sample, count=1)
            found = reduce_chunk(maps.swapaxes(1, 2), STATISTICS)
            for name, values in zip(STATISTICS, found, strict=True):
                results[name][sample] = values[0].T
        for name, content in results.items():
            small = layout.statistic(layer, name)
            write_small(store.path / small.chunk_key(block), content)
    record = layout.reduced
    write_small(store.path / record.chunk_key(block), np.asarray([store.token], dtype=record.dtype))
