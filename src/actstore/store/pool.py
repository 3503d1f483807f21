"""Reuses memory for reads, since the first write to a fresh page costs several times the second."""

from __future__ import annotations

import mmap
import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

#: Sizes are rounded up to a multiple of this, so that shards of one layer share buffers.
GRAIN = 2**20
#: Most free memory to keep, in bytes.
MOST_FREE = 512 * 2**20

_free: dict[int, deque[mmap.mmap]] = {}


def private_memory(size: int) -> mmap.mmap:
    """Page-aligned memory private to this process: a forked child gets a copy, not the same pages."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def take(size: int) -> NDArray[np.uint8]:
    """At least ``size`` bytes, uninitialised, as uint8 (byte,).

    The memory returns to the pool once this array and all its views are gone.
    """
    rounded = max(GRAIN, -(-size // GRAIN) * GRAIN)
    try:
        memory = _free[rounded].pop()
    except (KeyError, IndexError):
        memory = private_memory(rounded)
    array = np.frombuffer(memory, dtype=np.uint8)
    weakref.finalize(array, _give, memory, rounded).atexit = False
    return array


def _give(memory: mmap.mmap, size: int) -> None:
    """Return memory to the pool. May run anywhere, even inside `take`, so it takes no lock: deques are atomic."""
    if free_bytes() + size <= MOST_FREE:
        _free.setdefault(size, deque()).append(memory)


def free_bytes() -> int:
    """Free memory in the pool, in bytes."""
    return sum(size * len(memories) for size, memories in list(_free.items()))


def clear() -> None:
    """Release all free memory."""
    _free.clear()
