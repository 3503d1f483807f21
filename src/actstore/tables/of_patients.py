"""Tables of what patients have to do with it: who differs, how sure a number is, and what the ranking depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.evidence import perturbations
from actstore.analysis.frames import channel_frame
from actstore.analysis.heterogeneity import heterogeneity, leave_one_out
from actstore.analysis.network import in_top, layer_slices
from actstore.analysis.segmentation import Over
from actstore.analysis.stability import frequency_certainty, sensitivity_to_k, set_stability
from actstore.analysis.uncertainty import Bootstrap, bootstrap_mean, dice_change, layer_coords, layer_mean

_LAYER = ("layer", "module", "condition", "target")
_RESTS_ON = ("samples", "patients")

_TEST = ("volumes", "statistic", "p", "q", "tests", "highest", "share", "note")

HETEROGENEITY_COLUMNS = (*_LAYER, "channel", "count", *_RESTS_ON, *_TEST)
LEAVE_ONE_OUT_COLUMNS = (*_LAYER, "patient", "samples", "shared", "gained", "lost")
CERTAINTY_COLUMNS = (*_LAYER, "channel", "count", *_RESTS_ON, "frequency", "low", "high", "error", "selected", "note")
STABILITY_COLUMNS = (*_LAYER, "k", "most", *_RESTS_ON, "overlap", "low", "high", "note")
SENSITIVITY_COLUMNS = (*_LAYER, "k", "most", *_RESTS_ON, "overlap")
_RELATIVE = (*_RESTS_ON, "mad", "low", "high", "error", "standardised")
LAYERS_COLUMNS = (*_LAYER, *_RELATIVE, "mean_network_rank", "note")
RELATIVE_COLUMNS = (*_LAYER, "channel", *_RELATIVE, "network_rank", "note")
DICE_MEAN_COLUMNS = (
    *("class_name", "condition", "target", *_RESTS_ON),
    *(f"{name}{end}" for name in ("original", "perturbed", "change") for end in ("", "_low", "_high", "_error")),
    "note",
)


def heterogeneity_table(
    score: xr.DataArray,
    k: int = 3,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Whether patients differ in how often a channel is on top, in columns :data:`HETEROGENEITY_COLUMNS`.

    ``score`` (sample, condition, channel), of one layer or of :func:`actstore.analysis.stack_layers`; ``k`` and
    ``applicable`` as for :func:`actstore.analysis.in_top`; the rest, the values and errors as for
    :func:`actstore.analysis.heterogeneity`. Of the perturbations only, which the correction is over.
    """
    member, valid = _top(score, k, applicable)
    found = heterogeneity(member, applicable=valid, resamples=resamples, seed=seed)
    return channel_frame(found, HETEROGENEITY_COLUMNS)


def leave_one_out_table(
    score: xr.DataArray, k: int = 3, most: int = 7, *, applicable: xr.DataArray | None = None
) -> pd.DataFrame:
    """The most frequent channels without each patient, in columns :data:`LEAVE_ONE_OUT_COLUMNS`.

    A row for every layer, perturbation and patient with a sample of it: how many channels are in the set with and
    without the patient, and those that come in and drop out, as "3, 5". ``samples`` are those of the other patients.
    Arguments and errors as in :func:`heterogeneity_table` and :func:`actstore.analysis.leave_one_out`.
    """
    member, valid = _top(score, k, applicable)
    found = leave_one_out(member, most, applicable=valid).compute()
    number = member["channel"].values if "channel" in member.coords else np.arange(member.sizes["channel"])
    every = found["all"].transpose("condition", "channel").values
    without = found["without"].transpose("patient", "condition", "channel").values
    slices = list(layer_slices(member).values())
    changed = {
        "shared": [(without & every)[..., where].sum(axis=-1) for where in slices],
        "gained": [_listed((without & ~every)[..., where], number[where]) for where in slices],
        "lost": [_listed((~without & every)[..., where], number[where]) for where in slices],
    }
    arrays = {name: (("layer", "patient", "condition"), np.array(values)) for name, values in changed.items()}
    sizes = found[["samples", "left_out"]].drop_vars(["layer", "module"], errors="ignore")
    sets = sizes.assign(arrays).assign_coords(layer_coords(member))
    return channel_frame(sets, LEAVE_ONE_OUT_COLUMNS, keep=sets["left_out"] > 0)


def certainty_table(
    score: xr.DataArray,
    k: int = 3,
    most: int = 7,
    *,
    applicable: xr.DataArray | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """Each channel's frequency with its interval, in columns :data:`CERTAINTY_COLUMNS`.

    ``score``, ``k`` and ``applicable`` as in :func:`heterogeneity_table`, the rest, the values and errors as for
    :func:`actstore.analysis.frequency_certainty`.
    """
    member, valid = _top(score, k, applicable)
    return channel_frame(
        frequency_certainty(member, most, applicable=valid, **bootstrap),
        CERTAINTY_COLUMNS,
    )


def stability_table(
    score: xr.DataArray,
    k: int = 3,
    mosts: Sequence[int] = (3, 7),
    *,
    applicable: xr.DataArray | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """How stable the sets of most frequent channels are over patients, in columns :data:`STABILITY_COLUMNS`.

    ``score``, ``k`` and ``applicable`` as in :func:`heterogeneity_table`, the rest, the values and errors as for
    :func:`actstore.analysis.set_stability`.
    """
    member, valid = _top(score, k, applicable)
    found = set_stability(member, mosts, applicable=valid, **bootstrap)
    return channel_frame(found.assign_coords(k=k), STABILITY_COLUMNS)


def sensitivity_table(
    score: xr.DataArray,
    ks: Sequence[int] = (1, 2, 3, 5),
    mosts: Sequence[int] = (3, 5, 7, 10),
    reference: tuple[int, int] = (3, 7),
    *,
    applicable: xr.DataArray | None = None,
) -> pd.DataFrame:
    """What the sets of most frequent channels owe to k and their size, in columns :data:`SENSITIVITY_COLUMNS`.

    Arguments, values and errors as for :func:`actstore.analysis.sensitivity_to_k`.
    """
    return channel_frame(sensitivity_to_k(score, ks, mosts, reference, applicable=applicable), SENSITIVITY_COLUMNS)


def layers_table(
    mad: xr.DataArray,
    standardised: xr.DataArray,
    network_rank: xr.DataArray,
    *,
    applicable: xr.DataArray | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """Mean MAD of each layer under each perturbation, raw and relative, in columns :data:`LAYERS_COLUMNS`.

    Parameters
    ----------
    mad, standardised
        (sample, condition, channel), raw and in standard deviations of the original. Averaged over the channels of a
        layer, then over samples; the interval is the raw one's.
    network_rank
        (condition, channel) in [0, 1]. Averaged over the channels of a layer: ``mean_network_rank``.
    applicable
        bool (sample, condition). Without it, a condition counts as not applicable where every MAD of the layer is NaN.
    **bootstrap
        As for :func:`actstore.analysis.bootstrap_mean`, also for errors.
    """
    arrays = (layer_mean(mad), layer_mean(standardised), layer_mean(network_rank))
    found = _relative(*arrays, applicable, bootstrap).rename(network_rank="mean_network_rank")
    return channel_frame(found, LAYERS_COLUMNS)


def relative_table(
    mad: xr.DataArray,
    standardised: xr.DataArray,
    network_rank: xr.DataArray,
    *,
    applicable: xr.DataArray | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """Mean MAD of each channel under each perturbation, raw and relative, in columns :data:`RELATIVE_COLUMNS`.

    Arguments and errors as in :func:`layers_table`; nothing is averaged over channels.
    """
    return channel_frame(_relative(mad, standardised, network_rank, applicable, bootstrap), RELATIVE_COLUMNS)


def _relative(
    mad: xr.DataArray,
    standardised: xr.DataArray,
    network_rank: xr.DataArray,
    applicable: xr.DataArray | None,
    bootstrap: Bootstrap,
) -> xr.Dataset:
    """Means over samples, the raw one with its interval."""
    if applicable is not None:
        valid = applicable.reset_coords(drop=True)
        mad, standardised = mad.where(valid), standardised.where(valid)
    found = bootstrap_mean(mad, **bootstrap).rename(mean="mad")
    means = {"standardised": standardised.mean("sample"), "network_rank": network_rank}
    return found.assign({name: array.variable for name, array in means.items()})


def dice_mean_table(
    confusion: xr.DataArray,
    *,
    over: Over = "present",
    applicable: xr.DataArray | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """Mean Dice before and after each perturbation over the same samples, in columns :data:`DICE_MEAN_COLUMNS`.

    Arguments, values and errors as for :func:`actstore.analysis.dice_change`.
    """
    found = dice_change(confusion, over=over, applicable=applicable, **bootstrap)
    return channel_frame(found, DICE_MEAN_COLUMNS)


def _top(score: xr.DataArray, k: int, applicable: xr.DataArray | None) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Membership and applicability of the perturbations only."""
    at = {"condition": perturbations(score)}
    return in_top(score, k, applicable=applicable).isel(at), None if applicable is None else applicable.isel(at)


def _listed(chosen: NDArray[np.bool_], number: NDArray[Any]) -> NDArray[np.str_]:
    """The numbers of the channels that are chosen along the last axis, as "3, 5"."""
    cells = [", ".join(str(n) for n in number[cell]) for cell in chosen.reshape(-1, chosen.shape[-1])]
    return np.array(cells, dtype=str).reshape(chosen.shape[:-1])
