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


def of_inputs(values: Sequence[NDArray[Any]], scale: Scale, contrast: int = 100) -> list[tuple[str, Limits]]:
    """Colour map and limits of each of the images (y, x) original, perturbed and difference.

    The first two in grey, on one scale or each from its least to its largest value; the difference around 0. Limits are
    those of :func:`narrowed`.
    """
    *pair, change = values
    check_scale(scale)
    alike = [extremes(np.stack(pair))] * 2 if scale == "shared" else [extremes(image) for image in pair]
    return narrowed([*((GREY, limits) for limits in alike), (DIVERGING, around_zero(change))], contrast)


def of_maps(
    values: Sequence[NDArray[Any]], scale: Scale, contrast: int = 100, colours: str | None = None
) -> list[tuple[str, Limits]]:
    """Colour map and limits of each of the maps (y, x) original, perturbed and difference.

    All on one scale around 0; or the first two each from its least to its largest value. ``colours`` is a colour map
    for all of them. Limits are those of :func:`narrowed`.
    """
    check_scale(scale)
    if scale == "shared":
        found = [(DIVERGING, around_zero(np.stack(values)))] * 3
    else:
        *pair, change = values
        found = [*((SEQUENTIAL, extremes(image)) for image in pair), (DIVERGING, around_zero(change))]
    return narrowed([(colours or cmap, limits) for cmap, limits in found], contrast)


def narrowed(scales: Sequence[tuple[str, Limits]], contrast: int) -> list[tuple[str, Limits]]:
    """Scales whose limits are ``contrast`` per cent as far from 0, or where 0 is not between them, from the middle.

    Raises
    ------
    StoreError
        if ``contrast`` is not above 0 and at most 100.
    """
    if not 0 < contrast <= 100:
        raise StoreError(f"contrast = {contrast}: give the per cent of the range that has colours, above 0 to 100")
    found = []
    for cmap, (low, high) in scales:
        middle = 0.0 if low < 0 < high else (low + high) / 2
        found.append((cmap, (middle + (low - middle) * contrast / 100, middle + (high - middle) * contrast / 100)))
    return found


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
