"""What the figures of one channel have in common: a head above, or a note in their place, and what a tap finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import panel as pn
from markupsafe import Markup

from actstore.views.explorer.html import html_pane, legend, note
from actstore.views.explorer.streamed import StreamedFigure, on_tap

#: As wide as there is room; the height in pixels of the screen.
RESPONSIVE: dict[str, Any] = {"sizing_mode": "stretch_width", "height": 250}


class ChannelPlot(ABC):
    """A figure of named glyphs, its head above; a tap calls ``go`` with what :meth:`at` finds there."""

    def __init__(self, plot: Any, names: Iterable[str], go: Callable[[Any], None]) -> None:
        self.figure = StreamedFigure(plot, names, sizing_mode=plot.sizing_mode)
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

    def show_below(self, head: str | Markup) -> None:
        """Show the figure below ``head``."""
        self.head.object = str(head if isinstance(head, Markup) else legend(head, None))
        self._holder.visible = True

    def hide(self, message: str = "") -> None:
        """Show a message in place of the figure."""
        self.head.object = str(note(message))
        self._holder.visible = False
