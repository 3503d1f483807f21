"""Colour maps by name, as lists of colours; by night the difference has a dark middle."""

from __future__ import annotations

from functools import cache

import numpy as np
from holoviews.plotting.util import process_cmap

from actstore.views.figures import scales
from actstore.views.figures.theme import DIVERGING

#: As "RdBu_r", blue below and red above, but 0 is as dark as the page.
DARK_DIVERGING = "blue to red, dark middle"
_ENDS = ("#bfe0ff", "#4a90e2", "#1d2328", "#e0533f", "#ffd0bd")


@cache
def palette(cmap: str, number: int = 256) -> list[str]:
    """A colour map as so many colours."""
    if cmap != DARK_DIVERGING:
        return list(process_cmap(cmap, number, provider=None))
    known = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _ENDS])
    at = np.linspace(0, 1, number)
    parts = np.stack([np.interp(at, np.linspace(0, 1, len(_ENDS)), part) for part in known.T], axis=1)
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in parts.round().astype(int).tolist()]


def on_page(cmap: str, theme: str) -> str:
    """The colour map that stands for ``cmap`` in a theme."""
    return DARK_DIVERGING if (cmap, theme) == (DIVERGING, "dark") else cmap


def ink(cmap: str) -> str:
    """The colour in which a line is seen on a map."""
    return "#ffffff" if cmap == DARK_DIVERGING else scales.ink(cmap)
