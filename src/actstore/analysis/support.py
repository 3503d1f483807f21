"""On how many samples and patients each number of a result rests, lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import one_chunk
from actstore.analysis.evidence import corrected, families, note, patients_of
from actstore.analysis.sets import per_patient

#: Of every chunk alike: dask takes the width of the first one, and cuts the others.
_NOTE = np.dtype("U64")


def support(used: xr.DataArray, patient: NDArray[np.intp] | None = None) -> xr.Dataset:
    """``samples`` and ``patients``, int64 over the dims of ``used`` but sample, lazy where it is.

    ``used`` is bool (…, sample): which samples a number was made from. ``patient`` is the number of each sample's
    patient, as of :func:`actstore.analysis.evidence.patients_of`; without it, ``used`` has the coordinate ``patient``.

    Raises
    ------
    AnalysisError
        if the dimension sample or its coordinate ``patient`` is missing.
    """
    code = patients_of(used)[0] if patient is None else patient
    samples, patients = xr.apply_ufunc(
        _count,
        one_chunk(used, ["sample"]),
        kwargs={"code": code},
        input_core_dims=[["sample"]],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.int64, np.int64],
        keep_attrs=False,
    )
    return xr.Dataset({"samples": samples, "patients": patients})


def adjusted(p: xr.DataArray) -> xr.Dataset:
    """``q``, that is ``p`` (condition, …) corrected within each family of conditions, and ``tests`` (condition); lazy.

    ``tests`` int64 says over how many tests q is corrected: :func:`actstore.analysis.evidence.corrected`, families
    as of :func:`actstore.analysis.evidence.families`.
    """
    family = families(p)
    dims = ("condition", *(d for d in p.dims if d != "condition"))
    q, tests = xr.apply_ufunc(
        corrected,
        one_chunk(p, p.dims),
        kwargs={"family": family},
        input_core_dims=[dims],
        output_core_dims=[dims, ["condition"]],
        dask="parallelized",
        output_dtypes=[np.float64, np.int64],
        keep_attrs=False,
    )
    return xr.Dataset({"q": q, "tests": tests})


def noted(patients: xr.DataArray, what: str) -> xr.DataArray:
    """Lazy :func:`actstore.analysis.evidence.note` of each number of ``patients``."""
    text: xr.DataArray = xr.apply_ufunc(
        lambda counts: note(counts, what).astype(_NOTE),
        patients,
        dask="parallelized",
        output_dtypes=[_NOTE],
        keep_attrs=False,
    )
    return text


def _count(used: NDArray[np.bool_], code: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    counts = np.moveaxis(per_patient(np.moveaxis(used, -1, 0), code), 0, -1)
    return counts.sum(axis=-1).astype(np.int64), (counts > 0).sum(axis=-1).astype(np.int64)


def patient_means(values: NDArray[Any], code: NDArray[np.intp]) -> NDArray[np.float64]:
    """Means of ``values`` (…, sample) over the samples of each patient that are finite, NaN without: (…, patient)."""
    first = np.moveaxis(values.astype(np.float64), -1, 0)
    used = np.isfinite(first)
    number = per_patient(used, code)
    means = np.full(number.shape, np.nan)
    np.divide(per_patient(np.where(used, first, 0.0), code), number, out=means, where=number > 0)
    return np.moveaxis(means, 0, -1)
