"""A channel's MAD against the strength of the perturbation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.models import HoverTool

from actstore.units import counted
from actstore.views.explorer.channel_plot import RESPONSIVE, ChannelPlot
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.streamed import nothing, set_limits, small_figure
from actstore.views.figures.sweeps import DoseCurve


class DosePlot(ChannelPlot):
    """The figure of a curve; a tap finds the condition of the nearest strength."""

    def __init__(self, theme: PageTheme, go: Callable[[str], None]) -> None:
        labels: dict[str, Any] = {"x_axis_label": "strength", "y_axis_label": "MAD (median, quartiles)"}
        plot = small_figure(x_range=(0, 1), y_range=(0, 1), **labels, **RESPONSIVE)
        plot.patch([], [], fill_alpha=0.25, line_color=None)
        plot.line([], [], line_width=2)
        dots = plot.scatter("strength", "median", size=7, source=nothing("strength", "median"))
        plot.line([], [], line_color=theme.ink, line_width=1, line_dash="dashed")
        tips = [("strength", "@strength"), ("median", "@median{0.00000}")]
        plot.add_tools(HoverTool(tooltips=tips, renderers=[dots]))
        super().__init__(plot, ("quartiles", "median", "dots", "shown"), go)
        self.curve: DoseCurve | None = None

    def at(self, x: float, y: float) -> str | None:
        """The condition whose strength is nearest to ``x``."""
        if self.curve is None:
            return None
        sweep = self.curve.sweep
        return sweep.names[int(np.abs(np.array(sweep.strengths) - x).argmin())]

    def show(self, curve: DoseCurve, condition: str, colour: str, noun: str) -> None:
        """Draw a curve in a colour, with a mark at ``condition``; ``noun`` is what a sample is called."""
        self.curve, sweep, figure = curve, curve.sweep, self.figure
        x, (low, median, high) = curve.whole
        along, up = curve.limits
        figure.style("quartiles", fill_color=colour)
        figure.style("median", line_color=colour)
        figure.style("dots", line_color=colour, fill_color=colour)
        figure.put("quartiles", x=np.append(x, x[::-1]), y=np.append(low, high[::-1]))
        figure.put("median", x=x, y=median)
        figure.put("dots", strength=np.array(sweep.strengths), median=curve.quartiles[1])
        figure.put("shown", x=[sweep.strengths[sweep.names.index(condition)]] * 2, y=list(up))
        where = f" in {sweep.channels}" if sweep.channels else ""
        figure.plot.xaxis[0].axis_label = f"strength of {sweep.transform}{where}"
        set_limits(figure.plot, along, up)
        self.show_below(f"dose–response · n = {counted(curve.samples, noun)}")
