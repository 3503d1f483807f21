"""How much each channel differs between a condition and the original, in one lazy pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_original_first
from actstore.analysis.kernel import reduce_chunk
from actstore.schema import DIFFERENCE_STATISTICS, STATISTICS


def statistics(activation: xr.DataArray, names: Sequence[str] = ("mad", "mse")) -> xr.Dataset:
    """Per-channel statistics, all of ``names`` from one pass over each dask chunk.

    Parameters
    ----------
    activation
        (sample, condition, channel, y, x) or (sample, condition, channel, z, y, x), real, the original first along
        condition. Every dimension but sample, condition and channel counts as space. NumPy- or dask-backed; condition
        and space are merged into one chunk where they are split.
    names
        Of "mad" and "mse", mean absolute and mean squared difference from the original over space, float64
        (sample, condition, channel); "mean" and "std" of the original over space, float64 (sample, channel), "std"
        with the number of pixels as divisor.

    Returns
    -------
    xarray.Dataset
        Lazy where ``activation`` is. NaN where a condition is not applicable, and where an activation itself is NaN;
        inf where one is infinite. "mad" and "mse" of the original are 0, or NaN where its map is not finite. Within
        1e-6 of a float64 computation.

    Raises
    ------
    AnalysisError
        for an unknown name, a missing dimension, or a first condition that is not the original.
    """
    chosen = tuple(dict.fromkeys(names))
    if isinstance(names, str) or not chosen:
        raise AnalysisError(f"names = {names!r}: give a list of statistics from {', '.join(STATISTICS)}")
    for name in chosen:
        if name not in STATISTICS:
            raise AnalysisError(f"unknown statistic {name!r}: choose from {', '.join(STATISTICS)}")
    require_original_first(activation)
    if np.dtype(activation.dtype).kind not in "fiub":
        raise AnalysisError(f"{activation.name or 'activation'} is {activation.dtype}: only real numbers have a MAD")
    space = [d for d in activation.dims if d not in ("sample", "condition", "channel")]
    core = ["condition", *space]
    selected = [d for d in ("sample", "channel") if d not in activation.dims]
    activation = activation.expand_dims(selected) if selected else activation
    activation = one_chunk(activation, core).transpose("sample", "channel", *core)
    sizes = [activation.sizes["condition"] if name in DIFFERENCE_STATISTICS else 1 for name in chosen]
    packed = _packed(activation.data, chosen, sum(sizes))
    arrays = {}
    for name, stop, size in zip(chosen, np.cumsum(sizes), sizes, strict=True):
        rows = packed[:, :, stop - size : stop] if name in DIFFERENCE_STATISTICS else packed[:, :, stop - 1]
        dims = ("sample", "channel", "condition")[: rows.ndim]
        coords = {str(key): coord for key, coord in activation.coords.items() if {*coord.dims} <= {*dims}}
        array = xr.DataArray(rows, dims=dims, coords=coords, name=name)
        arrays[name] = array.isel(dict.fromkeys(selected, 0)).transpose(
            "sample", "condition", "channel", missing_dims="ignore"
        )
    return xr.Dataset(arrays)


def _packed(data: Any, names: tuple[str, ...], rows: int) -> Any:
    """Every statistic of (sample, channel, condition, \\*space), one after another: float64 (sample, channel, row).

    One task a chunk: `apply_ufunc` and `map_blocks` would first copy each chunk to join what is one chunk already.
    """
    if not isinstance(data, da.Array):
        return _pack(data, names)
    every = tuple(range(data.ndim))
    row = data.ndim
    return da.blockwise(
        _pack,
        (0, 1, row),
        data,
        every,
        names=names,
        new_axes={row: rows},
        concatenate=None,
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )


def _pack(chunk: Any, names: tuple[str, ...]) -> NDArray[np.float64]:
    while isinstance(chunk, list):
        (chunk,) = chunk
    results = reduce_chunk(np.asarray(chunk), names)
    return np.concatenate([r if r.ndim == 3 else r[..., None] for r in results], axis=-1)


def mad(activation: xr.DataArray) -> xr.DataArray:
    """Mean absolute difference from the original over space: float64 (sample, condition, channel), lazy.

    As :func:`statistics`, which takes several in one pass.
    """
    return statistics(activation, ["mad"])["mad"]


def mse(activation: xr.DataArray) -> xr.DataArray:
    """Mean squared difference from the original over space: float64 (sample, condition, channel), lazy.

    As :func:`statistics`, which takes several in one pass.
    """
    return statistics(activation, ["mse"])["mse"]
