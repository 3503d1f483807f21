"""Counts by score of the samples of each group and patient, and scores of whole samples as counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims
from actstore.analysis.evidence import patients_of
from actstore.analysis.grouping import Numbers


def sum_counts(counts: xr.DataArray, group: Numbers, groups: int) -> NDArray[Any]:
    """Sums of ``counts`` over the samples of each group, read a chunk at a time: (group, condition, …).

    Parameters
    ----------
    counts
        (sample, condition, …), lazy or not: ``store.histogram`` or ``store.calibration``.
    group
        (sample, condition) number of the group that a sample counts in under a condition; -1 where it does not.

    Returns
    -------
    int64, or float64 of floats.
    """
    dtype = np.float64 if counts.dtype.kind == "f" else np.int64
    found = np.zeros((groups, *counts.shape[1:]), dtype)
    sizes = counts.chunks[0] if counts.chunks is not None else (counts.sizes["sample"],)
    first = 0
    for size in sizes:
        part = counts.isel(sample=slice(first, first + size)).values
        for sample, condition in np.argwhere(group[first : first + size] >= 0):
            found[group[first + sample, condition], condition] += part[sample, condition]
        first += size
    return found


def patient_counts(counts: xr.DataArray, *, applicable: xr.DataArray | None = None) -> xr.DataArray:
    """Sums over the samples of each patient: (patient, condition, …), in memory, with the coordinates of conditions.

    Parameters
    ----------
    counts
        (sample, condition, …) with the coordinate ``patient`` along sample: ``store.histogram``, of all samples or of a
        selection, or ``store.calibration``.
    applicable
        bool (sample, condition): where a sample counts; everywhere by default, zeros of inapplicable ones included.

    Raises
    ------
    AnalysisError
        if a dimension or ``patient`` is missing.

    Examples
    --------
    >>> counts = analysis.patient_counts(store.histogram, applicable=store.applicable)
    >>> counts.dims[:2], counts.sizes["patient"]
    (('patient', 'condition'), 5)
    """
    require_dims(counts, ["sample", "condition"])
    counts = counts.transpose("sample", "condition", ...)
    code, names = patients_of(counts)
    group = np.repeat(code[:, None], counts.sizes["condition"], axis=1)
    if applicable is not None:
        group = np.where(applicable.transpose("sample", "condition").values, group, -1)
    found = sum_counts(counts, group, len(names))
    kept = {name: coord for name, coord in counts.coords.items() if "sample" not in coord.dims}
    dims = ("patient", *counts.dims[1:])
    return xr.DataArray(found, dims=dims, coords={**kept, "patient": names}, name=counts.name)


def score_counts(score: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """Scores of whole samples as counts, every distinct score a bin of its own, so that curves of them are exact.

    Parameters
    ----------
    score
        (sample, …), for example a classifier's logits (sample, condition, class_name); NaN does not count.
    truth
        bool, over ``sample`` and any other dim of ``score``: whether a sample is of the class.

    Returns
    -------
    xarray.DataArray
        int64 (…, truth, bin), for :func:`roc`, :func:`precision_recall`, :func:`auc` and :func:`average_precision`,
        with the coordinate ``threshold`` (…, bin): the score of each bin, ascending, NaN beyond a cell's last.

    Raises
    ------
    AnalysisError
        if ``sample`` is missing.

    Examples
    --------
    >>> truth = classified.confusion.isel(condition=0).sum("predicted_class").rename(true_class="class_name") > 0
    >>> odds = analysis.log_odds(classified.score.isel(condition=0), "softmax")
    >>> analysis.score_counts(odds, truth).dims
    ('class_name', 'truth', 'bin')
    """
    require_dims(score, ["sample"])
    if extra := [str(dim) for dim in truth.dims if dim not in score.dims]:
        raise AnalysisError(f"truth has the dim {extra[0]!r}, which scores do not have")
    values, true = xr.broadcast(score, truth.reset_coords(drop=True))
    others = [dim for dim in score.dims if dim != "sample"]
    values, true = values.transpose(*others, "sample"), true.transpose(*others, "sample")
    rows = values.values.reshape(-1, values.shape[-1]).astype(np.float64)
    flags = true.values.reshape(rows.shape).astype(bool)
    bins = max(values.shape[-1], 1)
    counts, thresholds = np.zeros((len(rows), 2, bins), np.int64), np.full((len(rows), bins), np.nan)
    for i, (row, flag) in enumerate(zip(rows, flags, strict=True)):
        there = ~np.isnan(row)
        distinct, place = np.unique(row[there], return_inverse=True)
        thresholds[i, : len(distinct)] = distinct
        np.add.at(counts[i], (flag[there].astype(np.intp), place), 1)
    shape = tuple(values.sizes[dim] for dim in others)
    kept = {name: coord for name, coord in score.coords.items() if "sample" not in coord.dims}
    return xr.DataArray(
        counts.reshape(*shape, 2, bins),
        dims=(*others, "truth", "bin"),
        coords={**kept, "threshold": ((*others, "bin"), thresholds.reshape(*shape, bins)), "truth": np.arange(2)},
        name="histogram",
    )


def split_truth(counts: xr.DataArray, over: Sequence[str] = ("sample", "patient")) -> tuple[xr.DataArray, xr.DataArray]:
    """Positives and negatives (…, bin) of ``counts`` (…, truth, bin), summed over samples or patients.

    Raises
    ------
    AnalysisError
        if ``truth`` or ``bin`` is missing.
    """
    require_dims(counts, ["truth", "bin"])
    plain = counts.drop_vars("threshold", errors="ignore").astype(np.int64)
    summed = plain.sum([dim for dim in over if dim in counts.dims])
    summed = summed.transpose(..., "truth", "bin")
    return summed.isel(truth=1, drop=True), summed.isel(truth=0, drop=True)
