"""Samples grouped by patient, volume or any other coordinate: counts, sums and means of each group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, require_dims
from actstore.analysis.evidence import patients_of
from actstore.measures.compiled import as_written

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

#: The coordinates that slices of one volume share.
VOLUME = ("patient", "frame")
#: Those that say which part of a volume a sample is.
PARTS = ("slice", "patch", "origin_", "owned_")


def grouped(array: xr.DataArray | xr.Dataset, by: str | Sequence[str]) -> tuple[Numbers, dict[str, Any]]:
    """The number of each sample's group, in order of appearance, and the coordinates of the groups.

    Those are the coordinates along sample that are constant within every group, and ``samples``. What says which part
    of a volume a sample is, as ``slice`` and ``patch`` do, is one only where ``by`` names it, even if every group is a
    single slice. A spacing is always kept, as NaN for the groups in
    which it differs, so that the others keep their volumes.

    Raises
    ------
    AnalysisError
        if ``by`` names nothing, or no coordinate along sample.
    """
    require_dims(array, ["sample"])
    names = [by] if isinstance(by, str) else list(by)
    along = {str(name): coord.values for name, coord in array.coords.items() if coord.dims == ("sample",)}
    if not names:
        raise AnalysisError("by = []: name coordinates along sample, for example 'patient' and 'frame'")
    for name in names:
        if name not in along:
            raise AnalysisError(f"by = {name!r} is no coordinate along sample: use one of {', '.join(along)}")
    keys = list(zip(*(along[name].tolist() for name in names), strict=True))
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    code = np.array([number[key] for key in keys], dtype=np.intp)
    first = np.unique(code, return_index=True)[1]
    labels = {}
    for name, values in along.items():
        expected = values[first][code]
        missing = (values != values) & (expected != expected)
        same = missing | (values == expected)
        if name.startswith("spacing_"):
            labels[name] = np.where(any_by(~same, code), np.nan, values[first])
        elif same.all() and (not name.startswith(PARTS) or name in names):
            labels[name] = values[first]
    return code, {**labels, "samples": np.bincount(code, minlength=len(first))}


def count_by(flags: Bools, group: NDArray[np.integer], groups: int | None = None) -> Counts:
    """How many ``flags`` (cell, …) are set in each group: int64 (group, …).

    ``group`` (cell) numbers the groups from 0; a cell of group -1 counts nowhere. Compiled, because grouped counts of
    top channels are the inner loop of most tables: 0.3 ms for 2900 samples of 1344 channels and 150 patients, against
    40 ms by ``np.add.reduceat`` and 100 ms by xarray's ``groupby`` with flox 0.11 (single core).
    """
    number = int(group.max(initial=-1)) + 1 if groups is None else groups
    found = np.zeros((number, *flags.shape[1:]), dtype=np.int64)
    cells = int(np.prod(flags.shape[1:]))
    flat = np.ascontiguousarray(flags, dtype=bool).reshape(len(flags), cells).view(np.uint8)
    _add_flags(flat, group, found.reshape(number, cells))
    return found


def any_by(flags: Bools, group: NDArray[np.integer]) -> Bools:
    """Whether any of ``flags`` (cell, …) is set in each group: bool (group, …)."""
    found: Bools = count_by(flags, group) > 0
    return found


def sum_by(values: NDArray[Any], group: Numbers) -> NDArray[Any]:
    """Sums over the cells of each group: (cell, …) to (group, …), in the dtype of ``values``.

    Every number from 0 to the highest must occur in ``group``.
    """
    if not len(group):
        return np.zeros((0, *values.shape[1:]))
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    return np.add.reduceat(values[order], starts, axis=0, dtype=values.dtype)


def patient_means(values: NDArray[Any], patient: Numbers) -> Floats:
    """Means of ``values`` (…, sample) over the samples of each patient that are finite, NaN without: (…, patient)."""
    first = np.moveaxis(values.astype(np.float64), -1, 0)
    finite = np.isfinite(first)
    number = count_by(finite, patient)
    means = np.full(number.shape, np.nan)
    np.divide(sum_by(np.where(finite, first, 0.0), patient), number, out=means, where=number > 0)
    return np.moveaxis(means, 0, -1)


def sample_mean(values: xr.DataArray) -> xr.DataArray:
    """Mean over the samples that are not NaN, NaN without any; lazy."""
    number = values.notnull().sum("sample")
    return values.sum("sample") / number.where(number > 0)


def samples_and_patients(used: xr.DataArray, patient: Numbers | None = None) -> xr.Dataset:
    """On how many samples and patients a number rests: ``samples`` and ``patients``, int64; lazy where ``used`` is.

    ``used`` is bool (…, sample): which samples a number was made from; the result has its other dims. ``patient`` is
    the number of each sample's patient, as of :func:`actstore.analysis.evidence.patients_of`; without it, ``used`` has
    the coordinate ``patient``.

    Raises
    ------
    AnalysisError
        if the dimension sample or its coordinate ``patient`` is missing.
    """
    code = patients_of(used)[0] if patient is None else patient
    samples, patients = apply_lazily(
        _samples_and_patients, (used, ["sample"]), output_dims=[[], []], dtypes=[np.int64, np.int64], patient=code
    )
    return xr.Dataset({"samples": samples, "patients": patients})


def _samples_and_patients(used: Bools, patient: Numbers) -> tuple[Counts, Counts]:
    counts = count_by(np.moveaxis(used, -1, 0), patient)
    return counts.sum(axis=0), (counts > 0).sum(axis=0)


@as_written
def _add_flags(flags: NDArray[np.uint8], group: NDArray[np.integer], found: Counts) -> None:
    cells, columns = flags.shape
    for cell in range(cells):
        one = group[cell]
        if one >= 0:
            for column in range(columns):
                found[one, column] += flags[cell, column]
