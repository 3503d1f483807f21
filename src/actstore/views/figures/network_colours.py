"""Colours of the layer x channel map of a network, and the channels that it marks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.channels.controls import SAME_AS_CONTROL, class_sensitivity
from actstore.analysis.channels.ranking import NO_CHANNEL, highest
from actstore.analysis.evidence import FEWEST_PATIENTS
from actstore.conditions import CONTROL
from actstore.errors import StoreError
from actstore.measures.names import TOP
from actstore.units import counted
from actstore.views.figures.theme import DIVERGING, SEQUENTIAL

#: "effect" is that of an intervention.
Colour = Literal["mad", "frequency", "standardised", "control", "maximum", "effect"]


def control_of(conditions: pd.DataFrame, condition: int) -> list[int]:
    """The number of the control of a perturbation, if it has one.

    ``conditions`` is :attr:`actstore.store.store.Store.conditions`.
    """
    own = conditions.iloc[condition]
    if own["region"] == CONTROL:
        return []
    same = conditions["region"] == CONTROL
    for name in SAME_AS_CONTROL:
        if name in conditions:
            same &= conditions[name] == own[name]
    return [int(c) for c in np.flatnonzero(same)]


def with_control(conditions: pd.DataFrame, condition: int) -> list[int]:
    """The numbers of a perturbation and of its control.

    Raises
    ------
    StoreError
        if it has none, naming what the run's spec would need.
    """
    at = [condition, *control_of(conditions, condition)]
    if len(at) < 2:
        raise StoreError(
            f"{conditions.index[condition]} has no control: set `region = true` below [controls] in the spec, "
            "or choose another condition or colour"
        )
    return at


def effect(score: xr.DataArray, rescaled: xr.DataArray) -> NDArray[np.float64]:
    """Hedges' g of the MAD under a perturbation against that under its control, paired by patient: (channel).

    Parameters
    ----------
    score
        MAD, (sample, condition, channel): of the perturbation, then of its control, with the store's coordinates.
    rescaled
        bool (sample, condition): as of :func:`actstore.analysis.class_sensitivity`.

    Raises
    ------
    StoreError
        if the samples with a control are of too few patients, those left out that were rescaled.
    """
    tested = class_sensitivity(score, rescaled=rescaled).isel(condition=0)
    found: NDArray[np.float64] = tested["effect"].values
    if np.isnan(found).all():
        lost = int(tested["rescaled"])
        why = f" ({counted(lost, 'sample')} rescaled by normalisation left out)" if lost else ""
        raise StoreError(
            f"an effect against control needs {FEWEST_PATIENTS} patients with both{why}: select more samples, or "
            "choose another colour"
        )
    return found


def limits_of(values: NDArray[Any], colour: Colour) -> tuple[tuple[float, float], str]:
    """Limits and colour map: from 0 to nearly the largest value; symmetric about 0 for an effect and for
    values of maps."""
    known = np.abs(values[np.isfinite(values)])
    # Not the maximum: one channel far above all others would leave these without colour.
    most = 1.0 if colour == "frequency" else (float(np.quantile(known, 0.995)) if known.size else 0.0) or 1.0
    return ((-most, most), DIVERGING) if colour in ("control", "maximum", "effect") else ((0.0, most), SEQUENTIAL)


def top_cells(grid: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """(row, channel) of the three largest values in each row of ``grid`` (layer, channel), the first of equal ones.

    Neither 0, no change, nor NaN, an unknown one, is marked.
    """
    for row, best in enumerate(highest(np.where(grid != 0, grid, np.nan), TOP)):
        yield from ((row, int(channel)) for channel in best if channel != NO_CHANNEL)
