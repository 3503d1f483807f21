"""Converts raw intensities to the network's input: normalise, then centre-pad or centre-crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from actstore.errors import DataError
from actstore.geometry import image_part, image_window

if TYPE_CHECKING:
    from actstore.spec.toml_tables import Normalization

#: Percentiles that ``percentile-…`` clips to.
PERCENTILES = (1.0, 99.0)

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Scaling:
    """Parameters of normalisation: (clipped value - origin) / scale."""

    origin: float = 0.0
    #: 0 if the image is constant, or becomes so by clipping.
    scale: float = 1.0
    #: Values are clipped to these first.
    low: float = -math.inf
    high: float = math.inf


def scalings(volume: NDArray[np.number], method: Normalization, *, slices: int = 0) -> tuple[Scaling, ...]:
    """How ``method`` scales raw intensities (slice, y, x): one for each slice, or one for the volume.

    ``slices`` is the axis along which slices lie, if it is not the first.
    ``minmax`` scales to [0, 1]; ``percentile`` first clips to the 1st and 99th percentile; ``zscore`` subtracts the
    mean and divides by the population standard deviation; ``none`` only casts. Each works by slice or over the volume.
    Computed in float64.
    """
    scheme, _, _ = method.partition("-")
    with np.errstate(all="ignore"):
        return tuple(_scaling(np.asarray(volume[part], np.float64), scheme) for part in _parts(volume, method, slices))


def normalize(
    volume: NDArray[np.number], method: Normalization, of: Sequence[Scaling] | None = None, *, slices: int = 0
) -> NDArray[np.float32]:
    """Normalise raw intensities (slice, y, x), computing in float64.

    Scales each slice, or the volume, with the result of :func:`scalings`, or with ``of``, the scalings of another
    volume of that shape; values may then leave the range of ``method`` unless it clips. A constant image becomes zeros.
    ``slices`` is the axis along which slices lie, if it is not the first.

    Returns
    -------
    (slice, y, x), float32, a new array.

    Raises
    ------
    DataError
        if a result is NaN, infinite or beyond float32.
    """
    found = scalings(volume, method, slices=slices) if of is None else of
    result = np.empty(volume.shape, np.float32)
    with np.errstate(all="ignore"):
        for part, scaling in zip(_parts(volume, method, slices), found, strict=True):
            result[part] = _scaled(np.asarray(volume[part], np.float64), scaling)
    if not np.isfinite(result).all():
        low, high = np.min(volume), np.max(volume)
        raise DataError(
            f"intensities from {low:g} to {high:g} leave the range of float32 under normalize = {method!r}; "
            "rescale the images"
        )
    return result


def _parts(volume: NDArray[np.number], method: Normalization, slices: int) -> list[tuple[slice | int, ...]]:
    if not method.endswith("-slice"):
        return [(slice(None),)]
    return [(*(slice(None),) * slices, i) for i in range(volume.shape[slices])]


def _scaling(values: NDArray[np.float64], scheme: str) -> Scaling:
    if scheme == "none":
        return Scaling()
    limits = (-math.inf, math.inf)
    if scheme == "percentile":
        low, high = np.percentile(values, PERCENTILES)
        limits = float(low), float(high)
        values = np.clip(values, low, high)
    low, high = values.min(), values.max()
    origin, scale = (values.mean(), values.std()) if scheme == "zscore" else (low, high - low)
    # The mean of equal numbers can have a rounding error, so that std alone does not detect a constant.
    return Scaling(float(origin), 0.0 if low == high else float(scale), *limits)


def _scaled(values: NDArray[np.float64], scaling: Scaling) -> NDArray[np.float64]:
    if scaling.scale == 0:
        return np.zeros_like(values)
    if (scaling.low, scaling.high) != (-math.inf, math.inf):
        values = np.clip(values, scaling.low, scaling.high)
    scaled: NDArray[np.float64] = (values - scaling.origin) / scaling.scale
    return scaled


def fit(volume: NDArray[Scalar], size: Sequence[int], fill: float = 0) -> NDArray[Scalar]:
    """Centre-pad with ``fill`` or centre-crop the trailing axes of ``volume`` to ``size``.

    ``size`` is (y, x) or (z, y, x) in pixels. An axis of n pixels gets ``(size - n) // 2`` before it, or loses
    ``(n - size) // 2``. Padding follows normalisation, so that it is 0 in the network's input.

    Returns
    -------
    a new array of the dtype of ``volume``.
    """
    leading = (slice(None),) * (volume.ndim - len(size))
    result = np.full((*volume.shape[: len(leading)], *size), fill, dtype=volume.dtype)
    result[leading + image_window(volume.shape, size)] = volume[leading + image_part(volume.shape, size)]
    return result
