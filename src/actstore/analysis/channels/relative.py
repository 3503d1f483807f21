"""MAD made comparable between channels and layers: in standard deviations on the original, and as a rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, is_original, of_original, require_dims
from actstore.analysis.grouping import sample_mean


def pooled_std(statistics: xr.Dataset) -> xr.DataArray:
    """Standard deviation of each channel on the original, over space and samples: float64 (channel), lazy.

    Parameters
    ----------
    statistics
        With "mean" (sample, [condition,] channel) and "std" (sample, channel), of :func:`actstore.analysis.statistics`
        or ``stack_layers`` of it. Of a "mean" with conditions, the original's, which is the first.

    Returns
    -------
    xarray.DataArray
        √(mean of std² + variance of mean), the law of total variance: every map has the same number of positions, so
        that this is the standard deviation of all of them together. Samples where either is not finite are left out;
        NaN without any. Pooled, because a channel that is silent in one slice has a standard deviation of 0 there. That
        of a slice right after instance normalisation is 1, and its mean 0, by construction (Ulyanov et al.,
        arXiv:1607.08022), so that of all samples is 1 too.

    Raises
    ------
    AnalysisError
        if "mean", "std" or the dimension sample is missing.

    Examples
    --------
    >>> analysis.pooled_std(store.statistics("L01")).dims
    ('channel',)
    """
    _require(statistics, ("mean", "std"))
    require_dims(statistics, ["sample"])
    mean, std = of_original(statistics["mean"]), statistics["std"]
    used = (abs(mean) < np.inf) & (abs(std) < np.inf)
    mean, std = mean.where(used), std.where(used)
    number = used.sum("sample")
    number = number.where(number > 0)
    middle = mean.sum("sample") / number
    variance = ((std**2).sum("sample") + ((mean - middle) ** 2).sum("sample")) / number
    return (variance**0.5).rename("pooled_std")


def standardised(statistics: xr.Dataset) -> xr.DataArray:
    """MAD in standard deviations of its channel on the original: float64 (sample, condition, channel), lazy.

    ``statistics`` holds "mad" (sample, condition, channel) and what :func:`pooled_std` takes. NaN where "mad" is, and
    where a channel neither varies on the original nor changes (0/0); inf where it does not vary but changes.

    Raises
    ------
    AnalysisError
        if "mad", "mean", "std" or a dimension is missing.

    Examples
    --------
    >>> analysis.standardised(store.statistics("L01")).dims
    ('sample', 'condition', 'channel')
    """
    _require(statistics, ("mad",))
    return in_units(statistics["mad"], pooled_std(statistics)).rename("standardised")


def in_units(score: xr.DataArray, scale: xr.DataArray) -> xr.DataArray:
    """``score`` divided by ``scale`` (channel), lazy: NaN for 0/0, inf where only ``scale`` is 0."""
    scale = scale.reset_coords(drop=True).drop_vars("channel", errors="ignore")
    ratio = score / scale.where(scale > 0)
    return ratio.where((scale != 0) | (score == 0) | score.isnull(), np.inf)


def network_rank(score: xr.DataArray) -> xr.DataArray:
    """Percentile rank of each channel's mean score among all channels: float64 in [0, 1] (condition, channel), lazy.

    Parameters
    ----------
    score
        (sample, condition, channel), for a rank within the network of :func:`actstore.analysis.stack_layers`. NaN where
        not applicable.

    Returns
    -------
    xarray.DataArray
        0 for the lowest mean over applicable samples and 1 for the highest; equal means share the mean of their ranks,
        and a single channel has 0.5. NaN for the original, and for a channel without a number.

    Raises
    ------
    AnalysisError
        if a dimension is missing.

    Examples
    --------
    >>> rank = analysis.network_rank(findings.score)
    >>> rank.dims, bool(rank.max() <= 1)
    (('condition', 'channel'), True)
    """
    require_dims(score, ["sample", "condition", "channel"])
    return _ranked(sample_mean(score)).rename("network_rank")


def sample_rank(score: xr.DataArray) -> xr.DataArray:
    """Percentile rank of each channel's score among all channels, within each sample: (sample, condition, channel).

    As :func:`network_rank`, of the scores themselves instead of their means.

    Examples
    --------
    >>> rank = analysis.sample_rank(store.statistics("L02")["mad"])
    >>> rank.dims, bool(rank.max() <= 1)
    (('sample', 'condition', 'channel'), True)
    """
    require_dims(score, ["sample", "condition", "channel"])
    return _ranked(score).rename("sample_rank")


def _ranked(values: xr.DataArray) -> xr.DataArray:
    """Percentile ranks of ``values`` (…, condition, channel) along channel, NaN for the original."""
    ranked: xr.DataArray = apply_lazily(
        _percentile, (values.where(~is_original(values)), ["channel"]), output_dims=[["channel"]], dtypes=[np.float64]
    )
    return ranked.transpose(..., "condition", "channel")


def _percentile(mean: NDArray[Any]) -> NDArray[np.float64]:
    from scipy import stats

    rank: NDArray[np.float64] = stats.rankdata(mean, axis=-1, nan_policy="omit")
    number = (~np.isnan(mean)).sum(axis=-1, keepdims=True)
    return np.where(number > 1, (rank - 1) / np.maximum(number - 1, 1), rank - 0.5)


def _require(statistics: xr.Dataset, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in statistics:
            raise AnalysisError(f"statistics have no {name!r}: ask statistics() for mad, mean, std")
