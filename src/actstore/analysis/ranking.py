"""Which channels change most, and how often over a set of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, is_original, one_chunk, require_dims, require_positive
from actstore.analysis.evidence import perturbations
from actstore.measures.names import METRICS, UNCHANGED, Order

NO_CHANNEL = -1

_DESCRIBE_CONDITION = ("transform", "target", "strength", "source", "region")
#: Keys along condition alone that tell controls and repeats from perturbations.
_TELLS_APART = ("condition", "region")

#: What to group by: the name of a coordinate, or a named array along sample and condition.
Key = str | xr.DataArray


def top_channels(
    score: xr.DataArray, k: int = 3, *, applicable: xr.DataArray | None = None, order: Order | None = None
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
        Which values come first: "largest", "smallest" or, whatever their sign, largest "magnitude". By default as the
        score's name asks for: "ssim", "psnr" and "cosine" smallest, "mean_difference" by magnitude
        (:data:`actstore.measures.names.METRICS`), any other largest.

    Returns
    -------
    xarray.Dataset
        ``channel`` int64 and the score under its own name (``score`` if it has none) as float, both (sample,
        condition, rank), rank from 1 to at most the layer's channel count, which is the scalar coordinate ``channels``;
        ``applicable`` bool (sample, condition), False for the original. Equal scores of channels that changed rank by
        lower channel. Channel -1 and score NaN in ranks beyond the channels that changed, and in all where the
        condition is not applicable.

    Raises
    ------
    AnalysisError
        if ``k`` is below 1, ``order`` is unknown or the dimension channel is missing.
    """
    require_dims(score, ["channel"])
    if order is not None and order not in get_args(Order):
        raise AnalysisError(f"order = {order!r}: give {', '.join(map(repr, get_args(Order)))}, or None")
    count = score.sizes["channel"]
    k = min(require_positive("k", k), count)
    perturbed = ~is_original(score)
    valid = perturbed if applicable is None else perturbed & applicable.reset_coords(drop=True)
    name = str(score.name)
    by = order or METRICS.get(name, "largest")
    channel, value, counted = xr.apply_ufunc(
        _rank,
        one_chunk(score, ["channel"]),
        valid,
        kwargs={
            "k": k,
            "guess": applicable is None,
            "order": by,
            "unchanged": UNCHANGED.get(name, np.nan if by == "smallest" else 0.0),
        },
        input_core_dims=[["channel"], []],
        output_core_dims=[["rank"], ["rank"], []],
        dask="parallelized",
        output_dtypes=[np.int64, np.result_type(score.dtype, np.float32), bool],
        dask_gufunc_kwargs={"output_sizes": {"rank": k}},
        keep_attrs=False,
    )
    ranked = xr.Dataset({"channel": channel, str(score.name or "score"): value, "applicable": counted})
    return ranked.assign_coords(rank=np.arange(1, k + 1), channels=count)


def _rank(
    score: NDArray[Any], valid: NDArray[np.bool_], k: int, guess: bool, order: Order, unchanged: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    missing = np.isnan(score)
    valid = np.broadcast_to(valid, score.shape[:-1])
    if guess:
        valid = valid & ~missing.all(axis=-1)
    rising = score.astype(np.float64)
    unranked = missing | (rising == unchanged)
    if order != "smallest":
        rising = -np.abs(rising) if order == "magnitude" else -rising
    # NaN is sorted behind all numbers, infinity too.
    channel = np.argsort(np.where(unranked, np.nan, rising), axis=-1, kind="stable")[..., :k]
    value = np.take_along_axis(score, channel, axis=-1).astype(np.result_type(score.dtype, np.float32))
    ranked = valid[..., None] & ~np.take_along_axis(unranked, channel, axis=-1)
    return np.where(ranked, channel, NO_CHANNEL), np.where(ranked, value, np.nan), np.array(valid)


def channel_frequency(top: xr.Dataset, by: Key | Sequence[Key] | None = None, most: int | None = None) -> xr.Dataset:
    """How often each channel is among the top, over the samples of each group; lazy where ``top`` is.

    Parameters
    ----------
    top
        Of :func:`top_channels`.
    by
        Names of coordinates, or named arrays, along sample, condition or both: "patient", "case",
        ``cases(store.confusion)``. Every combination of their values is a group. Each condition is counted apart,
        unless a key lies along condition alone ("target", "strength"): then the conditions that share its value are
        counted together. That is of perturbations alone: controls, and repeats of the original, are left out unless
        "condition" or "region" is a key too. The values of the keys are read at once, since they are the coordinates of
        the result.
    most
        Keep the ``most`` most frequent channels of each group, as :func:`most_frequent`.

    Returns
    -------
    xarray.Dataset
        ``count`` int64 (…by, condition, channel) and ``n`` int64 (…by, condition), the number of applicable samples
        that ``count`` rests on, those in which no channel changed among them. The original is no condition of it;
        entries whose key is "" along both sample and condition (no case) are left out.

    Raises
    ------
    AnalysisError
        if ``top`` is not of :func:`top_channels` or a key is unknown.
    """
    if not {"channel", "applicable"} <= {*top} or "channels" not in top.coords:
        raise AnalysisError("top has no channel ranks: give the result of top_channels")
    keys = [by] if isinstance(by, str | xr.DataArray) else list(by or [])
    ranks, channels = top["channel"], int(top.coords["channels"])
    over = [d for d in ("sample", "condition") if d in ranks.dims]
    labels = [_labels(ranks, key) for key in keys]
    if "condition" in over and all(array.dims != ("condition",) for array in labels):
        labels.append(_labels(ranks, "condition"))
    names = [str(array.name) for array in labels]
    if len(set(names)) < len(names):
        raise AnalysisError(f"by = {names}: name each key once")
    group, values = _groups(labels, ranks.isel(rank=0), over)
    sizes = {name: len(found) for name, found in values.items()}
    count, n = xr.apply_ufunc(
        _count,
        *(one_chunk(top[name].drop_vars(names, errors="ignore"), top[name].dims) for name in ("channel", "applicable")),
        group,
        kwargs={"sizes": tuple(sizes.values()), "channels": channels},
        input_core_dims=[[*over, "rank"], over, over],
        output_core_dims=[[*names, "channel"], names],
        exclude_dims=set(over),
        dask="parallelized",
        output_dtypes=[np.int64, np.int64],
        dask_gufunc_kwargs={"output_sizes": {**sizes, "channel": channels}},
        keep_attrs=False,
    )
    frequency = xr.Dataset({"count": count, "n": n}).assign_coords({**values, "channel": np.arange(channels)})
    if "condition" in names and "condition" in ranks.coords:
        first = pd.Index(ranks.coords["condition"].values).get_indexer_for(values["condition"])
        described = {n: ranks.coords[n] for n in _DESCRIBE_CONDITION if n in ranks.coords and n not in names}
        frequency = frequency.assign_coords({n: a.variable[first] for n, a in described.items() if a.ndim})
    return frequency if most is None else most_frequent(frequency, most)


def most_frequent(frequency: xr.Dataset, n: int = 7) -> xr.Dataset:
    """The ``n`` channels most often among the top, of each group; lazy where ``frequency`` is.

    Takes the result of :func:`channel_frequency` and returns ``channel`` and ``count`` int64 (…by, condition, rank),
    rank from 1, and ``n`` (…by, condition) unchanged. Equal counts rank by lower channel. Channel -1 and count 0 where
    fewer than ``n`` channels were ever among the top.

    Raises
    ------
    AnalysisError
        if ``n`` is below 1.
    """
    n = min(require_positive("n", n), frequency.sizes["channel"])
    channel, count = xr.apply_ufunc(
        _most,
        one_chunk(frequency["count"], ["channel"]),
        kwargs={"n": n},
        input_core_dims=[["channel"]],
        output_core_dims=[["rank"], ["rank"]],
        dask="parallelized",
        output_dtypes=[np.int64, np.int64],
        dask_gufunc_kwargs={"output_sizes": {"rank": n}},
        keep_attrs=False,
    )
    ranked = xr.Dataset({"channel": channel, "count": count, "n": frequency["n"]})
    return ranked.assign_coords(rank=np.arange(1, n + 1))


def _labels(ranks: xr.DataArray, key: Key) -> xr.DataArray:
    """The array of values that ``key`` names, along sample, condition or both."""
    if isinstance(key, xr.DataArray):
        if key.name is None:
            raise AnalysisError("an array in by has no name: give it one with .rename")
        array = key
    elif key in ranks.coords:
        array = ranks.coords[key]
    elif key == "condition" and "condition" in ranks.dims:
        array = xr.DataArray(np.arange(ranks.sizes["condition"]), dims="condition", name="condition")
    else:
        mend = "pass by=cases(confusion)" if key == "case" else f"use one of {', '.join(map(str, ranks.coords))}"
        raise AnalysisError(f"by = {key!r} is no coordinate of the ranks: {mend}")
    for dim in array.dims:
        if dim not in ("sample", "condition") or array.sizes[dim] != ranks.sizes.get(dim):
            raise AnalysisError(
                f"by = {array.name!r} has {dim} of size {array.sizes[dim]}, the ranks have "
                f"{dict(ranks.sizes)}: select the same samples and conditions"
            )
    return xr.DataArray(array.variable.to_base_variable(), name=str(array.name))


def _counted_conditions(labels: Sequence[xr.DataArray], cells: xr.DataArray) -> xr.DataArray:
    """bool (condition): all but the original, or perturbations alone where a key pools conditions."""
    if "condition" not in cells.dims:
        return xr.DataArray(True)
    counted = ~is_original(cells)
    pooled = any(array.dims == ("condition",) for array in labels)
    if pooled and "target" in cells.coords and not any(array.name in _TELLS_APART for array in labels):
        counted[np.setdiff1d(np.arange(counted.size), perturbations(cells))] = False
    return counted.drop_vars("condition", errors="ignore")


def _groups(
    labels: Sequence[xr.DataArray], cells: xr.DataArray, over: Sequence[str]
) -> tuple[xr.DataArray, dict[str, NDArray[Any]]]:
    """The number of each cell's group, -1 where it has none, along ``over``; and the values of each key."""
    group = xr.DataArray(np.zeros([cells.sizes[d] for d in over], np.int64), dims=over)
    perturbed = _counted_conditions(labels, cells)
    values = {}
    for array in labels:
        text = array.dtype.kind in "UOT"
        counted = (
            perturbed & (array != "") if array.ndim == 2 and text else perturbed if "condition" in array.dims else True
        )
        mask = np.broadcast_to(xr.ones_like(array, dtype=bool) & counted, array.shape)
        codes = np.full(array.shape, -1)
        codes[mask], found = pd.factorize(array.values[mask], sort=array.dims != ("condition",), use_na_sentinel=False)
        values[str(array.name)] = np.asarray(found)
        code = xr.DataArray(codes, dims=array.dims)
        group = (group * len(found) + code).where((group >= 0) & (code >= 0), -1).transpose(*over)
    return group, values


def _count(
    ranks: NDArray[np.int64],
    applicable: NDArray[np.bool_],
    group: NDArray[np.int64],
    sizes: tuple[int, ...],
    channels: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    groups = int(np.prod(sizes))
    counted = applicable & (group != -1)
    member = (ranks != NO_CHANNEL) & counted[..., None]
    cells = (group[..., None] * channels + ranks)[member]
    count = np.bincount(cells, minlength=groups * channels).reshape(*sizes, channels)
    n = np.bincount(group[counted], minlength=groups).reshape(sizes)
    return count.astype(np.int64), n.astype(np.int64)


def _most(count: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    channel = np.argsort(-count, axis=-1, kind="stable")[..., :n]
    highest = np.take_along_axis(count, channel, axis=-1)
    return np.where(highest > 0, channel, NO_CHANNEL), highest
