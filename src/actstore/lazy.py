"""Dask arrays over a store: one task for a block of an array, not one for every inner chunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.layout import ArrayLayout, SmallLayout
from actstore.reader import Piece, read_pieces, read_small

#: A dask chunk holds as many samples as fit this, of several blocks where they are small, cut along channels where one
#: sample is larger: few tasks, each long enough to hide what a scheduler costs.
TASK_BYTES = 64 * 2**20

#: (block, samples that it holds)
Part = tuple[int, int]


def sharded(root: Path, layout: ArrayLayout, parts: Sequence[Part]) -> da.Array:
    """The listed blocks' samples of a sharded array, one after another: (sample, \\*sample_shape)."""
    tasks = cut(root, layout, parts)
    channels = _cut_channels(layout)
    if not tasks:
        empty: da.Array = da.empty((0, *layout.sample_shape), chunks=(0, *layout.sample_shape), dtype=layout.dtype)
        return empty
    chunks: list[tuple[int, ...]] = [tuple(sum(piece.count for piece in task) for task in tasks)]
    chunks += [(n,) for n in layout.sample_shape]
    if channels:
        chunks[2] = tuple(stop - start for start, stop in channels)
    array: da.Array = da.map_blocks(
        _load_sharded,
        chunks=tuple(chunks),
        dtype=layout.dtype,
        meta=np.empty((0,) * len(layout.shape), dtype=layout.dtype),
        layout=layout,
        tasks=tasks,
        channels=channels,
    )
    return array


def cut(root: Path, layout: ArrayLayout, parts: Sequence[Part]) -> tuple[tuple[Piece, ...], ...]:
    """What each task reads: pieces of one or more blocks that together hold at most `TASK_BYTES`, or one sample."""
    most = max(1, TASK_BYTES // layout.sample_stride)
    tasks: list[list[Piece]] = []
    filled = most
    for block, valid in parts:
        for first in range(0, valid, most):
            count = min(most, valid - first)
            if filled + count > most:
                tasks.append([])
                filled = 0
            tasks[-1].append(Piece(root / layout.shard_key(block), valid, first, count))
            filled += count
    return tuple(map(tuple, tasks))


def _cut_channels(layout: ArrayLayout) -> tuple[tuple[int, int], ...]:
    """Ranges of whole inner chunks along ``channel``; empty where a sample is small enough, or cannot be cut there."""
    if layout.dims[1:3] != ("condition", "channel") or layout.grid[0] != 1 or layout.sample_stride <= TASK_BYTES:
        return ()
    step = max(1, TASK_BYTES // layout.chunk_stride) * layout.chunk[1]
    channels = layout.sample_shape[1]
    return tuple((start, min(start + step, channels)) for start in range(0, channels, step))


def _load_sharded(
    *,
    layout: ArrayLayout,
    tasks: tuple[tuple[Piece, ...], ...],
    channels: tuple[tuple[int, int], ...],
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    return read_pieces(layout, tasks[block_id[0]], channels=channels[block_id[2]] if channels else None)


def small(root: Path, layout: SmallLayout, parts: tuple[Part, ...]) -> da.Array:
    """The listed blocks' samples of an unsharded array, read by one task: (sample, …)."""
    shape = (sum(n for _, n in parts), *layout.chunk[1:])
    array: da.Array = da.map_blocks(
        _load_small,
        chunks=tuple((n,) for n in shape),
        dtype=layout.dtype,
        meta=np.empty((0,) * len(shape), dtype=layout.dtype),
        root=root,
        layout=layout,
        parts=parts,
    )
    return array


def _load_small(*, root: Path, layout: SmallLayout, parts: tuple[Part, ...], block_id: tuple[int, ...]) -> NDArray[Any]:
    found = np.empty((sum(n for _, n in parts), *layout.chunk[1:]), dtype=layout.dtype)
    position = 0
    for block, valid in parts:
        path = root / layout.chunk_key(block)
        chunk = read_small(path, layout.dtype, layout.chunk)
        if chunk is None:
            raise StoreError(f"{path} is missing from a committed block: recompute the block")
        found[position : position + valid] = chunk[:valid]
        position += valid
    return found
