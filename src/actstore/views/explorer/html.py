"""Text on the page, in its style; everything in it is escaped."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import panel as pn
from markupsafe import Markup

from actstore.analysis.segmentation.cases import ERROR
from actstore.views.explorer.colour_maps import palette
from actstore.views.figures.scales import Limits

TEMPLATES = resources.files("actstore.views.explorer").joinpath("templates")


@cache
def style_sheet() -> str:
    """The style sheet of text and widgets, which live in shadow roots that the page's own sheet does not reach."""
    return TEMPLATES.joinpath("explorer.page.css").read_text(encoding="utf-8")


def html_pane(**options: Any) -> pn.pane.HTML:
    """A place for text in the page's style."""
    own = {"object": "", "sizing_mode": "stretch_width", "margin": 0, "stylesheets": [style_sheet()]}
    return pn.pane.HTML(**own | options)


def note(message: str) -> Markup:
    """A message on what cannot be shown; nothing where it is empty."""
    return Markup('<p class="note">{}</p>').format(message) if message else Markup("")


@cache
def gradient(cmap: str) -> str:
    """A colour map as the stops of a CSS gradient."""
    return ", ".join(palette(cmap, 9))


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


def failure(case: str) -> str:
    """What the page calls a kind of failure: the cases' own "error" reads as a fault of the software."""
    return "unclassified failure" if case == ERROR else case


def number(value: float) -> str:
    """Three significant digits, with a true minus sign."""
    return f"{value + 0.0:.3g}".replace("-", "−")
