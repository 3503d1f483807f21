"""Overlap of prediction and truth, rates and volumes, from confusion counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.grouping import sample_mean
from actstore.analysis.members import Regions
from actstore.analysis.segmentation.counts import Pixels, has_prediction, measured, true_pixels, voxel_volume
from actstore.analysis.uncertainty.bootstrap import paired_change
from actstore.analysis.uncertainty.resamples import RESAMPLES

#: Which samples a mean of Dice counts: those whose true mask holds the class, or all.
Over = Literal["present", "all"]


def dice(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.DataArray:
    """Dice coefficient 2·|A∩B| / (|A|+|B|) of every foreground class: float64 (sample, condition, class_name), lazy.

    Parameters
    ----------
    confusion
        (sample, condition, true_class, predicted_class), pixel counts, background first.
    applicable
        bool (sample, condition). Without it, a matrix of zeros counts as not applicable.
    regions
        names along class_name, and the indices of the classes that each is made of, as ``store.members`` lists them;
        they may overlap. By default every class but the background.

    Returns
    -------
    xarray.DataArray
        1 where both masks are empty; NaN where the condition is not applicable.

    Raises
    ------
    AnalysisError
        if ``confusion`` lacks its class dimensions or their names.

    Examples
    --------
    >>> dice = analysis.dice(store.confusion, applicable=store.applicable)
    >>> dice.dims, dice["class_name"].values.tolist()
    (('sample', 'condition', 'class_name'), ['RV', 'MYO', 'LV'])
    """
    return _overlap("dice", lambda n: _ratio(2 * n.both, n.true + n.predicted), confusion, applicable, regions)


def jaccard(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.DataArray:
    """Jaccard index |A∩B| / (|A|+|B|-|A∩B|) of every foreground class: float64 (sample, condition, class_name), lazy.

    Arguments, empty masks and errors as in :func:`dice`.

    Examples
    --------
    >>> jaccard, dice = analysis.jaccard(store.confusion), analysis.dice(store.confusion)
    >>> bool((jaccard <= dice).where(dice.notnull(), True).all())
    True
    """
    return _overlap("jaccard", lambda n: _ratio(n.both, n.true + n.predicted - n.both), confusion, applicable, regions)


def sensitivity(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.DataArray:
    """Share |A∩B| / |B| of the true mask B that is predicted: float64 (sample, condition, class_name), lazy.

    NaN where the true mask is empty: there is nothing to find, and means leave such samples out
    (on such edge cases: Reinke et al., Nat. Methods 21 (2024), 182). Otherwise as :func:`dice`.

    Examples
    --------
    >>> analysis.sensitivity(store.confusion, applicable=store.applicable).dims
    ('sample', 'condition', 'class_name')
    """
    return _overlap("sensitivity", lambda n: _ratio(n.both, n.true, np.nan), confusion, applicable, regions)


def specificity(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.DataArray:
    """Share of the pixels outside the true mask that are not predicted: float64 (sample, condition, class_name), lazy.

    NaN where the true mask fills the image. Otherwise as :func:`dice`.

    Examples
    --------
    >>> analysis.specificity(store.confusion, applicable=store.applicable).dims
    ('sample', 'condition', 'class_name')
    """
    return _overlap(
        "specificity",
        lambda n: _ratio(n.image - n.true - n.predicted + n.both, n.image - n.true, np.nan),
        confusion,
        applicable,
        regions,
    )


def precision(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.DataArray:
    """Share |A∩B| / |A| of the predicted mask A that is true: float64 (sample, condition, class_name), lazy.

    NaN where the predicted mask is empty: there is no claim to check; :func:`sensitivity` shows what was missed.
    Otherwise as :func:`dice`.

    Examples
    --------
    >>> precision = analysis.precision(store.confusion, applicable=store.applicable)
    >>> precision.dims
    ('sample', 'condition', 'class_name')
    """
    return _overlap("precision", lambda n: _ratio(n.both, n.predicted, np.nan), confusion, applicable, regions)


def volume_difference(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.DataArray:
    """Predicted minus true volume in millilitres: float64 (sample, condition, class_name), lazy.

    ``confusion`` needs the coordinates spacing_z, spacing_y and spacing_x along sample, in millimetres; a slice counts
    as a slab of thickness spacing_z, so that slices add up to their volume. 0 where both masks are empty.

    Raises
    ------
    AnalysisError
        if a spacing is missing; as :func:`dice`.

    Examples
    --------
    >>> analysis.volume_difference(store.confusion, applicable=store.applicable).dims
    ('sample', 'condition', 'class_name')
    """
    millilitres = voxel_volume(confusion) / 1000
    excess = _overlap(
        "volume_difference", lambda n: (n.predicted - n.true).astype(np.float64), confusion, applicable, regions
    )
    return (excess * millilitres).rename(excess.name).assign_attrs(units="ml")


def relative_volume_difference(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.DataArray:
    """(|A| - |B|) / |B| of predicted mask A and true mask B: float64 (sample, condition, class_name), lazy.

    0 is equal, -1 nothing predicted; NaN where the true mask is empty, since no volume is a share of nothing. Otherwise
    as :func:`dice`.

    Examples
    --------
    >>> difference = analysis.relative_volume_difference(store.confusion, applicable=store.applicable)
    >>> bool(difference.min() >= -1)
    True
    """
    return _overlap(
        "relative_volume_difference",
        lambda n: _ratio(n.predicted - n.true, n.true, np.nan),
        confusion,
        applicable,
        regions,
    )


def segmentation_metrics(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> xr.Dataset:
    """Every measure that follows from confusion counts: variables float64 (sample, condition, class_name), lazy.

    Returns
    -------
    xarray.Dataset
        dice, jaccard, sensitivity, specificity, precision, volume_difference (millilitres) and
        relative_volume_difference, each as the function of that name.

    Raises
    ------
    AnalysisError
        as :func:`volume_difference`.

    Examples
    --------
    >>> list(analysis.segmentation_metrics(store.confusion, applicable=store.applicable))[:5]
    ['dice', 'jaccard', 'sensitivity', 'specificity', 'precision']
    """
    options: Any = {"applicable": applicable, "regions": regions}
    return xr.Dataset({measure.__name__: measure(confusion, **options) for measure in _MEASURES})


def dice_over(
    confusion: xr.DataArray,
    *,
    over: Over = "present",
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
) -> xr.DataArray:
    """Dice of the samples that a mean counts: float64 (sample, condition, class_name), NaN elsewhere; lazy.

    ``over`` = "present" keeps the samples whose true mask holds the class, "all" every applicable one. Dice of a class
    that neither mask holds is 1, so that a mean over "all" says as much about where the class lies as about the
    network; and the original is applicable to every sample, so that only "present" compares it with a perturbation of
    the class over the same samples.

    Raises
    ------
    AnalysisError
        for another value of ``over``; as :func:`dice`.

    Examples
    --------
    >>> present = analysis.dice_over(store.confusion, over="present", applicable=store.applicable)
    >>> bool(present.isnull().sum() > analysis.dice(store.confusion).isnull().sum())
    True
    """
    if over not in get_args(Over):
        raise AnalysisError(f"over = {over!r}: give {' or '.join(map(repr, get_args(Over)))}")
    values = dice(confusion, applicable=applicable, regions=regions)
    if over == "all":
        return values
    return values.where(true_pixels(confusion, regions) > 0)


def mean_dice(
    confusion: xr.DataArray,
    *,
    over: Over = "present",
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
) -> xr.DataArray:
    """Mean Dice over samples: float64 (condition, class_name), lazy; NaN where there is no sample to average.

    Arguments and errors as in :func:`dice_over`.

    Examples
    --------
    >>> mean = analysis.mean_dice(store.confusion, applicable=store.applicable)
    >>> mean.dims
    ('condition', 'class_name')
    """
    return sample_mean(dice_over(confusion, over=over, applicable=applicable, regions=regions)).rename("mean_dice")


def dice_change(
    confusion: xr.DataArray,
    *,
    over: Over = "present",
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Mean Dice before and after, over the same samples; lazy.

    As :func:`actstore.analysis.paired_change`, over (condition, class_name); ``confusion``, ``over``, ``applicable``
    and ``regions`` as for :func:`dice_over`, with the coordinate ``patient``.

    Examples
    --------
    >>> change = analysis.dice_change(store.confusion, applicable=store.applicable, resamples=200)
    >>> list(change)[:5]
    ['original', 'original_low', 'original_high', 'original_error', 'samples']
    """
    values = dice_over(confusion, over=over, applicable=applicable, regions=regions)
    return paired_change(values, resamples=resamples, confidence=confidence, seed=seed)


def _overlap(
    name: str,
    measure: Callable[[Pixels], NDArray[np.float64]],
    confusion: xr.DataArray,
    applicable: xr.DataArray | None,
    regions: Regions | None,
) -> xr.DataArray:
    values = measured(measure, confusion, regions, np.float64)
    return values.where(has_prediction(confusion) if applicable is None else applicable).rename(name)


def _ratio(part: NDArray[np.integer], whole: NDArray[np.integer], empty: float = 1.0) -> NDArray[np.float64]:
    return np.where(whole == 0, empty, part / np.where(whole == 0, 1, whole))


_MEASURES = (dice, jaccard, sensitivity, specificity, precision, volume_difference, relative_volume_difference)
