"""How patches of one size cover a volume: where they lie, what each owns, and how predictions are stitched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Windows:
    """The patches of one volume, in the order in which the network's own predictor visits them.

    Their origins form a grid: every combination of the origins along each axis.
    """

    #: (z, y, x) of the volume in voxels.
    shape: tuple[int, int, int]
    #: (z, y, x) of a patch in voxels; z is 1 for a 2D network.
    size: tuple[int, int, int]
    #: First voxel of each patch, int64 (patch, 3), (z, y, x); negative where the patch begins in the padding.
    origins: NDArray[np.int64]
    #: Weight of each of a patch's voxels in the stitched prediction, float32 (z, y, x) as `size`; ``None`` if equal.
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        origins = np.asarray(self.origins, np.int64)
        if origins.ndim != 2 or origins.shape[1:] != (3,) or not len(origins):
            raise ValueError(f"origins have shape {origins.shape}: (patch, 3) is needed, with one patch or more")
        places = len(np.unique(origins, axis=0))
        grid = int(np.prod([len(np.unique(origins[:, axis])) for axis in range(3)]))
        if places != grid:
            raise ValueError(f"{places} patches are no grid: one of {grid} is needed")
        if self.weights is not None and self.weights.shape != self.size:
            raise ValueError(f"weights have shape {self.weights.shape}, patches {self.size}")
        object.__setattr__(self, "origins", origins)

    def __len__(self) -> int:
        return len(self.origins)

    @cached_property
    def owned(self) -> NDArray[np.int64]:
        """Start and stop of the box of voxels that each patch owns, int64 (patch, 2, 3), in voxels of the volume.

        Those whose nearest centre of a patch is its own, ties to the lower. The boxes lie inside their patches, and
        every voxel that a patch shows lies in one of them. A patch that lies where an earlier one does owns none.
        """
        boxes = np.empty((len(self), 2, 3), np.int64)
        for axis in range(3):
            places, index = np.unique(self.origins[:, axis], return_inverse=True)
            ends = places + self.size[axis]
            # A voxel halfway between two centres belongs to the lower patch.
            between = (places[:-1] + ends[1:] - 1) // 2 + 1
            start = np.concatenate([places[:1], np.maximum(between, places[1:])])
            stop = np.concatenate([np.minimum(between, ends[:-1]), ends[-1:]])
            inside = np.clip(np.stack([start, stop]), 0, self.shape[axis])
            boxes[:, :, axis] = inside[:, index.reshape(-1)].T
        _, first = np.unique(self.origins, axis=0, return_index=True)
        repeated = np.ones(len(self), bool)
        repeated[first] = False
        boxes[repeated, 1] = boxes[repeated, 0]
        return boxes

    @cached_property
    def total(self) -> NDArray[np.float32]:
        """Sum of the patches' weights in each voxel of the volume, (z, y, x) float32."""
        total = np.zeros(self.shape, np.float32)
        for patch in range(len(self)):
            of_volume, of_patch = self.visible(patch)
            total[of_volume] += 1 if self.weights is None else self.weights[of_patch]
        return total

    @property
    def overlap(self) -> bool:
        """Whether a voxel lies in several patches, so that predictions of patches are averaged."""
        steps = [np.diff(np.unique(self.origins[:, axis])) for axis in range(3)]
        close = any((step < n).any() for step, n in zip(steps, self.size, strict=True))
        return bool(close or len(np.unique(self.origins, axis=0)) < len(self))

    def box(self, patch: int) -> Box:
        """The voxels that a patch owns, in the volume."""
        return _slices(*self.owned[patch])

    def owned_in(self, patch: int) -> Box:
        """The voxels that a patch owns, in the patch."""
        start, stop = self.owned[patch] - self.origins[patch]
        return _slices(start, stop)

    def visible(self, patch: int) -> tuple[Box, Box]:
        """The part of the volume that a patch shows: its slices (z, y, x) in the volume, and in the patch."""
        origin = self.origins[patch]
        start = np.clip(origin, 0, self.shape)
        stop = np.clip(origin + np.asarray(self.size), start, self.shape)
        return _slices(start, stop), _slices(start - origin, stop - origin)

    def cut(self, volume: NDArray[Scalar], patch: int) -> NDArray[Scalar]:
        """One patch of ``volume`` (…, z, y, x): a new array (…, \\*size), 0 in the padding."""
        of_volume, of_patch = self.visible(patch)
        cut = np.zeros((*volume.shape[:-3], *self.size), volume.dtype)
        leading = (slice(None),) * (volume.ndim - 3)
        cut[leading + of_patch] = volume[leading + of_volume]
        return cut


class Stitched:
    """Sum of weighted logits of patches in float32, as predictors compute it: patches in order, then one division.

    Raises
    ------
    ValueError
        if the patches leave voxels of the volume uncovered.
    """

    def __init__(self, windows: Windows, channels: int) -> None:
        if uncovered := int((windows.total == 0).sum()):
            raise ValueError(f"patches of {windows.size} leave {uncovered} voxels of {windows.shape} uncovered")
        self._windows = windows
        self._sum = np.zeros((channels, *windows.shape), np.float32)

    def add(self, patch: int, logits: NDArray[np.float32]) -> None:
        """Add the ``logits`` (channel, z, y, x) of one patch. The sum's last bits depend on the order of calls."""
        of_volume, of_patch = self._windows.visible(patch)
        inside = logits[(slice(None), *of_patch)]
        weights = self._windows.weights
        self._sum[(slice(None), *of_volume)] += inside if weights is None else inside * weights[of_patch]

    @property
    def logits(self) -> NDArray[np.float32]:
        """(channel, z, y, x), float32, once all patches were added."""
        return self._sum / self._windows.total


def product(
    shape: Sequence[int], size: Sequence[int], starts: Sequence[Sequence[int]], weights: NDArray[np.float32] | None
) -> Windows:
    """Patches at every combination of ``starts`` (one list an axis, z, y, x), the last axis fastest."""
    origins = np.array(list(itertools.product(*starts)), np.int64).reshape(-1, 3)
    return Windows(_three(shape), _three(size), origins, weights)


def centred(shape: Sequence[int], size: Sequence[int]) -> Windows:
    """One patch of ``size`` at the centre of every slice (y, x), or of the whole volume (z, y, x).

    An axis of n voxels gets ``(size - n) // 2`` of padding before it, or loses ``(n - size) // 2``.
    """
    flat = 3 - len(size)
    full = (*shape[:flat], *size)
    starts = [[(n - m) // 2 if n > m else -((m - n) // 2)] for n, m in zip(shape, full, strict=True)]
    starts[:flat] = [list(range(n)) for n in shape[:flat]]
    return product(shape, (*[1] * flat, *size), starts, None)


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = values
    return int(z), int(y), int(x)


def _slices(start: NDArray[Any], stop: NDArray[Any]) -> Box:
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x
