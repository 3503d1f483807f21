"""Colour maps and the values between which pictures of original, perturbed and difference are coloured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.views.figures.theme import DIVERGING, GREY, SEQUENTIAL

#: Whether the pictures of one row are coloured alike, or each by its own values.
Scale = Literal["shared", "own"]
Limits = tuple[float, float]


def of_inputs(values: Sequence[NDArray[Any]], scale: Scale) -> list[tuple[str, Limits]]:
    """Colour map and limits of each of the images (y, x) original, perturbed and difference.

    The first two in grey, on one scale or each from its least to its largest value; the difference around 0.
    """
    *pair, change = values
    check_scale(scale)
    alike = [extremes(np.stack(pair))] * 2 if scale == "shared" else [extremes(image) for image in pair]
    return [*((GREY, limits) for limits in alike), (DIVERGING, around_zero(change))]


def of_maps(values: Sequence[NDArray[Any]], scale: Scale) -> list[tuple[str, Limits]]:
    """Colour map and limits of each of the maps (y, x) original, perturbed and difference.

    All on one scale around 0; or the first two each from its least to its largest value.
    """
    check_scale(scale)
    if scale == "shared":
        return [(DIVERGING, around_zero(np.stack(values)))] * 3
    *pair, change = values
    return [*((SEQUENTIAL, extremes(image)) for image in pair), (DIVERGING, around_zero(change))]


def check_scale(scale: str) -> None:
    """Refuse an unknown scale.

    Raises
    ------
    StoreError
        naming those that there are.
    """
    if scale not in get_args(Scale):
        raise StoreError(f"scale = {scale!r}: choose shared or own")


def ink(cmap: str) -> str:
    """The colour in which a line is seen on a map."""
    return "#ffffff" if cmap == SEQUENTIAL else "#111111"


def extremes(values: NDArray[Any]) -> Limits:
    """The least and the largest finite value; (0, 1) of none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def around_zero(values: NDArray[Any]) -> Limits:
    """Limits symmetric about 0 that hold every finite value; (-1, 1) where there is nothing but 0."""
    most = max(map(abs, extremes(values))) or 1.0
    return -most, most


def most_around_zero(values: NDArray[Any], share: float = 0.99) -> Limits:
    """As :func:`around_zero`, of all but the largest magnitudes: those of ``share`` of the values that are not 0."""
    known = np.abs(values[np.isfinite(values) & (values != 0)])
    return around_zero(np.array([np.quantile(known, share)]) if known.size else known)
