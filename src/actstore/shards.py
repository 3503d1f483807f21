"""Shard files of the Zarr v3 sharding codec, assembled in place and written with direct I/O.

A shard is its inner chunks one after another, raw little-endian bytes and a crc32c each, then an index of
(offset, length) pairs and its crc32c. A `ShardBuffer` exposes exactly that as a strided array, so that activations are
copied once, to where they will lie in the file; a `ShardWriter` fills in checksums and writes page-aligned pieces.
"""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from actstore.layout import CHECKSUM_BYTES, ArrayLayout, c_strides
from actstore.pool import private_memory

PAGE = 4096
_DIRECT = getattr(os, "O_DIRECT", 0)
#: Marks a file that has not got its name yet.
TEMPORARY = ".partial-"


class ShardBuffer:
    """Page-aligned memory for up to ``samples`` consecutive samples of one array, laid out as in the shard file.

    ``place(first, count)`` aligns it to where sample ``first`` lies in the file, so that whole pages can be written
    straight from here.
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
        """Where the first sample begins in this buffer: its file offset modulo the page size."""
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

    def fill_checksums(self) -> None:
        """Compute the crc32c of every inner chunk and put it behind the chunk."""
        size, stride = self.layout.chunk_bytes, self.layout.chunk_stride
        view = self.bytes.data
        for start in range(self.phase, self.phase + self.count * self.layout.sample_stride, stride):
            end = start + size
            view[end : end + CHECKSUM_BYTES] = crc32c(view[start:end]).to_bytes(CHECKSUM_BYTES, "little")


class ShardWriter:
    """Writes one shard file from consecutive `ShardBuffer` contents; the file appears whole, by rename, on ``close``.

    Direct I/O where the file system takes it, buffered writes where it refuses. Used as a context manager: leaving it
    without ``close`` removes what was written.
    """

    def __init__(self, path: Path, layout: ArrayLayout, samples: int, *, fsync: bool = False) -> None:
        self.path = path
        self.layout = layout
        self.samples = samples
        self._fsync = fsync
        self._partial = _partial(path)
        self._tail = b""
        self._next = 0
        self._named = False
        self._fd, self._direct = _open(self._partial)

    def write(self, buffer: ShardBuffer) -> None:
        """Append the buffer's samples, which must follow those already written. The buffer may be reused afterwards."""
        if buffer.first != self._next or buffer.first + buffer.count > self.samples:
            raise ValueError(
                f"{self.layout.path}: samples {buffer.first}..{buffer.first + buffer.count} do not follow {self._next}"
            )
        buffer.fill_checksums()
        phase, end = buffer.phase, buffer.phase + buffer.count * self.layout.sample_stride
        buffer.bytes[:phase] = np.frombuffer(self._tail, dtype=np.uint8)
        offset = buffer.first * self.layout.sample_stride - phase
        self._next += buffer.count
        if self._next == self.samples:
            index = self.layout.index(self.samples).tobytes()
            index += crc32c(index).to_bytes(CHECKSUM_BYTES, "little")
            buffer.bytes[end : end + len(index)] = np.frombuffer(index, dtype=np.uint8)
            self._write(buffer.bytes[: -(-(end + len(index)) // PAGE) * PAGE], offset)
        else:
            whole = end // PAGE * PAGE
            self._write(buffer.bytes[:whole], offset)
            self._tail = buffer.bytes[whole:end].tobytes()

    def _write(self, content: NDArray[np.uint8], offset: int) -> None:
        view = content.data
        while len(view):
            try:
                written = os.pwrite(self._fd, view, offset)
            except OSError as error:
                if error.errno != errno.EINVAL or not self._direct:
                    raise
                refused, self._fd = self._fd, os.open(self._partial, os.O_WRONLY)
                self._direct = False
                os.close(refused)
                continue
            view, offset = view[written:], offset + written

    def close(self) -> int:
        """Finish the file and give it its name. Returns its size in bytes."""
        if self._next != self.samples:
            raise ValueError(f"{self.layout.path}: {self._next} of {self.samples} samples were written")
        size = self.layout.shard_bytes(self.samples)
        os.ftruncate(self._fd, size)
        if self._fsync:
            os.fsync(self._fd)
        fd, self._fd = self._fd, -1
        os.close(fd)
        os.replace(self._partial, self.path)
        if self._fsync:
            _sync_folder(self.path.parent)
        self._named = True
        return size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if not self._named:
            self._partial.unlink(missing_ok=True)


def _open(path: Path) -> tuple[int, bool]:
    """A new file for writing, and whether it takes direct I/O."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    if _DIRECT:
        try:
            return os.open(path, flags | _DIRECT, 0o644), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return os.open(path, flags, 0o644), False


def _sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` as durable as the files are."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _partial(path: Path) -> Path:
    """A name of this attempt's own beside ``path``: two attempts at one block never write the same file."""
    return path.with_name(f"{path.name}{TEMPORARY}{uuid.uuid4().hex[:12]}")


def write_small(path: Path, content: NDArray[Any], *, fsync: bool = False) -> int:
    """Write an unsharded chunk, raw bytes and crc32c, atomically. Returns its size in bytes."""
    raw = np.ascontiguousarray(content).tobytes()
    partial = _partial(path)
    try:
        with open(partial, "wb") as file:
            file.write(raw + crc32c(raw).to_bytes(CHECKSUM_BYTES, "little"))
            file.flush()
            if fsync:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if fsync:
            _sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return len(raw) + CHECKSUM_BYTES
