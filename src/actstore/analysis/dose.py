"""How much: what follows from a perturbation as its strength goes away from the one that changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_dims, require_positive
from actstore.analysis.cases import NO_CASE
from actstore.analysis.evidence import FEWEST_PATIENTS, note, patients_of
from actstore.analysis.relative import in_units
from actstore.analysis.resampling import RESAMPLES, patient_draws
from actstore.analysis.sets import per_patient
from actstore.analysis.strengths import first_reached, identity_of, outward
from actstore.analysis.support import noted, support
from actstore.analysis.uncertainty import bootstrap_mean, interval, require_confidence

#: Of the identity: lower and higher strengths.
SIDES = ("below", "above")


def dice_curve(
    curve: xr.DataArray, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """Mean Dice at each strength: ``dice``, ``low``, ``high``, ``error``, ``samples``, ``patients`` and ``note``; lazy.

    ``curve`` is (sample, strength, class_name), of :func:`by_strength`. Intervals resample patients, as
    :func:`actstore.analysis.bootstrap_mean`, whose arguments and errors these are.
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
    """
    identity = identity_of(curve)
    code, _ = patients_of(curve)
    ends = [f"half_{side}{end}" for side in SIDES for end in ("", "_low", "_high", "_error")]
    values = xr.apply_ufunc(
        _halves,
        one_chunk(curve, ["sample", "strength"]),
        kwargs={
            "code": code,
            "strengths": curve.coords["strength"].values,
            "identity": identity,
            "draw": (require_positive("resamples", resamples), require_confidence(confidence), seed),
        },
        input_core_dims=[["sample", "strength"]],
        output_core_dims=[[]] * 10,
        dask="parallelized",
        output_dtypes=[np.float64] * 9 + ["U128"],
        keep_attrs=False,
    )
    result = xr.Dataset(dict(zip(["baseline", *ends, "note"], values, strict=True)))
    return result.assign(support((abs(curve) < np.inf).any("strength")).data_vars)


def mad_response(curve: xr.DataArray, scale: xr.DataArray, *, threshold: float = 0.1) -> xr.Dataset:
    """How each channel's MAD grows with the distance from the strength that changes nothing; lazy.

    Parameters
    ----------
    curve
        MAD (sample, strength, channel), of :func:`by_strength`.
    scale
        (channel), of :func:`actstore.analysis.pooled_std`.
    threshold
        In standard deviations of the channel. The default 0.1 is half of what is called a small effect (Cohen,
        Statistical Power Analysis, 2nd ed. 1988, §2.2).

    Returns
    -------
    xarray.Dataset
        ``mad`` (strength, channel), mean over samples, and ``standardised``, the same divided by ``scale``. Along
        channel: ``slope_below`` and ``slope_above``, MAD per unit of distance from the identity on either side, by
        least squares of a line through 0 there; ``threshold_below`` and ``threshold_above``, the smallest distance at
        which ``standardised``, drawn straight between strengths, reaches ``threshold``; NaN where it never does or
        there is no strength on that side. ``samples``, ``patients`` and ``note``.

    Raises
    ------
    AnalysisError
        if ``curve`` is not of :func:`by_strength`, or ``threshold`` is not above 0.
    """
    identity = identity_of(curve)
    require_dims(curve, ["channel"])
    if not threshold > 0:
        raise AnalysisError(f"threshold = {threshold!r}: give standard deviations above 0")
    number = curve.notnull().sum("sample")
    mean = curve.sum("sample") / number.where(number > 0)
    relative = in_units(mean, scale)
    results = xr.apply_ufunc(
        _responses,
        one_chunk(mean, ["strength"]),
        one_chunk(relative, ["strength"]),
        kwargs={"strengths": curve.coords["strength"].values, "identity": identity, "threshold": threshold},
        input_core_dims=[["strength"], ["strength"]],
        output_core_dims=[[]] * 4,
        dask="parallelized",
        output_dtypes=[np.float64] * 4,
        keep_attrs=False,
    )
    names = [f"{what}_{side}" for side in SIDES for what in ("slope", "threshold")]
    response = xr.Dataset({"mad": mean, "standardised": relative, **dict(zip(names, results, strict=True))})
    response = response.assign(support(curve.notnull().any("strength")).data_vars)
    return response.assign(note=noted(response["patients"], "response"))


def case_changes(curve: xr.DataArray) -> xr.Dataset:
    """Where each slice changes its kind of failure, going away from the strength that changes nothing; lazy.

    ``curve`` is the cases by strength: str (sample, strength). Returns ``case``, ``previous_case`` and ``changed`` bool
    (sample, strength), and ``previous_strength`` (strength), the next strength towards the identity, NaN there. The
    original has no case (""): the step from it to the nearest strength is no change.

    Raises
    ------
    AnalysisError
        if ``curve`` is not of :func:`by_strength`.
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
    number, sums = per_patient(used, code), per_patient(np.where(used, values, 0.0), code)
    present = number.any(axis=1)
    number, sums, count = number[present], sums[present], int(present.sum())
    draws = patient_draws(count, resamples, seed) if count >= FEWEST_PATIENTS else None
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


def _responses(
    mean: NDArray[Any], relative: NDArray[Any], strengths: NDArray[Any], identity: float, threshold: float
) -> tuple[NDArray[np.float64], ...]:
    from scipy import linalg

    found = []
    for side in SIDES:
        order = outward(strengths, identity, side)
        distance = np.abs(strengths[order] - identity)
        heights = mean[..., order].reshape(-1, len(order))
        slope = np.full(len(heights), np.nan)
        finite = np.isfinite(heights).all(axis=-1) & (len(order) > 1)
        if finite.any():
            slope[finite] = linalg.lstsq(distance[:, None], heights[finite].T)[0][0]
        rising = relative[..., order]
        found += [
            slope.reshape(mean.shape[:-1]),
            first_reached(rising, distance, np.full(rising.shape[:-1], threshold)),
        ]
    return tuple(found)
