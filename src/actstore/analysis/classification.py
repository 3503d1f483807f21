"""How often whole samples are classified right, and what a perturbation makes of their classes."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, coordinate
from actstore.analysis.evidence import perturbations
from actstore.analysis.segmentation.cases import NO_CASE
from actstore.analysis.segmentation.counts import CLASSES, class_names, has_prediction
from actstore.analysis.uncertainty.proportions import proportion

#: The case of a sample that is classified as it is labelled.
RIGHT = "right"
#: In place of a class, in the row of all of them.
EVERY = "all"


def correct(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> xr.DataArray:
    """Whether each sample is classified as it is labelled: float64 (sample, condition), 1 or 0; lazy.

    Parameters
    ----------
    confusion
        (sample, condition, true_class, predicted_class): 1 where a sample has that label and that prediction.
    applicable
        bool (sample, condition). Without it, a matrix of zeros counts as not applicable.

    Returns
    -------
    xarray.DataArray
        NaN where the condition is not applicable.

    Raises
    ------
    AnalysisError
        if ``confusion`` lacks its class dimensions or their names.

    Examples
    --------
    >>> right = analysis.correct(classified.confusion, applicable=classified.applicable)
    >>> right.dims
    ('sample', 'condition')
    """
    class_names(confusion)
    valid = has_prediction(confusion) if applicable is None else applicable.reset_coords(drop=True)
    found: xr.DataArray = apply_lazily(
        lambda counts: counts.diagonal(axis1=-2, axis2=-1).sum(-1).astype(np.float64),
        (confusion, CLASSES),
        output_dims=[[]],
        dtypes=[np.float64],
    )
    return found.where(valid).rename("right")


def true_classes(confusion: xr.DataArray) -> xr.DataArray:
    """The label of each sample: index among the classes, int64 (sample,), in memory.

    Raises
    ------
    AnalysisError
        if a sample has no label, or several, as a segmentation does.
    """
    counts = confusion.sum("predicted_class").max("condition").compute()
    if ((counts > 0).sum("true_class") != 1).any():
        raise AnalysisError(
            "some samples have pixels of several classes, or none: accuracy is for one class a sample, use dice here"
        )
    return counts.argmax("true_class").rename("label")


def accuracy(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, confidence: float = 0.95
) -> xr.Dataset:
    """The part of samples that is classified right: of all, and of those of each class; lazy.

    Parameters
    ----------
    confusion, applicable
        as in :func:`correct`, with the coordinate ``patient`` along sample.
    confidence
        of the interval over patients, as of :func:`actstore.analysis.uncertainty.proportions.proportion`; where
        patients are unknown, each sample counts as one.

    Returns
    -------
    xarray.Dataset
        Over (class_name, condition), "all" first: ``accuracy``, ``low``, ``high`` float64, ``samples``, ``patients``
        int64, ``note``. Of a class the accuracy is its sensitivity (recall).

    Raises
    ------
    AnalysisError
        as :func:`true_classes`; if ``patient`` is missing.

    Examples
    --------
    >>> right = analysis.accuracy(classified.confusion, applicable=classified.applicable)
    >>> list(right)
    ['accuracy', 'low', 'high', 'samples', 'patients', 'note']
    """
    right = correct(confusion, applicable=applicable)
    label = true_classes(confusion).values
    names = class_names(confusion)
    coordinate(confusion, "patient", "sample")
    parts = [right, *(right.where(xr.DataArray(label == k, dims="sample")) for k in range(len(names)))]
    whole = xr.concat(parts, xr.DataArray([EVERY, *names], dims="class_name", name="class_name"), coords="minimal")
    return proportion(whole, confidence=confidence).rename(mean="accuracy")


def class_cases(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> xr.DataArray:
    """What a perturbation makes of each sample's class: str (sample, condition), named "case"; lazy.

    "right", or "label→prediction"; "" for the original, its repeats and controls, and where the condition is not
    applicable. Arguments and errors as in :func:`correct`; the coordinate ``target`` along condition is needed too.

    Examples
    --------
    >>> kinds = analysis.class_cases(classified.confusion, applicable=classified.applicable)
    >>> kinds.dims, kinds.name
    (('sample', 'condition'), 'case')
    """
    names = class_names(confusion)
    perturbed = np.zeros(confusion.sizes["condition"], bool)
    perturbed[perturbations(confusion)] = True
    valid = has_prediction(confusion) if applicable is None else applicable.reset_coords(drop=True)
    kept = valid & xr.DataArray(perturbed, dims="condition")
    texts = np.array([[RIGHT if t == p else f"{t}→{p}" for p in names] for t in names])

    def label(counts: NDArray[np.integer], there: NDArray[np.bool_]) -> NDArray[np.str_]:
        pairs = counts.reshape(*counts.shape[:-2], -1).argmax(-1)
        return np.where(there, texts.ravel()[pairs], NO_CASE).astype(texts.dtype)

    found: xr.DataArray = apply_lazily(label, (confusion, CLASSES), (kept, []), output_dims=[[]], dtypes=[texts.dtype])
    return found.rename("case")
