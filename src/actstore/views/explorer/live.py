"""Figures that are drawn once, by HoloViews or Bokeh, and whose glyphs then only get other data.

Drawing an overlay again takes HoloViews and Bokeh some 30 ms of a core for each of its elements; other data for a
glyph that is there takes less than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
from bokeh.models import ColumnDataSource
from holoviews.plotting.util import process_cmap
from numpy.typing import NDArray

from actstore.views.pixels import ON_INPUT, Place

#: An image to draw a figure with before there is any.
BLANK = np.full((2, 2), np.nan, np.float32)
#: Columns that :meth:`Live.put_image` and :meth:`Live.put_lines` fill.
IMAGE = ("image", "x", "y", "dw", "dh")
LINES = ("xs", "ys", "colour")


class Live:
    """A figure on the page; its glyphs are numbered in the order in which they were drawn."""

    def __init__(self, figure: Any, **options: Any) -> None:
        """``figure``: a HoloViews element or overlay, or a Bokeh figure."""
        if isinstance(figure, hv.core.Dimensioned):
            # HoloViews would set a theme of its own on the whole page.
            figure = hv.render(figure, backend="bokeh", theme=None)
        self.figure: Any = figure
        self._glyphs: list[Any] = list(self.figure.renderers)
        own: dict[str, Any] = {"sizing_mode": "stretch_both", "margin": 0}
        self.view = pn.pane.Bokeh(self.figure, **own | options)

    def put(self, number: int, **columns: Any) -> None:
        """Give a glyph other data: every column of its source."""
        self._glyphs[number].data_source.data = columns

    def put_image(
        self, number: int, values: NDArray[Any], limits: tuple[float, float], place: Place = ON_INPUT
    ) -> None:
        """Show ``values`` (y, x), row 0 first, coloured between ``limits``."""
        height, width = values.shape
        low, high = limits
        glyph = self._glyphs[number]
        # Bokeh knows no float16.
        shown = values.astype(np.float32, copy=False)
        left, top = place.centre(np.array(-0.5), 1), place.centre(np.array(-0.5), 0)
        size = {"dw": [width * place.stride[1]], "dh": [height * place.stride[0]]}
        glyph.data_source.data = {"image": [shown], "x": [float(left)], "y": [float(top)], **size}
        glyph.glyph.color_mapper.update(low=low, high=low + max(high - low, 1e-12))

    def put_lines(self, number: int, paths: Sequence[dict[str, Any]]) -> None:
        """Draw outlines of :func:`actstore.views.pixels.border_paths`, each in its colour."""
        columns = {"xs": "x", "ys": "y", "colour": "colour"}
        self.put(number, **{to: [path[name] for path in paths] for to, name in columns.items()})

    def style(self, number: int, **properties: Any) -> None:
        """Give a glyph another look."""
        self._glyphs[number].glyph.update(**properties)

    def put_palette(self, number: int, cmap: str) -> None:
        """Colour an image with another colour map, if it has not that one already: Bokeh checks every colour."""
        mapper, colours = self._glyphs[number].glyph.color_mapper, palette(cmap)
        if mapper.palette != colours:
            mapper.palette = colours


def on_tap(figure: Any, do: Callable[[float, float], None]) -> None:
    """Call ``do`` with each place of a Bokeh figure that is tapped, also where two taps follow so fast that Bokeh takes
    them for a double one."""
    for name in ("tap", "doubletap"):
        figure.on_event(name, lambda event: do(event.x, event.y))


def nothing(*columns: str) -> ColumnDataSource:
    """What a glyph is drawn from before there is anything to draw."""
    return ColumnDataSource({name: [] for name in columns})


@cache
def palette(cmap: str) -> list[str]:
    """A colour map as 256 colours."""
    return list(process_cmap(cmap, 256))
