"""Tables of perturbations against something else: controls, repeats, rescaled inputs, the loss of Dice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.arrays import coordinate
from actstore.analysis.channels.controls import class_sensitivity, noise_floor
from actstore.analysis.patients.association import association, beside_frequency
from actstore.tables.rows import (
    LAYER_COLUMNS,
    PERTURBATION_COLUMNS,
    RESTS_ON,
    SAMPLE_COLUMNS,
    channel_frame,
    sample_rows,
)

CONTROLS_COLUMNS = (
    *PERTURBATION_COLUMNS, "channel", *RESTS_ON, "rescaled", "mad", "control", "difference",
    "effect", "effect_low", "effect_high", "p", "q", "tests", "sensitive", "note",
)  # fmt: skip
RESCALING_COLUMNS = (*SAMPLE_COLUMNS, "condition", "target", "region", "factor")
NOISE_COLUMNS = (*LAYER_COLUMNS, "channel", "condition", *RESTS_ON, "mad", "largest")
ASSOCIATION_COLUMNS = (
    *PERTURBATION_COLUMNS, "class_name", "channel", *RESTS_ON, "left_out", "correlation", "low", "high",
    "p", "q", "tests", "size_correlation", "size_baseline", "frequency", "frequency_rank", "association_rank", "note",
)  # fmt: skip


def controls_table(
    score: xr.DataArray,
    scale: xr.DataArray | None = None,
    *,
    rescaled: xr.DataArray | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Every channel against its control, in columns :data:`CONTROLS_COLUMNS`.

    Arguments and errors as in :func:`actstore.analysis.class_sensitivity`.

    Examples
    --------
    >>> list(analysis.controls_table(findings.score))[:5]
    ['layer', 'module', 'condition', 'target', 'channel']
    """
    return channel_frame(class_sensitivity(score, scale, rescaled=rescaled, alpha=alpha), CONTROLS_COLUMNS)


def rescaling_table(factor: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """By how much each input was rescaled, in columns :data:`RESCALING_COLUMNS`, but for the original and its repeats.

    ``factor`` is of :func:`actstore.analysis.rescaling`. Without ``applicable``, bool (sample, condition), rows of an
    unknown factor are left out.

    Raises
    ------
    AnalysisError
        if a coordinate is missing.

    Examples
    --------
    >>> list(analysis.rescaling_table(store.rescaling, applicable=store.applicable))
    ['patient', 'frame', 'slice', 'condition', 'target', 'region', 'factor']
    """
    changed = coordinate(factor, "target", "condition") != ""
    valid = factor.notnull() if applicable is None else applicable.astype(bool)
    return sample_rows(factor, {"factor": factor}, RESCALING_COLUMNS, valid & changed)


def noise_table(score: xr.DataArray) -> pd.DataFrame:
    """The noise of computing, in columns :data:`NOISE_COLUMNS`.

    Argument and errors as in :func:`actstore.analysis.noise_floor`.

    Examples
    --------
    >>> list(analysis.noise_table(findings.score))
    ['layer', 'module', 'channel', 'condition', 'samples', 'patients', 'mad', 'largest']
    """
    floor = noise_floor(score)
    return channel_frame(floor, NOISE_COLUMNS, conditions=np.arange(floor.sizes["condition"]))


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

    Examples
    --------
    >>> table = analysis.association_table(findings.score, findings.dice, findings.member)
    >>> list(table)[:6]
    ['layer', 'module', 'condition', 'target', 'class_name', 'channel']
    """
    associated = association(score, dice, size=size, confidence=confidence)
    return channel_frame(beside_frequency(associated, member, applicable=applicable), ASSOCIATION_COLUMNS)
