"""Figures to files and into a page: PNG and SVG through matplotlib, JSON for the BokehJS that the page carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import holoviews as hv
import pandas as pd

from actstore.errors import StoreError
from actstore.paths import given
from actstore.tables.build import write_csv, write_parquet
from actstore.views.theme import FAINT, INK, SOFT

_PAPER: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "actstore",
}
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


def save_images(figure: Any, png: Path | None, svg: Path | None = None, *, dpi: int = 144) -> None:
    """Draw a HoloViews object once with matplotlib and save it as PNG and SVG. Leaves no setting behind."""
    import matplotlib
    import matplotlib.pyplot as plt

    # An interactive backend stays what it is: nothing is shown, and a notebook's own figures go on.
    if not plt.get_fignums():
        matplotlib.use("Agg", force=False)
    with matplotlib.rc_context(_PAPER):
        plot = hv.Store.renderers["matplotlib"].get_plot(figure)
        try:
            # Measured once: `bbox_inches="tight"` would draw everything again for each file.
            plot.state.draw_without_rendering()
            box = plot.state.get_tightbbox().padded(0.06)
            for path in (png, svg):
                if path is not None:
                    metadata = {"Date": None} if path.suffix == ".svg" else None
                    plot.state.savefig(path, dpi=dpi, bbox_inches=box, metadata=metadata)
        finally:
            plt.close(plot.state)


def save_png(figure: Any, path: str | Path, *, dpi: int = 144) -> Path:
    """Save a HoloViews object as PNG through matplotlib."""
    path = given(path)
    save_images(figure, path, dpi=dpi)
    return path


def save_frame(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """Write a figure's data as ``name.csv`` and ``name.parquet``."""
    try:
        write_csv(frame, folder / f"{name}.csv")
        write_parquet(frame, folder / f"{name}.parquet")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}; choose another -o") from error


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
