"""The nearest samples of each sample in a space: exact, by brute force."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims, require_positive
from actstore.analysis.evidence import patients_of
from actstore.errors import needing

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

#: Candidates beyond those asked for, whose distances are computed again without the rounding of products.
_SPARE = 8
#: Bytes of differences at once.
_BYTES = 64 * 2**20


def neighbours(points: xr.DataArray, k: int = 5, *, same_patient: bool = False) -> xr.Dataset:
    """The ``k`` nearest samples of each sample, never of the same patient unless asked.

    Parameters
    ----------
    points
        (sample, feature), of :func:`actstore.analysis.embedding` or :func:`actstore.analysis.pixels`, with the
        coordinate ``patient`` along sample. All of it is read into memory.
    same_patient
        Whether neighbours may be of the same patient. Neighbouring slices of a volume look alike, and so hide what
        else does.

    Returns
    -------
    xarray.Dataset
        ``neighbour`` int64 (sample, rank), the neighbour's position along sample, -1 where there are fewer than k, and
        ``distance`` float64 (sample, rank), Euclidean, in the units of the points, NaN where there is none. Of equal
        distances the first sample comes first. A sample that is not finite has no neighbours and is none.

    Raises
    ------
    AnalysisError
        if a dimension or coordinate is missing, ``k`` is no positive integer, or all samples are of one patient.
    MissingError
        if scikit-learn is not installed.

    Examples
    --------
    >>> points = analysis.embedding(store, "L02")
    >>> nearest = analysis.neighbours(points, k=3)
    >>> list(nearest), nearest.sizes["rank"]
    (['neighbour', 'distance'], 3)
    """
    require_dims(points, ["sample", "feature"])
    require_positive("k", k)
    patient, names = patients_of(points)
    if not same_patient and len(names) < 2:
        raise AnalysisError(
            f"all samples are of {names[0] if len(names) else 'no patient'}: give samples of two patients, or "
            "same_patient=True"
        )
    values = np.asarray(points.transpose("sample", "feature").values, np.float64)
    usable = np.flatnonzero(np.isfinite(values).all(axis=1))
    group = np.arange(len(usable)) if same_patient else patient[usable]
    position, distance = _nearest(values[usable], group, k)
    neighbour = np.full((len(values), k), -1, np.int64)
    found = np.full((len(values), k), np.nan)
    neighbour[usable] = np.where(position >= 0, usable[position] if len(usable) else position, -1)
    found[usable] = distance
    along = {str(name): coord for name, coord in points.coords.items() if coord.dims == ("sample",)}
    dims = ("sample", "rank")
    return xr.Dataset(
        {"neighbour": (dims, neighbour), "distance": (dims, found)}, coords={**along, "rank": np.arange(1, k + 1)}
    )


def nearest_to(points: Floats, patient: NDArray[np.generic], sample: int, k: int) -> tuple[Numbers, Floats]:
    """The at most ``k`` nearest points of other patients to one point, as :func:`neighbours` finds them for all.

    Parameters
    ----------
    points
        float64 (sample, feature).
    patient
        of each sample: (sample).

    Returns
    -------
    positions, distances
        (rank), nearest first, of equal distances the first sample; empty where the point is not finite.
    """
    distance = np.sqrt(((points - points[sample]) ** 2).sum(axis=1))
    usable = np.flatnonzero(np.isfinite(distance) & (patient != patient[sample]))
    order = usable[np.argsort(distance[usable], kind="stable")][:k]
    return order, distance[order]


def _nearest(values: Floats, group: Numbers, k: int) -> tuple[Numbers, Floats]:
    """Positions and distances (point, k) of the nearest points of another group, -1 and NaN where there are fewer."""
    n = len(values)
    if n < 2:
        return np.full((n, k), -1), np.full((n, k), np.nan)
    with needing("the search for neighbours"):
        from sklearn.neighbors import NearestNeighbors
    # The search multiplies points: shifted to their mean, products lose the fewest digits.
    shifted = values - values.mean(axis=0)
    own = int(np.bincount(group).max())
    search = NearestNeighbors(algorithm="brute", n_neighbors=min(k + own + _SPARE, n)).fit(shifted)
    position, distance = np.full((n, k), -1), np.full((n, k), np.nan)
    candidates: Numbers = search.kneighbors(shifted, return_distance=False)
    rows = max(1, _BYTES // (8 * candidates.shape[1] * max(values.shape[1], 1)))
    for start in range(0, n, rows):
        near = candidates[start : start + rows]
        here = slice(start, start + len(near))
        exact = np.sqrt(((values[near] - values[here, None]) ** 2).sum(axis=2))
        exact[group[near] == group[here, None]] = np.inf
        order = np.lexsort((near, exact), axis=1)[:, :k]
        exact, near = np.take_along_axis(exact, order, 1), np.take_along_axis(near, order, 1)
        there = np.isfinite(exact)
        position[here, : order.shape[1]] = np.where(there, near, -1)
        distance[here, : order.shape[1]] = np.where(there, exact, np.nan)
    return position, distance
