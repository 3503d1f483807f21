"""Marks that several figures draw with: boxes, swarms, intervals, cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.views.figures.theme import FAINT, INK, SEQUENTIAL, styled


def swarm(values: NDArray[np.float64], width: float, *, bins: int = 40, span: tuple[float, float]) -> NDArray[Any]:
    """Offsets that set similar ``values`` side by side, within ``width`` on either side; 0 where one is alone."""
    low, high = span
    bin_of = np.clip(((values - low) / max(high - low, 1e-12) * bins).astype(int), 0, bins - 1)
    offset = np.zeros(len(values))
    most = max(int(np.bincount(bin_of).max()), 12) if len(values) else 1
    for b in np.unique(bin_of):
        at = np.flatnonzero(bin_of == b)
        at = at[np.argsort(values[at], kind="stable")]
        turn = np.arange(len(at))
        side = np.where(turn % 2, (turn + 1) // 2, -(turn // 2))
        offset[at] = side / most * 2 * width
    return offset


def boxes(groups: Sequence[tuple[NDArray[np.float64], float, str]], *, width: float) -> list[Any]:
    """Box plots of each (values, x, colour): quartiles, median, and whiskers to the last value within 1.5
    interquartile ranges (Tukey)."""
    whiskers, bodies, middles = [], [], []
    for values, x, colour in groups:
        if len(values) == 0:
            continue
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        reach = 1.5 * (high - low)
        bottom, top = values[values >= low - reach].min(), values[values <= high + reach].max()
        whiskers += [(x, bottom, x, low, colour), (x, high, x, top, colour)]
        bodies.append((x - width, low, x + width, high, colour))
        middles.append((x - width, middle, x + width, middle, colour))
    ends = ["x", "y", "x1", "y1"]
    return [
        styled(
            hv.Segments(whiskers, ends, "colour"),
            color="colour",
            bokeh={"line_width": 1.2},
            matplotlib={"linewidth": 0.9},
        ),
        styled(
            hv.Rectangles(bodies, ends, "colour"),
            color="colour",
            bokeh={"fill_alpha": 0.14, "line_color": "colour", "line_width": 1.2},
            matplotlib={"alpha": 0.25, "linewidth": 0.9},
        ),
        styled(
            hv.Segments(middles, ends, "colour"),
            color="colour",
            bokeh={"line_width": 3},
            matplotlib={"linewidth": 2},
        ),
    ]


def dots(frame: pd.DataFrame, x: str, y: str, colour: str, *, hollow: bool = False, size: float = 5) -> hv.Points:
    """A dot a row; the other columns of ``frame`` show when pointed at.

    ``colour`` is a colour, or the column that holds them.
    """
    others = [name for name in frame.columns if name not in (x, y)]
    shown = [name for name in others if name != colour]
    return styled(
        hv.Points(frame, [x, y], others),
        alpha=0.75,
        bokeh={
            "size": size,
            "line_color": colour,
            "fill_color": "white" if hollow else colour,
            "line_width": 1,
            "tools": ["hover"],
            "hover_tooltips": [(name, f"@{{{name}}}") for name in [*shown, y]],
        },
        matplotlib={
            "s": (size * 0.62) ** 2,
            "edgecolors": colour,
            "facecolors": "white" if hollow else colour,
            "linewidth": 0.7,
        },
    )


def intervals(frame: pd.DataFrame, x: str, low: str, high: str, colour: str, *, across: bool = False) -> hv.Segments:
    """A line from ``low`` to ``high`` at each ``x``; ``across``: horizontal, at height ``x``."""
    known = frame[frame[low].notna() & frame[high].notna()]
    ends = zip(known[x], known[low], known[x], known[high], strict=True)
    lines = [(b, a, d, c) if across else (a, b, c, d) for a, b, c, d in ends]
    return styled(
        hv.Segments(lines, ["x", "y", "x1", "y1"]),
        color=colour,
        bokeh={"line_width": 1.6, "line_alpha": 0.8},
        matplotlib={"linewidth": 1.1, "alpha": 0.8},
    )


def line(
    x: Sequence[Any] | NDArray[Any],
    y: Sequence[Any] | NDArray[Any],
    colour: str,
    *,
    label: str = "",
    width: float = 2,
    dashed: bool = False,
    step: bool = False,
    alpha: float = 1.0,
) -> hv.Curve:
    """A curve."""
    return styled(
        hv.Curve((x, y), "x", "y", label=label),
        color=colour,
        alpha=alpha,
        interpolation="steps-post" if step else "linear",
        bokeh={"line_width": width, "line_dash": "dashed" if dashed else "solid"},
        matplotlib={"linewidth": width * 0.7, "linestyle": "dashed" if dashed else "solid"},
    )


def band(x: NDArray[Any], low: NDArray[Any], high: NDArray[Any], colour: str) -> hv.Area:
    """The area between ``low`` and ``high``."""
    known = np.isfinite(low) & np.isfinite(high)
    return styled(
        hv.Area((x[known], low[known], high[known]), "x", ["y", "y2"]),
        bokeh={"fill_color": colour, "fill_alpha": 0.15, "line_alpha": 0},
        matplotlib={"facecolor": colour, "alpha": 0.15, "linewidth": 0},
    )


def rule(*, x: float | None = None, y: float | None = None, dashed: bool = True) -> Any:
    """A line across the plot at ``x`` or ``y``."""
    element = hv.HLine(y) if x is None else hv.VLine(x)
    return styled(
        element,
        color=INK,
        alpha=0.55,
        bokeh={"line_width": 1, "line_dash": "dashed" if dashed else "solid"},
        matplotlib={"linewidth": 0.7, "linestyle": "dashed" if dashed else "solid"},
    )


def cells(
    frame: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    *,
    clim: tuple[float, float],
    cmap: str = SEQUENTIAL,
    colorbar: bool = True,
) -> hv.Rectangles:
    """A coloured cell a row of ``frame``, one wide and high around whole numbers ``x`` and ``y``.

    Unlike an image, it draws no cell without a row; each cell shows its columns when pointed at.
    """
    others = [name for name in frame.columns if name not in (x, y, value)]
    shown = pd.DataFrame({"x0": frame[x] - 0.5, "y0": frame[y] - 0.5, "x1": frame[x] + 0.5, "y1": frame[y] + 0.5})
    shown[value] = frame[value].astype(float)
    shown[others] = frame[others]
    return styled(
        hv.Rectangles(shown, ["x0", "y0", "x1", "y1"], [value, *others]),
        color=value,
        cmap=cmap,
        clim=clim,
        colorbar=colorbar,
        clabel="",
        bokeh={
            "line_color": "white",
            "line_width": 0.5,
            "tools": ["hover"],
            "hover_tooltips": [(name, f"@{{{name}}}") for name in [*others, value]],
            "colorbar_opts": {"width": 8, "padding": 4},
        },
        matplotlib={"edgecolor": "white", "linewidth": 0.15, "cbar_width": 0.02, "cbar_padding": 0.02},
    )


def blocks(frame: pd.DataFrame, colour: str, **style: Any) -> hv.Rectangles:
    """A filled rectangle a row: columns ``x0, y0, x1, y1``, the others show when pointed at."""
    edges = ["x0", "y0", "x1", "y1"]
    others = [name for name in frame.columns if name not in edges]
    return styled(
        hv.Rectangles(frame, edges, others),
        bokeh={
            "fill_color": colour,
            "line_color": "white",
            "line_width": 0.5,
            "tools": ["hover"],
            "hover_tooltips": [(name, f"@{{{name}}}") for name in others],
        },
        matplotlib={"facecolor": colour, "edgecolor": "white", "linewidth": 0.3},
        **style,
    )


def grey_rows(rows: Iterable[float], last: Iterable[float]) -> hv.Rectangles:
    """A grey bar along each row of a map, from column 0 to the last one of the row."""
    bars = [(-0.5, row - 0.45, column + 0.5, row + 0.45) for row, column in zip(rows, last, strict=True)]
    return styled(
        hv.Rectangles(bars, ["x0", "y0", "x1", "y1"]),
        bokeh={"fill_color": FAINT, "line_color": None},
        matplotlib={"facecolor": FAINT, "edgecolor": "none"},
    )


def words(frame: pd.DataFrame, x: str, y: str, text: str, *, align: str = "left", colour: str = INK) -> hv.Labels:
    """Text at each row."""
    return styled(
        hv.Labels(frame, [x, y], text),
        bokeh={
            "text_align": align,
            "text_baseline": "middle",
            "text_color": colour,
            "text_font_size": "11px",
        },
        matplotlib={"horizontalalignment": align, "verticalalignment": "center", "color": colour, "size": 7.5},
    )


def key(label: str, colour: str, *, hollow: bool = False) -> hv.Points:
    """An entry of the legend that draws nothing else."""
    return styled(
        hv.Points([(np.nan, np.nan)], ["x", "y"], label=label),
        marker="s",
        bokeh={"size": 9, "fill_color": "white" if hollow else colour, "line_color": colour},
        matplotlib={"s": 30, "facecolors": "white" if hollow else colour, "edgecolors": colour, "linewidth": 0.8},
    )
