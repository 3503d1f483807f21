"""Confusion counts with the classes of a region taken together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily
from actstore.analysis.members import Regions, members_of
from actstore.analysis.segmentation.counts import CLASSES, class_names


def merged(confusion: xr.DataArray, regions: Regions) -> xr.DataArray:
    """Confusion counts in which the classes of each region are one class; lazy.

    Parameters
    ----------
    confusion
        (…, true_class, predicted_class), pixel counts of exclusive classes, background first.
    regions
        names and indices of their classes, as ``store.regions`` lists them. No two may share a class, since a pixel
        counts once; overlapping ones are merged one at a time, or given to :func:`actstore.analysis.dice` and others.

    Returns
    -------
    xarray.DataArray
        (…, true_class, predicted_class) of the dtype of ``confusion``. A region stands where the first of its classes
        stood; classes of no region stay as they are.

    Raises
    ------
    AnalysisError
        if two regions share a class, or a region is empty, holds the background or no class.

    Examples
    --------
    >>> merged = analysis.merged(store.confusion, {"heart": (1, 2, 3)})
    >>> merged["true_class"].values.tolist()
    ['background', 'heart']
    """
    names = class_names(confusion)
    members = members_of(names, regions)
    for i, count in Counter(i for indices in members.values() for i in indices).items():
        if count > 1:
            shared = " and ".join(repr(name) for name, indices in members.items() if i in indices)
            raise AnalysisError(f"regions {shared} share the class {names[i]!r}: merge one at a time")
    region_of = {i: name for name, indices in members.items() for i in indices}
    new = list(dict.fromkeys(region_of.get(i, name) for i, name in enumerate(names)))
    where = np.array([new.index(region_of.get(i, name)) for i, name in enumerate(names)])
    bare = confusion.drop_vars(CLASSES)
    before = {dim: f"{dim}_before" for dim in CLASSES}
    found: xr.DataArray = apply_lazily(
        _merged,
        (bare.rename(before), list(before.values())),
        output_dims=[CLASSES],
        dtypes=[confusion.dtype],
        output_sizes=dict.fromkeys(CLASSES, len(new)),
        where=where,
    )
    return found.assign_coords(dict.fromkeys(CLASSES, new)).rename(confusion.name)


def merged_counts(counts: NDArray[np.int64], indices: tuple[int, ...]) -> tuple[NDArray[np.int64], list[int]]:
    """``counts`` (…, true, predicted) with ``indices`` as one class, and the class that each new one begins with."""
    kept = [i for i in range(counts.shape[-1]) if i not in indices or i == min(indices)]
    where = np.array([kept.index(min(indices) if i in indices else i) for i in range(counts.shape[-1])])
    return _merged(counts, where), kept


def _merged(counts: NDArray[np.int64], where: NDArray[np.intp]) -> NDArray[np.int64]:
    together = (np.arange(where.max() + 1)[:, None] == where).astype(counts.dtype)
    found: NDArray[np.int64] = together @ counts @ together.T
    return found
