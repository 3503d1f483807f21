"""Samples as points of a layer's space: each channel's mean or maximum over its map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np
import xarray as xr

from actstore.analysis.arrays import AnalysisError, require_dims, require_positive
from actstore.analysis.layers import layer_slices

Pool = Literal["mean", "max", "mean+max"]

#: Positions of an image's averages in pixel space, at most: 64 x 64.
MOST_PIXELS = 4096


class HasStatistics(Protocol):
    """What :func:`embedding` asks of a store."""

    @property
    def layers(self) -> Any: ...

    def statistics(
        self, layer: str, names: Sequence[str] | None = None, *, persisted: bool | None = None
    ) -> xr.Dataset: ...


def embedding(
    store: HasStatistics | Mapping[str, xr.Dataset],
    layers: str | Sequence[str] | None = None,
    pool: Pool = "mean",
    *,
    condition: str | int | None = 0,
) -> xr.DataArray:
    """Each sample as a point: the mean or maximum of every channel over its map; float64 (sample, feature), lazy.

    The mean of a channel right after instance normalisation is 0 by construction, and its embedding rounding: ask for
    the maximum too. Reads what capture or `reduce_store` persisted, and computes tensors only where a store lacks it:
    before schema 4, the maximum, and the mean of perturbed conditions.

    Parameters
    ----------
    store
        An open store, or layer name to its statistics (sample, [condition,] channel) with "mean" or "max", as of
        :func:`actstore.analysis.statistics`.
    layers
        One layer, or several side by side; by default all, in network order.
    pool
        "mean", "max", or "mean+max" for both, one after the other within each layer.
    condition
        Name or position of one condition, by default the original. ``None`` keeps all: (sample, condition, feature).

    Returns
    -------
    xarray.DataArray
        With the coordinates ``layer``, ``module``, ``channel`` and ``pool`` along feature, and those of the samples.
        NaN where a condition does not apply to a sample.

    Raises
    ------
    AnalysisError
        for an unknown pool or layer, no layer, statistics without the pool, or a condition that they do not have.
    StoreError
        where tensors are needed that were not kept.

    Examples
    --------
    >>> points = analysis.embedding(store, ["L01", "L02"])
    >>> points.dims, points.sizes["feature"]
    (('sample', 'feature'), 6)
    """
    if pool not in get_args(Pool):
        raise AnalysisError(f"pool = {pool!r}: choose {', '.join(get_args(Pool))}")
    known = list(store) if isinstance(store, Mapping) else [str(name) for name in store.layers.index]
    chosen = known if layers is None else [layers] if isinstance(layers, str) else list(layers)
    if not chosen:
        raise AnalysisError("layers = []: name at least one")
    if gone := [name for name in chosen if name not in known]:
        raise AnalysisError(f"no layer {gone[0]!r}: there are {known[0]} … {known[-1]}")
    pools = pool.split("+")
    if chosen == known and len(pools) == 1 and (whole := _of_network(store, pool)) is not None:
        return _renamed(_of_condition(whole, condition)).rename("embedding")
    parts = [_layer(store, name, pools, condition) for name in chosen]
    return xr.concat(
        parts, "feature", coords="minimal", compat="override", join="override", combine_attrs="drop"
    ).rename("embedding")


def _of_network(store: object, pool: str) -> xr.DataArray | None:
    """All layers of a store that holds them side by side, as one array: (sample, condition, channel)."""
    find = getattr(store, "network_statistic", None)
    whole: xr.DataArray | None = find(pool) if find is not None else None
    if whole is None:
        return None
    return whole.assign_coords(pool=("channel", np.full(whole.sizes["channel"], pool)))


def layers_along(points: xr.DataArray) -> dict[str, slice]:
    """Where each layer lies along ``feature``; one layer named "" where there is no coordinate ``layer`` along it."""
    require_dims(points, ["feature"])
    layer = points.coords.get("layer")
    coords = {"layer": ("channel", layer.values)} if layer is not None and layer.dims == ("feature",) else {}
    return layer_slices(xr.DataArray(np.zeros(points.sizes["feature"]), dims="channel", coords=coords))


def _layer(
    store: HasStatistics | Mapping[str, xr.Dataset], layer: str, pools: Sequence[str], condition: str | int | None
) -> xr.DataArray:
    found = _statistics(store, layer, pools, wanted=condition != 0)
    module = str(found.coords["module"].values) if "module" in found.coords else ""
    parts = []
    for name in pools:
        values = _of_condition(found[name], condition).drop_vars(["layer", "module"], errors="ignore")
        count = values.sizes["channel"]
        along = {"layer": [layer] * count, "module": [module] * count, "pool": [name] * count}
        parts.append(_renamed(values.assign_coords({key: ("channel", own) for key, own in along.items()})))
    return xr.concat(
        parts, "feature", coords="minimal", compat="override", join="override", combine_attrs="drop"
    ).astype(np.float64, copy=False)


def _renamed(values: xr.DataArray) -> xr.DataArray:
    """``values`` (…, channel) with the dim feature, along which ``channel`` is a coordinate like others."""
    along = {str(name): coord.values for name, coord in values.coords.items() if coord.dims == ("channel",)}
    along.setdefault("channel", np.arange(values.sizes["channel"]))
    plain = values.drop_vars(list(along), errors="ignore").rename(channel="feature")
    return plain.assign_coords({name: ("feature", own) for name, own in along.items()})


def _statistics(
    store: HasStatistics | Mapping[str, xr.Dataset], layer: str, pools: Sequence[str], wanted: bool
) -> xr.Dataset:
    """The ``pools`` of a layer; of every condition where ``wanted``."""
    if isinstance(store, Mapping):
        found = store[layer]
        if missing := [name for name in pools if name not in found]:
            raise AnalysisError(f"statistics of {layer} have no {missing[0]!r}: ask statistics() for it")
        return found
    found = store.statistics(layer, list(pools))
    if wanted and any("condition" not in found[name].dims for name in pools):
        return store.statistics(layer, list(pools), persisted=False)
    return found


def _of_condition(values: xr.DataArray, condition: str | int | None) -> xr.DataArray:
    """``values`` of one condition, without its coordinates; all of them for ``None``."""
    require_dims(values, ["sample", "channel"])
    if "condition" not in values.dims:
        if condition not in (0, None):
            raise AnalysisError(f"condition = {condition!r}: the statistics are of the original alone")
        return values
    if condition is None:
        return values.transpose("sample", "condition", "channel")
    names = [str(name) for name in values.coords["condition"].values] if "condition" in values.coords else []
    if isinstance(condition, str):
        if condition not in names:
            raise AnalysisError(f"condition = {condition!r}: there are {', '.join(names) or 'only positions'}")
        condition = names.index(condition)
    if not -values.sizes["condition"] <= condition < values.sizes["condition"]:
        raise AnalysisError(f"condition = {condition}: there are {values.sizes['condition']}")
    along = [name for name, coord in values.coords.items() if "condition" in coord.dims]
    return values.drop_vars(along).isel(condition=condition)


def pixels(image: xr.DataArray, most: int = MOST_PIXELS) -> xr.DataArray:
    """Each sample as a point of pixel space: its image, averaged over blocks; float64 (sample, feature), lazy.

    Parameters
    ----------
    image
        (sample, [input_channel,] [z,] y, x) of one condition.
    most
        Blocks of an input channel's image, at most. Blocks have the same number of pixels along every axis, 1 where the
        image is small enough; those at the end average what is left of it.

    Raises
    ------
    AnalysisError
        if a dimension is missing, there are conditions to choose from, or ``most`` is no positive integer.

    Examples
    --------
    >>> points = analysis.pixels(store.image.isel(condition=0), most=256)
    >>> points.dims, points.sizes["feature"]
    (('sample', 'feature'), 256)
    """
    require_dims(image, ["sample", "y", "x"])
    require_positive("most", most)
    if "condition" in image.dims:
        raise AnalysisError("image has the dimension 'condition': select one with isel(condition=0)")
    space = [str(dim) for dim in ("z", "y", "x") if dim in image.dims]
    step = 1
    while np.prod([-(-image.sizes[dim] // step) for dim in space]) > most:
        step += 1
    plain = image.drop_vars([name for name, coord in image.coords.items() if coord.dims != ("sample",)])
    plain = plain.astype(np.float64)
    if step > 1:
        plain = plain.coarsen(dict.fromkeys(space, step), boundary="pad").mean()
    others = [dim for dim in plain.dims if dim != "sample"]
    flat = plain.transpose("sample", *others).stack(feature=others, create_index=False)
    return flat.rename("pixels")
