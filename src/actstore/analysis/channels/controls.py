"""Perturbations compared with their control region, and with the noise of computing."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, coordinate, is_original, one_chunk, require_dims
from actstore.analysis.channels.relative import in_units
from actstore.analysis.evidence import FEWEST_PATIENTS, PERTURBATION, patients_of, perturbations
from actstore.analysis.grouping import patient_means, sample_mean, samples_and_patients
from actstore.analysis.uncertainty.corrections import corrected_p, notes_on
from actstore.conditions import CONTROL
from actstore.units import counted

_DIMS = ("sample", "condition", "channel")
#: The coordinates that a perturbation shares with its control.
SAME_AS_CONTROL = (*PERTURBATION, "strength")
_RESCALED = 'rescaled by normalisation: set data.preprocess.window = "original"'
_NOTE = "U192"
_NUMBERS = ("mad", "control", "difference", "effect", "effect_low", "effect_high", "p")


def class_sensitivity(
    score: xr.DataArray,
    scale: xr.DataArray | None = None,
    *,
    rescaled: xr.DataArray | None = None,
    alpha: float = 0.05,
) -> xr.Dataset:
    """Whether a channel answers to a class more than to the same perturbation elsewhere in the body; lazy.

    Parameters
    ----------
    score
        (sample, condition, channel), for example the MAD of all layers, with the coordinates ``patient`` along sample
        and ``transform``, ``target``, ``strength`` and ``region`` along condition.
    scale
        (channel), for example :func:`actstore.analysis.pooled_std`: what scores are divided by. Neither the effect
        size nor p depends on it.
    rescaled
        bool (sample, condition), for example ``rescaling(…) != 1``: where normalisation changed what was not perturbed.
        A sample where it did so for the perturbation or for its control is left out of means and test: there, channels
        that see any of the image answer. Without it none is left out.
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
        and ``difference`` > 0; ``samples``, ``patients`` and ``note``; ``rescaled`` int64 (condition), how many samples
        to which both apply were left out as rescaled. Where differences are the same for all patients there is no test:
        effect and p are NaN.

    Raises
    ------
    AnalysisError
        if no condition has its control, a dimension or coordinate is missing, ``rescaled`` is of other samples or
        conditions, or ``alpha`` is not between 0 and 1.

    Notes
    -----
    g = J·d, d = mean / standard deviation of the differences, J = Γ(m/2) / (√(m/2) Γ((m-1)/2)) with m = patients - 1
    (Hedges, J. Educ. Stat. 6 (1981), 107, eq. 6e). d·√patients has a noncentral t distribution, whose noncentrality
    the interval inverts (Steiger & Fouladi, in: What if there were no significance tests?, 1997, 221), times J.

    Examples
    --------
    >>> list(analysis.class_sensitivity(findings.score))[:5]
    ['mad', 'control', 'difference', 'effect', 'effect_low']
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
    both = (abs(perturbed) < np.inf) & (abs(control) < np.inf)
    left_out = _either(score, rescaled, at, against)
    used = both & ~left_out
    perturbed, control = perturbed.where(used), control.where(xr.DataArray(used.variable))
    values = apply_lazily(
        _paired,
        (perturbed, ["sample"]),
        (control, ["sample"]),
        output_dims=[[]] * len(_NUMBERS),
        dtypes=[np.float64] * len(_NUMBERS),
        code=code,
    )
    result = xr.Dataset(dict(zip(_NUMBERS, values, strict=True)))
    result = result.assign(corrected_p(result["p"]).data_vars)
    result["sensitive"] = (result["q"] < alpha) & (result["difference"] > 0)
    rests = samples_and_patients(used)
    pairs = both.any("channel")
    counts = (pairs & left_out).sum("sample"), pairs.sum("sample")
    lost = samples_and_patients(both)["patients"] - rests["patients"]
    note = apply_lazily(
        _explained, *((array, ()) for array in (notes_on(rests["patients"], "test"), lost, *counts)), dtypes=[_NOTE]
    )
    return result.assign(rests.data_vars).assign(rescaled=counts[0].astype(np.int64), note=note)


def _either(score: xr.DataArray, rescaled: xr.DataArray | None, at: list[int], against: list[int]) -> xr.DataArray:
    """Where a perturbation or its control was rescaled: bool (sample, condition), the conditions of ``at``."""
    if rescaled is None:
        return xr.DataArray(np.zeros((score.sizes["sample"], len(at)), bool), dims=_DIMS[:2])
    require_dims(rescaled, _DIMS[:2])
    for dim in _DIMS[:2]:
        sizes = rescaled.sizes[dim], score.sizes[dim]
        names = [array.indexes[dim] for array in (rescaled, score) if dim in array.indexes]
        if sizes[0] != sizes[1] or (len(names) == 2 and not names[0].equals(names[1])):
            raise AnalysisError(
                f"rescaled has {sizes[0]} of {dim}, {score.name or 'score'} {sizes[1]}, or others: "
                "select the same of both"
            )
    every = one_chunk(rescaled.transpose(*_DIMS[:2]), ["sample"]).variable.astype(bool)
    return xr.DataArray(every.isel(condition=at) | every.isel(condition=against))


def _explained(
    note: NDArray[np.str_], lost: NDArray[np.int64], rescaled: NDArray[np.int64], pairs: NDArray[np.int64]
) -> NDArray[np.str_]:
    """``note`` and, where it says something and rescaling took patients away, how many samples were rescaled."""
    shape = np.broadcast_shapes(rescaled.shape, pairs.shape)
    counts = zip(*(np.broadcast_to(x, shape).ravel().tolist() for x in (rescaled, pairs)), strict=True)
    why = [f"; {n} of {counted(m, 'sample')} {'was' if n == 1 else 'were'} {_RESCALED}" for n, m in counts]
    return np.where((note != "") & (lost > 0), np.char.add(note, np.reshape(why, shape)), note).astype(_NOTE)


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

    Examples
    --------
    >>> list(analysis.noise_floor(findings.score))
    ['mad', 'largest', 'samples', 'patients']
    """
    repeats = _repeats(score)
    used = repeats.notnull()
    largest = repeats.fillna(-np.inf).max("sample")
    floor = xr.Dataset({"mad": sample_mean(repeats), "largest": largest.where(used.any("sample"))})
    return floor.assign(samples_and_patients(used).data_vars).transpose("condition", "channel")


def noise_ratio(score: xr.DataArray) -> xr.DataArray:
    """Mean score of each perturbation over that of the loudest repeat: float64 (condition, channel), lazy.

    Argument and errors as in :func:`noise_floor`. The conditions are the perturbations; inf where repeats are the same
    to the last bit, NaN where the perturbation changes nothing either.

    Examples
    --------
    >>> analysis.noise_ratio(findings.score).dims
    ('condition', 'channel')
    """
    loudest = sample_mean(_repeats(score)).max("condition")
    mean = sample_mean(score.isel(condition=perturbations(score)))
    ratio = mean / loudest.where(loudest != 0)
    return ratio.where((loudest != 0) | (mean == 0), np.inf).transpose("condition", "channel").rename("noise_ratio")


def _paired_with_control(score: xr.DataArray) -> tuple[list[int], list[int]]:
    """Positions of the perturbations that have a control, and of those controls."""
    changed = perturbations(score)
    for name in ("transform", "strength"):
        coordinate(score, name, "condition", "take the conditions of an opened store")
    keys = list(
        zip(*(score.coords[name].values.tolist() for name in SAME_AS_CONTROL if name in score.coords), strict=True)
    )
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
