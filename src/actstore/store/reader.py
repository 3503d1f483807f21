"""Reads shards and small files and checks every checksum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self, TypeVar

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from actstore.errors import DamageError
from actstore.store import pool
from actstore.store.files.base import Storage
from actstore.store.layout import CHECKSUM_BYTES, ArrayLayout, SmallLayout, c_strides, has_checksum, with_checksum

Result = TypeVar("Result")

#: How to repair damage; ends every message about it.
MEND = "`actstore verify STORE --repair` computes it again"

#: The crc32c of anything followed by its own crc32c, little-endian.
RESIDUE = 0x48674BC7

#: Bytes of local files read and checked at a time: as many as a core's cache holds.
CACHE_BYTES = 2 * 2**20


def read_small(storage: Storage, layout: SmallLayout, block: int) -> NDArray[Any] | None:
    """The part of ``block``, of shape ``layout.chunk``, or ``None`` if its file does not exist.

    Raises
    ------
    DamageError
        if its length or a checksum is wrong.
    """
    content = bytearray(layout.file_bytes())
    size = storage.fill(layout.key(block), content)
    if size is None:
        return None
    index = memoryview(content)[layout.sections * layout.section_bytes :]
    if size != len(content) or index != layout.index:
        raise _damaged(storage, layout, block)
    sections = [_checked(storage, layout, block, content, i * layout.section_bytes) for i in range(layout.sections)]
    return np.concatenate(sections, axis=1) if layout.sectioned else sections[0]


def read_section(storage: Storage, layout: SmallLayout, block: int, section: int) -> NDArray[Any] | None:
    """One section of a sectioned array's file, as ``layout.chunk`` without its second dim. Errors as `read_small`."""
    content = bytearray(layout.section_bytes)
    try:
        file = storage.open(layout.key(block))
    except FileNotFoundError:
        return None
    try:
        if file.size != layout.file_bytes() or file.read_into(memoryview(content), section * len(content)) != len(
            content
        ):
            raise _damaged(storage, layout, block)
    finally:
        file.close()
    return _checked(storage, layout, block, content, 0)[:, 0]


def _checked(storage: Storage, layout: SmallLayout, block: int, content: bytearray, start: int) -> NDArray[Any]:
    """The section whose bytes begin at ``start``."""
    view = memoryview(content)[start : start + layout.section_bytes]
    if not has_checksum(view):
        raise _damaged(storage, layout, block)
    return np.frombuffer(view, layout.dtype, math.prod(layout.section)).reshape(layout.section)


def _damaged(storage: Storage, layout: SmallLayout, block: int) -> DamageError:
    return DamageError(f"{storage.at(layout.key(block))} is damaged (length or checksum): {MEND}")


def read_smalls(
    storage: Storage, layout: SmallLayout, blocks: Iterable[tuple[int, int]], section: int | None = None
) -> NDArray[Any]:
    """The used samples of the listed (block, samples), one after another: (sample, …) as ``layout.dims``.

    Parameters
    ----------
    section
        of a sectioned array, whose second dim is then left out.

    Raises
    ------
    DamageError
        naming a file that is missing, or whose length or checksum is wrong.
    """
    blocks = list(blocks)
    shape = layout.chunk[1:] if section is None else layout.chunk[2:]
    found = np.empty((sum(samples for _, samples in blocks), *shape), dtype=layout.dtype)

    def read(blocks: Sequence[tuple[int, int]], position: int) -> None:
        for block, samples in blocks:
            content = (
                read_small(storage, layout, block) if section is None else read_section(storage, layout, block, section)
            )
            if content is None:
                raise DamageError(f"{storage.at(layout.key(block))} is missing from a committed block: {MEND}")
            found[position : position + samples] = content[:samples]
            position += samples

    each(storage, read, blocks)
    return found


def each(
    storage: Storage, read: Callable[[Sequence[tuple[int, int]], int], None], blocks: Sequence[tuple[int, int]]
) -> None:
    """Call ``read`` in ``storage.threads`` threads for shares of ``blocks`` and the number of samples before each."""
    if storage.threads == 1:
        read(blocks, 0)
        return
    shares = []
    position, share = 0, -(-len(blocks) // storage.threads) or 1
    for start in range(0, len(blocks), share):
        shares.append((blocks[start : start + share], position))
        position += sum(samples for _, samples in blocks[start : start + share])
    with ThreadPoolExecutor(storage.threads) as threads:
        for done in [threads.submit(read, *arguments) for arguments in shares]:
            done.result()


class ShardReader:
    """Reads samples and inner chunks of one shard file and checks every checksum.

    Raises
    ------
    DamageError
        if the file is missing or truncated, or a checksum is wrong.
    """

    def __init__(self, storage: Storage, key: str, layout: ArrayLayout, samples: int) -> None:
        self.path = storage.at(key)
        self.layout = layout
        self.samples = samples
        self._piece_bytes = storage.piece_bytes
        try:
            self._file = storage.open(key)
        except FileNotFoundError as error:
            raise DamageError(f"{self.path} is missing from a committed block: {MEND}") from error
        try:
            self._check_index()
        except BaseException:
            self._file.close()
            raise

    def _check_index(self) -> None:
        size, expected = self._file.size, self.layout.file_bytes(self.samples)
        if size != expected:
            raise DamageError(f"{self.path} has {size} bytes instead of {expected}: {MEND}")
        content = bytearray(self.layout.index_bytes)
        self._read(memoryview(content), size - len(content))
        index = _index(self.layout, self.samples)
        if content == index:
            return
        if has_checksum(content):
            found, wanted = (np.frombuffer(raw[:-CHECKSUM_BYTES], "<u8").reshape(-1, 2) for raw in (content, index))
            slot, number = divmod(int(np.flatnonzero((found != wanted).any(axis=1))[0]), self.layout.chunks_per_sample)
            raise DamageError(f"{self.path} has no inner chunk {number} of slot {slot}: {MEND}")
        raise DamageError(f"{self.path} has a damaged shard index: {MEND}")

    def read(self, first: int, count: int, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes of inner chunks ``start`` … ``stop - 1`` of ``count`` samples: uint8 (sample, chunk, byte), checked."""
        raw = _raw(count, stop - start, self.layout.chunk_stride)
        self.fill(raw, first, start)
        return raw[:, :, :-CHECKSUM_BYTES]

    def fill(self, raw: NDArray[np.uint8], first: int, start: int) -> None:
        """Fill ``raw`` (sample, chunk, byte) with chunks and their checksums from sample and chunk on, and check all.

        Checks each piece right after reading it, while it is in the cache.
        """
        samples, chunks, stride = raw.shape
        whole = chunks == self.layout.chunks_per_sample
        step = max(1, self._piece_bytes // (chunks * stride)) if whole else 1
        for i in range(0, samples, step):
            piece = raw[i : i + step]
            self._read(piece.reshape(-1).data, self.layout.chunk_offset(first + i, start))
            for s in range(len(piece)):
                for c in range(chunks):
                    self._check(piece[s, c], first + i + s, start + c)

    def check(self) -> None:
        """Read everything once and check every checksum."""
        chunks, stride = self.layout.chunks_per_sample, self.layout.chunk_stride
        at_once = max(1, min(chunks, self._piece_bytes // stride))
        samples = max(1, self._piece_bytes // self.layout.sample_stride) if at_once == chunks else 1
        for first in range(0, self.samples, samples):
            for start in range(0, chunks, at_once):
                shape = min(samples, self.samples - first), min(at_once, chunks - start)
                self.fill(_raw(*shape, stride), first, start)

    def _check(self, chunk: NDArray[np.uint8], slot: int, number: int) -> None:
        if crc32c(chunk.data) != RESIDUE:
            raise DamageError(f"{self.path} is damaged: wrong checksum of slot {slot}, inner chunk {number}: {MEND}")

    def _read(self, view: memoryview, offset: int) -> None:
        if self._file.read_into(view, offset) != len(view):
            raise DamageError(f"{self.path} ends too early: {MEND}")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@lru_cache
def _index(layout: ArrayLayout, samples: int) -> bytes:
    """A shard's index and its checksum, as in the file."""
    return with_checksum(layout.index(samples).tobytes())


@dataclass(frozen=True)
class Piece:
    """Consecutive samples of one shard."""

    key: str
    #: Samples that the shard holds.
    valid: int
    first: int
    count: int


def read_pieces(
    storage: Storage, layout: ArrayLayout, pieces: Sequence[Piece], *, channels: tuple[int, int] | None = None
) -> NDArray[Any]:
    """Samples of several shards, one after another, checked: (sample, \\*sample_shape), or a ``channels`` range of it.

    Parameters
    ----------
    channels
        (start, stop) along the second dim of a sample: whole inner chunks.
    """
    grid, first = layout.grid, 0
    if channels is not None:
        first, stop = _groups(layout, channels)
        grid = (grid[0], stop - first, *grid[2:])
    raw = _raw(sum(piece.count for piece in pieces), math.prod(grid), layout.chunk_stride)
    position = 0
    for piece in pieces:
        part = raw[position : position + piece.count]
        with ShardReader(storage, piece.key, layout, piece.valid) as shard:
            if grid == layout.grid:
                shard.fill(part, piece.first, 0)
            else:
                for c in range(grid[0]):
                    columns = slice(c * grid[1], (c + 1) * grid[1])
                    shard.fill(part[:, columns], piece.first, c * layout.grid[1] + first)
        position += piece.count
    return _assembled(by_chunk(raw, layout, grid))


def _groups(layout: ArrayLayout, channels: tuple[int, int]) -> tuple[int, int]:
    """Positions along the chunk grid's channel axis of a range of channels."""
    (start, more), (stop, rest) = (divmod(channel, layout.chunk[1]) for channel in channels)
    if more or rest:
        raise ValueError(f"{layout.path}: channels {channels} are not whole inner chunks")
    return start, stop


def reduce_groups(
    storage: Storage,
    layout: ArrayLayout,
    pieces: Iterable[Piece],
    reduction: Callable[[NDArray[Any]], Result],
) -> Iterator[tuple[slice, slice, Result]]:
    """Read samples of activation shards one after another, a few inner chunks at a time, into the same memory.

    Parameters
    ----------
    reduction
        called once with each buffer for maps (sample, channel, condition, \\*space) before it is first filled.

    Yields
    ------
    samples, channels, result
        position of the checked maps that the buffer holds now, with samples counted from the first of ``pieces``; and
        what ``reduction`` returned for the buffer.
    """
    conditions, groups = layout.grid[:2]
    step = max(1, CACHE_BYTES // layout.sample_stride) if conditions == groups == 1 else 1
    raw = _raw(step, conditions, layout.chunk_stride)
    grid = (conditions, 1, *layout.grid[2:])
    prepared: dict[int, Result] = {}
    position = 0
    for piece in pieces:
        with ShardReader(storage, piece.key, layout, piece.valid) as shard:
            for first in range(piece.first, piece.first + piece.count, step):
                count = min(step, piece.first + piece.count - first)
                part = raw[:count]
                if count not in prepared:
                    prepared[count] = reduction(maps_of(by_chunk(part, layout, grid)))
                for group in range(groups):
                    for c in range(conditions):
                        shard.fill(part[:, c : c + 1], first, c * groups + group)
                    channels = slice(group * layout.chunk[1], (group + 1) * layout.chunk[1])
                    yield slice(position, position + count), channels, prepared[count]
                position += count


def maps_of(chunks: NDArray[Any]) -> NDArray[Any]:
    """A view of an activation's channel group (sample, \\*grid, \\*chunk) as (sample, channel, condition, \\*space).

    Raises
    ------
    ValueError
        if a chunk holds neither one condition nor all.
    """
    n = (chunks.ndim - 1) // 2
    maps = chunks.squeeze(axis=tuple(range(2, 1 + n)))
    if maps.shape[1] == 1:
        return maps[:, 0].swapaxes(1, 2)
    if maps.shape[2] != 1:
        raise ValueError(f"inner chunks of {maps.shape[2]} of {maps.shape[1] * maps.shape[2]} conditions: one or all")
    return maps[:, :, 0].swapaxes(1, 2)


def by_chunk(raw: NDArray[np.uint8], layout: ArrayLayout, grid: tuple[int, ...]) -> NDArray[Any]:
    """Bytes (sample, chunk, byte) as the array's values by inner chunk: (sample, \\*grid, \\*chunk), no copy."""
    itemsize = np.dtype(layout.dtype).itemsize
    strides = (raw.strides[0], *c_strides(grid, raw.strides[1]), *c_strides(layout.chunk, itemsize))
    return np.ndarray((len(raw), *grid, *layout.chunk), dtype=layout.dtype, buffer=raw.base, strides=strides)


def _assembled(chunks: NDArray[Any]) -> NDArray[Any]:
    """(sample, \\*grid, \\*chunk) as (sample, \\*sample_shape): a view where one chunk holds a sample, else a copy."""
    n = (chunks.ndim - 1) // 2
    grid, chunk = chunks.shape[1 : 1 + n], chunks.shape[1 + n :]
    shape = (len(chunks), *(g * c for g, c in zip(grid, chunk, strict=True)))
    ordered = chunks.transpose(0, *(axis for i in range(n) for axis in (1 + i, 1 + n + i)))
    if math.prod(grid) == 1:
        return ordered.reshape(shape)
    out = pool.take(chunks.size * chunks.itemsize)[: chunks.size * chunks.itemsize].view(chunks.dtype)
    out.reshape(ordered.shape)[...] = ordered
    return out.reshape(shape)


def _raw(samples: int, chunks: int, stride: int) -> NDArray[np.uint8]:
    return pool.take(samples * chunks * stride)[: samples * chunks * stride].reshape(samples, chunks, stride)


def read_map(storage: Storage, layout: ArrayLayout, piece: Piece, index: tuple[int, ...]) -> NDArray[Any]:
    """One map of one sample, read from its inner chunk: (\\*space).

    Parameters
    ----------
    index
        position along the dims between sample and space: (condition, channel) of an activation.
    """
    n = len(index)
    groups = [divmod(i, c) for i, c in zip(index, layout.chunk[:n], strict=True)]
    number = int(np.ravel_multi_index([g for g, _ in groups], layout.grid[:n]))
    with ShardReader(storage, piece.key, layout, piece.valid) as shard:
        content = shard.read(piece.first, 1, number, number + 1)
    chunk = by_chunk(content, layout, (1,) * len(layout.grid)).reshape(layout.chunk)
    found: NDArray[Any] = chunk[tuple(within for _, within in groups)]
    return found


def read_index(storage: Storage, layout: ArrayLayout, piece: Piece, index: int) -> NDArray[Any]:
    """One sample at an ``index`` along the dim behind it, a condition's: (\\*sample_shape[1:]).

    Reads the inner chunks that hold it, which lie one after another.
    """
    group, within = divmod(index, layout.chunk[0])
    grid = (1, *layout.grid[1:])
    chunks = math.prod(grid)
    with ShardReader(storage, piece.key, layout, piece.valid) as shard:
        raw = _raw(1, chunks, layout.chunk_stride)
        shard.fill(raw, piece.first, group * chunks)
    found: NDArray[Any] = _assembled(by_chunk(raw, layout, grid))[0, within]
    return found
