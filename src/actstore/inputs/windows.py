"""How patches of one size cover a volume: where they lie, what each owns, and how predictions are stitched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Windows:
    """The patches of one volume, in the order in which the network's own predictor visits them."""

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
        object.__setattr__(self, "origins", origins)
        if self.weights is not None and self.weights.shape != self.size:
            raise ValueError(f"weights have shape {self.weights.shape}, patches {self.size}")

    def __len__(self) -> int:
        return len(self.origins)

    def owned(self, shape: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The box of voxels that each patch owns: those whose nearest centre of a patch is its own, ties to the lower.

        The boxes lie inside their patches, and every voxel of a volume of ``shape`` (z, y, x) lies in one of them. A
        patch that lies where an earlier one does owns an empty box.

        Returns
        -------
        start, stop
            int64 (patch, 3), in voxels of the volume.

        Raises
        ------
        ValueError
            if the patches are no grid, or leave voxels uncovered.
        """
        start, stop = np.empty_like(self.origins), np.empty_like(self.origins)
        grid = 1
        for axis in range(3):
            places, index = np.unique(self.origins[:, axis], return_inverse=True)
            bounds = _bounds(places, self.size[axis], int(shape[axis]))
            start[:, axis], stop[:, axis] = bounds[:-1][index], bounds[1:][index]
            grid *= len(places)
        _, first = np.unique(self.origins, axis=0, return_index=True)
        if len(first) != grid:
            raise ValueError(f"{len(first)} patches are no grid: one of {grid} is needed")
        repeated = np.ones(len(self), bool)
        repeated[first] = False
        stop[repeated] = start[repeated]
        return start, stop

    def inside(self, patch: int, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The part of a patch that lies in a volume of ``shape`` (z, y, x).

        Returns
        -------
        the part's slices (z, y, x) in the volume, and in the patch.
        """
        ends = zip(self.origins[patch].tolist(), self.size, shape, strict=True)
        box = [(max(o, 0), min(o + s, n), o) for o, s, n in ends]
        return tuple(slice(a, b) for a, b, _ in box), tuple(slice(a - o, b - o) for a, b, o in box)

    def cut(self, volume: NDArray[Scalar], patch: int) -> NDArray[Scalar]:
        """One patch of ``volume`` (…, z, y, x): a new array (…, *size), 0 in the padding."""
        of_volume, of_patch = self.inside(patch, volume.shape[-3:])
        cut = np.zeros((*volume.shape[:-3], *self.size), volume.dtype)
        leading = (slice(None),) * (volume.ndim - 3)
        cut[leading + of_patch] = volume[leading + of_volume]
        return cut


class Stitched:
    """Sum of weighted logits of patches in float32, as predictors compute it: patches in order, then one division."""

    def __init__(self, windows: Windows, shape: Sequence[int], channels: int) -> None:
        self._windows, self._shape = windows, tuple(shape)
        self._sum = np.zeros((channels, *shape), np.float32)
        self._weight = np.zeros(self._shape, np.float32)

    def add(self, patch: int, logits: NDArray[np.float32]) -> None:
        """Add the ``logits`` (channel, z, y, x) of one patch. The sum's last bits depend on the order of calls."""
        of_volume, of_patch = self._windows.inside(patch, self._shape)
        weights = self._windows.weights
        weight = np.ones(self._windows.size, np.float32) if weights is None else weights
        self._sum[(slice(None), *of_volume)] += logits[(slice(None), *of_patch)] * weight[of_patch]
        self._weight[of_volume] += weight[of_patch]

    @property
    def logits(self) -> NDArray[np.float32]:
        """(channel, z, y, x), float32; NaN in voxels of which no patch was added."""
        with np.errstate(invalid="ignore"):
            return self._sum / self._weight


def _bounds(places: NDArray[np.int64], size: int, length: int) -> NDArray[np.int64]:
    """Where ownership changes along one axis: (place + 1), from 0 to ``length``."""
    # A voxel halfway between two centres belongs to the lower patch.
    between = (places[:-1] + places[1:] + size - 1) // 2 + 1
    bounds = np.concatenate([[0], between, [length]])
    if places[0] > 0 or places[-1] + size < length or (np.diff(places) > size).any():
        raise ValueError(f"patches of {size} at {places.tolist()} leave voxels of {length} uncovered")
    # Where a patch lies in the padding alone, it owns nothing.
    clipped: NDArray[np.int64] = np.clip(bounds, 0, length).astype(np.int64)
    return clipped


def product(size: Sequence[int], starts: Sequence[Sequence[int]], weights: NDArray[np.float32] | None) -> Windows:
    """Patches at every combination of ``starts`` (one list an axis, z, y, x), the last axis fastest."""
    z, y, x = size
    return Windows((z, y, x), np.array(list(itertools.product(*starts)), np.int64).reshape(-1, 3), weights)
