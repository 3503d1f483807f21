"""Points read part by part, the next part while the last one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Bytes of a part, about: two are in memory at once.
PART_BYTES = 32 * 2**20


def parts_of(points: xr.DataArray) -> Iterator[tuple[slice, Floats]]:
    """Ranges along sample and their values, float64, in the order of ``points`` (sample, …); parts follow dask chunks.

    The next part is read in a thread while the caller works on this one.
    """
    ranges = _ranges(points)

    def read(where: slice) -> Floats:
        return np.asarray(points.isel(sample=where).values, dtype=np.float64)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(read, ranges[0]) if ranges else None
        for i, where in enumerate(ranges):
            assert coming is not None
            values = coming.result()
            coming = ahead.submit(read, ranges[i + 1]) if i + 1 < len(ranges) else None
            yield where, values


def finite(values: Floats) -> Floats:
    """The rows of ``values`` (sample, feature) without NaN and infinity; ``values`` itself where all are."""
    # A sum over any of these is none itself.
    if np.isfinite(values.sum()):
        return values
    found: Floats = values[np.isfinite(values).all(axis=1)]
    return found


def _ranges(points: xr.DataArray) -> list[slice]:
    samples = points.sizes["sample"]
    row = max(8 * int(np.prod([n for dim, n in points.sizes.items() if dim != "sample"])), 1)
    most = max(PART_BYTES // row, 1)
    if points.chunks is None:
        return [slice(at, min(at + most, samples)) for at in range(0, samples, most)]
    ranges: list[slice] = []
    start = stop = 0
    for n in points.chunksizes["sample"]:
        if stop > start and stop + n - start > most:
            ranges.append(slice(start, stop))
            start = stop
        stop += n
    return [*ranges, slice(start, stop)] if stop > start else ranges
