"""A channel's MAD patient by patient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.units import counted
from actstore.views.explorer.channel_plot import RESPONSIVE, ChannelPlot
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.figures import marks
from actstore.views.figures.spread import HALF, PatientColumns, patient_ticks


class PatientPlot(ChannelPlot):
    """A column of dots a patient; a tap finds the nearest sample of a patient.

    Parameters
    ----------
    names
        of every sample of the store, shown when pointed at.
    """

    def __init__(self, theme: PageTheme, names: NDArray[Any], go: Callable[[int], None]) -> None:
        ends = ["x", "y", "x1", "y1"]
        dots = marks.dots(pd.DataFrame({"x": [], "MAD": [], "of": []}), "x", "MAD", theme.accent, size=4.5)
        ring = {"size": 12, "fill_alpha": 0, "line_color": theme.ink, "line_width": 2}
        glyphs = {
            "quartiles": hv.Segments([], ends).opts(line_width=1.4, line_alpha=0.7, backend="bokeh"),
            "dots": dots.opts(hover_tooltips=[("", "@of"), ("MAD", "@MAD{0.00000}")], backend="bokeh"),
            "medians": hv.Segments([], ends).opts(color=theme.ink, line_width=2, backend="bokeh"),
            "shown": hv.Points([], ["x", "MAD"]).opts(**ring, backend="bokeh"),
        }
        # Ticks from Python: the browser need not work them out.
        options = {"xticks": [(0, "")], "xlabel": "patient", "ylabel": "MAD", **RESPONSIVE}
        super().__init__(glyphs, go, **options)
        self._names = names
        self.columns = PatientColumns(np.empty(0, np.intp), np.empty(0, object), np.empty(0))

    def at(self, x: float, y: float) -> int | None:
        """The sample nearest to a position."""
        return self.columns.at(x, y)

    def show(self, columns: PatientColumns, colour: str) -> None:
        """Draw the columns in a colour."""
        self.columns, figure = columns, self.figure
        low, median, high = columns.quartiles
        middle = np.arange(len(columns.patients), dtype=float)
        nothing = dict.fromkeys(("x", "y", "x1", "y1"), middle[:0])
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
        self.set_limits(*columns.limits)
        self.show_below(f"n = {counted(len(columns.samples), 'sample')}, {counted(len(middle), 'patient')}")

    def mark(self, sample: int) -> None:
        """Ring a sample, if it is there."""
        own = self.columns.samples == sample
        self.figure.put("shown", x=self.columns.x[own], MAD=self.columns.mad[own])
