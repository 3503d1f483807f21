"""Shard files of the Zarr v3 sharding codec, assembled in memory and written from there without a copy.

A shard consists of its inner chunks, each as raw little-endian bytes and a crc32c, then an index of (offset, length)
pairs with its crc32c. A `ShardBuffer` exposes this layout as a strided array, so that activations are copied only once,
to their place in the file. A `ShardWriter` fills in checksums and writes page-aligned pieces.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from actstore.store.files.base import Storage
from actstore.store.files.local import PAGE
from actstore.store.layout import CHECKSUM_BYTES, ArrayLayout, SmallLayout, c_strides, checksum_of, with_checksum
from actstore.store.pool import private_memory


class ShardBuffer:
    """Page-aligned memory for up to ``samples`` consecutive samples of one array, with the layout of the shard file.

    ``place(first, count)`` aligns it to the file position of sample ``first``, so that whole pages can be written from
    it directly.
    """

    def __init__(self, layout: ArrayLayout, samples: int) -> None:
        self.layout = layout
        self.samples = samples
        size = PAGE + samples * layout.sample_stride + layout.index_bytes
        self._memory = private_memory(-(-size // PAGE) * PAGE)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._memory, dtype=np.uint8)
        self.first = 0
        self.count = 0

    @property
    def phase(self) -> int:
        """Offset of the first sample in this buffer: its file offset modulo the page size."""
        return (self.first * self.layout.sample_stride) % PAGE

    def place(self, first: int, count: int) -> NDArray[Any]:
        """Take samples ``first`` … ``first + count - 1`` of the shard.

        Returns
        -------
        array
            a writable strided view (sample, grid_0, …, chunk_0, …): for an activation (sample, condition group,
            channel group, condition in group, channel in group, \\*space).
        """
        if count > self.samples:
            raise ValueError(f"{self.layout.path}: {count} samples do not fit a buffer of {self.samples}")
        self.first, self.count = first, count
        return self.view

    @property
    def view(self) -> NDArray[Any]:
        """The samples placed here, as `place` returns them."""
        layout = self.layout
        itemsize = np.dtype(layout.dtype).itemsize
        return np.ndarray(
            shape=(self.count, *layout.grid, *layout.chunk),
            dtype=layout.dtype,
            buffer=self._memory,
            offset=self.phase,
            strides=(
                layout.sample_stride,
                *c_strides(layout.grid, layout.chunk_stride),
                *c_strides(layout.chunk, itemsize),
            ),
        )

    def put(self, first: int, values: NDArray[Any]) -> None:
        """Copy ``values``, samples of the array's own shape, to their places from sample ``first`` on."""
        layout = self.layout
        split = [size for pair in zip(layout.grid, layout.chunk, strict=True) for size in pair]
        n = len(layout.grid)
        order = (0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2))
        self.place(first, len(values))[...] = values.reshape(len(values), *split).transpose(order)

    def fill_checksums(self) -> None:
        """Compute the crc32c of every inner chunk and put it after the chunk."""
        size, stride = self.layout.chunk_bytes, self.layout.chunk_stride
        view = self.bytes.data
        for start in range(self.phase, self.phase + self.count * self.layout.sample_stride, stride):
            end = start + size
            view[end : end + CHECKSUM_BYTES] = checksum_of(view[start:end])


class ShardWriter:
    """Writes one shard file from consecutive `ShardBuffer` contents; the file appears whole on ``close``.

    Used as a context manager: leaving it without ``close`` removes what was written.
    """

    def __init__(self, storage: Storage, key: str, layout: ArrayLayout, samples: int, *, fsync: bool = False) -> None:
        self.layout = layout
        self.samples = samples
        self._next = 0
        self._sink = storage.sink(key, layout.file_bytes(samples), fsync=fsync)

    def write(self, buffer: ShardBuffer) -> None:
        """Append the buffer's samples, which must follow those already written. The buffer may then be reused."""
        if buffer.first != self._next or buffer.first + buffer.count > self.samples:
            raise ValueError(
                f"{self.layout.path}: samples {buffer.first}..{buffer.first + buffer.count} do not follow {self._next}"
            )
        buffer.fill_checksums()
        phase, end = buffer.phase, buffer.phase + buffer.count * self.layout.sample_stride
        self._next += buffer.count
        last = self._next == self.samples
        if last:
            index = with_checksum(self.layout.index(self.samples).tobytes())
            buffer.bytes[end : end + len(index)] = np.frombuffer(index, dtype=np.uint8)
            end += len(index)
        self._sink.append(buffer.bytes, phase, end, last=last)

    def close(self) -> int:
        """Finish the file and give it its name. Returns its size in bytes."""
        if self._next != self.samples:
            raise ValueError(f"{self.layout.path}: {self._next} of {self.samples} samples were written")
        self._sink.close()
        return self.layout.file_bytes(self.samples)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._sink.abandon()


def write_small(
    storage: Storage, layout: SmallLayout, block: int, content: NDArray[Any], *, fsync: bool = False
) -> int:
    """Write a block's file of an array of small files, atomically: ``content`` as ``layout.chunk``. Returns its size.

    Each part is raw bytes and a crc32c.
    """
    raw = bytearray()
    for part in np.split(content, layout.sections, axis=1) if layout.sectioned else [content]:
        values = np.ascontiguousarray(part, dtype=layout.dtype).tobytes()
        raw += values
        raw += checksum_of(values)
    raw += layout.index
    storage.write(layout.key(block), bytes(raw), fsync=fsync)
    return len(raw)
