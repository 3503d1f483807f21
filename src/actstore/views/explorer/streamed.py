"""Figures that Bokeh draws once, and whose glyphs, which have names, then only get other data.

To draw a figure again takes some 30 ms of a core for each of its elements; to give a glyph other data takes less than
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.callbacks import CustomJS
from bokeh.plotting import figure
from numpy.typing import NDArray

from actstore.views.explorer.colour_maps import palette
from actstore.views.figures.pixels import ON_INPUT, Place

#: An image to draw a figure with before there is any.
BLANK = np.full((2, 2), np.nan, np.float32)
#: Columns that :meth:`StreamedFigure.put_image` and :meth:`StreamedFigure.put_lines` fill.
IMAGE = ("image", "x", "y", "dw", "dh")
LINES = ("xs", "ys", "colour")


class StreamedFigure:
    """A figure on the page whose glyphs have names.

    Parameters
    ----------
    figure
        a Bokeh figure.
    names
        of its glyphs, in the order in which they are drawn.
    options
        of the pane.
    """

    def __init__(self, figure: Any, names: Iterable[str], **options: Any) -> None:
        #: The Bokeh figure.
        self.plot: Any = figure
        self._glyphs: dict[str, Any] = dict(zip(names, figure.renderers, strict=True))
        for renderer in figure.renderers:
            # Two more glyphs each for Bokeh to send: nothing is ever drawn as not selected, or muted.
            renderer.update(nonselection_glyph=None, muted_glyph=None)
        # What hovers over other data is looked up again.
        drawn = CustomJS(code="actstoreDrawn()")
        for hover in figure.select(HoverTool):
            for renderer in figure.renderers if hover.renderers == "auto" else hover.renderers:
                renderer.data_source.js_on_change("data", drawn)
        own: dict[str, Any] = {"sizing_mode": "stretch_both", "margin": 0}
        self.view = pn.pane.Bokeh(figure, **own | options)

    def put(self, glyph: str, **columns: Any) -> None:
        """Give a glyph other data: every column of its source."""
        self._glyphs[glyph].data_source.data = columns

    def columns(self, glyph: str) -> dict[str, Any]:
        """What a glyph draws."""
        found: dict[str, Any] = self._glyphs[glyph].data_source.data
        return found

    def put_image(self, glyph: str, values: NDArray[Any], limits: tuple[float, float], place: Place = ON_INPUT) -> None:
        """Show ``values`` (y, x), row 0 first, coloured between ``limits``."""
        height, width = values.shape
        low, high = limits
        # Bokeh knows no float16.
        shown = values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)
        left, top = place.centre(np.array(-0.5), 1), place.centre(np.array(-0.5), 0)
        size = {"dw": [width * place.stride[1]], "dh": [height * place.stride[0]]}
        self.put(glyph, image=[shown], x=[float(left)], y=[float(top)], **size)
        self._glyphs[glyph].glyph.color_mapper.update(low=low, high=low + max(high - low, 1e-12))

    def put_lines(self, glyph: str, paths: Sequence[dict[str, Any]]) -> None:
        """Draw outlines of :func:`actstore.views.figures.pixels.border_paths`, each in its colour."""
        columns = zip(LINES, ("x", "y", "colour"), strict=True)
        self.put(glyph, **{to: [path[name] for path in paths] for to, name in columns})

    def style(self, glyph: str, **properties: Any) -> None:
        """Change properties of a glyph, such as its colour."""
        self._glyphs[glyph].glyph.update(**properties)

    def put_palette(self, glyph: str, cmap: str) -> None:
        """Colour an image with another colour map, unless it has that one already: Bokeh checks every colour."""
        mapper, colours = self._glyphs[glyph].glyph.color_mapper, palette(cmap)
        if mapper.palette != colours:
            mapper.palette = colours


def small_figure(**options: Any) -> Any:
    """A Bokeh figure in small letters, without tools, toolbar and grid unless ``options`` say otherwise."""
    plot: Any = figure(**{"tools": "", "toolbar_location": None} | options)
    plot.grid.visible = False
    plot.title.text_font_size = "12px"
    plot.axis.axis_label_text_font_size = "11px"
    plot.axis.major_label_text_font_size = "10px"
    return plot


def set_limits(plot: Any, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Show the part of a figure between two ends of each axis."""
    plot.x_range.update(start=x[0], end=x[1])
    plot.y_range.update(start=y[0], end=y[1])


def on_tap(plot: Any, do: Callable[[float, float], None]) -> None:
    """Call ``do`` with each tapped place of a Bokeh figure.

    Two fast taps are two: Bokeh reports them as one double tap.
    """
    for name in ("tap", "doubletap"):
        plot.on_event(name, lambda event: do(event.x, event.y))


def nothing(*columns: str) -> ColumnDataSource:
    """A source for a glyph before there is anything to draw."""
    return ColumnDataSource({name: [] for name in columns})
