"""The table of the samples in the subset."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
from bokeh.models.widgets.tables import NumberFormatter

from actstore.views.explorer.cohort_figures import HEIGHT
from actstore.views.explorer.look import Look

#: Rows of a page of the table: as high as a figure.
ROWS = 6


class SampleTable:
    """A page of samples at a time, in the colours of ``look``; ``clicked`` is told the number of a sample."""

    def __init__(self, look: Look, clicked: Callable[[int], None]) -> None:
        number = NumberFormatter(format="0.000", text_align="right")
        self.view = pn.widgets.Tabulator(
            None,
            disabled=True,
            show_index=False,
            pagination="remote",
            page_size=ROWS,
            selectable=1,
            formatters=dict.fromkeys(("original", "perturbed", "change"), number),
            widths={"patient": 84, "frame": 64, "slice": 52, "original": 76, "perturbed": 92, "change": 70},
            layout="fit_columns",
            theme="simple",
            height=HEIGHT,
            sizing_mode="stretch_width",
            stylesheets=[_STYLE.format(**look.variables)],
            margin=(0, 6),
        )
        self.view.on_click(lambda event: clicked(int(self.view.value.index[event.row])))
        self.view.param.watch(self._turned, "page")
        self._sample: int | None = None
        self._opening = True
        #: The page to open at, until the browser has drawn the table; 0 from then on.
        self._first = 0

    def show(self, rows: pd.DataFrame, original: str) -> None:
        """Show other rows, by the numbers of their samples; ``original`` is the title of that column."""
        self._sample, self._first = None, 0
        titles = {"original": original, "perturbed": "perturbed"}
        if self.view.titles != titles:
            self.view.titles = titles
        # A page beyond the end of the new rows would show nothing.
        self.view.param.update(selection=[], page=1)
        self.view.value = rows

    def mark(self, sample: int) -> None:
        """Select the row of ``sample`` and turn to its page, unless that was done."""
        if sample == self._sample:
            return
        self._sample = sample
        table, rows = self.view, self.view.value.index
        table.selection = np.flatnonzero(rows == sample).tolist()
        if table.selection:
            shown = table.current_view.index if table.sorters else rows
            table.page = int(np.flatnonzero(shown == sample)[0]) // ROWS + 1
        self._first, self._opening = table.page if self._opening else 0, False

    def _turned(self, event: Any) -> None:
        """Tabulator turns to page 1 when it is drawn first, wherever it was told to open."""
        first, self._first = self._first, 0
        if event.new == 1 and first > 1:
            pn.state.execute(partial(setattr, self.view, "page", first), schedule=True)


_STYLE = """
.tabulator .tabulator-col.tabulator-sortable .tabulator-col-title {{ padding-right: 10px !important; }}
.tabulator .tabulator-col[aria-sort="none"] .tabulator-col-sorter {{ visibility: hidden; }}
.tabulator, .tabulator .tabulator-header, .tabulator .tabulator-header .tabulator-col,
.tabulator .tabulator-footer, .tabulator .tabulator-tableholder .tabulator-table, .tabulator-row
{{ background: {card} !important; color: {ink} !important; border-color: {faint} !important; font-size: 12px; }}
.tabulator-row .tabulator-cell {{ border-color: {faint} !important; }}
.tabulator .tabulator-footer .tabulator-page
{{ background: {card} !important; color: {ink} !important; border-color: {neutral} !important; }}
.tabulator .tabulator-footer .tabulator-page.active {{ color: {accent} !important; font-weight: bold; }}
.tabulator-row:hover {{ background: {faint} !important; cursor: pointer; }}
.tabulator-row.tabulator-selected {{ background: {faint} !important; box-shadow: inset 3px 0 {accent}; }}
"""
