"""Figures in the page of a report: JSON for the BokehJS that the page carries."""

from __future__ import annotations

import json
from typing import Any

import holoviews as hv

from actstore.views.figures.theme import FAINT, INK, SOFT

_FONT = "Inter, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"
_SCREEN = {
    "attrs": {
        "Plot": {"outline_line_color": None, "background_fill_color": None, "border_fill_color": None},
        "Axis": {
            "axis_line_color": SOFT,
            "axis_line_width": 0.75,
            "major_tick_line_color": SOFT,
            "major_tick_line_width": 0.75,
            "major_tick_in": 0,
            "major_tick_out": 4,
            "minor_tick_line_color": None,
            "major_label_text_color": SOFT,
            "major_label_text_font": _FONT,
            "axis_label_text_color": INK,
            "axis_label_text_font": _FONT,
            "axis_label_text_font_style": "normal",
        },
        "Grid": {"grid_line_color": FAINT},
        "Title": {"text_color": INK, "text_font": _FONT, "text_font_style": "bold"},
        "Legend": {
            "border_line_color": None,
            "background_fill_alpha": 0.85,
            "label_text_color": INK,
            "label_text_font": _FONT,
            "spacing": 1,
        },
        "ColorBar": {
            "bar_line_color": None,
            "major_tick_line_color": None,
            "major_label_text_color": SOFT,
            "major_label_text_font": _FONT,
            "title_text_font": _FONT,
            "title_text_font_style": "normal",
            "title_text_color": INK,
        },
    }
}


def page_item(figure: Any, target: str) -> str:
    """What ``Bokeh.embed.embed_item`` needs to draw a HoloViews object in the element with id ``target``: JSON.

    Safe inside a ``<script>`` element.
    """
    from bokeh.core.types import ID
    from bokeh.core.validation.warnings import FIXED_SIZING_MODE
    from bokeh.embed import json_item
    from bokeh.themes import Theme
    from holoviews.plotting.bokeh.util import silence_warnings

    plot = hv.Store.renderers["bokeh"].get_plot(figure)
    with silence_warnings(FIXED_SIZING_MODE):
        item = json_item(plot.state, ID(target), theme=Theme(json=_SCREEN))
    plot.cleanup()
    return json.dumps(item, separators=(",", ":")).replace("</", "<\\/")


def bokeh_script() -> str:
    """BokehJS itself, as text: the one part of it that figures need.

    Read from the package: what ``bokeh.resources`` renders is altered by panel, where that was imported, to fetch more.
    """
    from bokeh.util.paths import bokehjs_path

    return (bokehjs_path() / "js" / "bokeh.min.js").read_text(encoding="utf-8").replace("</script", "<\\/script")
