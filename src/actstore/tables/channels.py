"""Tables of channels: how much each changes, how often it is on top, and which classes and cases share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, coordinate, is_original, require_dims
from actstore.analysis.channels.comparison import general_and_specific, shared_channels
from actstore.analysis.channels.frequency import Key, channel_frequency, most_frequent
from actstore.analysis.channels.ranking import NO_CHANNEL, top_channels
from actstore.analysis.layers import layer_mean
from actstore.analysis.maps.regions import REGIONS
from actstore.analysis.uncertainty.bootstrap import Bootstrap, bootstrap_mean
from actstore.analysis.uncertainty.resamples import RESAMPLES
from actstore.measures.names import MOST, TOP
from actstore.tables.rows import (
    CONDITION_COLUMNS,
    LAYER_COLUMNS,
    PERTURBATION_COLUMNS,
    RESTS_ON,
    SAMPLE_COLUMNS,
    Take,
    build_rows,
    channel_frame,
    coordinate_columns,
    take,
    take_categories,
    with_channels,
    with_patch,
)

_DIMS = ("sample", "condition", "channel")
_RELATIVE = (*RESTS_ON, "mad", "low", "high", "error", "standardised")

TOP_CHANNELS_COLUMNS = (*LAYER_COLUMNS, *SAMPLE_COLUMNS, *CONDITION_COLUMNS, "rank", "channel", "mad", "mse")
MAD_COLUMNS = (*LAYER_COLUMNS, *SAMPLE_COLUMNS, *CONDITION_COLUMNS, "channel", "mad", "mse")
LAYERS_COLUMNS = (*PERTURBATION_COLUMNS, *_RELATIVE, "mean_network_rank", "note")
RELATIVE_COLUMNS = (*PERTURBATION_COLUMNS, "channel", *_RELATIVE, "network_rank", "note")
COMPARISON_COLUMNS = (*LAYER_COLUMNS, "channel", "targets", "number", "specific", "specific_share")
GENERAL_SPECIFIC_COLUMNS = (*PERTURBATION_COLUMNS, "case", *RESTS_ON, "correlation", "gained", "lost", "note")
REGIONS_COLUMNS = (
    *(*PERTURBATION_COLUMNS, "channel", *RESTS_ON, "mad"),
    *REGIONS,
    *(f"{name}_share" for name in REGIONS),
    *("stride", "seen"),
)


def top_channels_table(
    statistics: Mapping[str, xr.Dataset],
    k: int = TOP,
    *,
    applicable: xr.DataArray | None = None,
    metric: str = "mad",
) -> pd.DataFrame:
    """The ``k`` channels that change most, in columns :data:`TOP_CHANNELS_COLUMNS` and that of ``metric``.

    Parameters
    ----------
    statistics
        Layer name to a Dataset with "mad" and "mse" (sample, condition, channel), in the order of the rows. Computed
        together where lazy.
    k
        How many; beyond the channel count of a layer, all its channels.
    applicable
        bool (sample, condition). Without it, a condition counts as not applicable where every MAD is NaN.
    metric
        what channels are ranked by, in ``statistics`` too: any of :data:`actstore.measures.names.METRICS`.

    Raises
    ------
    AnalysisError
        if the layers differ in samples or conditions, or a coordinate is missing.

    Examples
    --------
    >>> statistics = {layer: store.statistics(layer) for layer in store.layers.index}
    >>> list(analysis.top_channels_table(statistics, k=2, applicable=store.applicable))[:5]
    ['layer', 'module', 'patient', 'frame', 'slice']
    """
    values = tuple(dict.fromkeys(["mad", "mse", metric]))
    layers = _computed(statistics, values)
    applicable = applicable.compute() if applicable is not None else None
    parts = []
    for data in layers.values():
        top = top_channels(data[metric], k, applicable=applicable).transpose("sample", "condition", "rank")
        channel = top["channel"].values
        s, c, r = np.nonzero(channel != NO_CHANNEL)
        chosen = channel[s, c, r]
        columns = {"rank": r + 1, "channel": chosen}
        parts.append((s, c, columns | {name: data[name].values[s, c, chosen] for name in values}))
    return _layer_rows(layers, parts, dict.fromkeys((*TOP_CHANNELS_COLUMNS, metric)), take)


def mad_table(
    statistics: Mapping[str, xr.Dataset],
    *,
    applicable: xr.DataArray | None = None,
    beside: Sequence[str] = (),
) -> pd.DataFrame:
    """MAD and MSE of every channel, in columns :data:`MAD_COLUMNS`, and what else of ``statistics`` is named.

    Other arguments and errors as in :func:`top_channels_table`. Text is pandas "category" here: millions of rows are
    usual, and take a third of the memory so.

    Examples
    --------
    >>> statistics = {layer: store.statistics(layer) for layer in store.layers.index}
    >>> list(analysis.mad_table(statistics, applicable=store.applicable))[:5]
    ['layer', 'module', 'patient', 'frame', 'slice']
    """
    names = ("mad", "mse", *beside)
    layers = _computed(statistics, names)
    applicable = applicable.compute() if applicable is not None else None
    parts = []
    for data in layers.values():
        mad = data["mad"].values
        perturbed = ~is_original(data).values
        valid = ~np.isnan(mad).all(axis=-1) if applicable is None else applicable.transpose(*_DIMS[:2]).values
        s, c = (index.astype(np.int32) for index in np.nonzero(valid & perturbed))
        channels = mad.shape[-1]
        columns = {"channel": np.tile(np.arange(channels), len(s))}
        columns |= {name: data[name].values[s, c].ravel() for name in names}
        parts.append((np.repeat(s, channels), np.repeat(c, channels), columns))
    return _layer_rows(layers, parts, (*MAD_COLUMNS, *beside), take_categories)


def frequency_table(
    statistics: Mapping[str, xr.Dataset],
    k: int = TOP,
    *,
    most: int = MOST,
    by: Key | Sequence[Key] | None = None,
    applicable: xr.DataArray | None = None,
    metric: str = "mad",
) -> pd.DataFrame:
    """The ``most`` channels most often among the top ``k``, per layer and condition and, with ``by``, per group.

    Columns ``layer, condition, target, […by,] channel, count, rank``. ``by`` takes coordinate names and named arrays,
    as :func:`actstore.analysis.channel_frequency`: for cases, ``by=cases(store.confusion)``. "condition" and "target"
    add no column: each condition is counted apart, controls and repeats (target "") too. Other arguments and errors as
    in :func:`top_channels_table`.

    Examples
    --------
    >>> statistics = {layer: store.statistics(layer) for layer in store.layers.index}
    >>> list(analysis.frequency_table(statistics, k=2, applicable=store.applicable))
    ['layer', 'condition', 'target', 'channel', 'count', 'rank']
    """
    keys = [by] if isinstance(by, str | xr.DataArray) else list(by or [])
    extra = [key for key in keys if not isinstance(key, str) or key not in ("condition", "target")]
    names = [str(key if isinstance(key, str) else key.name) for key in extra]
    columns = ["layer", "condition", "target", *names, "channel", "count", "rank"]
    if taken := {"layer", "module", "channel", "channel_count", "count", "rank"} & {*names}:
        raise AnalysisError(f"by = {min(taken)!r} groups nothing: give a coordinate along sample or condition")
    extra = [key if isinstance(key, str) else key.compute() for key in extra]
    applicable = applicable.compute() if applicable is not None else None
    frames = [pd.DataFrame({name: [] for name in columns})]
    for layer, data in _computed(statistics, (metric,)).items():
        top = top_channels(data[metric], k, applicable=applicable)
        ranked = most_frequent(channel_frequency(top, ["condition", *extra]), most)
        ranked = ranked.assign_coords(layer=layer, target=coordinate(ranked, "target", "condition"))
        every = np.arange(ranked.sizes["condition"])
        frames.append(channel_frame(ranked, columns, keep=ranked["channel"] != NO_CHANNEL, conditions=every))
    return pd.concat(frames[1:], ignore_index=True) if frames[1:] else frames[0]


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

    Examples
    --------
    >>> table = analysis.layers_table(findings.score, findings.standardised, findings.network_rank, resamples=50)
    >>> list(table)[:6]
    ['layer', 'module', 'condition', 'target', 'samples', 'patients']
    """
    arrays = (layer_mean(mad), layer_mean(standardised), layer_mean(network_rank))
    found = _means(*arrays, applicable, bootstrap).rename(network_rank="mean_network_rank")
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

    Examples
    --------
    >>> table = analysis.relative_table(findings.score, findings.standardised, findings.network_rank, resamples=50)
    >>> list(table)[:6]
    ['layer', 'module', 'condition', 'target', 'channel', 'samples']
    """
    return channel_frame(_means(mad, standardised, network_rank, applicable, bootstrap), RELATIVE_COLUMNS)


def comparison_table(
    member: xr.DataArray,
    most: int = MOST,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Channels that are among the most frequent of any class, in columns :data:`COMPARISON_COLUMNS`.

    Arguments and errors as in :func:`actstore.analysis.shared_channels`.

    Examples
    --------
    >>> list(analysis.comparison_table(findings.member, applicable=findings.applicable, resamples=50))
    ['layer', 'module', 'channel', 'targets', 'number', 'specific', 'specific_share']
    """
    shared = shared_channels(member, most, applicable=applicable, resamples=resamples, seed=seed)
    return channel_frame(shared, COMPARISON_COLUMNS, keep=shared["number"] > 0)


def general_specific_table(member: xr.DataArray, cases: xr.DataArray, most: int = MOST) -> pd.DataFrame:
    """Order of channels within each case against that over all samples, in columns :data:`GENERAL_SPECIFIC_COLUMNS`.

    Arguments and errors as in :func:`actstore.analysis.general_and_specific`; a case without a sample has no row.

    Examples
    --------
    >>> list(analysis.general_specific_table(findings.member, findings.cases))[:5]
    ['layer', 'module', 'condition', 'target', 'case']
    """
    compared = general_and_specific(member, cases, most)
    return channel_frame(compared, GENERAL_SPECIFIC_COLUMNS, keep=compared["samples"] > 0)


def regions_table(regions: xr.Dataset) -> pd.DataFrame:
    """Where in its map each channel changes, in columns :data:`REGIONS_COLUMNS`.

    ``regions`` is of :func:`actstore.analysis.mean_regions`, of one layer or stacked.

    Examples
    --------
    >>> list(analysis.regions_table(findings.regions))[:5]
    ['layer', 'module', 'condition', 'target', 'channel']
    """
    return channel_frame(regions, REGIONS_COLUMNS)


def _means(
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


def _computed(statistics: Mapping[str, xr.Dataset], names: tuple[str, ...] = ("mad", "mse")) -> dict[str, xr.Dataset]:
    """Every layer's ``names`` (sample, condition, channel) in memory, computed in one go."""
    for layer, data in statistics.items():
        for name in names:
            if name not in data:
                raise AnalysisError(f"statistics of {layer} have no {name!r}: ask statistics() for {', '.join(names)}")
            require_dims(data[name], _DIMS)
    chosen = [data[list(names)].transpose(*_DIMS, ...) for data in statistics.values()]
    layers = dict(zip(statistics, compute(*chosen), strict=True))
    first, *others = layers or [""]
    for layer in others:
        for dim, names_along in (("sample", with_patch(SAMPLE_COLUMNS, layers[first])), ("condition", ["condition"])):
            one, two = ([coordinate(layers[of], name, dim).values for name in names_along] for of in (layer, first))
            if not all(map(np.array_equal, one, two)):
                raise AnalysisError(f"layers {first} and {layer} differ along {dim}: make a table of each")
    return layers


def _layer_rows(
    layers: Mapping[str, xr.Dataset],
    parts: Sequence[tuple[NDArray[Any], NDArray[Any], dict[str, Any]]],
    order: Iterable[str],
    take: Take,
) -> pd.DataFrame:
    """One table of the rows of every layer: sample and condition index, and the layer's own columns."""
    if not layers:
        return pd.DataFrame({name: [] for name in order})
    for layer, data in layers.items():
        if "module" not in data.coords:
            raise AnalysisError(f"statistics of {layer} have no coordinate 'module': assign the layer's module path")
    at = {dim: np.concatenate([part[i] for part in parts]) for i, dim in enumerate(_DIMS[:2])}
    at["layer"] = np.repeat(np.arange(len(parts), dtype=np.int32), [len(s) for s, _, _ in parts])
    modules = [str(data.coords["module"].values) for data in layers.values()]
    columns: dict[str, Any] = {name: np.concatenate([own[name] for _, _, own in parts]) for name in parts[0][2]}
    columns |= {"layer": xr.DataArray(list(layers), dims="layer"), "module": xr.DataArray(modules, dims="layer")}
    first = next(iter(layers.values()))
    order = with_channels(with_patch(order, first), first)
    columns |= coordinate_columns(first, order)
    return build_rows({name: columns[name] for name in order}, at, take=take)
