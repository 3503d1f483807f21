"""Figures of many samples, drawn once and then only given data: Dice, kinds of failure, MAD by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.models import BoxSelectTool, CustomJSHover, HoverTool
from bokeh.transform import linear_cmap
from numpy.typing import NDArray

from actstore.views.explorer.cohort_numbers import Spread, drawn_others
from actstore.views.explorer.live import Live
from actstore.views.explorer.look import Look
from actstore.views.explorer.source import Bools, Floats

#: Pixels of the screen: a square plot of Dice; height of the other figures.
SQUARE = 150
HEIGHT = 240
#: From one square to the next, in units of Dice.
PITCH = 1.28

#: x0, y0, x1, y1 in units of the axes.
Box = tuple[float, float, float, float]
_ENDS = ["x0", "y0", "x1", "y1"]
_FONTS = {"title": "12px", "labels": "11px", "xticks": "10px", "yticks": "10px", "legend": "10px"}
_NOWHERE = [(np.nan, np.nan)] * 2


class DiceFigure:
    """Dice on the original (x) and perturbed (y), a square a class: one figure, which browsers draw faster than three.

    Parameters
    ----------
    colours
        class to colour.
    names
        of ``patient`` and ``case``: what the numbers of :meth:`show` stand for.
    """

    def __init__(self, colours: Mapping[str, str], names: Mapping[str, Sequence[str]], look: Look) -> None:
        self._left = np.arange(len(colours)) * PITCH
        x, y = (-0.05, self._left[-1] + 1.05), (-0.05, 1.2)
        behind = hv.Rectangles([(at, 0, at + 1, 1) for at in self._left], _ENDS)
        titles = hv.Labels([(at, 1.06, name) for at, name in zip(self._left, colours, strict=True)], ["x", "y"], "text")
        diagonals = np.concatenate([[(at, 0), (at + 1, 1), (np.nan, np.nan)] for at in self._left])
        dots, ring = (hv.Points(_NOWHERE, ["x", "y"]) for _ in range(2))
        self.live = _live(
            [
                behind.opts(fill_color=look.page, line_color=None, backend="bokeh"),
                titles.opts(**_text(look), text_baseline="bottom", text_font_style="bold", backend="bokeh"),
                _dashed(diagonals, look),
                _dashed(_NOWHERE, look),
                dots.opts(line_alpha=0, tools=[_dice_hover(names)], backend="bokeh"),
                ring.opts(color=None, line_color=look.ink, size=11, line_width=2, backend="bokeh"),
            ],
            look,
            None,
            frame_width=round(SQUARE * (x[1] - x[0])),
            frame_height=round(SQUARE * (y[1] - y[0])),
            xlim=x,
            ylim=y,
            xticks=[(float(at + part), f"{part:g}") for at in self._left for part in (0, 0.5, 1)],
            yticks=[0, 0.5, 1],
            xlabel="Dice, original",
            ylabel="Dice, perturbed",
        )
        palette = [look.neutral, *colours.values()]
        fill = linear_cmap("colour", palette, -1.5, len(colours) - 0.5)
        self.live.figure.renderers[4].glyph.update(fill_color=fill, fill_alpha="alpha", size="size")

    def show(
        self, told: Mapping[str, NDArray[np.int32]], original: Floats, perturbed: Floats, chosen: Bools, title: str
    ) -> None:
        """Draw the samples outside of the subset, and above them those inside.

        Parameters
        ----------
        told
            what else shows when a dot is pointed at, ``patient, frame, slice, case``: (sample).
        original, perturbed
            Dice: float (sample, class).
        chosen
            bool (sample): the subset.
        """
        classes = np.arange(len(self._left), dtype=np.int32)
        at = np.concatenate([drawn_others(chosen), np.flatnonzero(chosen)])
        own = chosen[at]
        x, y = (values[at].T.astype(np.float32) for values in (original, perturbed))
        columns: dict[str, Any] = {name: np.tile(values[at], len(classes)) for name, values in told.items()}
        colour = np.where(own, classes[:, None], -1).astype(np.int32).ravel()
        columns |= {"colour": colour, "alpha": np.where(colour < 0, 0.4, 0.7), "size": np.where(colour < 0, 4.0, 5.0)}
        self.live.put(4, x=(x + self._left[:, None]).ravel(), y=y.ravel(), original=x.ravel(), **columns)
        self.live.figure.title.text = title

    def mark(self, ring: Floats | None, box: tuple[int, Box] | None) -> None:
        """Ring one sample's Dice, float (class, 2), and draw a box in the square of a class, given by its number."""
        marked = np.empty((0, 2)) if ring is None else ring + np.c_[self._left, np.zeros(len(self._left))]
        self.live.put(5, x=marked[:, 0], y=marked[:, 1])
        corners = None
        if box:
            k, (x0, y0, x1, y1) = box
            corners = x0 + self._left[k], y0, x1 + self._left[k], y1
        self.live.put(3, **_outline(corners))

    def class_at(self, x: float) -> int:
        """Number of the class whose square lies at or next to ``x``."""
        return int(np.clip(round((x - 0.5) / PITCH), 0, len(self._left) - 1))


class CaseFigure:
    """A bar a kind of failure, from top to bottom: samples of the condition pale, those of the subset in colour."""

    def __init__(self, look: Look) -> None:
        tips = [("case", "@case"), ("samples", "@samples"), ("in the subset", "@chosen")]
        bars = [
            hv.Rectangles([(0, 0, 0, 0)], _ENDS).opts(
                fill_color=look.faint,
                fill_alpha=alpha,
                line_color=None,
                tools=["hover"],
                hover_tooltips=tips,
                backend="bokeh",
            )
            for alpha in (1, 0.6)
        ]
        texts = hv.Labels([(0, 0, "")], ["x", "y"], "text")
        self.live = _live(
            [
                *bars,
                texts.opts(**_text(look), text_baseline="middle", backend="bokeh"),
                _dashed(_NOWHERE, look),
            ],
            look,
            190,
            xlim=(0, 1),
            ylim=(-0.5, 3.5),
            yaxis=None,
            invert_yaxis=True,
            xlabel="samples",
            ylabel="",
        )

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
        for number, column in enumerate(("samples", "chosen")):
            told = {name: counts[name].to_numpy() for name in ("case", "samples", "chosen")}
            edges = {"left": row * 0, "right": counts[column].to_numpy(float), "bottom": row - 0.42, "top": row + 0.42}
            self.live.put(number, **edges, **told)
        figure = self.live.figure
        figure.renderers[1].glyph.fill_color = colour
        most = float(counts["samples"].max()) if len(counts) else 1.0
        numbers = zip(names, counts["chosen"], counts["samples"], strict=True)
        texts = [f"{name}  {n}" if n == of else f"{name}  {n} of {of}" for name, n, of in numbers]
        self.live.put(2, x=row * 0 + most * 0.015, y=row, text=texts)
        box = None
        if selected in names:
            at = names.index(selected)
            box = (0.0, at - 0.42, float(counts["samples"][at]), at + 0.42)
        self.live.put(3, **_outline(box))
        figure.x_range.end = most
        figure.y_range.start = max(len(counts), 4) - 0.5
        figure.title.text = title


class MadFigure:
    """MAD of each layer, mean over its channels, in network order."""

    def __init__(self, layers: Sequence[str], look: Look) -> None:
        self._layers = list(layers)
        tips = [("layer", "@layer"), ("median", "@median{0.0000}"), ("quartiles", "@low{0.0000} – @high{0.0000}")]
        tips += [("median of all", "@all{0.0000}"), ("this sample", "@this{0.0000}")]
        band = hv.Area(([0, 1], [0, 0], [0, 0]), "x", ["y", "y2"])
        points = hv.Points(_NOWHERE, ["x", "y"])
        step = -(-len(layers) // 12)
        self.live = _live(
            [
                hv.VSpans([(0, 0)]).opts(color=look.faint, alpha=0.8, line_alpha=0, backend="bokeh"),
                band.opts(fill_alpha=0.22, line_alpha=0, backend="bokeh"),
                _line("all", color=look.soft, line_dash="dashed", line_width=1.5),
                _line("subset", line_width=2),
                _line("this sample", color=look.ink, line_width=1.2),
                points.opts(size=5, tools=["hover"], hover_tooltips=tips, backend="bokeh"),
                _dashed(_NOWHERE, look),
            ],
            look,
            300,
            xlim=(-0.5, len(layers) - 0.5),
            ylim=(0, 1),
            xticks=[(i, name) for i, name in enumerate(layers) if i % step == 0],
            xlabel="layer",
            ylabel="MAD",
            show_legend=True,
            legend_position="top_left",
            legend_opts={"spacing": -4, "padding": 2, "margin": 2, "glyph_width": 16},
        )

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
        told = {"layer": self._layers, "median": own.median, "low": own.low, "high": own.high}
        self.live.put(0, x0=[at - 0.5], x1=[at + 0.5])
        self.live.put(1, x=np.concatenate([along, along[::-1]]), y=band)
        for number, values in ((2, everyone), (3, own.median), (4, sample)):
            self.live.put(number, x=x, y=values)
        self.live.put(5, x=x, y=own.median, **told, all=everyone, this=sample)
        self.live.put(6, **_outline(box))
        figure = self.live.figure
        figure.renderers[1].glyph.fill_color = colour
        figure.renderers[3].glyph.line_color = colour
        figure.renderers[5].glyph.update(fill_color=colour, line_color=colour)
        tops = np.concatenate([own.high, everyone, sample, [box[3] if box else np.nan]])
        figure.y_range.end = (float(np.nanmax(tops, initial=0)) or 1.0) * 1.06
        figure.title.text = title


def listen(
    figure: Any, tap: Callable[[float, float], None], box: Callable[[float, float, float, float], None] | None = None
) -> None:
    """Tell ``tap`` the places inside the axes that are tapped, and ``box`` the boxes that are drawn: x0, y0, x1, y1."""

    def tapped(event: Any) -> None:
        ends = [sorted((along.start, along.end)) for along in (figure.x_range, figure.y_range)]
        if all(low <= at <= high for at, (low, high) in zip((event.x, event.y), ends, strict=True)):
            tap(event.x, event.y)

    figure.on_event("tap", tapped)
    if box is not None:
        # Without renderers the browser selects and fades no dots by itself.
        tool = BoxSelectTool(renderers=[])
        figure.add_tools(tool)
        figure.toolbar.active_drag = tool
        figure.on_event("selectiongeometry", lambda event: box(*(event.geometry[name] for name in _ENDS)))


def _dice_hover(names: Mapping[str, Sequence[str]]) -> HoverTool:
    """Numbers travel faster than names; these the browser gets once."""
    tips = [("patient", "@patient{custom}"), ("frame", "@frame"), ("slice", "@slice"), ("case", "@case{custom}")]
    tips += [("Dice original", "@original{0.000}"), ("Dice perturbed", "@y{0.000}")]
    read: dict[str, Any] = {
        f"@{name}": CustomJSHover(args={"names": list(known)}, code="return names[value] ?? ''")
        for name, known in names.items()
    }
    return HoverTool(tooltips=tips, formatters=read)


def _text(look: Look) -> dict[str, Any]:
    return {"text_align": "left", "text_color": look.ink, "text_font_size": "11px"}


def _line(label: str, **style: Any) -> hv.Curve:
    return hv.Curve(_NOWHERE, "x", "y", label=label).opts(**style, backend="bokeh")


def _dashed(points: Any, look: Look) -> hv.Curve:
    """Bokeh dashes lines, not rectangles."""
    return hv.Curve(points, "x", "y").opts(color=look.soft, line_width=1.3, line_dash="dashed", backend="bokeh")


def _outline(box: Box | None) -> dict[str, list[float]]:
    """Columns of a line around a box."""
    if box is None:
        return {"x": [], "y": []}
    x0, y0, x1, y1 = box
    return {"x": [x0, x1, x1, x0, x0], "y": [y0, y0, y1, y1, y0]}


def _live(elements: Sequence[Any], look: Look, width: int | None, **options: Any) -> Live:
    """A figure without tools of its own, ``width`` pixels wide or more; as wide as its frame for None."""
    plain: dict[str, Any] = {
        "title": " ",
        "show_legend": False,
        "show_grid": False,
        "axiswise": True,
        "framewise": True,
        "shared_axes": False,
        "default_tools": [],
        "toolbar": None,
        "fontsize": _FONTS,
    }
    place: dict[str, Any] = {"sizing_mode": None}
    if width:
        plain |= {"height": HEIGHT, "min_width": width, "responsive": True}
        place = {"sizing_mode": "stretch_width", "styles": {"flex": f"1 1 {width}px", "min-width": f"{width}px"}}
    overlay = hv.Overlay(list(elements)).opts(**plain | options, backend="bokeh")
    return Live(overlay, look, margin=(0, 4), **place)
