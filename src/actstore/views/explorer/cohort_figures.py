"""Figures of many samples: Dice before and after, kinds of failure, MAD by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from bokeh.models import BoxSelectTool
from numpy.typing import NDArray

from actstore.views.explorer.cohort_numbers import Spread, drawn_others
from actstore.views.explorer.look import Look
from actstore.views.explorer.statistics import Bools, Floats

#: Pixels of the screen: a square plot of Dice; height of the other figures.
SQUARE = 150
HEIGHT = 240
#: From one square to the next, in units of Dice.
PITCH = 1.28

#: x0, y0, x1, y1 in units of the axes.
Box = tuple[float, float, float, float]
_ENDS = ["x0", "y0", "x1", "y1"]
_FONTS = {"title": "12px", "labels": "11px", "xticks": "10px", "yticks": "10px", "legend": "10px"}


def dice_dots(
    told: Mapping[str, NDArray[Any]],
    original: Floats,
    perturbed: Floats,
    chosen: Bools,
    colours: Sequence[str],
    look: Look,
) -> list[hv.Points]:
    """Dots of the samples outside of the subset, and of those inside; each class is a :data:`PITCH` to the right.

    Parameters
    ----------
    told
        name to what else shows when a dot is pointed at: (sample).
    original, perturbed
        Dice: float (sample, class).
    chosen
        bool (sample): the subset.
    colours
        of the classes.
    """
    tips = [(name, f"@{{{name}}}") for name in told]
    tips += [(f"Dice {name}", f"@{{{name}}}{{0.000}}") for name in ("original", "perturbed")]
    found: list[hv.Points] = []
    for at, alpha, size in ((drawn_others(chosen), 0.4, 4), (np.flatnonzero(chosen), 0.7, 5)):
        own = len(found) == 1
        column = {name: np.tile(values[at], len(colours)) for name, values in told.items()}
        column["original"], column["perturbed"] = original[at].T.ravel(), perturbed[at].T.ravel()
        # Numbers of classes, not their colours: HoloViews checks the text of every colour.
        column["class"] = np.repeat(np.arange(len(colours)), len(at))
        column["x"] = column["original"] + column["class"] * PITCH
        dots = hv.Points(column, ["x", "perturbed"], [*told, "original", "class"], datatype=["dictionary"])
        style: dict[str, Any] = {"alpha": alpha, "size": size, "line_alpha": 0, "color": look.neutral}
        if own:
            style |= {"color": "class", "cmap": list(colours), "clim": (-0.5, len(colours) - 0.5)}
        found.append(dots.opts(**style, tools=["hover"], hover_tooltips=tips, backend="bokeh"))
    return found


def squares(colours: Mapping[str, str], look: Look) -> list[Any]:
    """What lies behind the dots: a square for each class, its name above."""
    left = np.arange(len(colours)) * PITCH
    sides = [(x, 0, x + 1, 1) for x in left]
    names = hv.Labels({"x": left, "y": np.full(len(left), 1.06), "text": list(colours)}, ["x", "y"], "text")
    return [
        hv.Rectangles(sides, _ENDS).opts(fill_color=look.page, line_color=None, backend="bokeh"),
        names.opts(
            text_align="left",
            text_baseline="bottom",
            text_color=look.ink,
            text_font_style="bold",
            text_font_size="11px",
            backend="bokeh",
        ),
    ]


def class_at(x: float, classes: int) -> int:
    """Number of the class whose square lies at or next to ``x``."""
    return int(np.clip(round((x - 0.5) / PITCH), 0, classes - 1))


def dice_figure(
    behind: Sequence[Any],
    dots: Sequence[hv.Points],
    classes: int,
    *,
    title: str,
    ring: Floats | None,
    box: tuple[int, Box] | None,
    look: Look,
) -> hv.Overlay:
    """Dice on the original (x) and perturbed (y), a square a class: one figure, which is drawn faster than several.

    Parameters
    ----------
    behind, dots
        of :func:`squares` and :func:`dice_dots`.
    ring
        Dice of the sample to mark, float (class, 2).
    box
        number of the class in which a subset is boxed in, and where.
    """
    left = np.arange(classes) * PITCH
    lines = [np.array([(x, 0), (x + 1, 1), (np.nan, np.nan)]) for x in left]
    if box:
        k, (x0, y0, x1, y1) = box
        lines.append(_outline((x0 + left[k], y0, x1 + left[k], y1)))
    marked = np.empty((0, 2)) if ring is None else ring + np.c_[left, np.zeros(classes)]
    around = hv.Points(marked, ["x", "perturbed"])
    x, y = (-0.05, left[-1] + 1.05), (-0.05, 1.2)
    return _figure(
        [
            *behind,
            _dashed(np.concatenate(lines), look),
            *dots,
            around.opts(color=None, line_color=look.ink, size=11, line_width=2, backend="bokeh"),
        ],
        look,
        title=title,
        frame_width=round(SQUARE * (x[1] - x[0])),
        frame_height=round(SQUARE * (y[1] - y[0])),
        xlim=x,
        ylim=y,
        xticks=[(float(at + part), f"{part:g}") for at in left for part in (0, 0.5, 1)],
        yticks=[0, 0.5, 1],
        xlabel="Dice, original",
        ylabel="Dice, perturbed",
        show_grid=False,
        hooks=[_box_select],
    )


def case_figure(counts: pd.DataFrame, title: str, selected: str, colour: str, look: Look) -> hv.Overlay:
    """A bar a kind of failure, from top to bottom: samples of the condition pale, those of the subset in ``colour``.

    Parameters
    ----------
    counts
        of :func:`case_counts`.
    selected
        the case that the subset is narrowed to, "" if to none.
    """
    row = np.arange(len(counts), dtype=float)
    bars = []
    for column, fill in (("samples", look.faint), ("chosen", colour)):
        shown = counts.assign(x0=0.0, y0=row - 0.42, x1=counts[column].astype(float), y1=row + 0.42)
        shown = shown[shown[column] > 0]
        tips = [("case", "@case"), ("samples", "@samples"), ("in the subset", "@chosen")]
        bars.append(
            hv.Rectangles(shown, _ENDS, ["case", "samples", "chosen"]).opts(
                fill_color=fill,
                fill_alpha=1 if column == "samples" else 0.6,
                line_color=None,
                tools=["hover"],
                hover_tooltips=tips,
                backend="bokeh",
            )
        )
    most = float(counts["samples"].max()) if len(counts) else 1.0
    texts = [
        f"{name}  {n}" if n == of else f"{name}  {n} of {of}"
        for name, n, of in zip(counts["case"], counts["chosen"], counts["samples"], strict=True)
    ]
    labels = hv.Labels((np.full(len(counts), most * 0.015), row, texts), ["x0", "y0"], "text").opts(
        text_align="left", text_baseline="middle", text_color=look.ink, text_font_size="11px", backend="bokeh"
    )
    at = [i for i, name in enumerate(counts["case"]) if name == selected]
    box = (0.0, at[0] - 0.42, float(counts["samples"][at[0]]), at[0] + 0.42) if at else None
    return _figure(
        [*bars, labels, _dashed(_outline(box), look)],
        look,
        title=title,
        height=HEIGHT,
        min_width=190,
        responsive=True,
        xlim=(0, most),
        ylim=(-0.5, max(len(counts), 4) - 0.5),
        yaxis=None,
        invert_yaxis=True,
        xlabel="samples",
        ylabel="",
        show_grid=False,
    )


def mad_figure(
    layers: Sequence[str],
    own: Spread,
    everyone: Floats,
    sample: Floats,
    *,
    title: str,
    shown: str,
    box: Box | None,
    colour: str,
    look: Look,
) -> hv.Overlay:
    """MAD of each layer, mean over its channels, in network order.

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
    x = np.arange(len(layers))
    known = np.isfinite(own.low)
    band = hv.Area((x[known], own.low[known], own.high[known]), "x", ["y", "y2"])
    told = {"layer": np.asarray(layers), "median": own.median, "low": own.low, "high": own.high}
    points = hv.Points(
        {"x": x, "y": own.median, **told, "all": everyone, "this": sample},
        ["x", "y"],
        [*told, "all", "this"],
    )
    tips = [("layer", "@layer"), ("median", "@median{0.0000}"), ("quartiles", "@low{0.0000} – @high{0.0000}")]
    tips += [("median of all", "@all{0.0000}"), ("this sample", "@this{0.0000}")]
    at = layers.index(shown)
    tops = np.concatenate([own.high, everyone, sample, [box[3] if box else np.nan]])
    highest = float(np.nanmax(tops, initial=0)) or 1.0
    elements = [
        hv.VSpan(at - 0.5, at + 0.5).opts(color=look.faint, alpha=0.8, backend="bokeh"),
        band.opts(fill_color=colour, fill_alpha=0.22, line_alpha=0, backend="bokeh"),
        _line(x, everyone, "all", color=look.soft, line_dash="dashed", line_width=1.5),
        _line(x, own.median, "subset", color=colour, line_width=2),
        _line(x, sample, "this sample", color=look.ink, line_width=1.2),
        points.opts(color=colour, size=5, tools=["hover"], hover_tooltips=tips, backend="bokeh"),
        _dashed(_outline(box), look),
    ]
    step = -(-len(layers) // 12)
    return _figure(
        elements,
        look,
        title=title,
        height=HEIGHT,
        min_width=300,
        responsive=True,
        xlim=(-0.5, len(layers) - 0.5),
        ylim=(0, highest * 1.06),
        xticks=[(i, name) for i, name in enumerate(layers) if i % step == 0],
        xlabel="layer",
        ylabel="MAD",
        show_legend=True,
        legend_position="top_left",
        legend_opts={"spacing": -4, "padding": 2, "margin": 2, "glyph_width": 16},
        hooks=[_box_select],
    )


def _line(x: NDArray[Any], y: Floats, label: str, **style: Any) -> hv.Curve:
    return hv.Curve((x, y), "x", "y", label=label).opts(**style, backend="bokeh")


def _outline(box: Box | None) -> Floats:
    """Around a box, float (5 or 0, 2): Bokeh dashes lines, not rectangles."""
    if box is None:
        return np.empty((0, 2))
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])


def _dashed(points: Floats, look: Look) -> hv.Curve:
    return hv.Curve(points, "x", "y").opts(color=look.soft, line_width=1.3, line_dash="dashed", backend="bokeh")


def _figure(elements: Sequence[Any], look: Look, **options: Any) -> hv.Overlay:
    plain: dict[str, Any] = {
        "show_legend": False,
        "axiswise": True,
        "framewise": True,
        "shared_axes": False,
        "default_tools": [],
        "toolbar": None,
        "fontsize": _FONTS,
    }
    return hv.Overlay(list(elements)).opts(**plain | options, backend="bokeh")


def _box_select(plot: Any, _: Any) -> None:
    """Dragging draws a box; without renderers the browser selects and fades no dots by itself."""
    if not any(isinstance(tool, BoxSelectTool) for tool in plot.state.tools):
        tool = BoxSelectTool(renderers=[])
        plot.state.add_tools(tool)
        plot.state.toolbar.active_drag = tool
