"""Samples that are patches of a volume: where the image lies in each, and which voxels each owns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import coordinate, image_extent
from actstore.geometry import image_window

#: Number of a sample's patch among those of its slice, or of its volume for a 3D network. A coordinate along sample
#: where a slice or volume has several patches; then so are those of :func:`along_axes`.
PATCH = "patch"
ORIGIN, START, STOP = "origin", "owned_start", "owned_stop"
_SIZES = ("depth", "height", "width")

Boxes = NDArray[np.int64]


def is_patched(array: xr.DataArray | xr.Dataset) -> bool:
    """Whether a slice or volume may have several samples, its patches."""
    return PATCH in array.coords and array.coords[PATCH].dims == ("sample",)


def along_axes(array: xr.DataArray | xr.Dataset, name: str) -> Boxes:
    """Of each sample a position in its volume along z, y and x, in voxels: int64 (sample, axis).

    ``name`` is "origin", the patch's first voxel, negative where it begins in padding, or "owned_start" or
    "owned_stop", the ends of the box of voxels that it owns.

    Raises
    ------
    AnalysisError
        if one of the coordinates ``{name}_z``, ``{name}_y`` and ``{name}_x`` along sample is missing.
    """
    mend = "take the array from a store that records patches (schema 4), with its coordinates"
    columns = [coordinate(array, f"{name}_{axis}", "sample", mend).values for axis in "zyx"]
    return np.stack(columns, axis=-1).astype(np.int64)


def volume_sizes(array: xr.DataArray | xr.Dataset) -> Boxes:
    """Voxels of each sample's volume along z, y and x: int64 (sample, axis), of depth, height and width.

    Raises
    ------
    AnalysisError
        if one of these coordinates along sample is missing.
    """
    return np.stack([coordinate(array, name, "sample").values for name in _SIZES], axis=-1).astype(np.int64)


def image_boxes(array: xr.DataArray, space: Sequence[Hashable]) -> Boxes:
    """Start and stop of the image in each sample of ``array``: int64 (sample, axis, end); the rest is padding.

    An image that is no patch lies in the middle.
    """
    size = [array.sizes[dim] for dim in space]
    if not is_patched(array):
        windows = [image_window(extent, size) for extent in image_extent(array, space).tolist()]
        found = [[(along.start, along.stop) for along in window] for window in windows]
        return np.array(found, np.int64).reshape(-1, len(size), 2)
    origin = along_axes(array, ORIGIN)[:, -len(size) :]
    ends = np.stack([-origin, volume_sizes(array)[:, -len(size) :] - origin], axis=-1)
    return np.clip(ends, 0, np.asarray(size)[:, None])


def owned_boxes(array: xr.DataArray, space: Sequence[Hashable]) -> Boxes:
    """As :func:`image_boxes`, of the part of the image that each sample owns: no two samples own one voxel."""
    if not is_patched(array):
        return image_boxes(array, space)
    origin = along_axes(array, ORIGIN)
    ends = np.stack([along_axes(array, name) - origin for name in (START, STOP)], axis=-1)
    return ends[:, -len(space) :]


def whole_prediction(prediction: xr.DataArray, applicable: xr.DataArray) -> xr.DataArray:
    """``prediction`` of one volume's samples, complete under every condition that applies to any of them; lazy.

    Where a condition was not inferred for a sample, its input is the original's, and so is its prediction. Predictions
    of patches that overlap were averaged over the volume, and are complete.

    Parameters
    ----------
    prediction
        (sample, condition, [z,] y, x) class numbers, the original first along condition.
    applicable
        bool (sample, condition).
    """
    space = [dim for dim in prediction.dims if dim not in ("sample", "condition")]
    if is_patched(prediction) and overlap(along_axes(prediction, ORIGIN), [prediction.sizes[dim] for dim in space]):
        return prediction
    plain = applicable.reset_coords(drop=True).drop_vars("condition", errors="ignore")
    lacking = ~plain & plain.any("sample")
    return prediction.where(~lacking, prediction.isel(condition=0, drop=True)).transpose(*prediction.dims)


def overlap(origin: Boxes, size: Sequence[int]) -> bool:
    """Whether two patches of ``size`` ([z,] y, x) of one volume share a voxel; their origins form a grid."""
    lengths = (1, 1, 1, *size)[-3:]
    return any(bool((np.diff(np.unique(origin[:, axis])) < length).any()) for axis, length in enumerate(lengths))
