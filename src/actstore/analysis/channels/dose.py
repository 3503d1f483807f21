"""How the MAD of a channel grows with the strength of a perturbation."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, require_dims
from actstore.analysis.channels.relative import in_units
from actstore.analysis.grouping import sample_mean, samples_and_patients
from actstore.analysis.strengths import SIDES, first_reached, identity_of, outward
from actstore.analysis.uncertainty.corrections import notes_on


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

    Examples
    --------
    >>> curve = analysis.by_strength(findings.score, "brightness", "LV")
    >>> list(analysis.mad_response(curve, analysis.pooled_std(findings.network)))[:5]
    ['mad', 'standardised', 'slope_below', 'threshold_below', 'slope_above']
    """
    identity = identity_of(curve)
    require_dims(curve, ["channel"])
    if not threshold > 0:
        raise AnalysisError(f"threshold = {threshold!r}: give standard deviations above 0")
    mean = sample_mean(curve)
    relative = in_units(mean, scale)
    results = apply_lazily(
        _responses,
        (mean, ["strength"]),
        (relative, ["strength"]),
        output_dims=[[]] * 4,
        dtypes=[np.float64] * 4,
        strengths=curve.coords["strength"].values,
        identity=identity,
        threshold=threshold,
    )
    names = [f"{what}_{side}" for side in SIDES for what in ("slope", "threshold")]
    response = xr.Dataset({"mad": mean, "standardised": relative, **dict(zip(names, results, strict=True))})
    response = response.assign(samples_and_patients(curve.notnull().any("strength")).data_vars)
    return response.assign(note=notes_on(response["patients"], "response"))


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
