"""Masks of the network's input at the resolution of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def averaged(mask: Mask, size: Sequence[int], offset: Iterable[float]) -> NDArray[np.float64]:
    """A mask over the input's pixels as the share of each layer pixel that it covers: float64 of shape ``size``.

    Pixel i of the layer covers the input from i·stride + offset to (i + 1)·stride + offset along each axis, where
    stride is the ratio of the sizes; beyond the edge, the edge's pixels go on.
    """
    return _covered(mask, [(n, m / n, shift) for m, n, shift in zip(mask.shape, size, offset, strict=True)])


def averaged_within(
    masks: Sequence[Mask], box: Sequence[slice], size: Sequence[int], offset: Iterable[float]
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """:func:`averaged` of each of ``masks``, which are empty outside of ``box``: the part of the layer, and its values.

    Outside of the returned part, (mask, \\*part), all are 0.
    """
    part, seen, grid = [], [], []
    for before, after, shift, where in zip(masks[0].shape, size, offset, box, strict=True):
        stride = before / after
        # A pixel at the edge goes on beyond it.
        low = where.start if where.start > 0 else -np.inf
        high = where.stop if where.stop < before else np.inf
        first = int(np.clip(np.floor((low - shift) / stride), 0, after - 1))
        stop = int(np.clip(np.ceil((high - shift) / stride), first + 1, after))
        start = min(max(int(np.floor(first * stride + shift)), 0), before - 1)
        end = max(min(int(np.ceil(stop * stride + shift)), before), start + 1)
        part.append(slice(first, stop))
        seen.append(slice(start, end))
        grid.append((stop - first, stride, first * stride + shift - start))
    return tuple(part), np.stack([_covered(mask[tuple(seen)], grid) for mask in masks])


def _covered(mask: Mask, grid: Sequence[tuple[int, float, float]]) -> NDArray[np.float64]:
    """Averages over cells along each axis: (how many, their width, where the first begins) in pixels of the mask."""
    result = mask.astype(np.float64)
    for axis, (count, stride, start) in enumerate(grid):
        edges = np.arange(count + 1) * stride + start
        pixel = np.clip(np.floor(edges), 0, mask.shape[axis] - 1).astype(np.intp)
        within = np.expand_dims(edges - pixel, tuple(range(1, mask.ndim)))
        result = np.moveaxis(result, axis, 0)
        integral = (np.cumsum(result, axis=0) - result)[pixel] + within * result[pixel]
        result = np.moveaxis(np.diff(integral, axis=0) / stride, 0, axis)
    return result


def near(mask: Mask, width: float, spacing: NDArray[np.floating]) -> tuple[slice, ...]:
    """The box of all pixels within ``width`` of a ``mask`` that is not empty."""
    axes = range(mask.ndim)
    along = [np.flatnonzero(mask.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    reach = [int(np.ceil(width / step)) for step in spacing]
    return tuple(slice(max(0, int(a[0]) - r), int(a[-1]) + r + 1) for a, r in zip(along, reach, strict=True))


def around(mask: Mask, width: float, spacing: NDArray[np.floating]) -> Mask:
    """Pixels outside of ``mask`` whose centre is at most ``width`` from the nearest of its pixels' centres."""
    from scipy import ndimage

    rim = np.zeros_like(mask)
    if mask.any():
        box = near(mask, width, spacing)
        distance = ndimage.distance_transform_edt(~mask[box], sampling=tuple(spacing))
        rim[box] = (distance > 0) & (distance <= width)
    return rim
