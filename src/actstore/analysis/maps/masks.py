"""Masks of the network's input at the resolution of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actstore.geometry import Grid

Mask = NDArray[np.bool_]


def averaged(mask: Mask, size: Sequence[int], grid: Grid) -> NDArray[np.float64]:
    """A mask over the input's pixels as the share of each layer pixel that it covers: float64 of shape ``size``.

    Beyond the edge of the input, the edge's pixels go on.
    """
    return _covered(mask, list(zip(size, grid.step, grid.low, strict=True)))


def seen(mask: Mask, box: Sequence[slice], size: Sequence[int], grid: Grid) -> float:
    """The share of a ``mask``, empty outside of ``box``, that lies in any pixel of a layer of ``size``.

    NaN for an empty mask.
    """
    inside = mask[tuple(box)].astype(np.float64)
    whole = inside.sum()
    for axis, (where, count, step, low) in enumerate(zip(box, size, grid.step, grid.low, strict=True)):
        edges = np.clip(np.arange(where.start, where.start + mask[tuple(box)].shape[axis] + 1), low, low + count * step)
        inside = np.moveaxis(np.moveaxis(inside, axis, -1) * np.diff(edges), -1, axis)
    return float(inside.sum() / whole) if whole else np.nan


def averaged_within(
    masks: Sequence[Mask], box: Sequence[slice], size: Sequence[int], grid: Grid
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """:func:`averaged` of each of ``masks``, which are empty outside of ``box``: the part of the layer, and its values.

    Outside of the returned part, (mask, \\*part), all are 0.
    """
    part, above, cells = [], [], []
    for before, after, step, begin, where in zip(masks[0].shape, size, grid.step, grid.low, box, strict=True):
        # A pixel at the edge goes on beyond it.
        low = where.start if where.start > 0 else -np.inf
        high = where.stop if where.stop < before else np.inf
        first = int(np.clip(np.floor((low - begin) / step), 0, after - 1))
        stop = int(np.clip(np.ceil((high - begin) / step), first + 1, after))
        start = min(max(int(np.floor(first * step + begin)), 0), before - 1)
        end = max(min(int(np.ceil(stop * step + begin)), before), start + 1)
        part.append(slice(first, stop))
        above.append(slice(start, end))
        cells.append((stop - first, step, first * step + begin - start))
    return tuple(part), np.stack([_covered(mask[tuple(above)], cells) for mask in masks])


def _covered(mask: Mask, cells: Sequence[tuple[int, float, float]]) -> NDArray[np.float64]:
    """Averages over cells along each axis: (how many, their width, where the first begins) in pixels of the mask."""
    result = mask.astype(np.float64)
    for axis, (count, step, start) in enumerate(cells):
        edges = np.arange(count + 1) * step + start
        pixel = np.clip(np.floor(edges), 0, mask.shape[axis] - 1).astype(np.intp)
        within = np.expand_dims(edges - pixel, tuple(range(1, mask.ndim)))
        result = np.moveaxis(result, axis, 0)
        integral = (np.cumsum(result, axis=0) - result)[pixel] + within * result[pixel]
        result = np.moveaxis(np.diff(integral, axis=0) / step, 0, axis)
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
