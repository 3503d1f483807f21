"""All channels of a network along one dimension, so that what is asked of a channel is asked and corrected once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_dims, require_positive
from actstore.analysis.ranking import top_channels
from actstore.measures.names import Order


def stack_layers(layers: Mapping[str, xr.Dataset] | Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Every layer's statistics side by side: variables (sample, [condition,] channel), lazy where those of a layer are.

    Parameters
    ----------
    layers
        Layer name to its statistics with the dim channel, for example :func:`actstore.analysis.statistics`, all over
        the same samples and conditions.

    Returns
    -------
    xarray.Dataset
        Along ``channel`` lie all channels of the network in the order of ``layers``, one dask chunk a layer, with the
        coordinates ``layer``, ``module`` and ``channel``, the channel's number within its layer.

    Raises
    ------
    AnalysisError
        if there is no layer, or two differ in samples or conditions.
    """
    parts: list[xr.Dataset] = []
    for name, layer in layers.items():
        data = layer.to_dataset(name=str(layer.name or "score")) if isinstance(layer, xr.DataArray) else layer
        require_dims(data, ["channel"])
        count = data.sizes["channel"]
        module = str(data.coords["module"].values) if "module" in data.coords else ""
        along = {"layer": [name] * count, "module": [module] * count, "channel": np.arange(count)}
        data = data.drop_vars(["layer", "module", "channel"], errors="ignore")
        parts.append(data.assign_coords({key: ("channel", values) for key, values in along.items()}))
    if not parts:
        raise AnalysisError("no layers to stack: give at least one")
    for name, part in zip(layers, parts, strict=True):
        for dim in ("sample", "condition"):
            mine, first = part.sizes.get(dim), parts[0].sizes.get(dim)
            if mine != first:
                raise AnalysisError(
                    f"layers {next(iter(layers))} and {name} have {first} and {mine} of {dim}: stack layers of one run"
                )
    return xr.concat(
        parts, "channel", data_vars="all", coords="minimal", compat="override", join="override", combine_attrs="drop"
    )


def layer_slices(array: xr.DataArray | xr.Dataset) -> dict[str, slice]:
    """Where each layer lies along ``channel``; one layer named "" where there is no coordinate ``layer`` along it."""
    require_dims(array, ["channel"])
    if "layer" not in array.coords or array.coords["layer"].dims != ("channel",):
        return {"": slice(0, array.sizes["channel"])}
    names: NDArray[np.str_] = np.asarray(array.coords["layer"].values, dtype=str)
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    return {str(names[a]): slice(int(a), int(b)) for a, b in zip(starts, np.r_[starts[1:], len(names)], strict=True)}


def in_top(
    score: xr.DataArray, k: int = 3, *, applicable: xr.DataArray | None = None, order: Order | None = None
) -> xr.DataArray:
    """Whether a channel is among the top ``k`` of its layer by ``score``: bool (sample, condition, channel), lazy.

    Arguments and errors as in :func:`top_channels`; ``score`` may be of one layer or of :func:`stack_layers`. False
    for a channel that did not change, where the condition is not applicable, and for the original.
    """
    k = require_positive("k", k)
    parts = []
    for where in layer_slices(score).values():
        part = score.isel(channel=where)
        ranks = top_channels(part, k, applicable=applicable, order=order)["channel"]
        found: xr.DataArray = xr.apply_ufunc(
            _members,
            one_chunk(ranks, ["rank"]),
            kwargs={"channels": part.sizes["channel"]},
            input_core_dims=[["rank"]],
            output_core_dims=[["channel"]],
            dask="parallelized",
            output_dtypes=[bool],
            dask_gufunc_kwargs={"output_sizes": {"channel": part.sizes["channel"]}},
        )
        parts.append(found.drop_vars("channels", errors="ignore"))
    joined = xr.concat(parts, "channel", coords="minimal", compat="override", join="override")
    along = {name: coord for name, coord in score.coords.items() if coord.dims == ("channel",)}
    return joined.assign_coords(along).transpose(*score.dims).rename("in_top")


def _members(ranks: NDArray[np.int64], channels: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (ranks[..., None] == np.arange(channels)).any(axis=-2)
    return found
