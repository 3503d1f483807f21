"""Reading shards and small chunks back, every checksum checked on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.layout import CHECKSUM_BYTES, ArrayLayout, c_strides


def read_small(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """An unsharded chunk, or ``None`` where its file does not exist.

    Raises
    ------
    StoreError
        if its length or checksum is wrong.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    raw, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
    expected = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    if len(raw) != expected or crc32c(raw).to_bytes(CHECKSUM_BYTES, "little") != checksum:
        raise StoreError(f"{path} is damaged (length or checksum): recompute its block")
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


class ShardReader:
    """Reads samples and inner chunks of one shard file, checking every checksum on the way.

    Raises
    ------
    StoreError
        naming the file and what is wrong, if it is missing, truncated, or a checksum differs.
    """

    def __init__(self, path: Path, layout: ArrayLayout, samples: int) -> None:
        self.path = path
        self.layout = layout
        self.samples = samples
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise StoreError(f"{path} is missing from a committed block: recompute the block") from error
        try:
            self._check_index()
        except BaseException:
            os.close(self._fd)
            raise

    def _check_index(self) -> None:
        size = os.fstat(self._fd).st_size
        expected = self.layout.shard_bytes(self.samples)
        if size != expected:
            raise StoreError(f"{self.path} has {size} bytes instead of {expected}: recompute its block")
        content = os.pread(self._fd, self.layout.index_bytes, size - self.layout.index_bytes)
        index = self.layout.index(self.samples).tobytes()
        if content != index + crc32c(index).to_bytes(CHECKSUM_BYTES, "little"):
            raise StoreError(f"{self.path} has a damaged shard index: recompute its block")

    def read(self, first: int, count: int, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes of inner chunks ``start`` … ``stop - 1`` of ``count`` samples: uint8 (sample, chunk, byte), checked."""
        layout = self.layout
        content = np.empty((count, stop - start, layout.chunk_stride), dtype=np.uint8)
        if stop - start == layout.chunks_per_sample:
            self._fill(content.reshape(-1), layout.chunk_offset(first, start))
        else:
            for i in range(count):
                self._fill(content[i].reshape(-1), layout.chunk_offset(first + i, start))
        for i in range(count):
            for j in range(stop - start):
                chunk = content[i, j]
                if crc32c(chunk[:-CHECKSUM_BYTES]) != int.from_bytes(chunk[-CHECKSUM_BYTES:].tobytes(), "little"):
                    raise StoreError(
                        f"{self.path} is damaged: wrong checksum of slot {first + i}, inner chunk {start + j}; "
                        "recompute its block"
                    )
        return content[:, :, :-CHECKSUM_BYTES]

    def _fill(self, piece: NDArray[np.uint8], offset: int) -> None:
        view = memoryview(piece)
        while len(view):
            got = os.preadv(self._fd, [view], offset)
            if not got:
                raise StoreError(f"{self.path} ends too early: recompute its block")
            view, offset = view[got:], offset + got

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_samples(
    path: Path,
    layout: ArrayLayout,
    valid: int,
    *,
    first: int = 0,
    count: int | None = None,
    channels: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """Samples of one shard, decoded and checked: (sample, \\*sample_shape), or only the ``channels`` range of it.

    Parameters
    ----------
    valid
        samples that the shard holds.
    first, count
        the range of samples; all by default.
    channels
        (start, stop) along the second dim of a sample, whole inner chunks; only where a chunk holds all conditions
        or the range is everything.
    """
    count = valid - first if count is None else count
    start, stop = 0, layout.chunks_per_sample
    grid = layout.grid
    if channels is not None and channels != (0, layout.sample_shape[1]):
        per_chunk = layout.chunk[1]
        if grid[0] != 1 or channels[0] % per_chunk or channels[1] % per_chunk:
            raise ValueError(f"{layout.path}: channels {channels} are not whole inner chunks")
        start, stop = channels[0] // per_chunk, channels[1] // per_chunk
        grid = (1, stop - start, *grid[2:])
    with ShardReader(path, layout, valid) as shard:
        content = shard.read(first, count, start, stop)
    itemsize = np.dtype(layout.dtype).itemsize
    strides = (content.strides[0], *c_strides(grid, content.strides[1]), *c_strides(layout.chunk, itemsize))
    chunks: NDArray[Any] = np.ndarray(
        (count, *grid, *layout.chunk), dtype=layout.dtype, buffer=content.base, strides=strides
    )
    n = len(grid)
    order = (0, *(axis for i in range(n) for axis in (1 + i, 1 + n + i)))
    shape = tuple(g * c for g, c in zip(grid, layout.chunk, strict=True))
    return chunks.transpose(order).reshape(count, *shape)
