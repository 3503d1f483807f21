"""Tables of curves over thresholds, of calibration, and of confusion in per cent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.curves.calibrated import CALIBRATION_BINS, calibration, log_odds, score_totals
from actstore.analysis.curves.counts import score_counts, sum_counts
from actstore.analysis.curves.curves import precision_recall, roc
from actstore.analysis.curves.summary import MEASURES, pixel_summary, score_summary
from actstore.analysis.evidence import patients_of
from actstore.conditions import BACKGROUND
from actstore.tables.rows import RESTS_ON, channel_frame

_CELL = ("condition", "target", "class_name")
ROC_COLUMNS = (*_CELL, "threshold", "false_positive_rate", "true_positive_rate")
PRECISION_RECALL_COLUMNS = (*_CELL, "threshold", "recall", "precision", "f1")
CALIBRATION_COLUMNS = (*_CELL, "low", "high", "count", "confidence", "frequency")
CURVES_COLUMNS = (
    *_CELL,
    *RESTS_ON,
    *("count", "positives"),
    *(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high", "_error")),
    *("auc_bound", "average_precision_bound", "f1", "f1_best", "threshold", "note"),
)
CONFUSION_COLUMNS = ("condition", "target", "true_class", "predicted_class", "count", "percent")

#: A key to group samples by: the name of a coordinate along sample, or a named array (sample, condition).
Key = str | xr.DataArray


@dataclass(frozen=True)
class Part:
    """What curves are made of, of the samples of one group; without ``patient`` of scores of whole samples."""

    #: Name of each key to its value in this group.
    by: dict[str, Any]
    #: (condition): how many samples count.
    samples: xr.DataArray
    #: (patient, condition, class_name, truth, bin)
    counts: xr.DataArray
    #: (patient, condition, class_name, probability_bin, total)
    totals: xr.DataArray
    #: Its areas with intervals, from so many resamples.
    summary: Callable[[int], xr.Dataset]


#: A part's dataset, and which of its cells get a row.
_Found = tuple[xr.Dataset, xr.DataArray]


def curve_parts(
    histogram: xr.DataArray,
    calibration: xr.DataArray,
    by: Sequence[Key] = (),
    *,
    applicable: xr.DataArray,
) -> list[Part]:
    """The counts of each group of samples, by patient, read once; the background is left out.

    Parameters
    ----------
    histogram, calibration
        of a store.
    by
        what groups samples; a value of "" or NaN counts in no group.
    applicable
        bool (sample, condition): where a sample counts.

    Raises
    ------
    AnalysisError
        if a key is unknown, does not lie along samples or has no value, or ``patient`` is missing.
    """
    foreground = np.flatnonzero(histogram["class_name"].values != BACKGROUND)
    arrays = [array.isel(class_name=foreground) for array in (histogram, calibration)]
    patient, names = patients_of(histogram)
    valid = applicable.transpose("sample", "condition").values
    groups, group = _groups(histogram, by, valid)
    pair = np.where(group >= 0, group * len(names) + patient[:, None], -1)
    summed = [sum_counts(array, pair, len(groups) * len(names)) for array in arrays]
    parts = []
    for i, labels in enumerate(groups):
        own = slice(i * len(names), (i + 1) * len(names))
        found = []
        for array, values in zip(arrays, summed, strict=True):
            kept = {name: coord for name, coord in array.coords.items() if "sample" not in coord.dims}
            dims = ("patient", *array.dims[1:])
            found.append(xr.DataArray(values[own], dims=dims, coords={**kept, "patient": names}, name=array.name))
        counts, totals = found
        number = xr.DataArray((group == i).sum(0), dims="condition")
        parts.append(Part(labels, number, counts, totals, partial(_of_pixels, counts, totals)))
    return parts


def score_parts(
    score: xr.DataArray, truth: xr.DataArray, by: Sequence[Key] = (), *, applicable: xr.DataArray
) -> list[Part]:
    """As :func:`curve_parts`, of whole samples: every score counts as it is, so that curves are exact.

    Parameters
    ----------
    score
        logits (sample, condition, class_name), whose softmax are the probabilities.
    truth
        bool (sample, class_name).
    """
    valid = applicable.transpose("sample", "condition")
    groups, group = _groups(score, by, valid.values)
    odds = log_odds(score, "softmax")
    parts = []
    for i, labels in enumerate(groups):
        own = odds.where(valid.copy(data=group == i).reset_coords(drop=True))
        number = xr.DataArray((group == i).sum(0), dims="condition")
        summary = partial(_of_scores, own, truth)
        parts.append(Part(labels, number, score_counts(own, truth), score_totals(own, truth), summary))
    return parts


def _of_pixels(counts: xr.DataArray, totals: xr.DataArray, resamples: int) -> xr.Dataset:
    return pixel_summary(counts, totals, resamples=resamples)


def _of_scores(odds: xr.DataArray, truth: xr.DataArray, resamples: int) -> xr.Dataset:
    return score_summary(odds, truth, resamples=resamples)


def _groups(
    labels: xr.DataArray, by: Sequence[Key], valid: NDArray[np.bool_]
) -> tuple[list[dict[str, Any]], NDArray[np.intp]]:
    """The keys' values of each group, sorted, and the group of each (sample, condition), -1 where it counts in none."""
    columns = {}
    for key in by:
        if isinstance(key, str):
            along = [str(name) for name, coord in labels.coords.items() if coord.dims == ("sample",)]
            if key not in along:
                raise AnalysisError(f"by = {key!r} groups no samples: use case, {', '.join(along)}")
            columns[key] = np.broadcast_to(labels[key].values[:, None], valid.shape)
        else:
            columns[str(key.name)] = key.transpose("sample", "condition").values
    if not columns:
        return [{}], np.where(valid, 0, -1)
    table = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
    there = valid.ravel() & np.logical_and.reduce([table[name].to_numpy() != "" for name in columns])
    there &= table.notna().all(axis=1).to_numpy()
    if not there.any():
        raise AnalysisError(f"by = {', '.join(columns)} groups nothing: no sample that counts has a value there")
    number = table[there].groupby(list(columns), sort=True).ngroup().to_numpy()
    group = np.full(valid.size, -1, np.intp)
    group[there] = number
    distinct = table[there].drop_duplicates().sort_values(list(columns))
    return distinct.to_dict("records"), group.reshape(valid.shape)


def roc_table(parts: Sequence[Part]) -> pd.DataFrame:
    """Rates at every threshold, in columns :data:`ROC_COLUMNS`; points on a straight line between others are left out.

    Scores from ``threshold`` on, a probability, are called positive; inf calls none. Classes without positives or
    negatives have no rows.

    Examples
    --------
    >>> list(analysis.roc_table(findings.curve_parts))
    ['condition', 'target', 'class_name', 'threshold', 'false_positive_rate', 'true_positive_rate']
    """

    def frame(part: Part) -> _Found:
        found = _by_probability(roc(part.counts))
        return found, _corners(found["false_positive_rate"], found["true_positive_rate"], level=True)

    return _frame(parts, frame, ROC_COLUMNS)


def precision_recall_table(parts: Sequence[Part]) -> pd.DataFrame:
    """Precision, recall and F1 at thresholds, in columns :data:`PRECISION_RECALL_COLUMNS`; as :func:`roc_table`.

    Examples
    --------
    >>> list(analysis.precision_recall_table(findings.curve_parts))
    ['condition', 'target', 'class_name', 'threshold', 'recall', 'precision', 'f1']
    """

    def frame(part: Part) -> _Found:
        found = _by_probability(precision_recall(part.counts))
        return found, _corners(found["recall"], found["precision"], level=False)

    return _frame(parts, frame, PRECISION_RECALL_COLUMNS)


def calibration_table(parts: Sequence[Part], bins: int = CALIBRATION_BINS) -> pd.DataFrame:
    """How often a class is true by the probability given to it, in columns :data:`CALIBRATION_COLUMNS`.

    A row for each of ``bins`` from ``low`` to ``high`` that holds a pixel.

    Examples
    --------
    >>> list(analysis.calibration_table(findings.curve_parts))
    ['condition', 'target', 'class_name', 'low', 'high', 'count', 'confidence', 'frequency']
    """

    def frame(part: Part) -> _Found:
        found = calibration(part.totals, bins)
        low = found["probability_bin"]
        found = found.assign(count=found["count"].astype(np.int64), low=low, high=low + 1 / bins)
        return found, found["count"] > 0

    return _frame(parts, frame, CALIBRATION_COLUMNS)


def curves_table(parts: Sequence[Part], *, resamples: int) -> pd.DataFrame:
    """Areas, calibration error and F1 with intervals over patients, in columns :data:`CURVES_COLUMNS`.

    Values as of :func:`actstore.analysis.pixel_summary`.

    Examples
    --------
    >>> list(analysis.curves_table(findings.curve_parts, resamples=50))[:5]
    ['condition', 'target', 'class_name', 'samples', 'patients']
    """

    def frame(part: Part) -> _Found:
        found = part.summary(resamples)
        return found.assign(samples=part.samples), found["count"] > 0

    return _frame(parts, frame, CURVES_COLUMNS)


def confusion_table(confusion: xr.DataArray, by: Sequence[Key] = (), *, applicable: xr.DataArray) -> pd.DataFrame:
    """Which true class was predicted as which, in columns :data:`CONFUSION_COLUMNS`.

    ``percent`` is of the pixels of the true class, NaN without any. ``by`` as for :func:`curve_parts`.

    Examples
    --------
    >>> list(analysis.confusion_table(store.confusion, applicable=store.applicable))
    ['condition', 'target', 'true_class', 'predicted_class', 'count', 'percent']
    """
    valid = applicable.transpose("sample", "condition").values
    groups, group = _groups(confusion, by, valid)
    summed = sum_counts(confusion, group, len(groups))
    kept = {name: coord for name, coord in confusion.coords.items() if "sample" not in coord.dims}
    frames = []
    for labels, values in zip(groups, summed, strict=True):
        count = xr.DataArray(values, dims=confusion.dims[1:], coords=kept)
        true = count.sum("predicted_class")
        found = xr.Dataset({"count": count, "percent": 100 * count / true.where(true > 0)})
        frames.append(_rows(found, labels, CONFUSION_COLUMNS, count.sum(["true_class", "predicted_class"]) > 0))
    return pd.concat(frames, ignore_index=True)


def _frame(parts: Sequence[Part], found: Callable[[Part], _Found], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of every part."""
    frames = []
    for part in parts:
        dataset, keep = found(part)
        frames.append(_rows(dataset, part.by, columns, keep))
    return pd.concat(frames, ignore_index=True)


def _rows(dataset: xr.Dataset, by: dict[str, Any], columns: Sequence[str], keep: xr.DataArray) -> pd.DataFrame:
    """The rows of one group, its keys after the target."""
    after = columns.index("target") + 1
    every = np.arange(dataset.sizes["condition"])
    order = (*columns[:after], *by, *columns[after:])
    return channel_frame(dataset.assign_coords(by), order, keep=keep, conditions=every)


def _by_probability(found: xr.Dataset) -> xr.Dataset:
    """With thresholds as probabilities; inf, which calls nothing positive, as it is."""
    from scipy.special import expit

    logit = found["threshold"]
    return found.assign(threshold=logit.copy(data=np.where(np.isposinf(logit), np.inf, expit(logit))))


def _corners(x: xr.DataArray, y: xr.DataArray, *, level: bool) -> xr.DataArray:
    """Which points (…, point) bend the curve: not those on a vertical line, nor, if ``level``, on a horizontal one.

    None where a coordinate is NaN.
    """
    x, y = (array.transpose(..., "point") for array in xr.broadcast(x, y))
    keep = np.zeros(x.shape, bool)
    cells = zip(*(array.values.reshape(-1, x.sizes["point"]) for array in (x, y)), strict=True)
    for row, (across, up) in zip(keep.reshape(-1, x.sizes["point"]), cells, strict=True):
        if not np.isfinite(across).all() or not np.isfinite(up).all():
            continue
        moved = np.flatnonzero(np.r_[True, (np.diff(across) != 0) | (np.diff(up) != 0)])
        sideways, vertical = np.diff(across[moved]) != 0, np.diff(up[moved]) != 0
        straight = ~sideways[:-1] & ~sideways[1:]
        if level:
            straight |= ~vertical[:-1] & ~vertical[1:]
        row[moved[~np.r_[False, straight, False][: len(moved)]]] = True
    return x.copy(data=keep)
