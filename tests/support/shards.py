"""Shard files of random bits, written as a capture writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.store.files import LocalStorage
from actstore.store.layout import ArrayLayout
from actstore.store.shards import ShardBuffer, ShardWriter


def random_bits(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Random bit patterns, including NaN payloads, infinities, subnormal numbers and negative zero."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return rng.integers(0, 256, size, dtype=np.uint8).view(dtype).reshape(shape)


def fill(view: NDArray[Any], values: NDArray[Any], layout: ArrayLayout) -> None:
    """Put (sample, \\*sample_shape) into a shard view (sample, \\*grid, \\*chunk)."""
    n = len(layout.grid)
    pairs = [m for g, c in zip(layout.grid, layout.chunk, strict=True) for m in (g, c)]
    order = (0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2))
    view[...] = values.reshape(len(values), *pairs).transpose(order)


def write_shard(path: Path, layout: ArrayLayout, values: NDArray[Any], steps: list[int], ring: int = 2) -> int:
    """Write ``values`` in batches of ``steps`` samples from ``ring`` buffers, as capture does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffers = [ShardBuffer(layout, max(steps)) for _ in range(ring)]
    first = 0
    with ShardWriter(LocalStorage(path.parent), path.name, layout, len(values)) as writer:
        for i, count in enumerate(steps):
            buffer = buffers[i % ring]
            buffer.bytes[...] = 0xA5
            fill(buffer.place(first, count), values[first : first + count], layout)
            writer.write(buffer)
            first += count
        return writer.close()
