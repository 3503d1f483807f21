"""The table of the samples in the subset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.models.widgets.tables import DataTable, NumberFormatter, TableColumn

from actstore.views.explorer.cohort_figures import HEIGHT
from actstore.views.explorer.page_theme import PageTheme

#: Column to its width in pixels.
_WIDTHS = {
    "patient": 90,
    "frame": 56,
    "slice": 50,
    "patch": 50,
    "image_name": 150,
    "label": 90,
    "case": 164,
    "original": 76,
    "perturbed": 82,
    "change": 70,
}


class SampleTable:
    """Samples in rows, the shown one marked; ``clicked`` is called with the number of another."""

    def __init__(self, theme: PageTheme, clicked: Callable[[int], None], columns: Sequence[str]) -> None:
        self._clicked, self._sample = clicked, -1
        titles = {"image_name": "image", "case": "kind of failure"}
        self._columns = {
            name: TableColumn(field=name, title=titles.get(name, name), width=_WIDTHS[name]) for name in columns
        }
        for name in {"original", "perturbed", "change"} & {*columns}:
            self._columns[name].formatter = NumberFormatter(format="0.000", text_align="right", nan_format="—")
        self.source = ColumnDataSource({name: [] for name in ("sample", *self._columns)})
        self.source.selected.on_change("indices", self._chosen)
        table = DataTable(
            source=self.source,
            columns=list(self._columns.values()),
            index_position=None,
            reorderable=False,
            scroll_to_selection=True,
            row_height=23,
            height=HEIGHT,
            sizing_mode="stretch_width",
        )
        # Back to the first row; a selection that comes with the rows then scrolls to itself.
        top = "Bokeh.index.find_one(table)?.grid?.scrollRowToTop(0)"
        self.source.js_on_change("data", CustomJS(args={"table": table}, code=top))
        # The pane's style sheets replace those of its model.
        style = _STYLE.format(**theme.variables)
        self.view = pn.pane.Bokeh(table, sizing_mode="stretch_width", margin=(0, 6), stylesheets=[style])

    def show(self, rows: pd.DataFrame, original: str) -> None:
        """Show other rows, by the numbers of their samples; ``original`` is the title of that column."""
        self._sample = -1
        # The grid takes titles for HTML.
        self._columns["original"].title = escape(original)
        self.source.selected.indices = []
        self.source.data = {"sample": rows.index.to_numpy(), **{name: rows[name].to_numpy() for name in self._columns}}

    def mark(self, sample: int) -> None:
        """Select the row of ``sample`` and scroll to it."""
        if sample != self._sample:
            self._sample = sample
            self.source.selected.indices = np.flatnonzero(self.source.data["sample"] == sample).tolist()

    def _chosen(self, _: str, __: Any, rows: list[int]) -> None:
        chosen = [int(self.source.data["sample"][row]) for row in rows]
        if chosen and chosen != [self._sample]:
            self._clicked(chosen[-1])


_STYLE = """
.bk-data-table, .slick-header-column, .slick-row
{{ background: {card} !important; color: {ink} !important; font-size: 12px; }}
.slick-header-column, .slick-cell {{ border-color: {faint} !important; }}
.slick-header-column {{ color: {soft} !important; }}
.slick-row:hover {{ background: {faint} !important; cursor: pointer; }}
.slick-cell.selected {{ background: {faint} !important; }}
.slick-cell.selected.l0 {{ box-shadow: inset 3px 0 {accent}; }}
"""
