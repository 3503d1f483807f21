"""How Dice and the kind of failure change with the strength of a perturbation."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import apply_lazily, require_positive
from actstore.analysis.evidence import note, patients_of
from actstore.analysis.grouping import count_by, samples_and_patients, sum_by
from actstore.analysis.segmentation.cases import NO_CASE
from actstore.analysis.strengths import SIDES, first_reached, identity_of, outward
from actstore.analysis.uncertainty.bootstrap import bootstrap_mean, interval, require_confidence
from actstore.analysis.uncertainty.resamples import RESAMPLES, draws_of


def dice_curve(
    curve: xr.DataArray, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """Mean Dice at each strength: ``dice``, ``low``, ``high``, ``error``, ``samples``, ``patients`` and ``note``; lazy.

    ``curve`` is (sample, strength, class_name), of :func:`by_strength`. Intervals resample patients, as
    :func:`actstore.analysis.bootstrap_mean`, whose arguments and errors these are.

    Examples
    --------
    >>> curve = analysis.by_strength(findings.averaged_dice, "brightness", "LV")
    >>> analysis.dice_curve(curve, resamples=50)["dice"].dims
    ('strength', 'class_name')
    """
    identity_of(curve)
    return bootstrap_mean(curve, resamples=resamples, confidence=confidence, seed=seed).rename(mean="dice")


def half_loss(
    curve: xr.DataArray, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """The strength at which half of the Dice is lost that there is without perturbation; lazy.

    Parameters
    ----------
    curve
        (sample, strength, class_name), of :func:`by_strength`, with the coordinate ``patient``.
    resamples, confidence, seed
        Of the bootstrap over patients (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13): the curve
        is made anew from all slices of the patients drawn, and its crossing found; levels as for
        :func:`actstore.analysis.bootstrap_mean`.

    Returns
    -------
    xarray.Dataset
        Along class_name: ``baseline``, the mean Dice of the original; ``half_below`` and ``half_above``, the strength
        at which the mean curve, drawn straight between strengths, first comes down to half of it going from the
        identity to lower and to higher strengths, NaN where it never does; ``half_below_low``, ``half_below_high`` …,
        their intervals, NaN at an end that lies beyond the strengths, which ``note`` says; ``half_below_error`` …, the
        Monte-Carlo error of these ends as of :func:`actstore.analysis.bootstrap_mean`, of the end that there is, and
        inf where draws next to it never come down to half; ``samples`` and ``patients``.

    Raises
    ------
    AnalysisError
        if ``curve`` is not of :func:`by_strength` or has no coordinate ``patient``.

    Examples
    --------
    >>> curve = analysis.by_strength(findings.averaged_dice, "brightness", "LV")
    >>> list(analysis.half_loss(curve, resamples=50))[:5]
    ['baseline', 'half_below', 'half_below_low', 'half_below_high', 'half_below_error']
    """
    identity = identity_of(curve)
    code, _ = patients_of(curve)
    ends = [f"half_{side}{end}" for side in SIDES for end in ("", "_low", "_high", "_error")]
    values = apply_lazily(
        _halves,
        (curve, ["sample", "strength"]),
        output_dims=[[]] * 10,
        dtypes=[np.float64] * 9 + ["U128"],
        code=code,
        strengths=curve.coords["strength"].values,
        identity=identity,
        draw=(require_positive("resamples", resamples), require_confidence(confidence), seed),
    )
    result = xr.Dataset(dict(zip(["baseline", *ends, "note"], values, strict=True)))
    return result.assign(samples_and_patients((abs(curve) < np.inf).any("strength")).data_vars)


def case_changes(curve: xr.DataArray) -> xr.Dataset:
    """Where each slice changes its kind of failure, going away from the strength that changes nothing; lazy.

    ``curve`` is the cases by strength: str (sample, strength). Returns ``case``, ``previous_case`` and ``changed`` bool
    (sample, strength), and ``previous_strength`` (strength), the next strength towards the identity, NaN there. The
    original has no case (""): the step from it to the nearest strength is no change.

    Raises
    ------
    AnalysisError
        if ``curve`` is not of :func:`by_strength`.

    Examples
    --------
    >>> curve = analysis.by_strength(findings.cases, "brightness", "LV", applicable=findings.applicable)
    >>> list(analysis.case_changes(curve))
    ['case', 'previous_case', 'changed', 'previous_strength']
    """
    origin = int(np.flatnonzero(curve.coords["strength"].values == identity_of(curve))[0])
    strengths = curve.coords["strength"].values
    steps = np.arange(len(strengths))
    inner = steps - np.sign(steps - origin)
    previous = curve.isel(strength=inner).assign_coords(strength=strengths)
    towards = np.where(steps == origin, np.nan, strengths[inner])
    return xr.Dataset(
        {
            "case": curve,
            "previous_case": previous,
            "changed": (curve != previous) & (curve != NO_CASE) & (previous != NO_CASE),
            "previous_strength": ("strength", towards),
        }
    )


def _halves(
    values: NDArray[Any],
    code: NDArray[np.intp],
    strengths: NDArray[Any],
    identity: float,
    draw: tuple[int, float, int],
) -> tuple[NDArray[Any], ...]:
    cells = [_half(v, code, strengths, identity, draw) for v in values.reshape(-1, *values.shape[-2:])]
    numbers = np.array([numbers for numbers, _ in cells], dtype=np.float64).reshape(*values.shape[:-2], 9)
    notes = np.array([text for _, text in cells], dtype="U128").reshape(values.shape[:-2])
    return (*np.moveaxis(numbers, -1, 0), notes)


def _half(
    values: NDArray[Any],
    code: NDArray[np.intp],
    strengths: NDArray[Any],
    identity: float,
    draw: tuple[int, float, int],
) -> tuple[list[float], str]:
    """Baseline, crossing, low, high and error of either side, and the note, of ``values`` (sample, strength)."""
    resamples, confidence, seed = draw
    used = np.isfinite(values)
    number, sums = count_by(used, code), sum_by(np.where(used, values, 0.0), code)
    present = number.sum(axis=1) > 0
    number, sums, count = number[present], sums[present], int(present.sum())
    draws = draws_of(present, resamples, seed)
    weights = np.ones((1, count)) if draws is None else np.concatenate([np.ones((1, count)), draws.weights])
    total = weights @ number
    curves = np.divide(weights @ sums, total, out=np.full(total.shape, np.nan), where=total > 0)
    baseline = curves[:, strengths == identity][:, 0]
    level = np.where(baseline > 0, baseline / 2, np.nan)
    found, texts = [float(baseline[0])], [str(note(count)[()])]
    for side, beyond in zip(SIDES, (-np.inf, np.inf), strict=True):
        order = outward(strengths, identity, side)
        at = first_reached(-curves[:, order], strengths[order], -level)
        found.append(float(at[0]))
        if draws is None or np.isnan(at[0]):
            found += [np.nan] * 3
            continue
        kept = np.isnan(at[1:])
        ends = [float(end) for end in interval(np.where(kept, beyond, at[1:]), draws, confidence)]
        found += [end if np.isfinite(end) else np.nan for end in ends[:2]]
        found.append(ends[2])
        if np.isinf(ends[:2]).any():
            lost = float(draws.mean(kept))
            share = f"{100 * lost:.0f} %" if lost >= 0.005 else "less than 1 %"
            texts.append(f"open {side}: half is kept in {share} of resamples")
    return found, "; ".join(filter(None, texts))
