"""Tables of how channels and the segmentation respond: classes and cases, controls, doses, loss of Dice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.association import association, beside_frequency
from actstore.analysis.comparison import general_and_specific, shared_channels
from actstore.analysis.controls import class_sensitivity, noise_floor
from actstore.analysis.dose import case_changes, dice_curve, half_loss, mad_response
from actstore.analysis.frames import channel_frame
from actstore.analysis.resampling import RESAMPLES
from actstore.analysis.strengths import FEWEST_STRENGTHS, Dose, by_strength, doses, identity_of, outward
from actstore.analysis.uncertainty import Bootstrap

_LAYER = ("layer", "module")
_CONDITION = (*_LAYER, "condition", "target")
_RESTS = ("samples", "patients")
_ENDS = ("", "_low", "_high", "_error")

COMPARISON_COLUMNS = (*_LAYER, "channel", "targets", "number", "specific", "specific_share")
GENERAL_SPECIFIC_COLUMNS = (*_CONDITION, "case", *_RESTS, "correlation", "gained", "lost", "note")
CONTROLS_COLUMNS = (
    *_CONDITION, "channel", *_RESTS, "rescaled", "mad", "control", "difference", "effect", "effect_low", "effect_high",
    "p", "q", "tests", "sensitive", "note",
)  # fmt: skip
NOISE_COLUMNS = (*_LAYER, "channel", "condition", *_RESTS, "mad", "largest")
DOSE_COLUMNS = ("transform", "target", "class_name", "strength", *_RESTS, "dice", "low", "high", "error", "note")
DOSE_HALF_COLUMNS = (
    "transform", "target", "class_name", *_RESTS, "baseline",
    *(f"half_{side}{end}" for side in ("below", "above") for end in _ENDS), "note",
)  # fmt: skip
DOSE_CHANNELS_COLUMNS = (
    *_LAYER, "channel", "transform", "target", *_RESTS,
    "slope_below", "slope_above", "threshold_below", "threshold_above", "note",
)  # fmt: skip
DOSE_CASES_COLUMNS = (
    "patient", "frame", "slice", "transform", "target", "strength", "case", "previous_strength", "previous_case",
)  # fmt: skip
ASSOCIATION_COLUMNS = (
    *_CONDITION, "class_name", "channel", *_RESTS, "left_out", "correlation", "low", "high", "p", "q", "tests",
    "size_correlation", "size_baseline", "frequency", "frequency_rank", "association_rank", "note",
)  # fmt: skip


def comparison_table(
    member: xr.DataArray,
    most: int = 7,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Channels that are among the most frequent of any class, in columns :data:`COMPARISON_COLUMNS`.

    Arguments and errors as in :func:`actstore.analysis.shared_channels`.
    """
    shared = shared_channels(member, most, applicable=applicable, resamples=resamples, seed=seed)
    return channel_frame(shared, COMPARISON_COLUMNS, keep=shared["number"] > 0)


def general_specific_table(member: xr.DataArray, cases: xr.DataArray, most: int = 7) -> pd.DataFrame:
    """Order of channels within each case against that over all samples, in columns :data:`GENERAL_SPECIFIC_COLUMNS`.

    Arguments and errors as in :func:`actstore.analysis.general_and_specific`; a case without a sample has no row.
    """
    compared = general_and_specific(member, cases, most)
    return channel_frame(compared, GENERAL_SPECIFIC_COLUMNS, keep=compared["samples"] > 0)


def controls_table(
    score: xr.DataArray,
    scale: xr.DataArray | None = None,
    *,
    rescaled: xr.DataArray | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Every channel against its control, in columns :data:`CONTROLS_COLUMNS`.

    Arguments and errors as in :func:`actstore.analysis.class_sensitivity`.
    """
    return channel_frame(class_sensitivity(score, scale, rescaled=rescaled, alpha=alpha), CONTROLS_COLUMNS)


def noise_table(score: xr.DataArray) -> pd.DataFrame:
    """The noise of computing, in columns :data:`NOISE_COLUMNS`.

    Argument and errors as in :func:`actstore.analysis.noise_floor`.
    """
    floor = noise_floor(score)
    return channel_frame(floor, NOISE_COLUMNS, conditions=np.arange(floor.sizes["condition"]))


def dose_table(
    dice: xr.DataArray, *, applicable: xr.DataArray | None = None, **bootstrap: Unpack[Bootstrap]
) -> pd.DataFrame:
    """Mean Dice of every class at every strength, in columns :data:`DOSE_COLUMNS`, the original at its strength.

    ``dice`` is (sample, condition, class_name), ``applicable`` as in :func:`actstore.analysis.by_strength`; other
    arguments and errors as in :func:`actstore.analysis.dice_curve`. Of every transform and target in
    :func:`actstore.analysis.doses`, here and in the tables below; a source is named with the transform.

    Raises
    ------
    AnalysisError
        if there is no such transform and target.
    """

    def rows(curve: xr.DataArray) -> pd.DataFrame:
        return channel_frame(dice_curve(curve, **bootstrap), DOSE_COLUMNS)

    return _each_dose(dice, rows, applicable)


def dose_half_table(
    dice: xr.DataArray, *, applicable: xr.DataArray | None = None, **bootstrap: Unpack[Bootstrap]
) -> pd.DataFrame:
    """Strength at which half of the Dice is lost, in columns :data:`DOSE_HALF_COLUMNS`.

    As :func:`dose_table`, of :func:`actstore.analysis.half_loss`.
    """

    def rows(curve: xr.DataArray) -> pd.DataFrame:
        half = half_loss(curve, **bootstrap)
        return channel_frame(half, DOSE_HALF_COLUMNS)

    return _each_dose(dice, rows, applicable)


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
    """

    def rows(curve: xr.DataArray) -> pd.DataFrame:
        return channel_frame(mad_response(curve, scale, threshold=threshold), DOSE_CHANNELS_COLUMNS)

    return _each_dose(score, rows, applicable)


def dose_cases_table(cases: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """Where each slice changes its kind of failure, in columns :data:`DOSE_CASES_COLUMNS`.

    ``cases`` is (sample, condition); errors as in :func:`dose_table`. Rows of a slice go from the strength that changes
    nothing downwards, then from there upwards.
    """

    def rows(curve: xr.DataArray) -> pd.DataFrame:
        changes = case_changes(curve).assign_coords(sample=np.arange(curve.sizes["sample"]))
        strengths, identity = changes.coords["strength"].values, identity_of(curve)
        walk = np.concatenate([outward(strengths, identity, side)[1:] for side in ("below", "above")])
        changes = changes.isel(strength=walk)
        frame = channel_frame(changes, ("sample", *DOSE_CASES_COLUMNS), keep=changes["changed"])
        return frame.drop(columns="sample")

    return _each_dose(cases, rows, applicable)


def association_table(
    score: xr.DataArray,
    dice: xr.DataArray,
    member: xr.DataArray,
    *,
    size: xr.DataArray | None = None,
    applicable: xr.DataArray | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Association of each channel with the loss of Dice beside its frequency, in columns :data:`ASSOCIATION_COLUMNS`.

    Arguments and errors as in :func:`actstore.analysis.association` and :func:`actstore.analysis.beside_frequency`.
    """
    associated = association(score, dice, size=size, confidence=confidence)
    return channel_frame(beside_frequency(associated, member, applicable=applicable), ASSOCIATION_COLUMNS)


def _each_dose(
    array: xr.DataArray, rows: Callable[[xr.DataArray], pd.DataFrame], applicable: xr.DataArray | None
) -> pd.DataFrame:
    found = doses(array)
    if not found:
        raise AnalysisError(
            f"no transform and target has {FEWEST_STRENGTHS} strengths that change something: "
            "give `strengths` of `[[perturb]]` in the spec more values"
        )
    return pd.concat([rows(_labelled(array, dose, applicable)) for dose in found], ignore_index=True)


def _labelled(array: xr.DataArray, dose: Dose, applicable: xr.DataArray | None) -> xr.DataArray:
    curve = by_strength(array, dose.transform, dose.target, source=dose.source, applicable=applicable)
    label = f"{dose.transform}, source={dose.source}" if dose.source else dose.transform
    return curve.assign_coords(transform=label)
