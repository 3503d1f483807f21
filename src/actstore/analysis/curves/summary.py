"""Areas, calibration error and F1 of each class and condition, with intervals from resampled patients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import require_dims, require_positive
from actstore.analysis.curves import ranked
from actstore.analysis.curves.calibrated import calibration_error, sample_totals
from actstore.analysis.evidence import FEWEST_PATIENTS, note, patients_of
from actstore.analysis.grouping import Floats, Numbers
from actstore.analysis.uncertainty.bootstrap import NOTE, interval, require_confidence
from actstore.analysis.uncertainty.resamples import RESAMPLES, Draws, patient_draws

#: What has an interval.
MEASURES = ("auc", "average_precision", "ece")
#: Numbers that resamples hold at once.
_BATCH = 2 * 2**20


class _Cell(Protocol):
    """Counts by score of one class under one condition, which resamples of patients weigh."""

    @property
    def exact(self) -> bool:
        """Whether each bin holds one score."""
        ...

    @property
    def size(self) -> int:
        """How many numbers one resample takes."""
        ...

    @property
    def totals(self) -> Floats:
        """(patient, probability bin, total)."""
        ...

    def drawn(self, weights: Floats) -> tuple[Floats, Floats]:
        """Positives and negatives (draw, bin) for how often each patient is drawn, (draw, patient)."""
        ...


@dataclass(frozen=True)
class _Binned:
    """Pixels in the bins of histograms, (patient, truth, bin)."""

    counts: Floats
    totals: Floats
    exact: bool = False

    @property
    def size(self) -> int:
        return int(self.counts.shape[-1])

    def drawn(self, weights: Floats) -> tuple[Floats, Floats]:
        return weights @ self.counts[:, 1], weights @ self.counts[:, 0]


@dataclass(frozen=True)
class _Scored:
    """Samples in the order of their scores: each one's patient and truth, and where each distinct score begins."""

    patient: Numbers
    truth: NDArray[np.bool_]
    starts: Numbers
    totals: Floats
    exact: bool = True

    @property
    def size(self) -> int:
        return len(self.patient)

    def drawn(self, weights: Floats) -> tuple[Floats, Floats]:
        each = weights[:, self.patient]
        positives, negatives = (np.where(flags, each, 0.0) for flags in (self.truth, ~self.truth))
        return np.add.reduceat(positives, self.starts, axis=1), np.add.reduceat(negatives, self.starts, axis=1)


def pixel_summary(
    counts: xr.DataArray,
    totals: xr.DataArray,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Areas under curves, calibration error and F1 of pixels, with intervals from resampled patients.

    Parameters
    ----------
    counts, totals
        (patient, condition, class_name, …) of :func:`patient_counts` of ``store.histogram`` and ``store.calibration``.
    resamples, confidence, seed
        as for :func:`actstore.analysis.bootstrap_mean`: whole patients are drawn, and their counts added.

    Returns
    -------
    xarray.Dataset
        Over (condition, class_name): ``count`` and ``positives`` int64; ``patients`` int64, those with a pixel;
        ``auc``, ``average_precision`` and ``ece``, the expected calibration error, each with ``…_low``, ``…_high`` and
        ``…_error`` as of :func:`actstore.analysis.bootstrap_mean`, and ``auc_bound`` and ``average_precision_bound`` as
        of :func:`auc` and :func:`average_precision`; ``f1`` of calling positive what has p of 0.5 or more, ``f1_best``
        the highest of any threshold and ``threshold`` its probability; ``note``. Draws without a positive, or without
        a negative, are left out of intervals.

    Raises
    ------
    AnalysisError
        if a dimension is missing or an argument is out of range.

    Examples
    --------
    >>> counts = analysis.patient_counts(store.histogram, applicable=store.applicable).isel(condition=[0])
    >>> totals = analysis.patient_counts(store.calibration, applicable=store.applicable).isel(condition=[0])
    >>> list(analysis.pixel_summary(counts, totals, resamples=50))[:4]
    ['count', 'positives', 'patients', 'auc']
    """
    require_dims(counts, ["patient", "condition", "class_name", "truth", "bin"])
    require_dims(totals, ["patient", "condition", "class_name", "probability_bin", "total"])
    by_bin = counts.transpose("condition", "class_name", "patient", "truth", "bin")
    by_share = totals.transpose("condition", "class_name", "patient", "probability_bin", "total").values
    edges = by_bin["bin"].values

    def cells() -> Iterator[tuple[_Cell, Floats]]:
        for found, shares in zip(_rows(by_bin.values), _rows(by_share), strict=True):
            yield _Binned(found.astype(np.float64), shares), edges

    return _summary(cells(), by_bin, resamples, confidence, seed)


def score_summary(
    score: xr.DataArray,
    truth: xr.DataArray,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """As :func:`pixel_summary`, of the scores of whole samples: exact, so that bounds are 0.

    Parameters
    ----------
    score
        log-odds (sample, condition, class_name) of :func:`log_odds`, with the coordinate ``patient``; NaN does not
        count.
    truth
        bool (sample, class_name), or (sample, condition, class_name).

    Examples
    --------
    >>> truth = classified.confusion.isel(condition=0).sum("predicted_class").rename(true_class="class_name") > 0
    >>> summary = analysis.score_summary(classified.score, truth, resamples=50)
    >>> list(summary)[:4]
    ['count', 'positives', 'patients', 'auc']
    """
    require_dims(score, ["sample", "condition", "class_name"])
    patient, names = patients_of(score)
    order = ("condition", "class_name", "sample")
    values, flags = (array.transpose(*order).values for array in xr.broadcast(score, truth.reset_coords(drop=True)))
    labels = score.transpose(*order)

    def cells() -> Iterator[tuple[_Cell, Floats]]:
        for row, flag in zip(_rows(values), _rows(flags.astype(bool)), strict=True):
            there = np.flatnonzero(~np.isnan(row))
            rising = there[np.argsort(row[there], kind="stable")]
            distinct, starts = np.unique(row[rising], return_index=True)
            each = sample_totals(row, flag)
            totals = np.zeros((len(names), *each.shape[1:]))
            np.add.at(totals, patient, each)
            yield _Scored(patient[rising], flag[rising], starts, totals), distinct

    return _summary(cells(), labels, resamples, confidence, seed)


def _rows(values: NDArray[Any]) -> NDArray[Any]:
    """(condition, class, …) as (cell, …)."""
    return values.reshape(-1, *values.shape[2:])


def _summary(
    cells: Iterator[tuple[_Cell, Floats]], labels: xr.DataArray, resamples: int, confidence: float, seed: int
) -> xr.Dataset:
    require_positive("resamples", resamples)
    require_confidence(confidence)
    rows = [_row(cell, edges, resamples, confidence, seed) for cell, edges in cells]
    shape = (labels.sizes["condition"], labels.sizes["class_name"])
    over = ("condition", "class_name")
    found = {name: (over, np.array([row[name] for row in rows]).reshape(shape)) for name in rows[0]} if rows else {}
    kept = {n: c for n, c in labels.coords.items() if {*c.dims} <= {*over}}
    dataset = xr.Dataset(found, coords=kept)
    return dataset.assign(note=(over, note(dataset["patients"].values, "interval").astype(NOTE)))


def _row(cell: _Cell, edges: Floats, resamples: int, confidence: float, seed: int) -> dict[str, float | int]:
    from scipy.special import expit

    patients = cell.totals[:, :, 0].sum(-1) > 0
    everyone = np.ones((1, len(patients)))
    if not cell.size or not patients.any():
        empty = {"count": 0, "positives": 0, "patients": 0}
        names = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high", "_error")]
        more = ("auc_bound", "average_precision_bound", "f1", "f1_best", "threshold")
        return {**empty, **dict.fromkeys((*names, *more), np.nan)}
    positives, negatives = cell.drawn(everyone)
    row: dict[str, float | int] = {
        "count": int(positives.sum() + negatives.sum()),
        "positives": int(positives.sum()),
        "patients": int(patients.sum()),
    }
    area, tied = ranked.area(positives, negatives)
    precision, mixed = ranked.average_precision(positives, negatives, exact=cell.exact)
    ends = _intervals(cell, patients, resamples, confidence, seed)
    values = (area, precision, calibration_error(cell.totals.sum(0)[None]))
    for name, value in zip(MEASURES, values, strict=True):
        row |= {name: value[0], f"{name}_low": ends[name][0], f"{name}_high": ends[name][1]}
        row[f"{name}_error"] = ends[name][2]
    row |= {"auc_bound": 0.0 if cell.exact else tied[0], "average_precision_bound": mixed[0]}
    f1 = ranked.f1(positives, negatives)[0]
    half = np.searchsorted(edges, 0.0, side="left")
    known = np.isfinite(f1).any()
    row["f1"] = np.nan if not known else f1[half] if half < len(f1) else 0.0
    best = int(np.nanargmax(f1)) if known else 0
    row["f1_best"] = f1[best]
    row["threshold"] = float(expit(edges[best])) if known else np.nan
    return row


def _intervals(
    cell: _Cell, patients: NDArray[np.bool_], resamples: int, confidence: float, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Low and high end of each of `MEASURES`, and their error."""
    none = dict.fromkeys(MEASURES, (np.nan, np.nan, np.nan))
    if patients.sum() < FEWEST_PATIENTS:
        return none
    draws = patient_draws(int(patients.sum()), resamples, seed)
    weights = np.zeros((len(draws.weights), len(patients)))
    weights[:, patients] = draws.weights
    found: dict[str, list[Floats]] = {name: [] for name in MEASURES}
    step = max(1, _BATCH // max(cell.size, 1))
    for first in range(0, len(weights), step):
        some = weights[first : first + step]
        positives, negatives = cell.drawn(some)
        found["auc"].append(ranked.area(positives, negatives)[0])
        found["average_precision"].append(ranked.average_precision(positives, negatives, exact=cell.exact)[0])
        found["ece"].append(calibration_error(np.tensordot(some, cell.totals, axes=1)))
    return {name: _ends(np.concatenate(values), draws, confidence) for name, values in found.items()}


def _ends(values: Floats, draws: Draws, confidence: float) -> tuple[float, float, float]:
    there = np.isfinite(values)
    if not there.any():
        return np.nan, np.nan, np.nan
    known = replace(draws, weights=draws.weights[there], ways=draws.ways[there])
    low, high, error = interval(values[there], known, confidence)
    return float(low), float(high), float(error)
