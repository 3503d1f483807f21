"""How often each channel is among the top, and the channels most often there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, is_original, one_chunk, require_dims, require_positive
from actstore.analysis.channels.ranking import NO_CHANNEL, chosen, highest
from actstore.analysis.evidence import patients_of, perturbations
from actstore.analysis.grouping import Bools, Counts, Floats, Numbers, count_by
from actstore.analysis.layers import layer_slices
from actstore.measures.names import MOST

_DESCRIBE_CONDITION = ("transform", "target", "strength", "perturbation_source", "channels", "region")
#: Keys along condition by which controls and repeats are groups of their own.
_TELLS_APART = ("condition", "region")

#: A key to group by: the name of a coordinate, or a named array along sample and condition.
Key = str | xr.DataArray


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

    Examples
    --------
    >>> top = analysis.top_channels(store.statistics("L02")["mad"], k=2, applicable=store.applicable)
    >>> frequency = analysis.channel_frequency(top, by="patient")
    >>> list(frequency), frequency["count"].dims
    (['count', 'n'], ('patient', 'condition', 'channel'))
    """
    if not {"channel", "applicable"} <= {*top} or "channel_count" not in top.coords:
        raise AnalysisError("top has no channel ranks: give the result of top_channels")
    keys = [by] if isinstance(by, str | xr.DataArray) else list(by or [])
    ranks, channels = top["channel"], int(top.coords["channel_count"])
    over = [d for d in ("sample", "condition") if d in ranks.dims]
    labels = [_labels(ranks, key) for key in keys]
    if "condition" in over and all(array.dims != ("condition",) for array in labels):
        labels.append(_labels(ranks, "condition"))
    names = [str(array.name) for array in labels]
    if len(set(names)) < len(names):
        raise AnalysisError(f"by = {names}: name each key once")
    group, values = _groups(labels, ranks.isel(rank=0), over)
    sizes = {name: len(found) for name, found in values.items()}
    count, n = apply_lazily(
        _frequency,
        (ranks.drop_vars(names, errors="ignore"), [*over, "rank"]),
        (top["applicable"].drop_vars(names, errors="ignore"), over),
        (group, over),
        output_dims=[[*names, "channel"], names],
        dtypes=[np.int64, np.int64],
        output_sizes={**sizes, "channel": channels},
        exclude_dims=over,
        sizes=tuple(sizes.values()),
        channels=channels,
    )
    frequency = xr.Dataset({"count": count, "n": n}).assign_coords({**values, "channel": np.arange(channels)})
    if "condition" in names and "condition" in ranks.coords:
        first = pd.Index(ranks.coords["condition"].values).get_indexer_for(values["condition"])
        described = {n: ranks.coords[n] for n in _DESCRIBE_CONDITION if n in ranks.coords and n not in names}
        frequency = frequency.assign_coords({n: a.variable[first] for n, a in described.items() if a.ndim})
    return frequency if most is None else most_frequent(frequency, most)


def most_frequent(frequency: xr.Dataset, n: int = MOST) -> xr.Dataset:
    """The ``n`` channels most often among the top, of each group; lazy where ``frequency`` is.

    Takes the result of :func:`channel_frequency` and returns ``channel`` and ``count`` int64 (…by, condition, rank),
    rank from 1, and ``n`` (…by, condition) unchanged. Equal counts rank by lower channel. Channel -1 and count 0 where
    fewer than ``n`` channels were ever among the top.

    Raises
    ------
    AnalysisError
        if ``n`` is below 1.

    Examples
    --------
    >>> top = analysis.top_channels(store.statistics("L02")["mad"], k=2, applicable=store.applicable)
    >>> best = analysis.most_frequent(analysis.channel_frequency(top), n=2)
    >>> best.sizes["rank"]
    2
    """
    n = min(require_positive("n", n), frequency.sizes["channel"])
    channel, count = apply_lazily(
        _most,
        (frequency["count"], ["channel"]),
        output_dims=[["rank"], ["rank"]],
        dtypes=[np.int64, np.int64],
        output_sizes={"rank": n},
        n=n,
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


def _frequency(
    ranks: Counts, applicable: Bools, group: Counts, sizes: tuple[int, ...], channels: int
) -> tuple[Counts, Counts]:
    groups = int(np.prod(sizes))
    cell_group = np.where(applicable, group, -1).ravel()
    member = chosen(ranks, channels).reshape(-1, channels)
    count = count_by(member, cell_group, groups).reshape(*sizes, channels)
    return count, count_by(cell_group >= 0, cell_group, groups).reshape(sizes)


def _most(count: Counts, n: int) -> tuple[Counts, Counts]:
    channel = highest_counts(count, n)
    number = np.take_along_axis(count, np.maximum(channel, 0), axis=-1)
    return channel, np.where(channel == NO_CHANNEL, 0, number)


def highest_counts(count: NDArray[Any], n: int) -> Counts:
    """As :func:`highest`, but a channel that is never on top has no place."""
    return highest(np.where(count > 0, count, np.nan), n)


def applicable_samples(member: xr.DataArray, applicable: xr.DataArray | None) -> xr.DataArray:
    """``applicable``, or where any channel of ``member`` (sample, condition, channel) is True: bool, lazy."""
    require_dims(member, ["sample", "condition", "channel"])
    valid = one_chunk(member, ["channel"]).any("channel") if applicable is None else applicable.astype(bool)
    return valid.reset_coords(drop=True)


def top_counts(
    member: xr.DataArray, applicable: xr.DataArray | None, group: Numbers | None = None, dim: str = "patient"
) -> tuple[xr.DataArray, xr.DataArray]:
    """How often each channel is on top in a group of samples, and in how many samples of it a condition applies; lazy.

    int64 (``dim``, condition, channel) and (``dim``, condition), by the number of each sample's ``group``: by default
    its patient.
    """
    number = patients_of(member)[0] if group is None else group
    whole = ["sample", "condition", "channel"]
    count, samples = apply_lazily(
        lambda top, valid: (count_by(top.astype(bool) & valid[..., None], number), count_by(valid, number)),
        (member, whole),
        (applicable_samples(member, applicable), whole[:2]),
        output_dims=[[dim, *whole[1:]], [dim, "condition"]],
        dtypes=[np.int64, np.int64],
        output_sizes={dim: int(number.max(initial=-1)) + 1},
    )
    return count, samples


def most_often(count: NDArray[Any], most: int, layers: Iterable[slice] = (slice(None),)) -> Bools:
    """Whether a channel is among the ``most`` of its layer with the highest ``count`` (…, channel): bool (…, channel).

    As :func:`actstore.analysis.most_frequent`: the lower channel of two with equal counts; never one with count 0.
    """
    found = count > 0
    for where in layers:
        channels = count[..., where].shape[-1]
        if most < channels:
            found[..., where] = chosen(highest_counts(count[..., where], most), channels)
    return found


def among_most(count: xr.DataArray, most: int) -> xr.DataArray:
    """:func:`most_often` of ``count`` (…, channel), of one layer or stacked: bool, lazy."""
    found: xr.DataArray = apply_lazily(
        most_often,
        (count, ["channel"]),
        output_dims=[["channel"]],
        dtypes=[bool],
        most=most,
        layers=list(layer_slices(count).values()),
    )
    return found.transpose(*count.dims)


def overlap(first: Bools, second: Bools) -> Floats:
    """Jaccard overlap |A∩B| / |A∪B| of sets of channels along the last axis; NaN where both are empty."""
    union = (first | second).sum(axis=-1)
    common = (first & second).sum(axis=-1)
    return np.where(union > 0, common / np.where(union > 0, union, 1), np.nan)


def channel_numbers(member: Bools, number: NDArray[Any] | None = None) -> NDArray[np.str_]:
    """The channels of ``member`` (…, channel) as text, "3, 5": their ``number``, by default their position."""
    numbers = np.arange(member.shape[-1]) if number is None else number
    cells = [", ".join(map(str, numbers[cell].tolist())) for cell in member.reshape(-1, member.shape[-1])]
    return np.array(cells, dtype=str).reshape(member.shape[:-1])
