"""Compared with what: perturbations against their control region, and against the noise of computing."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, is_original, one_chunk, require_dims
from actstore.analysis.evidence import FEWEST_PATIENTS, patients_of, perturbations
from actstore.analysis.relative import in_units
from actstore.analysis.support import adjusted, noted, patient_means, support
from actstore.conditions import CONTROL

_DIMS = ("sample", "condition", "channel")
#: What a perturbation and its control have in common.
_SAME = ("transform", "target", "strength", "perturbation_source")
_NUMBERS = ("mad", "control", "difference", "effect", "effect_low", "effect_high", "p")


def class_sensitivity(score: xr.DataArray, scale: xr.DataArray | None = None, *, alpha: float = 0.05) -> xr.Dataset:
    """Whether a channel answers to a class more than to the same perturbation elsewhere in the body; lazy.

    Parameters
    ----------
    score
        (sample, condition, channel), for example the MAD of all layers, with the coordinates ``patient`` along sample
        and ``transform``, ``target``, ``strength`` and ``region`` along condition.
    scale
        (channel), for example :func:`actstore.analysis.pooled_std`: what scores are divided by. Neither the effect
        size nor p depends on it.
    alpha
        Rate of false discoveries that is accepted.

    Returns
    -------
    xarray.Dataset
        Along (condition, channel), the conditions being the perturbations that have a control: ``mad`` and ``control``,
        the means over patients of the means over a patient's slices where both apply and are finite; ``difference``
        between them; ``effect``, Hedges' g of the paired differences, from ``effect_low`` to ``effect_high`` (95 %
        confidence); ``p`` of the one-sided paired t-test over patient means (greater), which slices would not do for:
        those of a patient are not independent, and would count the same patient many times; ``q``, ``p`` corrected over
        the ``tests`` of its family (:func:`actstore.analysis.evidence.families`); ``sensitive`` bool, ``q`` < ``alpha``
        and ``difference`` > 0; ``samples``, ``patients`` and ``note``. Where differences are the same for all
        patients there is no test: effect and p are NaN.

    Raises
    ------
    AnalysisError
        if no condition has its control, a dimension or coordinate is missing, or ``alpha`` is not between 0 and 1.

    Notes
    -----
    g = J·d, d = mean / standard deviation of the differences, J = Γ(m/2) / (√(m/2) Γ((m-1)/2)) with m = patients - 1
    (Hedges, J. Educ. Stat. 6 (1981), 107, eq. 6e). d·√patients has a noncentral t distribution, whose noncentrality
    the interval inverts (Steiger & Fouladi, in: What if there were no significance tests?, 1997, 221), times J.
    """
    require_dims(score, _DIMS)
    if not 0 < alpha < 1:
        raise AnalysisError(f"alpha = {alpha!r}: give a rate between 0 and 1")
    code, _ = patients_of(score)
    at, against = _paired_with_control(score)
    score = score if scale is None else in_units(score, scale)
    score = one_chunk(score.transpose(*_DIMS), ["sample"])
    perturbed = score.isel(condition=at)
    control = xr.DataArray(score.isel(condition=against).variable)
    values = xr.apply_ufunc(
        _paired,
        perturbed,
        control,
        kwargs={"code": code},
        input_core_dims=[["sample"], ["sample"]],
        output_core_dims=[[]] * len(_NUMBERS),
        dask="parallelized",
        output_dtypes=[np.float64] * len(_NUMBERS),
        keep_attrs=False,
    )
    result = xr.Dataset(dict(zip(_NUMBERS, values, strict=True)))
    result = result.assign(adjusted(result["p"]).data_vars)
    result["sensitive"] = (result["q"] < alpha) & (result["difference"] > 0)
    rests = support((abs(perturbed) < np.inf) & (abs(control) < np.inf))
    return result.assign(rests.data_vars).assign(note=noted(rests["patients"], "test"))


def noise_floor(score: xr.DataArray) -> xr.Dataset:
    """How much each channel differs when the original is computed again; lazy.

    Parameters
    ----------
    score
        (sample, condition, channel), for example the MAD of all layers, with the coordinates ``condition``, ``target``
        and ``patient``.

    Returns
    -------
    xarray.Dataset
        Along (condition, channel), the conditions being the repeats of the original: ``mad`` and ``largest`` float64,
        mean and maximum over samples; ``samples`` and ``patients`` int64. NaN without a sample.

    Raises
    ------
    AnalysisError
        if the store holds no repeat of the original, or a dimension or coordinate is missing.
    """
    repeats = _repeats(score)
    used = repeats.notnull()
    largest = repeats.fillna(-np.inf).max("sample")
    floor = xr.Dataset({"mad": _mean(repeats), "largest": largest.where(used.any("sample"))})
    return floor.assign(support(used).data_vars).transpose("condition", "channel")


def noise_ratio(score: xr.DataArray) -> xr.DataArray:
    """Mean score of each perturbation over that of the loudest repeat: float64 (condition, channel), lazy.

    Argument and errors as in :func:`noise_floor`. The conditions are the perturbations; inf where repeats are the same
    to the last bit, NaN where the perturbation changes nothing either.
    """
    loudest = _mean(_repeats(score)).max("condition")
    mean = _mean(score.isel(condition=perturbations(score)))
    ratio = mean / loudest.where(loudest != 0)
    return ratio.where((loudest != 0) | (mean == 0), np.inf).transpose("condition", "channel").rename("noise_ratio")


def _paired_with_control(score: xr.DataArray) -> tuple[list[int], list[int]]:
    """Positions of the perturbations that have a control, and of those controls."""
    changed = perturbations(score)
    for name in ("transform", "strength"):
        if name not in score.coords or score.coords[name].dims != ("condition",):
            raise AnalysisError(f"no coordinate {name!r} along condition: take the conditions of an opened store")
    keys = list(zip(*(score.coords[name].values.tolist() for name in _SAME if name in score.coords), strict=True))
    region = score.coords["region"].values.tolist() if "region" in score.coords else []
    control = {keys[i]: i for i, name in enumerate(region) if name == CONTROL}
    at = [int(i) for i in changed if keys[i] in control]
    if not at:
        raise AnalysisError("no perturbation has its control: capture with `[controls] region = true` in the spec")
    return at, [control[keys[i]] for i in at]


def _repeats(score: xr.DataArray) -> xr.DataArray:
    require_dims(score, _DIMS)
    perturbations(score)
    again = np.flatnonzero((score.coords["target"].values == "") & ~is_original(score).values)
    if not len(again):
        raise AnalysisError("no condition repeats the original: capture with `[controls] noise = true` in the spec")
    return score.isel(condition=again)


def _mean(score: xr.DataArray) -> xr.DataArray:
    number = score.notnull().sum("sample")
    return score.sum("sample") / number.where(number > 0)


def _paired(perturbed: NDArray[Any], control: NDArray[Any], code: NDArray[np.intp]) -> tuple[NDArray[np.float64], ...]:
    from scipy import special, stats

    used = np.isfinite(perturbed) & np.isfinite(control)
    first, second = (patient_means(np.where(used, x, np.nan), code) for x in (perturbed, control))
    differences = np.ma.masked_invalid(first - second)
    number = differences.count(axis=-1)
    mad, against, mean = (np.ma.masked_invalid(x).mean(axis=-1) for x in (first, second, differences))
    enough = number >= FEWEST_PATIENTS
    differences = np.ma.masked_where(np.broadcast_to(~enough[..., None], differences.shape), differences)
    test = stats.mstats.ttest_1samp(differences, 0.0, axis=-1, alternative="greater")
    t, p = (np.ma.filled(np.ma.asarray(x, dtype=np.float64), np.nan) for x in (test.statistic, test.pvalue))
    freedom = np.where(enough, number - 1.0, np.nan)
    unbiased = np.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) / np.sqrt(freedom / 2)
    to_effect = unbiased / np.sqrt(np.where(enough, number, np.nan))
    low, high = (special.nctdtrinc(freedom, chance, t) * to_effect for chance in (0.975, 0.025))
    means = (np.ma.filled(x, np.nan) for x in (mad, against, mean))
    return (*means, t * to_effect, low, high, p)
