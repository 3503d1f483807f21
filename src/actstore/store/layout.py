"""Slots, shards and chunks of a store: pure arithmetic, no I/O.

The sample axis consists of slots. Every block (one volume) owns ``slots`` consecutive ones, so that a block consists of
whole shards of every array and two blocks never share a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from crc32c import crc32c

#: Target size of an inner chunk in raw bytes: the best compromise between reading one map and reading in bulk.
CHUNK_BYTES = 2 * 2**20
#: A crc32c follows every inner chunk and the shard index.
CHECKSUM_BYTES = 4
#: A shard index entry: offset and length, uint64 each.
INDEX_ENTRY_BYTES = 16
#: Separates the parts of a chunk's key. All files of an array lie in one folder, since creating a folder costs more
#: than writing a small file.
SEPARATOR = "."


def checksum_of(content: bytes | memoryview) -> bytes:
    """The crc32c of ``content``, as a store has it."""
    return crc32c(content).to_bytes(CHECKSUM_BYTES, "little")


def with_checksum(content: bytes) -> bytes:
    """``content`` and its crc32c."""
    return content + checksum_of(content)


def has_checksum(content: bytes | bytearray | memoryview) -> bool:
    """Whether ``content`` is not empty and its trailing CRC matches."""
    view = memoryview(content)
    body, stored = view[:-CHECKSUM_BYTES], view[-CHECKSUM_BYTES:]
    return len(body) > 0 and checksum_of(body) == bytes(stored)


@dataclass(frozen=True)
class ArrayLayout:
    """Shape, shards and inner chunks of one array.

    The leading dim is ``sample``, or what the units of another job are ranges of, each entry then a sample.
    """

    path: str
    dims: tuple[str, ...]
    dtype: str
    blocks: int
    slots: int
    #: Shape of one sample: the array's shape without its leading dim.
    sample_shape: tuple[int, ...]
    #: Inner chunk within one sample; each entry divides the one of ``sample_shape``.
    chunk: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.dims) != 1 + len(self.sample_shape):
            raise ValueError(f"{self.path}: dims {self.dims} do not fit sample shape {self.sample_shape}")
        if len(self.chunk) != len(self.sample_shape) or any(
            n % c for n, c in zip(self.sample_shape, self.chunk, strict=True)
        ):
            raise ValueError(f"{self.path}: chunk {self.chunk} does not divide sample shape {self.sample_shape}")
        if self.blocks < 1 or self.slots < 1:
            raise ValueError(f"{self.path}: {self.blocks} blocks of {self.slots} slots")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.blocks * self.slots, *self.sample_shape)

    @property
    def shard_shape(self) -> tuple[int, ...]:
        return (self.slots, *self.sample_shape)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return (1, *self.chunk)

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Inner chunks of one sample along each of its dims."""
        return tuple(n // c for n, c in zip(self.sample_shape, self.chunk, strict=True))

    @cached_property
    def chunks_per_sample(self) -> int:
        return math.prod(self.grid)

    @cached_property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk) * np.dtype(self.dtype).itemsize

    @cached_property
    def chunk_stride(self) -> int:
        """Bytes from one inner chunk of a shard to the next: the chunk and its checksum."""
        return self.chunk_bytes + CHECKSUM_BYTES

    @cached_property
    def sample_stride(self) -> int:
        return self.chunks_per_sample * self.chunk_stride

    @cached_property
    def index_bytes(self) -> int:
        return self.slots * self.chunks_per_sample * INDEX_ENTRY_BYTES + CHECKSUM_BYTES

    def file_bytes(self, samples: int) -> int:
        """Size in bytes of a shard that holds ``samples`` of its ``slots``."""
        return samples * self.sample_stride + self.index_bytes

    def key(self, block: int) -> str:
        """Path of the shard of ``block`` below the store's root."""
        return f"{self.path}/{SEPARATOR.join(('c', str(block), *('0' for _ in self.sample_shape)))}"

    def chunk_offset(self, sample: int, chunk: int) -> int:
        """Byte offset, in its shard, of inner chunk ``chunk`` (C order over ``grid``) of the shard's ``sample``."""
        return sample * self.sample_stride + chunk * self.chunk_stride

    def index(self, samples: int) -> np.ndarray:
        """The shard index, uint64 (slot, chunk, 2): offset and length, all ones where a slot is empty."""
        index = np.full((self.slots, self.chunks_per_sample, 2), np.iinfo(np.uint64).max, dtype="<u8")
        offsets = np.arange(samples * self.chunks_per_sample, dtype="<u8").reshape(samples, self.chunks_per_sample)
        index[:samples, :, 0] = offsets * np.uint64(self.chunk_stride)
        index[:samples, :, 1] = self.chunk_stride
        return index


@dataclass(frozen=True)
class SmallLayout:
    """An array with one small file per block, written and read as a whole. ``chunk`` is the shape of a block's part.

    ``sectioned`` makes the file a shard with one inner chunk per index of the second dim, which can be read alone.
    """

    path: str
    dims: tuple[str, ...]
    dtype: str
    blocks: int
    chunk: tuple[int, ...]
    sectioned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.blocks * self.chunk[0], *self.chunk[1:])

    @property
    def section(self) -> tuple[int, ...]:
        """Shape of the part that one checksum covers."""
        return (self.chunk[0], 1, *self.chunk[2:]) if self.sectioned else self.chunk

    @property
    def sections(self) -> int:
        return self.chunk[1] if self.sectioned else 1

    @cached_property
    def section_bytes(self) -> int:
        """Bytes of a part with its checksum."""
        return math.prod(self.section) * np.dtype(self.dtype).itemsize + CHECKSUM_BYTES

    def key(self, block: int) -> str:
        """Path of the file of ``block`` below the store's root."""
        return f"{self.path}/{SEPARATOR.join(('c', str(block), *('0' for _ in self.chunk[1:])))}"

    def file_bytes(self, samples: int = 0) -> int:
        """Size in bytes of a block's file, which includes empty slots."""
        return self.sections * self.section_bytes + len(self.index)

    @cached_property
    def index(self) -> bytes:
        """The shard index with its checksum: (offset, length) of every part; empty unless sectioned."""
        if not self.sectioned:
            return b""
        entries = np.empty((self.sections, 2), dtype="<u8")
        entries[:, 0] = np.arange(self.sections, dtype=np.uint64) * np.uint64(self.section_bytes)
        entries[:, 1] = self.section_bytes
        raw = entries.tobytes()
        return with_checksum(raw)


def largest_divisor(n: int, at_most: int) -> int:
    """The largest divisor of ``n`` up to ``at_most``, at least 1."""
    return max((d for d in _divisors(n) if d <= at_most), default=1)


def _divisors(n: int) -> Iterator[int]:
    for d in range(1, math.isqrt(n) + 1):
        if n % d == 0:
            yield d
            yield n // d


def inner_chunk(conditions: int, channels: int, map_bytes: int, target: int = CHUNK_BYTES) -> tuple[int, int]:
    """(conditions, channels) of one inner chunk.

    All conditions and as many channels as fit ``target`` bytes. If one channel of all conditions is larger, one channel
    of one condition. Both divide their axis, so that no chunk is padded.
    """
    fitting = target // map_bytes
    if fitting >= conditions:
        return conditions, largest_divisor(channels, fitting // conditions)
    return 1, 1


def activation_layout(
    path: str,
    *,
    dtype: str,
    blocks: int,
    slots: int,
    conditions: int,
    channels: int,
    space: tuple[int, ...],
    space_dims: tuple[str, ...],
) -> ArrayLayout:
    """Layout of an array (sample, condition, channel, \\*space)."""
    map_bytes = math.prod(space) * np.dtype(dtype).itemsize
    chunk_conditions, chunk_channels = inner_chunk(conditions, channels, map_bytes)
    return ArrayLayout(
        path=path,
        dims=("sample", "condition", "channel", *space_dims),
        dtype=dtype,
        blocks=blocks,
        slots=slots,
        sample_shape=(conditions, channels, *space),
        chunk=(chunk_conditions, chunk_channels, *space),
    )


def image_layout(
    path: str,
    *,
    dtype: str,
    blocks: int,
    slots: int,
    conditions: int | None,
    space: tuple[int, ...],
    space_dims: tuple[str, ...],
    input_channels: int | None = None,
) -> ArrayLayout:
    """Layout of an array (sample[, condition][, input_channel], \\*space), without the dims that are ``None``."""
    map_bytes = math.prod(space) * np.dtype(dtype).itemsize
    leading = tuple(n for n in (conditions, input_channels) if n is not None)
    chunk: tuple[int, ...] = () if conditions is None else (inner_chunk(conditions, 1, map_bytes)[0],)
    chunk += () if input_channels is None else (1,)
    named = (("condition", conditions), ("input_channel", input_channels))
    return ArrayLayout(
        path=path,
        dims=("sample", *(name for name, n in named if n is not None), *space_dims),
        dtype=dtype,
        blocks=blocks,
        slots=slots,
        sample_shape=(*leading, *space),
        chunk=(*chunk, *space),
    )


def c_strides(shape: tuple[int, ...], innermost: int) -> tuple[int, ...]:
    """Strides in bytes of a C-order array whose last axis steps by ``innermost`` bytes."""
    strides = []
    for n in reversed(shape):
        strides.append(innermost)
        innermost *= n
    return tuple(reversed(strides))
