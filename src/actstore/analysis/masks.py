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
    result = mask.astype(np.float64)
    for axis, (after, shift) in enumerate(zip(size, offset, strict=True)):
        before = mask.shape[axis]
        edges = np.arange(after + 1) * (before / after) + shift
        pixel = np.clip(np.floor(edges), 0, before - 1).astype(np.intp)
        within = np.expand_dims(edges - pixel, tuple(range(1, mask.ndim)))
        result = np.moveaxis(result, axis, 0)
        covered = np.cumsum(result, axis=0) - result
        integral = covered[pixel] + within * result[pixel]
        result = np.moveaxis(np.diff(integral, axis=0) * (after / before), 0, axis)
    return result


def around(mask: Mask, width: float, spacing: NDArray[np.floating]) -> Mask:
    """Pixels outside of ``mask`` whose centre is at most ``width`` from the nearest of its pixels' centres."""
    from scipy import ndimage

    rim = np.zeros_like(mask)
    if not mask.any():
        return rim
    box = tuple(
        slice(max(0, int(index.min() - width / step) - 1), int(index.max() + width / step) + 2)
        for index, step in zip(np.nonzero(mask), spacing, strict=True)
    )
    distance = ndimage.distance_transform_edt(~mask[box], sampling=tuple(spacing))
    rim[box] = (distance > 0) & (distance <= width)
    return rim
