"""What the figures of one channel have in common: a head above, or a note in their place, and what a tap finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import holoviews as hv
import panel as pn
from markupsafe import Markup

from actstore.views.explorer.html import html_pane, legend, note
from actstore.views.explorer.streamed import StreamedFigure, on_tap
from actstore.views.figures.scales import Limits

#: As wide as there is room; the height in pixels of the screen.
RESPONSIVE: dict[str, Any] = {"responsive": True, "height": 250}


class ChannelPlot(ABC):
    """One figure of named ``glyphs``, its head above; a tap calls ``go`` with what :meth:`at` finds there."""

    def __init__(self, glyphs: Mapping[str, Any], go: Callable[[Any], None], **options: Any) -> None:
        overlay = hv.Overlay(list(glyphs.values())).opts(
            show_legend=False,
            default_tools=[],
            toolbar=None,
            fontsize={"labels": "11px", "xticks": "10px", "yticks": "10px"},
            backend="bokeh",
            **options,
        )
        sizing = "stretch_width" if "responsive" in options else "fixed"
        self.figure = StreamedFigure(overlay, glyphs, sizing_mode=sizing)
        self.head = html_pane()
        # Hide a column around Bokeh's pane: Panel reads back the page's design from a hidden pane itself.
        self._holder = pn.Column(self.figure.view, sizing_mode="stretch_width", margin=0, visible=False)
        self.view = pn.Column(self.head, self._holder, sizing_mode="stretch_width", margin=(0, 8, 0, 0))
        self._go = go
        on_tap(self.figure.plot, self._tapped)

    @abstractmethod
    def at(self, x: float, y: float) -> Any:
        """The item at a position, or None."""

    def _tapped(self, x: float, y: float) -> None:
        if (found := self.at(x, y)) is not None:
            self._go(found)

    def set_limits(self, x: Limits, y: Limits) -> None:
        """Show the part between two ends of each axis."""
        self.figure.plot.x_range.update(start=x[0], end=x[1])
        self.figure.plot.y_range.update(start=y[0], end=y[1])

    def show_below(self, head: str | Markup) -> None:
        """Show the figure below ``head``."""
        self.head.object = str(head if isinstance(head, Markup) else legend(head, None))
        self._holder.visible = True

    def hide(self, message: str = "") -> None:
        """Show a message in place of the figure."""
        self.head.object = str(note(message))
        self._holder.visible = False
