"""Samples that are patches of a volume: where the image lies in each, and which voxels each owns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import coordinate, image_extent
from actstore.analysis.grouping import VOLUME, any_by, grouped
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


def predicted(prediction: xr.DataArray, space: Sequence[Hashable], applicable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where ``prediction`` holds a map: bool (sample, condition), at least where ``applicable`` is.

    Predictions of patches that overlap are averaged over their volume, and are then known for all of its patches once a
    condition applies to one of them.
    """
    if not is_patched(prediction):
        return applicable
    code, _ = grouped(prediction, VOLUME)
    overlap = overlapping(along_axes(prediction, ORIGIN), [prediction.sizes[dim] for dim in space], code)
    return applicable | (overlap[:, None] & any_by(applicable, code)[code])


def overlapping(origin: Boxes, size: Sequence[int], code: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether two patches of a sample's volume share a voxel: bool (sample).

    ``code`` numbers the volume of each sample; patches of a volume form a grid of origins.
    """
    lengths = (1, 1, 1, *size)[-3:]
    found = np.zeros(len(origin), bool)
    for volume in np.unique(code):
        own = code == volume
        steps = [np.diff(np.unique(origin[own, axis])) for axis in range(3)]
        found[own] = any((step < length).any() for step, length in zip(steps, lengths, strict=True))
    return found
