"""Counts per patient, and the sets of channels most often on top that they lead to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import one_chunk, require_dims

Bools = NDArray[np.bool_]
Counts = NDArray[np.int64]


def counted_samples(member: xr.DataArray, applicable: xr.DataArray | None) -> xr.DataArray:
    """``applicable``, or where any channel of ``member`` (sample, condition, channel) is True: bool, lazy."""
    require_dims(member, ["sample", "condition", "channel"])
    valid = one_chunk(member, ["channel"]).any("channel") if applicable is None else applicable.astype(bool)
    return valid.reset_coords(drop=True)


def per_patient(values: NDArray[Any], patient: NDArray[np.intp]) -> NDArray[Any]:
    """Sums over the samples of each patient: (sample, …) to (patient, …), counts where ``values`` are bool.

    Every number from 0 to the highest must occur in ``patient``.
    """
    if not len(patient):
        return np.zeros((0, *values.shape[1:]))
    order = np.argsort(patient, kind="stable")
    starts = np.searchsorted(patient[order], np.arange(patient.max() + 1))
    dtype = np.int64 if values.dtype == bool else values.dtype
    return np.add.reduceat(values[order], starts, axis=0, dtype=dtype)


def most_often(count: NDArray[Any], most: int, layers: Iterable[slice]) -> Bools:
    """Whether a channel is among the ``most`` of its layer with the highest ``count`` (…, channel): bool (…, channel).

    As :func:`actstore.analysis.most_frequent`: the lower channel of two with equal counts; never one with count 0.
    """
    chosen = np.zeros(count.shape, dtype=bool)
    for where in layers:
        part = count[..., where].astype(np.int64)
        channels = part.shape[-1]
        key = part * channels + np.arange(channels)[::-1]
        if most < channels:
            lowest = np.partition(key, channels - most, axis=-1)[..., channels - most, None]
            chosen[..., where] = (key >= lowest) & (part > 0)
        else:
            chosen[..., where] = part > 0
    return chosen


def overlap(first: Bools, second: Bools) -> NDArray[np.float64]:
    """Jaccard overlap |A∩B| / |A∪B| of sets of channels along the last axis; NaN where both are empty."""
    union = (first | second).sum(axis=-1)
    common = (first & second).sum(axis=-1)
    return np.where(union > 0, common / np.where(union > 0, union, 1), np.nan)
