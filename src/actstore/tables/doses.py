"""Tables of what follows from the strength of a perturbation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.channels.dose import mad_response
from actstore.analysis.segmentation.dose import case_changes, dice_curve, half_loss
from actstore.analysis.strengths import FEWEST_STRENGTHS, SIDES, Dose, by_strength, doses, identity_of, outward
from actstore.analysis.uncertainty.bootstrap import Bootstrap
from actstore.tables.rows import LAYER_COLUMNS, RESTS_ON, SAMPLE_COLUMNS, channel_frame, with_patch

_ENDS = ("", "_low", "_high", "_error")
DOSE_COLUMNS = ("transform", "target", "class_name", "strength", *RESTS_ON, "dice", "low", "high", "error", "note")
DOSE_HALF_COLUMNS = (
    "transform", "target", "class_name", *RESTS_ON, "baseline",
    *(f"half_{side}{end}" for side in ("below", "above") for end in _ENDS), "note",
)  # fmt: skip
DOSE_CHANNELS_COLUMNS = (
    *LAYER_COLUMNS, "channel", "transform", "target", *RESTS_ON,
    "slope_below", "slope_above", "threshold_below", "threshold_above", "note",
)  # fmt: skip
DOSE_CASES_COLUMNS = (
    *SAMPLE_COLUMNS, "transform", "target", "strength", "case", "previous_strength", "previous_case",
)  # fmt: skip


def dose_table(
    dice: xr.DataArray, *, applicable: xr.DataArray | None = None, **bootstrap: Unpack[Bootstrap]
) -> pd.DataFrame:
    """Mean Dice of every class at every strength, in columns :data:`DOSE_COLUMNS`, the original at its strength.

    ``dice`` is (sample, condition, class_name), ``applicable`` as in :func:`actstore.analysis.by_strength`; other
    arguments and errors as in :func:`actstore.analysis.dice_curve`. Of every transform and target in
    :func:`actstore.analysis.doses`, here and in the tables below; a source is named with the transform,
    and input channels where any is chosen in a column ``channels``.

    Raises
    ------
    AnalysisError
        if there is no such transform and target.

    Examples
    --------
    >>> list(analysis.dose_table(findings.averaged_dice, resamples=50))[:5]
    ['transform', 'target', 'class_name', 'strength', 'samples']
    """
    return _dose_rows(dice, partial(dice_curve, **bootstrap), DOSE_COLUMNS, applicable)


def dose_half_table(
    dice: xr.DataArray, *, applicable: xr.DataArray | None = None, **bootstrap: Unpack[Bootstrap]
) -> pd.DataFrame:
    """Strength at which half of the Dice is lost, in columns :data:`DOSE_HALF_COLUMNS`.

    As :func:`dose_table`, of :func:`actstore.analysis.half_loss`.

    Examples
    --------
    >>> list(analysis.dose_half_table(findings.averaged_dice, resamples=50))[:5]
    ['transform', 'target', 'class_name', 'samples', 'patients']
    """
    return _dose_rows(dice, partial(half_loss, **bootstrap), DOSE_HALF_COLUMNS, applicable)


def dose_channels_table(
    score: xr.DataArray,
    scale: xr.DataArray,
    *,
    applicable: xr.DataArray | None = None,
    threshold: float = 0.1,
) -> pd.DataFrame:
    """How each channel's MAD grows with the strength, in columns :data:`DOSE_CHANNELS_COLUMNS`.

    ``score`` is (sample, condition, channel); other arguments and errors as in :func:`actstore.analysis.mad_response`
    and :func:`dose_table`.

    Examples
    --------
    >>> scale = analysis.pooled_std(findings.network)
    >>> list(analysis.dose_channels_table(findings.score, scale, applicable=findings.applicable))[:5]
    ['layer', 'module', 'channel', 'transform', 'target']
    """
    return _dose_rows(score, partial(mad_response, scale=scale, threshold=threshold), DOSE_CHANNELS_COLUMNS, applicable)


def dose_cases_table(cases: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """Where each slice changes its kind of failure, in columns :data:`DOSE_CASES_COLUMNS`.

    ``cases`` is (sample, condition); errors as in :func:`dose_table`. Rows of a slice go from the strength that changes
    nothing downwards, then from there upwards.

    Examples
    --------
    >>> list(analysis.dose_cases_table(findings.cases, applicable=findings.applicable))[:5]
    ['patient', 'frame', 'slice', 'transform', 'target']
    """
    return _dose_rows(cases, _changes_outward, DOSE_CASES_COLUMNS, applicable)


def _changes_outward(curve: xr.DataArray) -> xr.Dataset:
    strengths, identity = curve.coords["strength"].values, identity_of(curve)
    walk = np.concatenate([outward(strengths, identity, side)[1:] for side in SIDES])
    return case_changes(curve).isel(strength=walk)


def _dose_rows(
    array: xr.DataArray,
    reduce: Callable[[xr.DataArray], xr.Dataset],
    columns: Sequence[str],
    applicable: xr.DataArray | None,
) -> pd.DataFrame:
    """Rows of ``reduce`` of every sweep, those where something ``changed`` if it says so."""
    frames = []
    for dose in doses(array):
        found = reduce(_labelled(array, dose, applicable))
        frames.append(channel_frame(found, with_patch(columns, found), keep=found.get("changed"), dims=("sample",)))
    if not frames:
        raise AnalysisError(
            f"no transform and target has {FEWEST_STRENGTHS} strengths that change something: "
            "give `strengths` of `[[perturb]]` in the spec more values"
        )
    return pd.concat(frames, ignore_index=True)


def _labelled(array: xr.DataArray, dose: Dose, applicable: xr.DataArray | None) -> xr.DataArray:
    curve = by_strength(array, **dose._asdict(), applicable=applicable)
    label = f"{dose.transform}, source={dose.source}" if dose.source else dose.transform
    return curve.assign_coords(transform=label)
