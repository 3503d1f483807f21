"""Overlap of prediction and truth, from confusion counts."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_dims

_CLASSES = ["true_class", "predicted_class"]


def class_names(confusion: xr.DataArray) -> list[str]:
    """The class names of ``confusion`` (…, true_class, predicted_class) in order, background first.

    Raises
    ------
    AnalysisError
        if a dimension or its coordinate is missing, or the two name different classes.
    """
    require_dims(confusion, _CLASSES)
    for dim in _CLASSES:
        if dim not in confusion.coords:
            raise AnalysisError(f"confusion has no class names along {dim!r}: assign them as its coordinate")
    true, predicted = (confusion.coords[dim].values.tolist() for dim in _CLASSES)
    if true != predicted:
        raise AnalysisError(f"confusion has true classes {true} but predicted classes {predicted}: reindex one")
    return [str(name) for name in true]


def counted(confusion: xr.DataArray) -> xr.DataArray:
    """Where a prediction was made: bool (sample, condition). A matrix without any pixel is of none; lazy."""
    require_dims(confusion, _CLASSES)
    return (confusion != 0).any(_CLASSES)


def dice(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> xr.DataArray:
    """Dice coefficient 2·|A∩B| / (|A|+|B|) of every foreground class: float64 (sample, condition, class_name), lazy.

    Parameters
    ----------
    confusion
        (sample, condition, true_class, predicted_class), pixel counts, background first.
    applicable
        bool (sample, condition). Without it, a matrix of zeros counts as not applicable.

    Returns
    -------
    xarray.DataArray
        1 where both masks are empty; NaN where the condition is not applicable.

    Raises
    ------
    AnalysisError
        if ``confusion`` lacks its class dimensions or their names.
    """
    return _overlap(confusion, _dice, applicable).rename("dice")


def jaccard(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> xr.DataArray:
    """Jaccard index |A∩B| / (|A|+|B|-|A∩B|) of every foreground class: float64 (sample, condition, class_name), lazy.

    Arguments, empty masks and errors as in :func:`dice`.
    """
    return _overlap(confusion, _jaccard, applicable).rename("jaccard")


def mean_dice(
    confusion: xr.DataArray,
    *,
    over: Literal["all", "present"] = "all",
    applicable: xr.DataArray | None = None,
) -> xr.DataArray:
    """Mean Dice over samples: float64 (condition, class_name), lazy.

    ``over`` = "all" averages over every applicable sample, "present" over those whose true mask holds the class. The
    original is applicable to every sample, so that only "present" compares it with a perturbation of the class itself
    over the same samples. NaN where there is no sample to average.

    Raises
    ------
    AnalysisError
        for another value of ``over``; as :func:`dice`.
    """
    if over not in ("all", "present"):
        raise AnalysisError(f"over = {over!r}: give 'all' or 'present'")
    values = dice(confusion, applicable=applicable)
    used = values.notnull()
    if over == "present":
        true = confusion.sum("predicted_class").isel(true_class=slice(1, None)).rename(true_class="class_name")
        used = used & (true > 0)
    number = used.sum("sample")
    return (values.where(used, 0.0).sum("sample") / number.where(number > 0)).rename("mean_dice")


def _overlap(confusion: xr.DataArray, measure: Any, applicable: xr.DataArray | None) -> xr.DataArray:
    names = class_names(confusion)
    values: xr.DataArray = xr.apply_ufunc(
        measure,
        one_chunk(confusion, _CLASSES),
        input_core_dims=[_CLASSES],
        output_core_dims=[["class_name"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"class_name": len(names) - 1}},
        keep_attrs=False,
    )
    values = values.assign_coords(class_name=names[1:])
    return values.where(counted(confusion) if applicable is None else applicable)


def _dice(confusion: NDArray[np.integer]) -> NDArray[np.float64]:
    both, true, predicted = _masks(confusion)
    return _ratio(2 * both, true + predicted)


def _jaccard(confusion: NDArray[np.integer]) -> NDArray[np.float64]:
    both, true, predicted = _masks(confusion)
    return _ratio(both, true + predicted - both)


def _masks(confusion: NDArray[np.integer]) -> tuple[NDArray[np.integer], ...]:
    """Pixels of the intersection, of the true and of the predicted mask, of every foreground class."""
    both = np.diagonal(confusion, axis1=-2, axis2=-1)
    return both[..., 1:], confusion.sum(axis=-1)[..., 1:], confusion.sum(axis=-2)[..., 1:]


def _ratio(part: NDArray[np.integer], whole: NDArray[np.integer]) -> NDArray[np.float64]:
    return np.where(whole == 0, 1.0, part / np.where(whole == 0, 1, whole))
