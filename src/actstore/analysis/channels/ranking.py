"""Which channels of a layer change most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, is_original, require_dims, require_positive
from actstore.analysis.grouping import Bools, Floats
from actstore.analysis.layers import layer_slices
from actstore.measures.compiled import as_written
from actstore.measures.names import METRICS, TOP, UNCHANGED, Order

#: In place of a channel where a rank has none.
NO_CHANNEL = -1

Channels = NDArray[np.int64]


def top_channels(
    score: xr.DataArray, k: int = TOP, *, applicable: xr.DataArray | None = None, order: Order | None = None
) -> xr.Dataset:
    """The ``k`` channels with the ``score`` of most change, per sample and condition; lazy where ``score`` is.

    A channel that did not change has no rank, however few did: its score is what the metric is between a map and itself
    (:data:`actstore.measures.names.UNCHANGED`; 0 for a score of another name, and no value if its smallest comes
    first). Nor has a channel whose score is NaN: that it changed is not known. That is a map which holds NaN, SSIM of a
    map smaller than its window, or 0 / 0, where a score is in units of what does not vary.

    Parameters
    ----------
    score
        (sample, condition, channel), for example :func:`actstore.analysis.mad`.
    k
        How many; beyond the number of channels that changed, all of these.
    applicable
        bool (sample, condition). Without it, a condition counts as not applicable where every channel is NaN.
    order
        Which values come first: "largest", "smallest" or, whatever their sign, largest "magnitude". By default by the
        name of the score: "ssim", "psnr" and "cosine" smallest, "mean_difference" by magnitude
        (:data:`actstore.measures.names.METRICS`), any other largest.

    Returns
    -------
    xarray.Dataset
        ``channel`` int64 and the score under its own name (``score`` if it has none) as float, both (sample,
        condition, rank), rank from 1 to at most the layer's channel count, the scalar coordinate ``channel_count``;
        ``applicable`` bool (sample, condition), False for the original. Equal scores of channels that changed rank by
        lower channel. Channel -1 and score NaN in ranks beyond the channels that changed, and in all where the
        condition is not applicable.

    Raises
    ------
    AnalysisError
        if ``k`` is below 1, ``order`` is unknown or the dimension channel is missing.

    Examples
    --------
    >>> top = analysis.top_channels(store.statistics("L02")["mad"], k=2, applicable=store.applicable)
    >>> list(top), top["channel"].dims
    (['channel', 'mad', 'applicable'], ('sample', 'condition', 'rank'))
    """
    valid, options = _options(score, applicable, order)
    count = score.sizes["channel"]
    k = min(require_positive("k", k), count)
    channel, value, counted = apply_lazily(
        _rank,
        (score, ["channel"]),
        (valid, []),
        output_dims=[["rank"], ["rank"], []],
        dtypes=[np.int64, np.result_type(score.dtype, np.float32), bool],
        output_sizes={"rank": k},
        k=k,
        **options,
    )
    ranked = xr.Dataset({"channel": channel, str(score.name or "score"): value, "applicable": counted})
    return ranked.assign_coords(rank=np.arange(1, k + 1), channel_count=count)


def in_top(
    score: xr.DataArray, k: int = TOP, *, applicable: xr.DataArray | None = None, order: Order | None = None
) -> xr.DataArray:
    """Whether a channel is among the top ``k`` of its layer by ``score``: bool (sample, condition, channel), lazy.

    Arguments and errors as in :func:`top_channels`; ``score`` may be of one layer or of :func:`stack_layers`. False
    for a channel that did not change, where the condition is not applicable, and for the original.

    Examples
    --------
    >>> member = analysis.in_top(store.statistics("L02")["mad"], k=2, applicable=store.applicable)
    >>> member.dims, int(member.sum("channel").max())
    (('sample', 'condition', 'channel'), 2)
    """
    k = require_positive("k", k)
    valid, options = _options(score, applicable, order)
    # One call for all layers: xarray takes longer to prepare one than the loops to rank a layer.
    found: xr.DataArray = apply_lazily(
        _members,
        (score, ["channel"]),
        (valid, []),
        output_dims=[["channel"]],
        dtypes=[bool],
        k=k,
        layers=list(layer_slices(score).values()),
        **options,
    )
    return found.transpose(*score.dims).rename("in_top")


def _options(
    score: xr.DataArray, applicable: xr.DataArray | None, order: Order | None
) -> tuple[xr.DataArray, dict[str, Any]]:
    """Where channels are ranked, bool along condition and sample, and what :func:`_rank` takes beside ``k``."""
    require_dims(score, ["channel"])
    if order is not None and order not in get_args(Order):
        raise AnalysisError(f"order = {order!r}: give {', '.join(map(repr, get_args(Order)))}, or None")
    perturbed = ~is_original(score)
    valid = perturbed if applicable is None else perturbed & applicable.reset_coords(drop=True)
    name = str(score.name)
    by = order or METRICS.get(name, "largest")
    unchanged = UNCHANGED.get(name, np.nan if by == "smallest" else 0.0)
    return valid, {"guess": applicable is None, "order": by, "unchanged": unchanged}


def _members(
    score: NDArray[Any], valid: NDArray[np.bool_], k: int, layers: Sequence[slice], **options: Any
) -> NDArray[np.bool_]:
    found = np.zeros(score.shape, dtype=bool)
    for where in layers:
        part = score[..., where]
        channels = part.shape[-1]
        found[..., where] = chosen(_rank(part, valid, min(k, channels), **options)[0], channels)
    return found


def _rank(
    score: NDArray[Any], valid: NDArray[np.bool_], k: int, guess: bool, order: Order, unchanged: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    missing = np.isnan(score)
    valid = np.broadcast_to(valid, score.shape[:-1])
    if guess:
        valid = valid & ~missing.all(axis=-1)
    values = score.astype(np.float64)
    unranked = missing | (values == unchanged) | ~valid[..., None]
    if order != "largest":
        values = np.abs(values) if order == "magnitude" else -values
    channel = highest(np.where(unranked, np.nan, values), k)
    value = np.take_along_axis(score, np.maximum(channel, 0), axis=-1).astype(np.result_type(score.dtype, np.float32))
    return channel, np.where(channel != NO_CHANNEL, value, np.nan), np.array(valid)


def highest(values: Floats, n: int) -> Channels:
    """The channels of the ``n`` highest ``values`` along the last axis, the highest first: int64 (…, n).

    Of equal values the lower channel comes first. NaN has no place; :data:`NO_CHANNEL` where there are fewer than ``n``
    numbers.
    """
    found = np.full((*values.shape[:-1], n), NO_CHANNEL, dtype=np.int64)
    rows = int(np.prod(values.shape[:-1]))
    _insert(np.ascontiguousarray(values).reshape(rows, values.shape[-1]), found.reshape(rows, n))
    return found


def chosen(channel: Channels, channels: int) -> Bools:
    """Whether each of ``channels`` is among ``channel`` (…, n), of :func:`highest`: bool (…, channel)."""
    found = np.zeros((*channel.shape[:-1], channels), dtype=bool)
    rows = int(np.prod(channel.shape[:-1]))
    _mark(np.ascontiguousarray(channel).reshape(rows, channel.shape[-1]), found.reshape(rows, channels))
    return found


@as_written
def _insert(values: Floats, found: Channels) -> None:
    """Insert each channel into the sorted list of its row, which holds no more than the n best."""
    rows, n = found.shape
    for row in range(rows):
        filled = 0
        for channel in range(values.shape[1]):
            value = values[row, channel]
            if np.isnan(value) or (filled == n and not value > values[row, found[row, n - 1]]):
                continue
            if filled < n:
                filled += 1
            place = filled - 1
            while place > 0 and value > values[row, found[row, place - 1]]:
                found[row, place] = found[row, place - 1]
                place -= 1
            found[row, place] = channel


@as_written
def _mark(channel: Channels, found: Bools) -> None:
    rows, n = channel.shape
    for row in range(rows):
        for place in range(n):
            if channel[row, place] >= 0:
                found[row, channel[row, place]] = True
