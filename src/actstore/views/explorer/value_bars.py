"""The values of a layer without maps, in one sample: a bar a channel, original and perturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import HoverTool

from actstore.views.arrays import Floats
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.streamed import StreamedFigure, nothing, on_tap, small_figure

_BAR = ("left", "right", "top", "bottom", "channel", "value", "of")
#: Half the width of a bar; the perturbed one stands before the original, narrower.
_WIDE, _NARROW = 0.42, 0.2


class ValueBars:
    """The figure; ``go`` is called with the number of a tapped channel."""

    def __init__(self, theme: PageTheme, go: Callable[[int], None]) -> None:
        ranges: dict[str, Any] = {"x_range": (-0.5, 0.5), "y_range": (-1, 1)}
        plot = small_figure(**ranges, min_border=4, sizing_mode="stretch_both")
        plot.xaxis.axis_label, plot.yaxis.axis_label = "channel", "value"
        plot.xaxis.ticker.min_interval = 1
        # With a line, a channel of a thousand can be seen too.
        plot.vstrip([], [], fill_color=theme.faint, line_color=theme.accent, line_alpha=0.5)
        bars = [
            plot.quad(*_BAR[:4], fill_color=colour, line_color=colour, line_width=0.6, source=nothing(*_BAR))
            for colour in (theme.neutral, theme.accent)
        ]
        plot.hspan(0, line_color=theme.soft, line_width=1)
        plot.add_tools(HoverTool(tooltips=[("channel", "@channel"), ("@of", "@value{0.0000}")], renderers=bars))
        self.figure = StreamedFigure(plot, ("shown", "original", "perturbed", "zero"))
        self.view = pn.Column(self.figure.view, sizing_mode="stretch_both", margin=0, visible=False)
        self._channels = 0
        on_tap(plot, lambda x, _: go(round(x)) if 0 <= round(x) < self._channels else None)

    def show(self, values: Floats, channel: int, condition: str) -> None:
        """Draw ``values`` (original and perturbed, or original alone; channel), ``channel`` marked."""
        self._channels = values.shape[1]
        x = np.arange(self._channels)
        halves = {"original": (values[0], _WIDE, "original")}
        halves["perturbed"] = (values[1] if len(values) > 1 else np.empty(0), _NARROW, condition)
        for glyph, (own, half, of) in halves.items():
            known = np.flatnonzero(np.isfinite(own))
            shown = own[known].astype(float)
            self.figure.put(
                glyph,
                left=x[known] - half,
                right=x[known] + half,
                top=np.maximum(shown, 0),
                bottom=np.minimum(shown, 0),
                channel=known,
                value=shown,
                of=[of] * len(known),
            )
        self.figure.put("shown", x0=[channel - 0.5], x1=[channel + 0.5])
        finite = values[np.isfinite(values)].astype(float)
        low, high = min(finite.min(initial=0), 0.0), max(finite.max(initial=0), 0.0)
        margin = 0.06 * (high - low) or 1.0
        self.figure.plot.x_range.update(start=-0.5, end=self._channels - 0.5)
        self.figure.plot.y_range.update(start=low - margin, end=high + margin)
