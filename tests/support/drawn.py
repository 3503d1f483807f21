"""What a HoloViews plot shows: its title, and the arrays of its images."""

from __future__ import annotations

from typing import Any

import holoviews as hv


def title_of(plot: Any) -> str:
    return str(hv.Store.lookup_options("bokeh", plot, "plot").kwargs["title"])


def pictures(plot: Any) -> list[Any]:
    """The arrays of a plot's images, row 0 on top."""
    found = []
    for element in plot.traverse(lambda element: element, [hv.Image]):
        rows = element.dimension_values("y", expanded=False)
        values = element.dimension_values(2, flat=False)
        found.append(values if rows[0] < rows[-1] else values[::-1])
    return found
