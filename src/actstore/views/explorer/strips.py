"""A channel's response patient by patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.views import marks
from actstore.views.explorer.look import Look
from actstore.views.explorer.plots import RESPONSIVE, overlay
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
        columns ``sample, patient, frame, slice, mad``, in the order of the store.
    """

    def __init__(self, samples: pd.DataFrame) -> None:
        y = samples["mad"].to_numpy(float)
        code, names = pd.factorize(samples["patient"])
        rows = [(str(name), *np.quantile(y[code == i], [0.25, 0.5, 0.75])) for i, name in enumerate(names)]
        self.many = len(rows) > MOST_STRIPS
        if self.many:
            order = np.argsort([row[2] for row in rows], kind="stable")
            rows, code = [rows[i] for i in order], np.argsort(order)[code]
        #: A row a patient in the order of their strips: its quartiles.
        self.summary = pd.DataFrame(rows, columns=["patient", "low", "median", "high"])
        self.patients: list[str] = list(self.summary["patient"])
        x = code.astype(float)
        self.span = (float(y.min()), float(y.max())) if len(y) else (0.0, 1.0)
        if not self.many:
            for i in range(len(rows)):
                x[code == i] += marks.swarm(y[code == i], HALF, span=self.span)
        self.samples = samples.assign(column=code, x=x)

    def at(self, x: float, y: float) -> int | None:
        """The sample of the strip at ``x`` that is nearest."""
        if not self.patients:
            return None
        own = self.samples[self.samples["column"] == int(np.clip(round(x), 0, len(self.patients) - 1))]
        height = self.span[1] - self.span[0] or 1.0
        away = np.hypot((own["x"] - x) / len(self.patients), (own["mad"] - y) / height)
        return int(own["sample"].to_numpy()[int(away.argmin())])

    def drawn(self, look: Look, colour: str, current: int, **options: Any) -> hv.Overlay:
        """The strips, ``current`` ringed; ``options`` of the plot."""
        dots, bars, spans, ring = _styles(look, colour)
        middle = np.arange(len(self.patients), dtype=float)
        low, median, high = (self.summary[name].to_numpy(float) for name in ("low", "median", "high"))
        own = self.samples
        if self.many:
            shown = pd.DataFrame({"x": middle, "MAD": median.round(5), "of": self.summary["patient"] + ", median"})
        else:
            of = own["patient"] + " · f" + own["frame"].astype(str) + " · s" + own["slice"].astype(str)
            shown = pd.DataFrame({"x": own["x"], "MAD": own["mad"].round(5), "of": of})
        wide, tall = (middle[:0], middle) if self.many else (middle, middle[:0])
        here = own.loc[own["sample"] == current, ["x", "mad"]].to_numpy(float)
        room = (self.span[1] - self.span[0]) * 0.06 or 0.01
        return overlay(
            [
                spans.clone(list(zip(tall, low, tall, high, strict=False))),
                dots.clone(shown),
                bars.clone(list(zip(wide - HALF, median, wide + HALF, median, strict=False))),
                ring.clone(here),
            ],
            title=f"n = {len(own)} samples, {len(self.patients)} patients",
            xlabel="patients by median (lines: quartiles)" if self.many else "patient (lines: medians)",
            ylabel="MAD",
            xlim=(-0.6, max(len(self.patients), 1) - 0.4),
            ylim=(min(self.span[0] - room, 0.0), self.span[1] + room),
            xticks=[(-9, "")] if self.many or not self.patients else ticks(self.patients),
            **RESPONSIVE,
            **options,
        )


@cache
def _styles(look: Look, colour: str) -> tuple[Any, ...]:
    """Empty elements whose clones are drawn alike: options are worked out once."""
    dots = marks.dots(pd.DataFrame({"x": [], "MAD": [], "of": []}), "x", "MAD", colour, size=4.5)
    bars, spans = (hv.Segments([], ["x", "y", "x1", "y1"]) for _ in range(2))
    ring = hv.Points([], ["x", "MAD"])
    return (
        dots,
        bars.opts(color=look.ink, line_width=2, backend="bokeh"),
        spans.opts(color=colour, line_width=1.4, line_alpha=0.7, backend="bokeh"),
        ring.opts(size=12, fill_alpha=0, line_color=look.ink, line_width=2, backend="bokeh"),
    )


def ticks(names: Sequence[str], room: int = 34) -> list[tuple[int, str]]:
    """Positions and short names that fit into ``room`` characters: what all begin with is left out."""
    first, last = min(names, default=""), max(names, default="")
    alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    start = re.sub(r"\d+$", "", first[:alike])
    short = [name[len(start) :] or name for name in names]
    short = [name if len(name) <= 10 else name[:9] + "…" for name in short]
    step = -(-sum(len(name) + 1 for name in short) // room) or 1
    return [(i, name) for i, name in enumerate(short) if i % step == 0]


def frame_of(samples: pd.DataFrame, chosen: NDArray[np.intp], mad: Floats) -> pd.DataFrame:
    """Columns ``sample, patient, frame, slice, mad`` of the ``chosen`` samples, which ``mad`` (sample) are of."""
    own = samples.iloc[chosen][["patient", "frame", "slice"]].reset_index(drop=True)
    return own.assign(sample=chosen, mad=mad)
