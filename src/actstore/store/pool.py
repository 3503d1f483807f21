"""Reused memory for reads: the first write to fresh pages costs several times the second."""

from __future__ import annotations

import mmap
import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

#: Sizes are rounded up to a multiple of this, so that shards of one layer share buffers.
GRAIN = 2**20
#: Free memory kept at most, in bytes.
MOST_FREE = 512 * 2**20

_free: dict[int, deque[mmap.mmap]] = {}


def private_memory(size: int) -> mmap.mmap:
    """Page-aligned memory of this process alone: a forked child gets a copy, not the same pages."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def take(size: int) -> NDArray[np.uint8]:
    """At least ``size`` bytes, uninitialised, as uint8 (byte,).

    The memory is used again once this array and every view of it are gone; nobody has to give it back.
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
    """Runs wherever the last view dies, even inside `take`, so it holds no lock: deque operations are atomic."""
    if free_bytes() + size <= MOST_FREE:
        _free.setdefault(size, deque()).append(memory)


def free_bytes() -> int:
    """Free memory held for the next read, in bytes."""
    return sum(size * len(memories) for size, memories in list(_free.items()))


def clear() -> None:
    """Let go of all free memory."""
    _free.clear()
