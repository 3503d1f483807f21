"""Reductions as tables: from xarray to pandas, one row for every applicable condition of every sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, is_original, require_dims
from actstore.analysis.cases import NO_CASE, cases
from actstore.analysis.ranking import NO_CHANNEL, Key, channel_frequency, most_frequent, top_channels
from actstore.analysis.segmentation import dice
from actstore.case_rules import CaseRules

_SAMPLE = ("patient", "frame", "slice")
_CONDITION = ("condition", "transform", "target", "strength")

#: How ``values[index]`` becomes a column.
Take = Callable[[Any, NDArray[Any]], Any]

TOP_CHANNELS_COLUMNS = ("layer", "module", *_SAMPLE, *_CONDITION, "rank", "channel", "mad", "mse")
MAD_COLUMNS = ("layer", "module", *_SAMPLE, *_CONDITION, "channel", "mad", "mse")
DICE_COLUMNS = (*_SAMPLE, "condition", "target", "class_name", "dice")
CASES_COLUMNS = (*_SAMPLE, "condition", "target", "case")
RESCALING_COLUMNS = (*_SAMPLE, "condition", "target", "region", "factor")


def top_channels_table(
    statistics: Mapping[str, xr.Dataset],
    k: int = 3,
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
    return _layer_frame(layers, parts, dict.fromkeys((*TOP_CHANNELS_COLUMNS, metric)), take)


def mad_table(
    statistics: Mapping[str, xr.Dataset],
    *,
    applicable: xr.DataArray | None = None,
    beside: Sequence[str] = (),
) -> pd.DataFrame:
    """MAD and MSE of every channel, in columns :data:`MAD_COLUMNS`, and what else of ``statistics`` is named.

    Other arguments and errors as in :func:`top_channels_table`. Text is pandas "category" here: millions of rows are
    usual, and take a third of the memory so.
    """
    names = ("mad", "mse", *beside)
    layers = _computed(statistics, names)
    applicable = applicable.compute() if applicable is not None else None
    parts = []
    for data in layers.values():
        mad = data["mad"].values
        perturbed = ~is_original(data).values
        valid = ~np.isnan(mad).all(axis=-1) if applicable is None else _mask(applicable)
        s, c = (index.astype(np.int32) for index in np.nonzero(valid & perturbed))
        channels = mad.shape[-1]
        columns = {"channel": np.tile(np.arange(channels), len(s))}
        columns |= {name: data[name].values[s, c].ravel() for name in names}
        parts.append((np.repeat(s, channels), np.repeat(c, channels), columns))
    return _layer_frame(layers, parts, (*MAD_COLUMNS, *beside), _categories)


def frequency_table(
    statistics: Mapping[str, xr.Dataset],
    k: int = 3,
    *,
    most: int = 7,
    by: Key | Sequence[Key] | None = None,
    applicable: xr.DataArray | None = None,
    metric: str = "mad",
) -> pd.DataFrame:
    """The ``most`` channels most often among the top ``k``, per layer and condition and, if asked, per group.

    Columns ``layer, condition, target, […by,] channel, count, rank``. ``by`` takes coordinate names and named arrays,
    as :func:`actstore.analysis.channel_frequency`: for cases, ``by=cases(store.confusion)``. "condition" and "target"
    add no column: each condition is counted apart, controls and repeats (target "") too. Other arguments and errors as
    in :func:`top_channels_table`.
    """
    keys = [by] if isinstance(by, str | xr.DataArray) else list(by or [])
    extra = [key for key in keys if not isinstance(key, str) or key not in ("condition", "target")]
    names = [str(key if isinstance(key, str) else key.name) for key in extra]
    columns = ["layer", "condition", "target", *names, "channel", "count", "rank"]
    if taken := {"layer", "module", "channels", "channel", "count", "rank"} & {*names}:
        raise AnalysisError(f"by = {min(taken)!r} groups nothing: give a coordinate along sample or condition")
    extra = [key if isinstance(key, str) else key.compute() for key in extra]
    applicable = applicable.compute() if applicable is not None else None
    frames = [pd.DataFrame({name: [] for name in columns})]
    for layer, data in _computed(statistics, (metric,)).items():
        top = top_channels(data[metric], k, applicable=applicable)
        ranked = most_frequent(channel_frequency(top, ["condition", *extra]), most)
        ranked = ranked.transpose("condition", *names, "rank")
        channel = ranked["channel"].values
        at = np.nonzero(channel != NO_CHANNEL)
        frame = {
            "layer": take([layer], np.zeros(len(at[0]), int)),
            "condition": take(ranked["condition"].values, at[0]),
        }
        frame["target"] = take(_along(ranked, "target", "condition"), at[0])
        frame |= {name: take(ranked[name].values, index) for name, index in zip(names, at[1:], strict=False)}
        frame |= {"channel": channel[at], "count": ranked["count"].values[at], "rank": at[-1] + 1}
        frames.append(pd.DataFrame(frame, columns=columns))
    return pd.concat(frames[1:], ignore_index=True) if frames[1:] else frames[0]


def dice_table(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """Dice of every foreground class, in columns :data:`DICE_COLUMNS`; target "" for the original and its repeats.

    Arguments and errors as in :func:`actstore.analysis.dice`; a missing coordinate is an AnalysisError too.
    """
    values = dice(confusion, applicable=applicable).transpose("sample", "condition", "class_name").compute()
    s, c, k = np.nonzero(values.notnull().values)
    columns = {"class_name": take(values["class_name"].values, k), "dice": values.values[s, c, k]}
    return _frame(confusion, s, c, columns, DICE_COLUMNS, take)


def cases_table(
    confusion: xr.DataArray, rules: CaseRules | None = None, *, applicable: xr.DataArray | None = None
) -> pd.DataFrame:
    """The case of every prediction under a perturbation, in columns :data:`CASES_COLUMNS`; controls have none.

    Arguments and errors as in :func:`actstore.analysis.cases`; a missing coordinate is an AnalysisError too.
    """
    labels = cases(confusion, rules, applicable=applicable).transpose("sample", "condition").values
    s, c = np.nonzero(labels != NO_CASE)
    found, code = np.unique(labels[s, c], return_inverse=True)
    return _frame(confusion, s, c, {"case": take(found, code)}, CASES_COLUMNS, take)


def rescaling_table(factor: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """By how much each input was rescaled, in columns :data:`RESCALING_COLUMNS`, but for the original and its repeats.

    ``factor`` is of :func:`actstore.analysis.rescaling`. Without ``applicable``, bool (sample, condition), rows of an
    unknown factor are left out.

    Raises
    ------
    AnalysisError
        if a coordinate is missing.
    """
    values = factor.transpose("sample", "condition").compute()
    valid = values.notnull().values if applicable is None else _mask(applicable.compute())
    s, c = np.nonzero(valid & (_along(values, "target", "condition") != ""))
    return _frame(values, s, c, {"factor": values.values[s, c]}, RESCALING_COLUMNS, take)


def _computed(statistics: Mapping[str, xr.Dataset], names: tuple[str, ...] = ("mad", "mse")) -> dict[str, xr.Dataset]:
    """Every layer's ``names`` (sample, condition, channel) in memory, computed in one go."""
    for layer, data in statistics.items():
        for name in names:
            if name not in data:
                raise AnalysisError(f"statistics of {layer} have no {name!r}: ask statistics() for {', '.join(names)}")
            require_dims(data[name], ["sample", "condition", "channel"])
    chosen = [data[list(names)].transpose("sample", "condition", "channel", ...) for data in statistics.values()]
    layers = dict(zip(statistics, compute(*chosen), strict=True))
    first, *others = layers or [""]
    for layer in others:
        for dim, coordinates in (("sample", _SAMPLE), ("condition", ("condition",))):
            same = layers[layer].sizes[dim] == layers[first].sizes[dim] and all(
                np.array_equal(_along(layers[layer], name, dim), _along(layers[first], name, dim))
                for name in coordinates
            )
            if not same:
                raise AnalysisError(f"layers {first} and {layer} differ along {dim}: make a table of each")
    return layers


def _mask(applicable: xr.DataArray) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = applicable.transpose("sample", "condition").values.astype(bool)
    return mask


def _layer_frame(
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
    of = np.repeat(np.arange(len(parts), dtype=np.int32), [len(s) for s, _, _ in parts])
    columns = {name: np.concatenate([own[name] for _, _, own in parts]) for name in parts[0][2]}
    columns["layer"] = take(list(layers), of)
    columns["module"] = take([str(data.coords["module"].values) for data in layers.values()], of)
    sample, condition = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return _frame(next(iter(layers.values())), sample, condition, columns, order, take)


def _frame(
    labels: xr.Dataset | xr.DataArray,
    sample: NDArray[Any],
    condition: NDArray[Any],
    columns: dict[str, Any],
    order: Iterable[str],
    take: Take,
) -> pd.DataFrame:
    """``columns`` and those that ``labels`` has along sample and condition, in ``order``."""
    for name in order:
        if name in _SAMPLE:
            columns[name] = take(_along(labels, name, "sample"), sample)
        elif name in (*_CONDITION, "region"):
            columns[name] = take(_along(labels, name, "condition"), condition)
    return pd.DataFrame({name: columns[name] for name in order}, copy=False)


def _along(labels: xr.Dataset | xr.DataArray, name: str, dim: str) -> NDArray[Any]:
    """The values of coordinate ``name``, which must lie along ``dim``."""
    if name not in labels.coords or labels.coords[name].dims != (dim,):
        raise AnalysisError(f"no coordinate {name!r} along {dim}: assign it with assign_coords({name}=({dim!r}, …))")
    values: NDArray[Any] = labels.coords[name].values
    return values


def take(values: Any, index: NDArray[Any]) -> Any:
    """``values[index]`` as a pandas column; text in pandas' own text type, whose ``take`` is fast."""
    values = np.asarray(values)
    return pd.Series(values.tolist()).array.take(index) if values.dtype.kind in "UOT" else values.take(index)


def _categories(values: Any, index: NDArray[Any]) -> Any:
    """``values[index]`` as a pandas column; text as categories, in order of appearance."""
    values = np.asarray(values)
    if values.dtype.kind not in "UOT":
        return values.take(index)
    codes, found = pd.factorize(values.astype(object))
    small = codes.astype(np.min_scalar_type(-len(found) - 1))
    return pd.Categorical.from_codes(small.take(index), categories=found.tolist())
