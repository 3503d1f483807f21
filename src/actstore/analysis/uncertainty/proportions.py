"""Parts of samples that something is true of, with an interval over patients that holds near 0 and 1 too."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import apply_lazily
from actstore.analysis.evidence import FEWEST_PATIENTS, note, patients_of
from actstore.analysis.grouping import count_by, sum_by
from actstore.analysis.uncertainty.bootstrap import NOTE, require_confidence


def proportion(values: xr.DataArray, *, confidence: float = 0.95) -> xr.Dataset:
    """Mean of ``values`` that are 0 or 1, with an interval over patients; lazy where ``values`` is.

    Wilson's score interval (J. Am. Stat. Assoc. 22 (1927), 209) for as many samples as count: n / d, where d is the
    variance of the mean between patients, by the jackknife (each patient left out in turn), by that of n independent
    samples, at least 1, and reduced by Student's quantile for the number of patients, as Korn and Graubard do (Survey
    Methodology 24 (1998), 193). That is Kish's effective number, (Σ m)² / Σ m² of patients with m samples: where one
    has most of them, the mean is little more than that one's. Where nothing or everything is true, all samples of a
    patient count as one. Resampling would give no width at all there.

    Parameters
    ----------
    values
        (sample, …), 0 or 1, with the coordinate ``patient`` along sample. NaN is not there.
    confidence
        of the interval.

    Returns
    -------
    xarray.Dataset
        Over the other dims of ``values``: ``mean``, ``low`` and ``high`` float64, ``samples`` and ``patients`` int64,
        ``note``. Without samples the mean is NaN; with fewer than :data:`actstore.analysis.evidence.FEWEST_PATIENTS`
        patients the interval is.

    Raises
    ------
    AnalysisError
        if ``patient`` or the dimension sample is missing, or ``confidence`` is no level.
    """
    patient, names = patients_of(values)
    found = apply_lazily(
        _proportion,
        (values, ["sample"]),
        output_dims=[[]] * 6,
        dtypes=[*[np.float64] * 3, np.int64, np.int64, NOTE],
        patient=patient,
        patients=len(names),
        confidence=require_confidence(confidence),
    )
    return xr.Dataset(dict(zip(("mean", "low", "high", "samples", "patients", "note"), found, strict=True)))


def _proportion(
    values: NDArray[Any], patient: NDArray[np.intp], patients: int, confidence: float
) -> tuple[NDArray[Any], ...]:
    shape = values.shape[:-1]
    cells = values.reshape(-1, values.shape[-1]).T.astype(np.float64) if values.size else np.empty((0, 0))
    if not values.size:
        cells, patient = np.empty((0, int(np.prod(shape)))), patient[:0]
    there = ~np.isnan(cells)
    sums, counts = np.zeros((2, patients, cells.shape[1]))
    if len(cells):
        sums, counts = sum_by(np.where(there, cells, 0.0), patient), count_by(there, patient).astype(np.float64)
    samples, rests_on = counts.sum(0), (counts > 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(0) / samples
        low, high = wilson(mean, _counting(sums, counts, mean, confidence), confidence)
    few = rests_on < FEWEST_PATIENTS
    low, high = np.where(few, np.nan, low), np.where(few, np.nan, high)
    texts = note(rests_on, "interval").astype(NOTE)
    arrays = (mean, low, high, samples.astype(np.int64), rests_on.astype(np.int64), texts)
    return tuple(array.reshape(shape) for array in arrays)


def _counting(
    sums: NDArray[np.float64], counts: NDArray[np.float64], mean: NDArray[np.float64], confidence: float
) -> NDArray[np.float64]:
    """How many independent samples the samples of patients, (patient, cell), count as: (cell)."""
    from scipy import stats

    samples, patients = counts.sum(0), (counts > 0).sum(0)
    # What leaving out a patient changes; of equal patients the sum is that of the squared residuals / samples².
    without = ((sums - mean * counts) / (samples - counts)) ** 2
    between = without.sum(0) * (patients - 1) / patients
    effect = np.maximum(between / (mean * (1 - mean) / (samples - 1)), 1)
    varies = (mean > 0) & (mean < 1)
    degrees = np.maximum(np.where(varies, samples**2 / (counts**2).sum(0), patients) - 1, 1)
    tail = (1 + confidence) / 2
    student = (stats.norm.ppf(tail) / stats.t.ppf(tail, degrees)) ** 2
    return np.asarray(np.where(varies, samples / effect, patients) * student)


def wilson(
    mean: NDArray[np.float64], samples: NDArray[np.float64], confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of Wilson's score interval of a part ``mean`` of ``samples`` independent ones."""
    from scipy import stats

    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle = (mean + z**2 / (2 * samples)) / (1 + z**2 / samples)
    half = z / (1 + z**2 / samples) * np.sqrt(mean * (1 - mean) / samples + z**2 / (4 * samples**2))
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)
