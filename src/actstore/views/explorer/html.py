"""Pieces of text on the page; everything in them is escaped."""

from __future__ import annotations

from functools import cache

from holoviews.plotting.util import process_cmap
from markupsafe import Markup

from actstore.views.scales import Limits


@cache
def gradient(cmap: str) -> str:
    """A colour map as the stops of a CSS gradient."""
    return ", ".join(process_cmap(cmap, 9, provider=None))


def legend(title: str, scale: tuple[str, Limits] | None) -> Markup:
    """A picture's title above its colour map, with the values at its ends; without scale where nothing is drawn."""
    if scale is None:
        return Markup('<div class="head"><b title="{0}">{0}</b></div>').format(title)
    cmap, limits = scale
    low, high = map(number, limits)
    name = Markup('<b title="{0}">{0}</b>').format(title) if title else ""
    return Markup(
        '<div class="head">{0}<span class="scale"><i>{1}</i>'
        '<u style="background:linear-gradient(90deg,{2})"></u><i>{3}</i></span></div>'
    ).format(name, low, gradient(cmap), high)


def number(value: float) -> str:
    """Three digits that matter, with a true minus sign."""
    return f"{value + 0.0:.3g}".replace("-", "−")
