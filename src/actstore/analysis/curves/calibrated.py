"""Whether probabilities are what they say: calibration in bins of equal width, and its error."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims, require_positive
from actstore.analysis.grouping import Floats
from actstore.measures.bins import PROBABILITY_BINS, TOTALS, Activation

#: Bins of equal width of the tables, as in Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
CALIBRATION_BINS = 15


def calibration(totals: xr.DataArray, bins: int = CALIBRATION_BINS) -> xr.Dataset:
    """How often a class is true where the network gives it a probability.

    Parameters
    ----------
    totals
        (…, probability_bin, total): ``store.calibration``, of all samples or of a selection, or of
        :func:`score_totals`. Summed over ``sample`` and ``patient``.
    bins
        of equal width; a divisor of how many ``totals`` has, so that the result is that of all pixels.

    Returns
    -------
    xarray.Dataset
        Over (…, probability_bin), with the lower edge of each bin: ``count`` float64 pixels, ``confidence`` their mean
        probability and ``frequency`` the share of them that is of the class; NaN in an empty bin.

    Raises
    ------
    AnalysisError
        if a dim is missing, or ``bins`` is no such divisor.

    Examples
    --------
    >>> found = analysis.calibration(store.calibration.sum("sample"), bins=10)
    >>> found.sizes["probability_bin"]
    10
    """
    require_dims(totals, ["probability_bin", "total"])
    own = totals.sizes["probability_bin"]
    if own % require_positive("bins", bins):
        allowed = ", ".join(str(n) for n in range(1, own + 1) if own % n == 0)
        raise AnalysisError(f"bins = {bins}: give a divisor of {own}: {allowed}")
    summed = totals.sum([dim for dim in ("sample", "patient") if dim in totals.dims])
    summed = summed.transpose(..., "probability_bin", "total")
    shape = (*summed.shape[:-2], bins, own // bins, len(TOTALS))
    count, true, probability = np.moveaxis(summed.values.reshape(shape).sum(-2), -1, 0)
    dims = summed.dims[:-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {"count": count, "confidence": probability / count, "frequency": true / count}
    kept = {n: c for n, c in summed.coords.items() if not {"probability_bin", "total"} & {*c.dims}}
    edges = np.arange(bins) / bins
    return xr.Dataset({n: (dims, v) for n, v in found.items()}, coords={**kept, "probability_bin": edges})


def expected_calibration_error(totals: xr.DataArray, bins: int = CALIBRATION_BINS) -> xr.DataArray:
    """Mean over pixels of |confidence - frequency| of their bin: float64 (…), NaN without pixels.

    Of each class by itself. Arguments and errors as for :func:`calibration`.

    Examples
    --------
    >>> error = analysis.expected_calibration_error(store.calibration.sum("sample"))
    >>> error.dims
    ('condition', 'class_name')
    """
    found = calibration(totals, bins)
    number = found["count"].sum("probability_bin")
    off = (found["count"] * np.abs(found["confidence"] - found["frequency"])).sum("probability_bin")
    error: xr.DataArray = off / number.where(number > 0)
    return error.rename("expected_calibration_error")


def calibration_error(totals: NDArray[Any], bins: int = CALIBRATION_BINS) -> Floats:
    """As :func:`expected_calibration_error`, of an array (…, probability bin, total)."""
    own = totals.shape[-2]
    count, true, probability = np.moveaxis(
        totals.reshape(*totals.shape[:-2], bins, own // bins, totals.shape[-1]).sum(-2), -1, 0
    )
    number = count.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        error: Floats = np.abs(probability - true).sum(-1) / np.where(number > 0, number, np.nan)
    return error


def log_odds(score: xr.DataArray, activation: Activation) -> xr.DataArray:
    """log(p / (1 - p)) of each class, by which curves rank: float64 of logits (…, class_name).

    p is the "softmax" over ``class_name``, or the "sigmoid" of each logit by itself, which its log-odds is. Of several
    infinite logits, or where all are -inf, p is 1 of the first of the largest, which is what is predicted, else 0.

    Raises
    ------
    AnalysisError
        if ``class_name`` is missing.

    Examples
    --------
    >>> odds = analysis.log_odds(classified.score, "softmax")
    >>> odds.dims
    ('sample', 'condition', 'class_name')
    """
    from scipy.special import logsumexp

    require_dims(score, ["class_name"])
    values = score.transpose(..., "class_name").astype(np.float64)
    if activation == "sigmoid":
        return values
    logits = values.values
    odds = np.empty_like(logits)
    with np.errstate(invalid="ignore"):
        for c in range(logits.shape[-1]):
            odds[..., c] = logits[..., c] - logsumexp(np.delete(logits, c, axis=-1), axis=-1)
    first = np.arange(logits.shape[-1]) == np.argmax(logits, axis=-1)[..., None]
    unknown = np.isnan(odds) & ~np.isnan(logits).any(axis=-1, keepdims=True)
    odds[unknown] = np.where(first, np.inf, -np.inf)[unknown]
    return values.copy(data=odds)


def score_totals(odds: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """Totals of whole samples, as ``store.calibration`` has of pixels: (…, probability_bin, total) float64.

    Parameters
    ----------
    odds
        (sample, …) as of :func:`log_odds`; NaN does not count.
    truth
        bool, over ``sample`` and any other dim of ``odds``.

    Raises
    ------
    AnalysisError
        if ``sample`` is missing.

    Examples
    --------
    >>> truth = classified.confusion.isel(condition=0).sum("predicted_class").rename(true_class="class_name") > 0
    >>> odds = analysis.log_odds(classified.score, "softmax")
    >>> analysis.score_totals(odds, truth).dims
    ('condition', 'class_name', 'probability_bin', 'total')
    """
    require_dims(odds, ["sample"])
    values, true = xr.broadcast(odds, truth.reset_coords(drop=True))
    others = [dim for dim in odds.dims if dim != "sample"]
    rows = values.transpose(*others, "sample").values.reshape(-1, values.sizes["sample"])
    flags = true.transpose(*others, "sample").values.reshape(rows.shape)
    totals = np.stack([sample_totals(row, flag).sum(0) for row, flag in zip(rows, flags, strict=True)])
    shape = tuple(values.sizes[dim] for dim in others)
    kept = {n: c for n, c in odds.coords.items() if "sample" not in c.dims}
    return xr.DataArray(
        totals.reshape(*shape, PROBABILITY_BINS, len(TOTALS)),
        dims=(*others, "probability_bin", "total"),
        coords={**kept, "total": list(TOTALS)},
        name="calibration",
    )


def sample_totals(odds: Floats, truth: NDArray[np.bool_]) -> Floats:
    """The totals of each sample's log-odds: (sample, probability bin, total)."""
    from scipy.special import expit

    found = np.zeros((len(odds), PROBABILITY_BINS, len(TOTALS)))
    there = np.flatnonzero(~np.isnan(odds))
    p = expit(odds[there])
    place = np.minimum((p * PROBABILITY_BINS).astype(np.intp), PROBABILITY_BINS - 1)
    found[there, place] = np.stack([np.ones(len(p)), truth[there], p], axis=-1)
    return found
