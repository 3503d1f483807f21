"""When two inputs of the network are one: up to what float32 rounds; and how one is a stretched copy of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

#: Relative difference up to which two float32 numbers are one: four times what rounding to nearest makes of it. What
#: normalisation undoes comes back within it, and a network makes no more of it than of its own rounding.
ROUNDING = 2.0**-22


def differing(a: NDArray[np.float32], b: NDArray[np.float32]) -> Mask:
    """Which pixels of two inputs differ by more than float32 rounds: bool of their shape."""
    other: Mask = a != b
    if other.any():
        one, two = a[other], b[other]
        other[other] = np.abs(one - two) > ROUNDING * np.maximum(np.abs(one), np.abs(two))
    return other


def differs(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether any pixel of two inputs differs by more than float32 rounds."""
    return bool(differing(a, b).any())


def stretch(before: NDArray[Any], after: NDArray[Any], untouched: Mask) -> float:
    """By how much contrast grew from ``before`` to ``after`` among the ``untouched`` pixels of one image.

    The slope of a least-squares line through the pixels' values. Pixels at either end of an image's range are left out
    where others remain: clipping puts them there, whatever the slope.

    Returns
    -------
    never 1: a shift of all values alone is the next larger float64. NaN where the untouched pixels are all equal before
    or after, so that they have no contrast.
    """
    inner = untouched.copy()
    for image in (before, after):
        inner &= (image > image.min()) & (image < image.max())
    for mask in (inner, untouched):
        x, y = before[mask].astype(np.float64), after[mask].astype(np.float64)
        if x.size and np.ptp(x) > 0 and np.ptp(y) > 0:
            x -= x.mean()
            slope = float(x @ (y - y.mean()) / (x @ x))
            return slope if slope != 1 else float(np.nextafter(1, 2))
    return float("nan")
