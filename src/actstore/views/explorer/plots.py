"""What the figures of one channel have in common: a head above, or a note in their place, and what a tap finds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import holoviews as hv
import panel as pn
from markupsafe import Markup

from actstore.views.explorer.live import Live, on_tap
from actstore.views.explorer.look import Look
from actstore.views.explorer.parts import html

#: As wide as there is room; the height in pixels of the screen.
RESPONSIVE: dict[str, Any] = {"responsive": True, "height": 250}
Ends = tuple[float, float]


class Plot(ABC):
    """One figure of ``parts``, its head above; ``go`` is called with what :meth:`at` finds where it is tapped."""

    def __init__(self, parts: Sequence[Any], look: Look, go: Callable[[Any], None], **options: Any) -> None:
        overlay = hv.Overlay(list(parts)).opts(
            show_legend=False,
            default_tools=[],
            toolbar=None,
            fontsize={"labels": "11px", "xticks": "10px", "yticks": "10px"},
            backend="bokeh",
            **options,
        )
        sizing = "stretch_width" if "responsive" in options else "fixed"
        self.live = Live(overlay, sizing_mode=sizing)
        self.head = html()
        # Bokeh's pane itself must not be hidden: Panel then reads back what the page's design has set on it.
        self._figure = pn.Column(self.live.view, sizing_mode="stretch_width", margin=0, visible=False)
        self.view = pn.Column(self.head, self._figure, sizing_mode="stretch_width", margin=(0, 8, 0, 0))
        #: What the figure shows; None while it is hidden.
        self.about: Hashable = None
        self._go = go
        on_tap(self.live.figure, self._tapped)

    @abstractmethod
    def at(self, x: float, y: float) -> Any:
        """What is shown at a position; None of nothing."""

    def _tapped(self, x: float, y: float) -> None:
        if (found := self.at(x, y)) is not None:
            self._go(found)

    def reach(self, x: Ends, y: Ends) -> None:
        """Show what lies between two ends of each axis."""
        figure = self.live.figure
        figure.x_range.update(start=x[0], end=x[1])
        figure.y_range.update(start=y[0], end=y[1])

    def told(self, head: str | Markup) -> None:
        """Show the figure below ``head``."""
        if not isinstance(head, Markup):
            head = Markup('<div class="head"><b title="{0}">{0}</b></div>').format(head)
        self.head.object = str(head)
        self._figure.visible = True

    def hide(self, note: str = "") -> None:
        """Show a note in place of the figure."""
        self.head.object = str(Markup('<p class="note">{}</p>').format(note)) if note else ""
        self._figure.visible = False
        self.about = None
