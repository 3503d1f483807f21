"""How much each channel differs between a condition and the original, in one lazy pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_original_first
from actstore.analysis.kernel import reduce_chunk

STATISTICS = ("mad", "mse", "mean", "std")
_PER_CONDITION = ("mad", "mse")


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
    results = xr.apply_ufunc(
        _reduce,
        activation,
        kwargs={"names": chosen},
        input_core_dims=[core],
        output_core_dims=[["condition"] if name in _PER_CONDITION else [] for name in chosen],
        dask="parallelized",
        output_dtypes=[np.float64] * len(chosen),
        keep_attrs=False,
    )
    arrays = results if isinstance(results, tuple) else (results,)
    return xr.Dataset(
        {
            name: array.isel(dict.fromkeys(selected, 0)).transpose(
                "sample", "condition", "channel", missing_dims="ignore"
            )
            for name, array in zip(chosen, arrays, strict=True)
        }
    )


def _reduce(chunk: NDArray[Any], names: tuple[str, ...]) -> NDArray[Any] | tuple[NDArray[Any], ...]:
    results = reduce_chunk(chunk, names)
    return results if len(results) > 1 else results[0]


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
