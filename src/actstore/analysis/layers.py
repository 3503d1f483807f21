"""The channels of all layers along one dimension, so that one call answers for the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims


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

    Examples
    --------
    >>> network = analysis.stack_layers({layer: store.statistics(layer) for layer in store.layers.index})
    >>> network["mad"].dims, network.sizes["channel"]
    (('sample', 'condition', 'channel'), 6)
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


def layer_mean(values: xr.DataArray) -> xr.DataArray:
    """Mean over the channels of each layer, NaN left out: (…, layer) float64 of ``values`` (…, channel), lazy.

    With the coordinates ``layer`` and, where ``values`` has it, ``module``.

    Examples
    --------
    >>> means = analysis.layer_mean(findings.score)
    >>> means.dims, means["layer"].values.tolist()
    (('sample', 'condition', 'layer'), ['L01', 'L02'])
    """
    parts = [values.isel(channel=where).mean("channel") for where in layer_slices(values).values()]
    means = xr.concat(parts, "layer", coords="minimal", compat="override", join="override").transpose(..., "layer")
    return unlayered(means).assign_coords(layer_coords(values))


def unlayered(array: xr.DataArray) -> xr.DataArray:
    """``array`` without the coordinates ``layer`` and ``module``, which a result per layer has along ``layer``."""
    return array.drop_vars(["layer", "module"], errors="ignore")


def layer_coords(array: xr.DataArray | xr.Dataset) -> dict[str, Any]:
    """Coordinates along ``layer`` of a result per layer: its name and, where known, its module."""
    slices = layer_slices(array)
    coords: dict[str, Any] = {}
    for name in ("layer", "module"):
        if name not in array.coords:
            continue
        values = np.asarray(array.coords[name].values, dtype=str)
        first = values[[where.start for where in slices.values()]] if values.ndim else values[None]
        coords[name] = ("layer", first)
    return coords
