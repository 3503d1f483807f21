"""A channel's MAD patient by patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bokeh.models import FixedTicker, HoverTool
from numpy.typing import NDArray

from actstore.units import counted
from actstore.views.explorer.channel_plot import RESPONSIVE, ChannelPlot
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.streamed import nothing, set_limits, small_figure
from actstore.views.figures.spread import HALF, PatientColumns, patient_ticks

_ENDS = ("x", "y", "x1", "y1")


class PatientPlot(ChannelPlot):
    """A column of dots a patient; a tap finds the nearest sample of a patient.

    Parameters
    ----------
    names
        of every sample of the store, shown when pointed at.
    """

    def __init__(self, theme: PageTheme, names: NDArray[Any], go: Callable[[int], None]) -> None:
        plot = small_figure(x_range=(0, 1), y_range=(0, 1), x_axis_label="patient", y_axis_label="MAD", **RESPONSIVE)
        # Ticks from Python: the browser need not work them out.
        plot.xaxis.ticker = FixedTicker(ticks=[0])
        plot.segment(*_ENDS, line_width=1.4, line_alpha=0.7, source=nothing(*_ENDS))
        dots = plot.scatter("x", "MAD", size=4.5, source=nothing("x", "MAD", "of"))
        plot.segment(*_ENDS, line_color=theme.ink, line_width=2, source=nothing(*_ENDS))
        ring: dict[str, Any] = {"size": 12, "fill_alpha": 0, "line_color": theme.ink, "line_width": 2}
        plot.scatter("x", "MAD", **ring, source=nothing("x", "MAD"))
        plot.add_tools(HoverTool(tooltips=[("", "@of"), ("MAD", "@MAD{0.00000}")], renderers=[dots]))
        super().__init__(plot, ("quartiles", "dots", "medians", "shown"), go)
        self._names = names
        self.columns = PatientColumns(np.empty(0, np.intp), np.empty(0, object), np.empty(0))

    def at(self, x: float, y: float) -> int | None:
        """The sample nearest to a position."""
        return self.columns.at(x, y)

    def show(self, columns: PatientColumns, colour: str, noun: str) -> None:
        """Draw the columns in a colour; ``noun`` is what a sample is called."""
        self.columns, figure = columns, self.figure
        low, median, high = columns.quartiles
        middle = np.arange(len(columns.patients), dtype=float)
        nothing = dict.fromkeys(_ENDS, middle[:0])
        figure.style("quartiles", line_color=colour)
        figure.style("dots", line_color=colour, fill_color=colour)
        if columns.many:
            figure.put("quartiles", x=middle, y=low, x1=middle, y1=high)
            figure.put("dots", x=middle, MAD=median, of=[f"{name}, median" for name in columns.patients])
            figure.put("medians", **nothing)
        else:
            figure.put("quartiles", **nothing)
            figure.put("dots", x=columns.x, MAD=columns.mad, of=self._names[columns.samples])
            figure.put("medians", x=middle - HALF, y=median, x1=middle + HALF, y1=median)
        axis = figure.plot.xaxis[0]
        labels = {} if columns.many else patient_ticks(columns.patients)
        axis.ticker.ticks = list(labels)
        axis.update(major_label_overrides=labels, axis_label=columns.xlabel)
        set_limits(figure.plot, *columns.limits)
        n = counted(len(columns.samples), noun)
        self.show_below(f"MAD by patient · n = {n}, {counted(len(middle), 'patient')}")

    def mark(self, sample: int) -> None:
        """Ring a sample, if it is there."""
        own = self.columns.samples == sample
        self.figure.put("shown", x=self.columns.x[own], MAD=self.columns.mad[own])
