"""Dask arrays over a store: one task per block of an array, not one per inner chunk."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import dask.array as da
import numpy as np
from dask.base import compute_as_if_collection, tokenize
from dask.blockwise import BlockwiseDepDict, blockwise
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from actstore.measures.names import ORIGINAL_STATISTICS
from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout, SmallLayout
from actstore.store.reader import Piece, read_pieces, read_smalls

#: Largest bytes of a dask chunk. It holds samples of several blocks if these are small, and a range of channels if one
#: sample is larger. This makes few tasks, each long enough to hide the scheduler's overhead.
TASK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class BlockSamples:
    """The blocks to read from a store: (block, samples that it holds), in order.

    Dask treats this as one object; it would otherwise tokenize every number for every array.
    """

    counts: tuple[tuple[int, int], ...]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def samples(self) -> int:
        return sum(samples for _, samples in self.counts)

    def place_of(self, sample: int) -> tuple[int, int]:
        """The block that holds a sample, and its number there.

        Raises
        ------
        IndexError
            if there are fewer samples.
        """
        for block, samples in self.counts:
            if sample < samples:
                return block, sample
            sample -= samples
        raise IndexError(f"there are {self.samples} samples")

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(repr(self.counts).encode()).hexdigest()

    def __dask_tokenize__(self) -> str:
        return self._digest


Chunks = tuple[tuple[int, ...], ...]
#: Position of a task to the argument of its function.
Arguments = Mapping[tuple[int, ...], object]


def sharded(storage: Storage, layout: ArrayLayout, blocks: BlockSamples) -> da.Array:
    """The listed blocks' samples of a sharded array, one after another: (sample, \\*sample_shape)."""
    tasks = cut(layout, blocks)
    if not tasks:
        empty: da.Array = da.empty((0, *layout.sample_shape), chunks=(0, *layout.sample_shape), dtype=layout.dtype)
        return empty
    chunks = [_samples(tasks), *((n,) for n in layout.sample_shape)]
    if cuts := _cut_channels(layout):
        chunks[2] = tuple(stop - start for start, stop in cuts)
    arguments: Arguments = {
        (i, g): (task, group) for i, task in enumerate(tasks) for g, group in enumerate(cuts or [None])
    }
    token = tokenize(storage, layout, blocks, TASK_BYTES)
    axes = (0, 2) if len(layout.dims) > 2 else (0, 1)
    return _array(
        f"read-{token}", _load_sharded, axes, arguments, tuple(chunks), layout.dtype, storage=storage, layout=layout
    )


def statistics(
    storage: Storage, layout: ArrayLayout, blocks: BlockSamples, names: tuple[str, ...]
) -> dict[str, tuple[tuple[str, ...], da.Array]]:
    """Per-channel statistics of an activation, reduced while reading its inner chunks: name to dims and float64 array.

    One pass computes all ``names``, with one task per `TASK_BYTES` of samples. A task holds only a few inner chunks.
    """
    from actstore.store.reductions import reduce_pieces  # compiles

    tasks = cut(layout, blocks) or ((),)
    chunks = ((len(names),), _samples(tasks), *((n,) for n in layout.sample_shape[:2]))
    arguments: Arguments = {(i,): task for i, task in enumerate(tasks)}
    name = f"reduce-{tokenize(storage, layout, blocks, names, TASK_BYTES)}"
    stacked = _array(name, reduce_pieces, (1,), arguments, chunks, "f8", storage=storage, layout=layout, names=names)
    return _by_name(stacked, names)


def compute_statistics(
    storage: Storage, layouts: Sequence[ArrayLayout], blocks: BlockSamples, names: tuple[str, ...]
) -> list[dict[str, tuple[tuple[str, ...], NDArray[np.float64]]]]:
    """As `statistics` of several activations, computed at once, with dask's scheduler.

    The graph holds a task per `TASK_BYTES` and nothing else: with an array per layer and name, dask would take as long
    for its graphs as two threads take to read 0.5 GB.
    """
    from actstore.store.reductions import reduce_pieces  # compiles

    token = uuid.uuid4().hex
    graph: dict[tuple[str, int, int], tuple[Callable[[], NDArray[np.float64]]]] = {}
    for number, layout in enumerate(layouts):
        for i, task in enumerate(cut(layout, blocks) or ((),)):
            reduce = partial(reduce_pieces, task, storage=storage, layout=layout, names=names)
            graph[f"reduce-{token}", number, i] = (reduce,)
    parts: list[list[NDArray[np.float64]]] = [[] for _ in layouts]
    for (_, number, _), part in zip(graph, compute_as_if_collection(da.Array, graph, list(graph)), strict=True):
        parts[number].append(part)
    return [_by_name(np.concatenate(every, axis=1), names) for every in parts]


Values = TypeVar("Values", NDArray[np.float64], da.Array)


def _by_name(stacked: Values, names: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], Values]]:
    """Dims and values of each statistic in (name, sample, condition, channel)."""
    dims = ("sample", "condition", "channel")
    return {
        name: (("sample", "channel"), stacked[i, :, 0]) if name in ORIGINAL_STATISTICS else (dims, stacked[i])
        for i, name in enumerate(names)
    }


def cut(layout: ArrayLayout, blocks: BlockSamples) -> tuple[tuple[Piece, ...], ...]:
    """The pieces that each task reads: from one or more blocks, together at most `TASK_BYTES` or one sample."""
    most = max(1, TASK_BYTES // layout.sample_stride)
    tasks: list[list[Piece]] = []
    filled = most
    for block, valid in blocks:
        for first in range(0, valid, most):
            count = min(most, valid - first)
            if filled + count > most:
                tasks.append([])
                filled = 0
            tasks[-1].append(Piece(layout.key(block), valid, first, count))
            filled += count
    return tuple(map(tuple, tasks))


def _samples(tasks: Sequence[Sequence[Piece]]) -> tuple[int, ...]:
    return tuple(sum(piece.count for piece in task) for task in tasks)


def _cut_channels(layout: ArrayLayout) -> tuple[tuple[int, int], ...]:
    """Ranges of whole inner chunks along ``channel``; empty if a sample is small enough."""
    if layout.dims[1:3] != ("condition", "channel") or layout.sample_stride <= TASK_BYTES:
        return ()
    step = max(1, TASK_BYTES // (layout.grid[0] * layout.chunk_stride)) * layout.chunk[1]
    channels = layout.sample_shape[1]
    return tuple((start, min(start + step, channels)) for start in range(0, channels, step))


def _array(
    name: str,
    function: Callable[..., NDArray[Any]],
    axes: tuple[int, ...],
    arguments: Arguments,
    chunks: Chunks,
    dtype: str,
    **common: object,
) -> da.Array:
    """An array with one argument per task position along ``axes``, so that the graph is linear in the tasks."""
    index = tuple(range(len(chunks)))
    numblocks = tuple(len(chunks[axis]) for axis in axes)
    others = [axis for axis in index if axis not in axes]
    layer = blockwise(
        function,
        name,
        index,
        BlockwiseDepDict(dict(arguments), numblocks),
        axes,
        numblocks={},
        new_axes=dict.fromkeys(others, 1),
        **common,
    )
    graph = HighLevelGraph.from_collections(name, layer)
    return da.Array(graph, name, chunks, meta=np.empty((0,) * len(chunks), dtype=dtype))


def _load_sharded(
    argument: tuple[tuple[Piece, ...], tuple[int, int] | None], *, storage: Storage, layout: ArrayLayout
) -> NDArray[Any]:
    pieces, channels = argument
    return read_pieces(storage, layout, pieces, channels=channels)


def small(storage: Storage, layout: SmallLayout, blocks: BlockSamples, section: int | None = None) -> da.Array:
    """The listed blocks' samples of an array of small files: (sample, …), one task per `TASK_BYTES`.

    ``section`` is an index of a sectioned array's second dim, which is then left out.
    """
    rest = layout.chunk[1:] if section is None else layout.chunk[2:]
    most = max(1, TASK_BYTES // layout.section_bytes)
    shares = [BlockSamples(blocks.counts[i : i + most]) for i in range(0, len(blocks), most)] or [blocks]
    chunks = (tuple(share.samples for share in shares), *((n,) for n in rest))
    name = f"small-{tokenize(storage, layout, blocks, section)}"
    arguments: Arguments = {(i,): share for i, share in enumerate(shares)}
    return _array(
        name, _load_small, (0,), arguments, chunks, layout.dtype, storage=storage, layout=layout, section=section
    )


def _load_small(blocks: BlockSamples, *, storage: Storage, layout: SmallLayout, section: int | None) -> NDArray[Any]:
    return read_smalls(storage, layout, blocks, section)
