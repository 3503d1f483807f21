"""How much of a map of explanations lies on each class of the label, against the share of the image that it takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, require_dims
from actstore.analysis.members import Regions, mask_of, members_of
from actstore.analysis.patches import owned_boxes
from actstore.conditions import BACKGROUND

Floats = NDArray[np.floating]


def landmarks(
    maps: xr.DataArray, label: xr.DataArray, *, class_names: Sequence[str], regions: Regions | None = None
) -> xr.Dataset:
    """The share of a map's energy, the sum of its squares, on each class, and that over the share of the area; lazy.

    1 is what a map gives that pays no heed to the class. Only pixels count that a sample owns and that the map covers.

    Parameters
    ----------
    maps
        (sample, …, [z,] y, x), as a group ``explain/NAME`` holds them. NaN where a map does not reach.
    label
        (sample, [z,] y, x) class index; with the coordinates of patches along sample, where a sample is a patch.
    class_names
        what the indices of ``label`` mean, background first.
    regions
        names and class indices of what counts as a landmark, as ``store.members`` lists them; by default every class.
        The background always does.

    Returns
    -------
    xarray.Dataset
        ``energy`` and ``area`` in [0, 1], and ``concentration``, the one over the other, all float64 (sample, …,
        landmark). NaN where the class is not in the label, and where the map is 0 or NaN.

    Raises
    ------
    AnalysisError
        if dimensions do not fit.

    Examples
    --------
    >>> maps = store.group("explain/slope")["map"].isel(condition=0)
    >>> list(analysis.landmarks(maps, store.label, class_names=store.class_names))
    ['energy', 'area', 'concentration']
    """
    require_dims(label, ["sample"])
    space = [d for d in label.dims if d != "sample"]
    require_dims(maps, ["sample", *space])
    if maps.sizes["sample"] != label.sizes["sample"]:
        raise AnalysisError(
            f"label has {label.sizes['sample']} samples, {maps.name or 'maps'} {maps.sizes['sample']}: select the same "
            "samples of both"
        )
    members = {BACKGROUND: (0,), **members_of(class_names, regions)}
    leading = [d for d in maps.dims if d not in space]
    energy, area = apply_lazily(
        _shares,
        (maps.drop_vars(maps.coords), space),
        (label.drop_vars(label.coords), space),
        (xr.DataArray(owned_boxes(label, space), dims=("sample", "axis", "end")), ["axis", "end"]),
        output_dims=[["landmark"], ["landmark"]],
        dtypes=[np.float64, np.float64],
        output_sizes={"landmark": len(members)},
        members=tuple(members.values()),
    )
    labels = {str(n): c for n, c in maps.coords.items() if {*c.dims} <= {*leading}}
    found = xr.Dataset({"energy": energy, "area": area, "concentration": energy / area.where(area > 0)})
    return found.assign_coords(labels).assign_coords(landmark=list(members)).transpose(*leading, "landmark")


def _shares(
    maps: Floats, label: NDArray[np.integer], owned: NDArray[np.int64], members: Sequence[Sequence[int]]
) -> tuple[Floats, Floats]:
    """Shares of energy and area (sample, …, landmark) of maps (sample, …, \\*space)."""
    dims = owned.shape[-2]
    own = np.broadcast_to(owned.reshape(-1, dims, 2), (maps.shape[0], dims, 2))
    labels = np.broadcast_to(label.reshape(-1, *label.shape[-dims:]), (maps.shape[0], *label.shape[-dims:]))
    energy = np.full((*maps.shape[:-dims], len(members)), np.nan)
    area = energy.copy()
    for sample in range(len(maps)):
        box = tuple(slice(start, stop) for start, stop in own[sample])
        on = np.stack([mask_of(labels[sample][box], indices) for indices in members]).reshape(len(members), -1)
        values = maps[sample][(..., *box)]
        flat = values.reshape(*values.shape[:-dims], -1).astype(np.float64)
        there = np.isfinite(flat)
        squares = np.where(there, flat, 0) ** 2
        total, covered = squares.sum(-1, keepdims=True), there.sum(-1, keepdims=True)
        pixels = there.astype(np.float64) @ on.T
        present = pixels > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            area[sample] = np.where(present, pixels / covered, np.nan)
            energy[sample] = np.where(present & (total > 0), squares @ on.T / total, np.nan)
    return energy, area
