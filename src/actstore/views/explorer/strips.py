"""A channel's response patient by patient."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.units import counted
from actstore.views import marks
from actstore.views.explorer.look import Look
from actstore.views.explorer.plots import RESPONSIVE, Plot
from actstore.views.explorer.statistics import Floats

#: Patients up to which every sample is a dot.
MOST_STRIPS = 40
#: Width of a strip's half, of the room that it has.
HALF = 0.34


class Strips:
    """MAD by patient: a dot a sample and the median; of many patients, sorted, median and quartiles only.

    Parameters
    ----------
    samples
        numbers of the samples, in the order of the store.
    patients
        of each of them.
    mad
        float (sample).
    """

    def __init__(self, samples: NDArray[np.intp], patients: NDArray[Any], mad: Floats) -> None:
        self.samples = samples
        self.mad = mad.astype(np.float64)
        code, names = pd.factorize(patients)
        quartiles = _quartiles(code, self.mad)
        self.many = len(names) > MOST_STRIPS
        if self.many:
            order = np.argsort(quartiles[1], kind="stable")
            names, quartiles, code = names[order], quartiles[:, order], np.argsort(order)[code]
        #: In the order of their strips: names, and lower quartile, median and upper quartile of MAD (3, patient).
        self.patients: list[str] = [str(name) for name in names]
        self.quartiles: Floats = quartiles
        #: Which strip each sample belongs to, and where it lies.
        self.column: NDArray[np.intp] = code
        self.x = code.astype(float)
        self.span = (float(self.mad.min()), float(self.mad.max())) if len(mad) else (0.0, 1.0)
        if not self.many:
            for i in range(len(names)):
                self.x[code == i] += marks.swarm(self.mad[code == i], HALF, span=self.span)

    def at(self, x: float, y: float) -> int | None:
        """The sample of the strip at ``x`` that is nearest."""
        if not self.patients:
            return None
        own = np.flatnonzero(self.column == int(np.clip(round(x), 0, len(self.patients) - 1)))
        height = self.span[1] - self.span[0] or 1.0
        away = np.hypot((self.x[own] - x) / len(self.patients), (self.mad[own] - y) / height)
        return int(self.samples[own[away.argmin()]])


def _quartiles(code: NDArray[np.intp], values: Floats) -> Floats:
    """Of the values of each code, 0 and on, by linear interpolation as NumPy's: float64 (3, code)."""
    ordered = values[np.lexsort((values, code))]
    counts = np.bincount(code)
    at = np.cumsum(counts) - counts + np.array([[0.25], [0.5], [0.75]]) * (counts - 1)
    low = np.floor(at).astype(int)
    high = np.ceil(at).astype(int)
    found: Floats = ordered[low] + (at - low) * (ordered[high] - ordered[low])
    return found


class StripPlot(Plot):
    """The figure of strips; a tap finds the nearest sample of a patient.

    Parameters
    ----------
    names
        of every sample of the store, as they are told when pointed at.
    """

    def __init__(self, look: Look, names: NDArray[Any], go: Callable[[int], None]) -> None:
        ends = ["x", "y", "x1", "y1"]
        spans = hv.Segments([], ends).opts(line_width=1.4, line_alpha=0.7, backend="bokeh")
        dots = marks.dots(pd.DataFrame({"x": [], "MAD": [], "of": []}), "x", "MAD", look.accent, size=4.5)
        dots = dots.opts(hover_tooltips=[("", "@of"), ("MAD", "@MAD{0.00000}")], backend="bokeh")
        bars = hv.Segments([], ends).opts(color=look.ink, line_width=2, backend="bokeh")
        ring = hv.Points([], ["x", "MAD"]).opts(
            size=12, fill_alpha=0, line_color=look.ink, line_width=2, backend="bokeh"
        )
        # Ticks that are given are set, not worked out in the browser.
        options = {"xticks": [(0, "")], "xlabel": "patient", "ylabel": "MAD", **RESPONSIVE}
        super().__init__([spans, dots, bars, ring], look, go, **options)
        self._names = names
        self.strips = Strips(np.empty(0, np.intp), np.empty(0, object), np.empty(0))

    def at(self, x: float, y: float) -> int | None:
        """The sample nearest to a position."""
        return self.strips.at(x, y)

    def show(self, strips: Strips, colour: str) -> None:
        """Draw the strips in a colour."""
        self.strips, live = strips, self.live
        low, median, high = strips.quartiles
        middle = np.arange(len(strips.patients), dtype=float)
        no = dict.fromkeys(("x", "y", "x1", "y1"), middle[:0])
        live.style(0, line_color=colour)
        live.style(1, line_color=colour, fill_color=colour)
        if strips.many:
            live.put(0, x=middle, y=low, x1=middle, y1=high)
            live.put(1, x=middle, MAD=median, of=[f"{name}, median" for name in strips.patients])
            live.put(2, **no)
        else:
            live.put(0, **no)
            live.put(1, x=strips.x, MAD=strips.mad, of=self._names[strips.samples])
            live.put(2, x=middle - HALF, y=median, x1=middle + HALF, y1=median)
        axis = live.figure.xaxis[0]
        told = {} if strips.many else ticks(strips.patients)
        axis.ticker.ticks = list(told)
        label = "patients by median (lines: quartiles)" if strips.many else "patient (lines: medians)"
        axis.update(major_label_overrides=told, axis_label=label)
        room = (strips.span[1] - strips.span[0]) * 0.06 or 0.01
        self.reach((-0.6, max(len(middle), 1) - 0.4), (min(strips.span[0] - room, 0.0), strips.span[1] + room))
        self.told(f"n = {counted(len(strips.samples), 'sample')}, {counted(len(middle), 'patient')}")

    def mark(self, sample: int) -> None:
        """Ring a sample, if it is there."""
        own = self.strips.samples == sample
        self.live.put(3, x=self.strips.x[own], MAD=self.strips.mad[own])


def ticks(names: Sequence[str], room: int = 34) -> dict[int, str]:
    """Positions and short names that fit into ``room`` characters: what all begin with is left out."""
    first, last = min(names, default=""), max(names, default="")
    alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    start = re.sub(r"\d+$", "", first[:alike])
    short = [name[len(start) :] or name for name in names]
    short = [name if len(name) <= 10 else name[:9] + "…" for name in short]
    # Between two dollars Bokeh would set a formula.
    short = [name.replace("$$", "$\u200b$") for name in short]
    step = -(-sum(len(name) + 1 for name in short) // room) or 1
    return {i: name for i, name in enumerate(short) if i % step == 0}
