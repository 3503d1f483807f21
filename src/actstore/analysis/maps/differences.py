"""How much each channel differs between a condition and the original, in one lazy pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_original_first
from actstore.measures.kernel import reduce_chunk
from actstore.measures.names import MEASURES, ORIGINAL_STATISTICS


def statistics(activation: xr.DataArray, names: Sequence[str] = ("mad", "mse")) -> xr.Dataset:
    """Per-channel statistics, all of ``names`` from one pass over each dask chunk.

    Parameters
    ----------
    activation
        (sample, condition, channel, y, x) or (sample, condition, channel, z, y, x), real, the original first along
        condition. Every dimension but sample, condition and channel counts as space. NumPy- or dask-backed; condition
        and space are merged into one chunk where they are split.
    names
        Of each condition (b), most of them against the original (a), over the n values of space, float64 (sample,
        condition, channel):

        - "mad", "mse": mean absolute and mean squared difference; "mean_difference": the mean of b - a.
        - "cosine": Σab / √(Σa² Σb²); 1 where both maps are all 0, 0 where one is.
        - "psnr": 10 log₁₀(R² / MSE) in decibels with R = max a - min a, as scikit-image's
          ``peak_signal_noise_ratio`` with that data range; inf where a and b are equal, -inf where only a is constant.
        - "ssim": mean structural similarity (Wang et al., IEEE TIP 13 (2004), 600) of each map min-max scaled by
          itself, as scikit-image's ``structural_similarity`` with its defaults and data_range=1: a uniform window of 7
          (7x7, or 7x7x7 of volumes), sample covariance, K1 = 0.01, K2 = 0.03, averaged over windows inside the map.
          The scaling takes offset and contrast away: 2a + 1 is as a. A constant map is scaled to 0. NaN where the map
          is smaller than the window.
        - "mean", "max": mean and largest value of b.

        "std" of the original over space, float64 (sample, channel), with n as divisor.

    Returns
    -------
    xarray.Dataset
        Lazy where ``activation`` is. NaN where a condition is not applicable, and where an activation itself is NaN.
        Where one is infinite, "mad" and "mse" are inf, "cosine" and "ssim" NaN, "mean" and "max" as NumPy's. Of the
        original, "mad", "mse" and "mean_difference" are 0, "cosine" and "ssim" 1, "psnr" inf, or NaN where its map is
        not finite. The "ssim" of equal maps is exactly 1. Within 1e-6 of a float64 computation, but "ssim" of float32
        and narrower maps is taken in float32, as scikit-image does, which changes it by up to 2e-5.

    Raises
    ------
    AnalysisError
        for an unknown name, a missing dimension, or a first condition that is not the original.

    Examples
    --------
    >>> found = analysis.statistics(store["L01"], ["mad", "cosine"])
    >>> list(found)
    ['mad', 'cosine']
    """
    chosen = tuple(dict.fromkeys(names))
    if isinstance(names, str) or not chosen:
        raise AnalysisError(f"names = {names!r}: give a list of statistics from {', '.join(MEASURES)}")
    for name in chosen:
        if name not in MEASURES:
            raise AnalysisError(f"unknown statistic {name!r}: choose from {', '.join(MEASURES)}")
    require_original_first(activation)
    if np.dtype(activation.dtype).kind not in "fiub":
        raise AnalysisError(f"{activation.name or 'activation'} is {activation.dtype}: only real numbers have a MAD")
    space = [d for d in activation.dims if d not in ("sample", "condition", "channel")]
    core = ["condition", *space]
    selected = [d for d in ("sample", "channel") if d not in activation.dims]
    activation = activation.expand_dims(selected) if selected else activation
    activation = one_chunk(activation, core).transpose("sample", "channel", *core)
    sizes = [1 if name in ORIGINAL_STATISTICS else activation.sizes["condition"] for name in chosen]
    packed = _packed(activation.data, chosen, sum(sizes))
    arrays = {}
    for name, stop, size in zip(chosen, np.cumsum(sizes), sizes, strict=True):
        rows = packed[:, :, stop - 1] if name in ORIGINAL_STATISTICS else packed[:, :, stop - size : stop]
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

    Examples
    --------
    >>> mad = analysis.mad(store["L01"])
    >>> mad.dims, float(mad.isel(condition=0).max())
    (('sample', 'condition', 'channel'), 0.0)
    """
    return statistics(activation, ["mad"])["mad"]


def mse(activation: xr.DataArray) -> xr.DataArray:
    """Mean squared difference from the original over space: float64 (sample, condition, channel), lazy.

    As :func:`statistics`, which takes several in one pass.

    Examples
    --------
    >>> mse = analysis.mse(store["L01"])
    >>> float(mse.isel(condition=0).max())
    0.0
    """
    return statistics(activation, ["mse"])["mse"]


def mean_difference(activation: xr.DataArray) -> xr.DataArray:
    """Mean of condition minus original over space, signed: float64 (sample, condition, channel), lazy.

    As :func:`statistics`, which takes several in one pass.

    Examples
    --------
    >>> analysis.mean_difference(store["L01"]).dims
    ('sample', 'condition', 'channel')
    """
    return statistics(activation, ["mean_difference"])["mean_difference"]


def cosine_similarity(activation: xr.DataArray) -> xr.DataArray:
    """Cosine of the angle between a map and the original's, as vectors: float64 (sample, condition, channel), lazy.

    As :func:`statistics`, which takes several in one pass.

    Examples
    --------
    >>> likeness = analysis.cosine_similarity(store["L01"])
    >>> likeness.dims, bool(likeness.max() <= 1)
    (('sample', 'condition', 'channel'), True)
    """
    return statistics(activation, ["cosine"])["cosine"]


def psnr(activation: xr.DataArray) -> xr.DataArray:
    """Peak signal-to-noise ratio in decibels against the original: float64 (sample, condition, channel), lazy.

    As :func:`statistics`, which takes several in one pass.

    Examples
    --------
    >>> analysis.psnr(store["L01"]).dims
    ('sample', 'condition', 'channel')
    """
    return statistics(activation, ["psnr"])["psnr"]


def ssim(activation: xr.DataArray) -> xr.DataArray:
    """Structural similarity to the original, maps min-max scaled: float64 (sample, condition, channel), lazy.

    As :func:`statistics`, which takes several in one pass.

    Examples
    --------
    >>> likeness = analysis.ssim(store["L01"])
    >>> likeness.dims, likeness.dtype.name
    (('sample', 'condition', 'channel'), 'float64')
    """
    return statistics(activation, ["ssim"])["ssim"]
