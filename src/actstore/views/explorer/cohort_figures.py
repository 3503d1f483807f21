"""Streamed figures of many samples: Dice, kinds of failure, MAD by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from bokeh.models import BoxSelectTool, CustomJSHover, FixedTicker, HoverTool, LinearColorMapper
from numpy.typing import NDArray

from actstore.views.arrays import Bools, Floats
from actstore.views.explorer.cohort_numbers import drawn_others
from actstore.views.explorer.html import failure
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.state import MAD_DIGITS
from actstore.views.explorer.streamed import StreamedFigure, nothing, on_tap, small_figure
from actstore.views.figures.spread import Spread
from actstore.views.figures.theme import ticks

#: Pixels of the screen: a square plot of Dice; height of the other figures.
SQUARE = 150
HEIGHT = 240
#: From one square to the next, in units of Dice.
PITCH = 1.28

#: x0, y0, x1, y1 in units of the axes.
Box = tuple[float, float, float, float]
_ENDS = ["x0", "y0", "x1", "y1"]
_EDGES = ("left", "right", "top", "bottom")
_MARGIN = (0, 4)


class DiceFigure:
    """Dice on the original (x) and perturbed (y), a square a class: one figure, which browsers draw faster than three.

    Parameters
    ----------
    colours
        class to colour.
    names
        of ``patient`` and ``case``, which :meth:`show` gets as numbers.
    named_by
        columns that name a sample.
    """

    def __init__(
        self,
        colours: Mapping[str, str],
        names: Mapping[str, Sequence[str]],
        theme: PageTheme,
        named_by: Sequence[str],
    ) -> None:
        self._classes = list(colours)
        self._left = np.arange(len(colours)) * PITCH
        x, y = (-0.05, self._left[-1] + 1.05), (-0.05, 1.2)
        plot = _figure(
            height=None,
            frame_width=round(SQUARE * (x[1] - x[0])),
            frame_height=round(SQUARE * (y[1] - y[0])),
            x_range=x,
            y_range=y,
            x_axis_label="Dice, original (tap a dot to see it, draw a box to select)",
            y_axis_label="Dice, perturbed",
        )
        marked = (0, 0.5, 1)
        _ticks(plot.xaxis[0], {float(at + tick): f"{tick:g}" for at in self._left for tick in marked})
        _ticks(plot.yaxis[0], {tick: f"{tick:g}" for tick in marked})
        plot.quad(self._left, self._left + 1, 1, 0, fill_color=theme.page, line_color=None)
        plot.text(self._left, 1.06, self._classes, **_text(theme), text_baseline="bottom", text_font_style="bold")
        plot.segment(self._left, 0, self._left + 1, 1, **_dashed(theme))
        plot.line([], [], **_dashed(theme))
        mapper = LinearColorMapper(palette=[theme.neutral, *colours.values()], low=-1.5, high=len(colours) - 0.5)
        fill = {"field": "colour", "transform": mapper}
        style: dict[str, Any] = {"size": "size", "fill_color": fill, "fill_alpha": "alpha", "line_color": None}
        dots = plot.scatter("x", "y", **style, source=nothing())
        plot.scatter([], [], size=11, fill_color=None, line_color=theme.ink, line_width=2)
        plot.add_tools(_dice_hover(names, named_by, dots))
        names_of_glyphs = ("squares", "titles", "diagonals", "box", "dots", "shown")
        self.figure = StreamedFigure(plot, names_of_glyphs, sizing_mode=None, margin=_MARGIN)

    def show(
        self, hover: Mapping[str, NDArray[np.int32]], original: Floats, perturbed: Floats, chosen: Bools, title: str
    ) -> None:
        """Draw the samples outside of the subset, and above them those inside.

        Parameters
        ----------
        hover
            what else a dot shows when pointed at, ``patient, frame, slice[, patch], case``: (sample).
        original, perturbed
            Dice: float (sample, class), NaN where there is no dot.
        chosen
            bool (sample): the subset.
        """
        classes = np.arange(len(self._left), dtype=np.int32)
        at = np.concatenate([drawn_others(chosen), np.flatnonzero(chosen)])
        own = chosen[at]
        x, y = (values[at].T.astype(np.float32) for values in (original, perturbed))
        columns: dict[str, Any] = {name: np.tile(values[at], len(classes)) for name, values in hover.items()}
        colour = np.where(own, classes[:, None], -1).astype(np.int32).ravel()
        columns |= {"colour": colour, "alpha": np.where(colour < 0, 0.4, 0.7), "size": np.where(colour < 0, 4.0, 5.0)}
        self.figure.put("dots", x=(x + self._left[:, None]).ravel(), y=y.ravel(), original=x.ravel(), **columns)
        seen = np.isfinite(original + perturbed)[chosen].sum(axis=0)
        titles = [f"{name} · n = {n}" for name, n in zip(self._classes, seen, strict=True)]
        self.figure.put("titles", x=self._left, text=titles)
        self.figure.plot.title.text = title

    def mark(self, ring: Floats | None, box: tuple[int, Box] | None) -> None:
        """Ring one sample's Dice, float (class, 2), and draw a box in the square of a class, given by its number."""
        marked = np.empty((0, 2)) if ring is None else ring + np.c_[self._left, np.zeros(len(self._left))]
        self.figure.put("shown", x=marked[:, 0], y=marked[:, 1])
        corners = None
        if box:
            k, (x0, y0, x1, y1) = box
            corners = x0 + self._left[k], y0, x1 + self._left[k], y1
        self.figure.put("box", **_outline(corners))

    def class_at(self, x: float) -> int:
        """Number of the class whose square lies at or next to ``x``."""
        return int(np.clip(round((x - 0.5) / PITCH), 0, len(self._left) - 1))


class CaseFigure:
    """A bar a kind of failure, from top to bottom: samples of the condition pale, those of the subset in colour."""

    def __init__(self, theme: PageTheme) -> None:
        plot = _figure(x_range=(0, 1), y_range=(3.5, -0.5), x_axis_label="samples (tap a bar to select them)")
        plot.yaxis.visible = False
        bars = [
            plot.quad(*_EDGES, fill_color=theme.faint, fill_alpha=alpha, line_color=None, source=nothing())
            for alpha in (1, 0.6)
        ]
        plot.text("x", "y", "text", **_text(theme), text_baseline="middle", source=nothing())
        plot.line([], [], **_dashed(theme))
        tips = [("kind of failure", "@case"), ("samples", "@samples"), ("in the subset", "@chosen")]
        plot.add_tools(HoverTool(tooltips=tips, renderers=bars))
        names = ("samples", "chosen", "labels", "box")
        self.figure = StreamedFigure(plot, names, sizing_mode="stretch_width", margin=_MARGIN)

    def show(self, counts: pd.DataFrame, title: str, selected: str, colour: str) -> None:
        """Draw the bars.

        Parameters
        ----------
        counts
            of :func:`case_counts`.
        selected
            the case that the subset is narrowed to, "" if to none.
        """
        row, names = np.arange(len(counts), dtype=float), counts["case"].tolist()
        hover = {name: counts[name].to_numpy() for name in ("case", "samples", "chosen")}
        for column in ("samples", "chosen"):
            edges = {"left": row * 0, "right": counts[column].to_numpy(float), "bottom": row - 0.42, "top": row + 0.42}
            self.figure.put(column, **edges, **hover)
        self.figure.style("chosen", fill_color=colour)
        most = float(counts["samples"].max()) if len(counts) else 1.0
        numbers = zip(names, counts["chosen"], counts["samples"], strict=True)
        texts = [f"{failure(name)}  {n}" + ("" if n == of else f" of {of}") for name, n, of in numbers]
        self.figure.put("labels", x=row * 0 + most * 0.015, y=row, text=texts)
        box = None
        if selected in names:
            at = names.index(selected)
            box = (0.0, at - 0.42, float(counts["samples"][at]), at + 0.42)
        self.figure.put("box", **_outline(box))
        plot = self.figure.plot
        plot.x_range.end = most
        plot.y_range.start = max(len(counts), 4) - 0.5
        plot.title.text = title


class MadFigure:
    """MAD of each layer, mean over its channels, in network order."""

    def __init__(self, layers: Sequence[str], theme: PageTheme) -> None:
        self._layers = list(layers)
        plot = _figure(
            x_range=(-0.5, len(layers) - 0.5),
            y_range=(0, 1),
            x_axis_label="layer (tap one to see it, draw a box to select)",
            y_axis_label="MAD",
        )
        _ticks(plot.xaxis[0], dict(ticks(layers, 12)))
        plot.vstrip([], [], fill_color=theme.faint, fill_alpha=0.8, line_color=None)
        plot.patch([], [], fill_alpha=0.22, line_color=None)
        plot.line([], [], legend_label="all", line_color=theme.soft, line_dash="dashed", line_width=1.5)
        plot.line([], [], legend_label="subset", line_width=2)
        plot.line([], [], legend_label="this sample", line_color=theme.ink, line_width=1.2)
        points = plot.scatter([], [], size=5)
        plot.line([], [], **_dashed(theme))
        legend = plot.legend[0]
        # Above the axes it covers no curve.
        plot.add_layout(legend, "above")
        small = {"padding": 0, "margin": 0, "spacing": 8, "glyph_width": 16, "label_text_font_size": "10px"}
        legend.update(orientation="horizontal", location="left", **small)
        digits = f"%.{MAD_DIGITS}g"
        tips = [("layer", "@layer"), ("median", f"@median{{{digits}}}")]
        tips += [("quartiles", f"@low{{{digits}}} – @high{{{digits}}}")]
        tips += [("median of all", f"@all{{{digits}}}"), ("this sample", f"@this{{{digits}}}")]
        printed: dict[str, Any] = {f"@{name}": "printf" for name in ("median", "low", "high", "all", "this")}
        plot.add_tools(HoverTool(tooltips=tips, formatters=printed, renderers=[points]))
        names = ("layer", "quartiles", "all", "median", "sample", "dots", "box")
        self.figure = StreamedFigure(plot, names, sizing_mode="stretch_width", margin=_MARGIN)

    def show(
        self, own: Spread, everyone: Floats, sample: Floats, *, title: str, shown: str, box: Box | None, colour: str
    ) -> None:
        """Draw the subset in ``colour``.

        Parameters
        ----------
        own
            over the subset: a band from quartile to quartile, and the median.
        everyone
            median over all samples of the condition: dashed.
        sample
            of one sample.
        shown
            the layer that the page shows.
        """
        x = np.arange(len(self._layers), dtype=np.int32)
        at = self._layers.index(shown)
        known = np.isfinite(own.low)
        along, band = x[known], np.concatenate([own.low[known], own.high[known][::-1]])
        hover = {"layer": self._layers, "median": own.median, "low": own.low, "high": own.high}
        figure = self.figure
        figure.put("layer", x0=[at - 0.5], x1=[at + 0.5])
        figure.put("quartiles", x=np.concatenate([along, along[::-1]]), y=band)
        figure.put("all", x=x, y=everyone)
        figure.put("median", x=x, y=own.median)
        figure.put("sample", x=x, y=sample)
        figure.put("dots", x=x, y=own.median, **hover, all=everyone, this=sample)
        figure.put("box", **_outline(box))
        figure.style("quartiles", fill_color=colour)
        figure.style("median", line_color=colour)
        figure.style("dots", fill_color=colour, line_color=colour)
        tops = np.concatenate([own.high, everyone, sample, [box[3] if box else np.nan]])
        figure.plot.y_range.end = (float(np.max(tops[np.isfinite(tops)], initial=0)) or 1.0) * 1.06
        figure.plot.title.text = title


def listen(
    plot: Any, tap: Callable[[float, float], None], box: Callable[[float, float, float, float], None] | None = None
) -> None:
    """Call ``tap`` with each tapped place inside the axes, and ``box`` with each box that is drawn: x0, y0, x1, y1."""

    def tapped(*place: float) -> None:
        ends = [sorted((along.start, along.end)) for along in (plot.x_range, plot.y_range)]
        if all(low <= at <= high for at, (low, high) in zip(place, ends, strict=True)):
            tap(*place)

    on_tap(plot, tapped)
    if box is not None:
        # Without renderers, or the browser would itself select and fade dots.
        tool = BoxSelectTool(renderers=[])
        plot.add_tools(tool)
        plot.toolbar.active_drag = tool
        plot.on_event("selectiongeometry", lambda event: box(*(event.geometry[name] for name in _ENDS)))


def _dice_hover(names: Mapping[str, Sequence[str]], named_by: Sequence[str], dots: Any) -> HoverTool:
    """Patient and case as names: the browser gets the names once and then only numbers, which travel faster."""
    tips = [
        ("patient", "@patient{custom}"),
        *((name, f"@{name}") for name in named_by[1:]),
        ("kind of failure", "@case{custom}"),
    ]
    tips += [("Dice original", "@original{0.000}"), ("Dice perturbed", "@y{0.000}")]
    read: dict[str, Any] = {
        f"@{name}": CustomJSHover(args={"names": list(known)}, code="return names[value] ?? ''")
        for name, known in names.items()
    }
    return HoverTool(tooltips=tips, formatters=read, renderers=[dots])


def _text(theme: PageTheme) -> dict[str, Any]:
    return {"text_align": "left", "text_color": theme.ink, "text_font_size": "11px"}


def _dashed(theme: PageTheme) -> dict[str, Any]:
    return {"line_color": theme.soft, "line_width": 1.3, "line_dash": "dashed"}


def _ticks(axis: Any, labels: dict[float, str]) -> None:
    axis.update(ticker=FixedTicker(ticks=list(labels)), major_label_overrides=labels)


def _outline(box: Box | None) -> dict[str, list[float]]:
    """Columns of a line around a box."""
    if box is None:
        return {"x": [], "y": []}
    x0, y0, x1, y1 = box
    return {"x": [x0, x1, x1, x0, x0], "y": [y0, y0, y1, y1, y0]}


def _figure(**options: Any) -> Any:
    return small_figure(**{"title": " ", "height": HEIGHT} | options)
