"""Plots of the page whose every part is drawn again together, and what a tap on one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakSet

import holoviews as hv

#: As wide as there is room; the height in pixels of the screen.
RESPONSIVE: dict[str, Any] = {"responsive": True, "height": 250}


def overlay(
    parts: Sequence[Any],
    *,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    hooks: Sequence[Callable[[Any, Any], None]] = (),
    **options: Any,
) -> hv.Overlay:
    """One plot, whose axes link to no other's; options in one go, for each time costs milliseconds."""

    def reach(plot: Any, _: Any) -> None:
        # HoloViews keeps the limits that an overlay was first drawn with.
        for axis, (start, end) in ((plot.state.x_range, xlim), (plot.state.y_range, ylim)):
            ends = (end, start) if axis is plot.state.y_range and plot.invert_yaxis else (start, end)
            axis.update(start=ends[0], end=ends[1], reset_start=ends[0], reset_end=ends[1])

    return hv.Overlay(list(parts)).opts(
        xlim=xlim,
        ylim=ylim,
        hooks=[*hooks, reach],
        show_legend=False,
        axiswise=True,
        framewise=True,
        shared_axes=False,
        default_tools=[],
        toolbar=None,
        fontsize={"title": "12px", "labels": "11px", "xticks": "10px", "yticks": "10px"},
        backend="bokeh",
        **options,
    )


def tapped(do: Callable[[float, float], None]) -> Callable[[Any, Any], None]:
    """A hook of a plot that calls ``do`` with x and y of each tap.

    HoloViews' own streams do not see the taps on overlays that a dynamic map returns.
    """
    known: WeakSet[Any] = WeakSet()

    def listen(plot: Any, _: Any) -> None:
        figure = plot.state
        if figure not in known:
            known.add(figure)
            figure.on_event("tap", lambda event: do(event.x, event.y))

    return listen
