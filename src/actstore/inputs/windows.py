"""How the inputs of a network cover a volume: the place of every patch, and the voxels that it owns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Windows:
    """The patches of one volume of ``shape``, in the order in which the network sees them.

    Their origins form a grid: every combination of the origins along each axis.
    """

    #: (z, y, x) of the volume in voxels.
    shape: tuple[int, int, int]
    #: (z, y, x) of a patch in voxels; z is 1 for a 2D network.
    size: tuple[int, int, int]
    #: int64 (patch, 3): first voxel of each patch in the volume, negative where the patch begins in padding.
    origins: NDArray[np.int64]
    #: float32 of ``size``: weight of each voxel where predictions of patches are averaged; ``None`` for equal weights.
    weights: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        along = [len(np.unique(self.origins[:, axis])) for axis in range(3)]
        if not len(self.origins) == len(np.unique(self.origins, axis=0)) == int(np.prod(along)):
            raise ValueError(f"{len(self.origins)} patches do not form a grid of {' × '.join(map(str, along))}")

    def __len__(self) -> int:
        return len(self.origins)

    @cached_property
    def owned(self) -> NDArray[np.int64]:
        """Start and stop of the box of voxels that each patch owns, int64 (patch, 2, 3).

        Every voxel that a patch covers is owned by the patch whose centre is nearest, of two by the first. The boxes
        share no voxel; a patch may own none.
        """
        boxes = np.empty((len(self), 2, 3), np.int64)
        for axis in range(3):
            starts, which = np.unique(self.origins[:, axis], return_inverse=True)
            # A voxel v is nearer to the later of two patches from (a + b + size) / 2 on, and the first half is ours.
            borders = (starts[:-1] + starts[1:] + self.size[axis] - 1) // 2 + 1
            begin = np.concatenate([starts[:1], np.maximum(borders, starts[1:])])
            end = np.concatenate([np.minimum(borders, starts[:-1] + self.size[axis]), starts[-1:] + self.size[axis]])
            inside = np.clip(np.stack([begin, end]), 0, self.shape[axis])
            boxes[:, :, axis] = inside[:, which.reshape(-1)].T
        boxes[:, 1] = np.maximum(boxes[:, 0], boxes[:, 1])
        return boxes

    @property
    def overlap(self) -> bool:
        """Whether a voxel lies in several patches, so that predictions of patches are averaged."""
        return any(bool((np.diff(np.unique(self.origins[:, axis])) < self.size[axis]).any()) for axis in range(3))

    def box(self, patch: int) -> tuple[slice, slice, slice]:
        """The voxels that a patch owns, in the volume."""
        return _slices(*self.owned[patch])

    def owned_in(self, patch: int) -> tuple[slice, slice, slice]:
        """The voxels that a patch owns, in the patch."""
        start, stop = self.owned[patch] - self.origins[patch]
        return _slices(start, stop)

    def visible(self, patch: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The part of the volume that a patch shows: its place in the volume, and in the patch."""
        origin, size = self.origins[patch], np.asarray(self.size)
        start = np.clip(origin, 0, self.shape)
        stop = np.maximum(start, np.minimum(origin + size, self.shape))
        return _slices(start, stop), _slices(start - origin, stop - origin)

    def cut(self, volume: NDArray[Scalar], patch: int) -> NDArray[Scalar]:
        """A patch of a volume (…, z, y, x): (…, \\*size), a new array with 0 outside of the volume."""
        there, here = self.visible(patch)
        result = np.zeros((*volume.shape[:-3], *self.size), volume.dtype)
        inside: Any = (..., *here)
        shown: Any = (..., *there)
        result[inside] = volume[shown]
        return result


def _slices(start: NDArray[Any], stop: NDArray[Any]) -> tuple[slice, slice, slice]:
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def centred(shape: Sequence[int], size: Sequence[int]) -> Windows:
    """One patch of ``size`` at the centre of every slice (y, x), or of the whole volume (z, y, x).

    An axis of n voxels gets ``(size - n) // 2`` of padding before it, or loses ``(n - size) // 2``.
    """
    depth, height, width = shape
    target = (1, *size) if len(size) == 2 else tuple(size)
    along = [
        -((wanted - n) // 2) if n <= wanted else (n - wanted) // 2 for n, wanted in zip(shape, target, strict=True)
    ]
    if len(size) == 2:
        origins = np.array([(z, *along[1:]) for z in range(depth)], np.int64)
    else:
        origins = np.array([along], np.int64)
    return Windows((depth, height, width), (target[0], target[1], target[2]), origins)
