"""Layers whose tensors are not stored: each condition is reduced against the original while the network computes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.measures.device import reduce_maps
from actstore.measures.kernel import SCRATCH_BYTES, Reduction
from actstore.measures.names import STATISTICS
from actstore.store.layout import ArrayLayout


class Originals:
    """A layer's maps of the original for a few samples, and statistics of every condition against them.

    Parameters
    ----------
    layout
        of the layer's array; its dtype rounds as if the tensors were stored.
    samples
        largest number of samples at a time.
    maps
        memory for the original's maps, (sample, channel, \\*space) on the network's device, as `memory` makes it. Sets
        of buffers share it, since a forward pass of one ends before the next begins.
    pool
        threads that reduce on the CPU.
    """

    def __init__(self, layout: ArrayLayout, samples: int, maps: Tensor, pool: ThreadPoolExecutor | None = None) -> None:
        conditions, channels = layout.sample_shape[:2]
        self._maps, self._pool = maps, pool
        #: float64 (sample, statistic, condition, channel), NaN where nothing was inferred.
        self.found = torch.full(
            (samples, len(STATISTICS), conditions, channels), math.nan, dtype=torch.float64, device=maps.device
        )

    @staticmethod
    def memory(layout: ArrayLayout, samples: int, device: torch.device) -> Tensor:
        _, channels, *space = layout.sample_shape
        return torch.empty((samples, channels, *space), dtype=getattr(torch, layout.dtype), device=device)

    def place(self) -> None:
        """Begin with other samples."""
        self.found.fill_(math.nan)

    def reduce(self, condition: int, first: int, maps: Tensor) -> None:
        """Reduce ``maps`` (sample, channel, \\*space) of consecutive samples from ``first`` on, the original first."""
        samples = slice(first, first + len(maps))
        if condition == 0:
            self._maps[samples].copy_(maps)
        original = self._maps[samples]
        other = None if condition == 0 else maps.to(original.dtype)
        if self.found.device.type != "cpu":
            # A layer without space has one pixel.
            pixels = (*original.shape[:2], -1)
            found = reduce_maps(original.reshape(pixels), None if other is None else other.reshape(pixels))
            self._put(samples, condition, found)
            return
        self._reduce(original.numpy(), None if other is None else other.contiguous().numpy(), samples, condition)

    def _put(self, samples: slice, condition: int, found: Mapping[str, Tensor]) -> None:
        for number, name in enumerate(STATISTICS):
            if name in found:
                self.found[samples, number, condition] = found[name]

    def _reduce(
        self, original: NDArray[np.floating], other: NDArray[np.floating] | None, samples: slice, condition: int
    ) -> None:
        count, channels, *space = original.shape
        maps = 1 if other is None else 2
        size = math.prod(space)
        step = max(1, min(channels, SCRATCH_BYTES // (maps * size * original.itemsize)))
        found = self.found.numpy()

        def part(at: tuple[int, int]) -> None:
            s, k = at
            scratch = np.empty((1, min(step, channels - k), maps, size), original.dtype)
            for i, values in enumerate((original, other)[:maps]):
                assert values is not None
                scratch[0, :, i] = values[s, k : k + step].reshape(-1, size)
            reduced = np.empty((len(STATISTICS), *scratch.shape[:3]))
            Reduction(scratch.reshape(*scratch.shape[:3], *space), STATISTICS)(reduced)
            found[samples.start + s, :, condition, k : k + step] = reduced[:, 0, :, -1]

        parts = [(s, k) for s in range(count) for k in range(0, channels, step)]
        if self._pool is None or len(parts) < 2:
            for at in parts:
                part(at)
        else:
            list(self._pool.map(part, parts))
