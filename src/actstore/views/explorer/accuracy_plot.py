"""How often images of each class are classified right, on the original and under a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from bokeh.models import HoverTool

from actstore.conditions import ORIGINAL
from actstore.views.explorer.cohort_figures import HEIGHT
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.streamed import StreamedFigure, nothing, small_figure

#: Pixels of the screen: width, and the height of a class; more classes than fit make the figure longer.
WIDTH, ROW = 420, 17
#: From a class's middle to its dot of the original, up, and of the condition, down.
_ASIDE = 0.17
_COLUMNS = ("accuracy", "row", "low", "high", "class_name", "condition", "samples")


class AccuracyFigure:
    """A row a class, "all" first: a dot with its 95 % interval for the original, one below it for the condition."""

    def __init__(self, classes: Sequence[str], theme: PageTheme) -> None:
        self._rows = list(classes)
        count = len(self._rows)
        ranges: dict[str, Any] = {"x_range": (-0.03, 1.03), "y_range": (count - 0.5, -0.5)}
        size: dict[str, Any] = {"width": WIDTH, "height": max(HEIGHT, ROW * count + 80)}
        plot = small_figure(title=" ", **ranges, **size)
        plot.xaxis.axis_label = "part classified right, 95 % interval"
        plot.yaxis.ticker = list(range(count))
        plot.yaxis.major_label_overrides = dict(enumerate(self._rows))
        colours = {"original": theme.neutral, "perturbed": theme.accent}
        dots = []
        for name, colour in colours.items():
            source = nothing(*_COLUMNS)
            plot.segment("low", "row", "high", "row", line_color=colour, line_width=2, source=source)
            dots.append(plot.scatter("accuracy", "row", size=8, fill_color=colour, line_color=None, source=source))
            dots[-1].name = name
        tips = [
            ("", "@class_name, @condition"),
            ("right", "@accuracy{0.000}"),
            ("interval", "@low{0.000} – @high{0.000}"),
        ]
        plot.add_tools(HoverTool(tooltips=[*tips, ("images", "@samples")], renderers=dots))
        names = [f"{name} {what}" for name in colours for what in ("intervals", "dots")]
        self.figure = StreamedFigure(plot, names, sizing_mode=None, margin=(0, 4))

    def show(self, table: pd.DataFrame, condition: str, colour: str) -> None:
        """Draw the rows of the table ``accuracy`` of the original and of ``condition``, in a colour."""
        for name, own, aside in (("original", ORIGINAL, -_ASIDE), ("perturbed", condition, _ASIDE)):
            rows = table[table["condition"] == own] if name == "original" or own != ORIGINAL else table[:0]
            place = rows["class_name"].map(self._rows.index).to_numpy(float)
            columns = {key: rows[key].to_numpy() for key in _COLUMNS if key != "row"}
            row = place + (aside if condition != ORIGINAL else 0.0)
            for what in ("intervals", "dots"):
                self.figure.put(f"{name} {what}", row=row, **columns)
        self.figure.style("perturbed dots", fill_color=colour)
        self.figure.style("perturbed intervals", line_color=colour)
        of = "original" if condition == ORIGINAL else f"original (grey) and {condition}"
        self.figure.plot.title.text = f"accuracy · {of}"
