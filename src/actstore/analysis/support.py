"""On how many samples and patients each number of a result rests, lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import one_chunk
from actstore.analysis.evidence import corrected, note, patients_of


def support(used: xr.DataArray) -> xr.Dataset:
    """``samples`` and ``patients``, int64 over the dims of ``used`` but sample, lazy where it is.

    ``used`` is bool (…, sample), with the coordinate ``patient`` along sample: which samples a number was made from.

    Raises
    ------
    AnalysisError
        if the dimension sample or its coordinate ``patient`` is missing.
    """
    code, names = patients_of(used)
    samples, patients = xr.apply_ufunc(
        _count,
        one_chunk(used, ["sample"]),
        kwargs={"code": code, "patients": len(names)},
        input_core_dims=[["sample"]],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.int64, np.int64],
        keep_attrs=False,
    )
    return xr.Dataset({"samples": samples, "patients": patients})


def adjusted(p: xr.DataArray) -> xr.DataArray:
    """``p`` corrected over all its values that are not NaN, lazy: :func:`actstore.analysis.evidence.corrected`."""
    q: xr.DataArray = xr.apply_ufunc(
        corrected,
        one_chunk(p, p.dims),
        input_core_dims=[p.dims],
        output_core_dims=[p.dims],
        dask="parallelized",
        output_dtypes=[np.float64],
        keep_attrs=False,
    )
    return q


def noted(patients: xr.DataArray, what: str) -> xr.DataArray:
    """Lazy :func:`actstore.analysis.evidence.note` of each number of ``patients``."""
    text: xr.DataArray = xr.apply_ufunc(
        note, patients, kwargs={"what": what}, dask="parallelized", output_dtypes=["U64"], keep_attrs=False
    )
    return text


def _count(used: NDArray[np.bool_], code: NDArray[np.intp], patients: int) -> tuple[NDArray[Any], NDArray[Any]]:
    counts = patient_sums(used, code, patients)
    return counts.sum(axis=-1).astype(np.int64), (counts > 0).sum(axis=-1).astype(np.int64)


def patient_sums(values: NDArray[Any], code: NDArray[np.intp], patients: int) -> NDArray[np.float64]:
    """Sums of finite ``values`` (…, sample) over the samples of each patient: (…, patient)."""
    member = code[:, None] == np.arange(patients)
    sums: NDArray[np.float64] = values.astype(np.float64) @ member.astype(np.float64)
    return sums


def patient_means(values: NDArray[Any], code: NDArray[np.intp], patients: int) -> NDArray[np.float64]:
    """Means of ``values`` (…, sample) over the samples of each patient that are finite, NaN without: (…, patient)."""
    used = np.isfinite(values)
    number = patient_sums(used, code, patients)
    sums = patient_sums(np.where(used, values, 0.0), code, patients)
    means = np.full(sums.shape, np.nan)
    np.divide(sums, number, out=means, where=number > 0)
    return means
