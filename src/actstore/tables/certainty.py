"""Tables of how sure the most frequent channels are, and which patients differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.channels.frequency import channel_numbers
from actstore.analysis.channels.ranking import in_top
from actstore.analysis.channels.stability import frequency_certainty, sensitivity_to_k, set_stability
from actstore.analysis.evidence import perturbations
from actstore.analysis.layers import layer_coords, layer_slices
from actstore.analysis.patients.heterogeneity import heterogeneity
from actstore.analysis.patients.leave_one_out import leave_one_out
from actstore.analysis.uncertainty.bootstrap import Bootstrap
from actstore.measures.names import MOST, TOP
from actstore.tables.rows import PERTURBATION_COLUMNS, RESTS_ON, channel_frame

CERTAINTY_COLUMNS = (
    *PERTURBATION_COLUMNS,
    "channel",
    "count",
    *RESTS_ON,
    "frequency",
    "low",
    "high",
    "error",
    "selected",
    "note",
)
STABILITY_COLUMNS = (*PERTURBATION_COLUMNS, "k", "most", *RESTS_ON, "overlap", "low", "high", "note")
SENSITIVITY_COLUMNS = (*PERTURBATION_COLUMNS, "k", "most", *RESTS_ON, "overlap")
_TEST = ("volumes", "statistic", "p", "q", "tests", "highest", "share", "note")
HETEROGENEITY_COLUMNS = (*PERTURBATION_COLUMNS, "channel", "count", *RESTS_ON, *_TEST)
LEAVE_ONE_OUT_COLUMNS = (*PERTURBATION_COLUMNS, "patient", "samples", "shared", "gained", "lost")


def certainty_table(
    score: xr.DataArray,
    k: int = TOP,
    most: int = MOST,
    *,
    applicable: xr.DataArray | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """Each channel's frequency with its interval, in columns :data:`CERTAINTY_COLUMNS`.

    ``score``, ``k`` and ``applicable`` as in :func:`heterogeneity_table`, the rest, the values and errors as for
    :func:`actstore.analysis.frequency_certainty`.

    Examples
    --------
    >>> table = analysis.certainty_table(findings.score, applicable=findings.applicable, resamples=50)
    >>> list(table)[:6]
    ['layer', 'module', 'condition', 'target', 'channel', 'count']
    """
    member, valid = _top(score, k, applicable)
    return channel_frame(frequency_certainty(member, most, applicable=valid, **bootstrap), CERTAINTY_COLUMNS)


def stability_table(
    score: xr.DataArray,
    k: int = TOP,
    mosts: Sequence[int] = (TOP, MOST),
    *,
    applicable: xr.DataArray | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """How stable the sets of most frequent channels are over patients, in columns :data:`STABILITY_COLUMNS`.

    ``score``, ``k`` and ``applicable`` as in :func:`heterogeneity_table`, the rest, the values and errors as for
    :func:`actstore.analysis.set_stability`.

    Examples
    --------
    >>> list(analysis.stability_table(findings.score, applicable=findings.applicable, resamples=50))[:5]
    ['layer', 'module', 'condition', 'target', 'k']
    """
    member, valid = _top(score, k, applicable)
    found = set_stability(member, mosts, applicable=valid, **bootstrap)
    return channel_frame(found.assign_coords(k=k), STABILITY_COLUMNS)


def sensitivity_table(
    score: xr.DataArray,
    ks: Sequence[int] = (1, 2, 3, 5),
    mosts: Sequence[int] = (3, 5, 7, 10),
    reference: tuple[int, int] = (TOP, MOST),
    *,
    applicable: xr.DataArray | None = None,
) -> pd.DataFrame:
    """How the sets of most frequent channels depend on k and on their size, in columns :data:`SENSITIVITY_COLUMNS`.

    Arguments, values and errors as for :func:`actstore.analysis.sensitivity_to_k`.

    Examples
    --------
    >>> list(analysis.sensitivity_table(findings.score, applicable=findings.applicable))
    ['layer', 'module', 'condition', 'target', 'k', 'most', 'samples', 'patients', 'overlap']
    """
    return channel_frame(sensitivity_to_k(score, ks, mosts, reference, applicable=applicable), SENSITIVITY_COLUMNS)


def heterogeneity_table(
    score: xr.DataArray,
    k: int = TOP,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether patients differ in how often a channel is on top, in columns :data:`HETEROGENEITY_COLUMNS`.

    ``score`` (sample, condition, channel), of one layer or of :func:`actstore.analysis.stack_layers`; ``k`` and
    ``applicable`` as for :func:`actstore.analysis.in_top`; the rest, the values and errors as for
    :func:`actstore.analysis.heterogeneity`. Perturbations only; the correction is over these.

    Examples
    --------
    >>> list(analysis.heterogeneity_table(findings.score, applicable=findings.applicable, resamples=50))[:5]
    ['layer', 'module', 'condition', 'target', 'channel']
    """
    member, valid = _top(score, k, applicable)
    found = heterogeneity(member, applicable=valid, resamples=resamples, seed=seed)
    return channel_frame(found, HETEROGENEITY_COLUMNS)


def leave_one_out_table(
    score: xr.DataArray, k: int = TOP, most: int = MOST, *, applicable: xr.DataArray | None = None
) -> pd.DataFrame:
    """The most frequent channels without each patient, in columns :data:`LEAVE_ONE_OUT_COLUMNS`.

    A row for every layer, perturbation and patient with a sample of it: how many channels are in the set with and
    without the patient, and those that come in and drop out, as "3, 5". ``samples`` are those of the other patients.
    Arguments and errors as in :func:`heterogeneity_table` and :func:`actstore.analysis.leave_one_out`.

    Examples
    --------
    >>> list(analysis.leave_one_out_table(findings.score, applicable=findings.applicable))
    ['layer', 'module', 'condition', 'target', 'patient', 'samples', 'shared', 'gained', 'lost']
    """
    member, valid = _top(score, k, applicable)
    found = leave_one_out(member, most, applicable=valid).compute()
    number = member["channel"].values if "channel" in member.coords else np.arange(member.sizes["channel"])
    every = found["all"].transpose("condition", "channel").values
    without = found["without"].transpose("patient", "condition", "channel").values
    slices = list(layer_slices(member).values())
    changed = {
        "shared": [(without & every)[..., where].sum(axis=-1) for where in slices],
        "gained": [channel_numbers((without & ~every)[..., where], number[where]) for where in slices],
        "lost": [channel_numbers((~without & every)[..., where], number[where]) for where in slices],
    }
    arrays = {name: (("layer", "patient", "condition"), np.array(values)) for name, values in changed.items()}
    sizes = found[["samples", "left_out"]].drop_vars(["layer", "module"], errors="ignore")
    sets = sizes.assign(arrays).assign_coords(layer_coords(member))
    return channel_frame(sets, LEAVE_ONE_OUT_COLUMNS, keep=sets["left_out"] > 0)


def _top(score: xr.DataArray, k: int, applicable: xr.DataArray | None) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Membership and applicability of the perturbations only."""
    at = {"condition": perturbations(score)}
    return in_top(score, k, applicable=applicable).isel(at), None if applicable is None else applicable.isel(at)
