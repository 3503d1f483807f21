"""ROC and precision-recall curves, and the areas under them: xarray in, xarray out."""

from __future__ import annotations

import numpy as np
import xarray as xr

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.curves import ranked
from actstore.analysis.curves.counts import split_truth
from actstore.analysis.grouping import Floats


def roc(counts: xr.DataArray) -> xr.Dataset:
    """Rates of false and true positives at every threshold.

    Parameters
    ----------
    counts
        (…, truth, bin) by rising score: ``store.histogram``, of all samples or of a selection, or of
        :func:`score_counts`. Summed over ``sample`` and ``patient``.

    Returns
    -------
    xarray.Dataset
        ``false_positive_rate`` and ``true_positive_rate`` float64 (…, point), from (0, 0) with nothing called positive
        to (1, 1); NaN without negatives, or positives. ``threshold`` (…, point): the logit from which on, itself
        included, the score is called positive; inf first, -inf in the first bin of a histogram.

    Raises
    ------
    AnalysisError
        if ``truth`` or ``bin`` is missing, or bins have no score.

    Examples
    --------
    >>> counts = analysis.patient_counts(store.histogram, applicable=store.applicable).sum("patient")
    >>> list(analysis.roc(counts))
    ['false_positive_rate', 'true_positive_rate', 'threshold']
    """
    positives, negatives = split_truth(counts)
    true, false = _called(positives), _called(negatives)
    return xr.Dataset(
        {
            "false_positive_rate": false / _some(negatives.sum("bin")),
            "true_positive_rate": true / _some(positives.sum("bin")),
            "threshold": thresholds(counts),
        }
    )


def precision_recall(counts: xr.DataArray) -> xr.Dataset:
    """Precision and recall at every threshold; arguments and errors as for :func:`roc`.

    Returns
    -------
    xarray.Dataset
        ``precision``, ``recall`` and ``f1`` float64 (…, point), with ``threshold`` as for :func:`roc`. F1 is the
        harmonic mean 2 · precision · recall / (precision + recall). Precision is 1 where nothing is called positive, as
        in scikit-learn; recall and F1 are NaN without positives.

    Examples
    --------
    >>> counts = analysis.patient_counts(store.histogram, applicable=store.applicable).sum("patient")
    >>> list(analysis.precision_recall(counts))
    ['precision', 'recall', 'f1', 'threshold']
    """
    positives, negatives = split_truth(counts)
    true, false = _called(positives), _called(negatives)
    every = _some(positives.sum("bin"))
    called = true + false
    precision = (true / _some(called)).where(called > 0, 1.0)
    found = {"precision": precision, "recall": true / every, "f1": 2 * true / (called + every)}
    return xr.Dataset({**found, "threshold": thresholds(counts)})


def auc(counts: xr.DataArray) -> xr.Dataset:
    """The area under the ROC curve; arguments and errors as for :func:`roc`.

    Returns
    -------
    xarray.Dataset
        ``auc`` float64 (…), and ``bound``: the area of the scores themselves lies within it of ``auc``, since only
        pairs within one bin have an unknown order; it is half of their share. Ties of :func:`score_counts` are real and
        count half in both. NaN without positives or negatives.

    Examples
    --------
    >>> counts = analysis.patient_counts(store.histogram, applicable=store.applicable)
    >>> analysis.auc(counts)["auc"].dims
    ('condition', 'class_name')
    """
    positives, negatives = split_truth(counts)
    found, bound = ranked.area(*_plain(positives, negatives))
    over = positives.isel(bin=0, drop=True)
    return xr.Dataset({"auc": over.copy(data=found), "bound": over.copy(data=bound * (not is_exact(counts)))})


def average_precision(counts: xr.DataArray) -> xr.Dataset:
    """The mean precision over positives, at the threshold of each; arguments and errors as for :func:`roc`.

    Returns
    -------
    xarray.Dataset
        ``average_precision`` float64 (…), and ``bound``: within it of the value lies that of any order of scores within
        bins; positives and negatives of a bin are taken to be mixed evenly. 0 of :func:`score_counts`, where the value
        is scikit-learn's. NaN without positives.

    Examples
    --------
    >>> counts = analysis.patient_counts(store.histogram, applicable=store.applicable)
    >>> list(analysis.average_precision(counts))
    ['average_precision', 'bound']
    """
    positives, negatives = split_truth(counts)
    found, bound = ranked.average_precision(*_plain(positives, negatives), exact=is_exact(counts))
    over = positives.isel(bin=0, drop=True)
    return xr.Dataset({"average_precision": over.copy(data=found), "bound": over.copy(data=bound)})


def is_exact(counts: xr.DataArray) -> bool:
    """Whether each bin holds one score, as of :func:`score_counts`."""
    return "threshold" in counts.coords


def thresholds(counts: xr.DataArray) -> xr.DataArray:
    """The score from which on a bin and those above it are called positive, inf for none: (…, point), falling.

    Raises
    ------
    AnalysisError
        if bins have neither the coordinate ``threshold`` nor ``bin``.
    """
    name = "threshold" if is_exact(counts) else "bin"
    if name not in counts.coords:
        raise AnalysisError("bins have no score: assign their lower edges with assign_coords(bin=…)")
    edges = counts.coords[name].reset_coords(drop=True)
    values = np.flip(edges.transpose(..., "bin").values, -1).astype(np.float64)
    padded = np.concatenate([np.full((*values.shape[:-1], 1), np.inf), values], axis=-1)
    return xr.DataArray(padded, dims=(*(dim for dim in edges.dims if dim != "bin"), "point"))


def _called(counts: xr.DataArray) -> xr.DataArray:
    """How many are called positive at each of `thresholds`: (…, point) float64."""
    values = np.flip(ranked.from_above(counts.values), -1)
    padded: Floats = np.concatenate([np.zeros((*values.shape[:-1], 1)), values], axis=-1)
    plain = counts.isel(bin=0, drop=True)
    coords = {name: coord for name, coord in plain.coords.items() if "bin" not in coord.dims}
    return xr.DataArray(padded, dims=(*plain.dims, "point"), coords=coords)


def _some(number: xr.DataArray) -> xr.DataArray:
    return number.where(number > 0)


def _plain(*arrays: xr.DataArray) -> tuple[Floats, ...]:
    return tuple(array.values for array in arrays)
