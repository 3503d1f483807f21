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


def unclipped(before: NDArray[Any], after: NDArray[Any]) -> Mask:
    """Pixels that are at no end of the range of either image: clipping puts pixels at the ends, whatever the slope."""
    inner = np.ones(before.shape, dtype=bool)
    for image in (before, after):
        inner &= (image > image.min()) & (image < image.max())
    return inner


def fitted(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the least-squares line through points of which not all have the same ``x``."""
    centre = x.mean()
    away = x - centre
    slope = float(away @ (y - y.mean()) / (away @ away))
    return slope, float(y.mean() - slope * centre)


def on_line(x: NDArray[Any], y: NDArray[Any], slope: Any, intercept: Any, *, within: float = 1.0) -> Mask:
    """Which points lie on a line, up to ``within`` times :data:`ROUNDING` of what the line is made of.

    ``slope`` and ``intercept`` broadcast against points.
    """
    scaled = slope * x
    size = np.abs(y)
    most = size + size.mean() + np.abs(scaled)
    found: Mask = np.abs(y - scaled - intercept) <= within * ROUNDING * most
    return found


def three_values(x: NDArray[Any]) -> bool:
    """Whether there are three different values, so that a line through them shows that it is one."""
    return bool(((x > x.min()) & (x < x.max())).any())


def never_1(slope: float) -> float:
    """``slope`` of pixels that differ: a shift of all values alone is the next larger float64."""
    return slope if slope != 1 else float(np.nextafter(1, 2))


def stretch(before: NDArray[Any], after: NDArray[Any], untouched: Mask) -> float:
    """By how much contrast grew from ``before`` to ``after`` among the ``untouched`` pixels of one image.

    The slope of a least-squares line through the pixels' values, without those that may be clipped. Where these are all
    that has contrast, they count if they lie on one line of three values or more with the others.

    Returns
    -------
    never 1: a shift of all values alone is the next larger float64. NaN where the untouched pixels have no contrast
    before or after, or none but what may be clipped.
    """
    inner = untouched & unclipped(before, after)
    for mask in (inner, untouched):
        x, y = before[mask].astype(np.float64), after[mask].astype(np.float64)
        if x.size and np.ptp(x) > 0 and np.ptp(y) > 0:
            slope, intercept = fitted(x, y)
            if mask is inner or (three_values(x) and on_line(x, y, slope, intercept).all()):
                return never_1(slope)
    return float("nan")
