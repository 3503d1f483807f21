"""The table of the samples in the subset."""

from __future__ import annotations

import panel as pn
from bokeh.models.widgets.tables import NumberFormatter

from actstore.views.explorer.cohort_figures import HEIGHT
from actstore.views.explorer.look import Look

#: Rows of a page of the table: as high as a figure.
ROWS = 6


def empty_table(look: Look) -> pn.widgets.Tabulator:
    """A table that shows a page of samples at a time, in the colours of ``look``."""
    number = NumberFormatter(format="0.000", text_align="right")
    return pn.widgets.Tabulator(
        None,
        disabled=True,
        show_index=False,
        pagination="remote",
        page_size=ROWS,
        selectable=1,
        formatters=dict.fromkeys(("original", "perturbed", "change"), number),
        widths={"patient": 84, "frame": 56, "slice": 52, "original": 76, "perturbed": 76, "change": 70},
        layout="fit_columns",
        theme="simple",
        height=HEIGHT,
        sizing_mode="stretch_width",
        stylesheets=[_STYLE.format(**look.variables)],
        margin=(0, 6),
    )


_STYLE = """
.tabulator .tabulator-col.tabulator-sortable .tabulator-col-title {{ padding-right: 10px !important; }}
.tabulator .tabulator-col[aria-sort="none"] .tabulator-col-sorter {{ visibility: hidden; }}
.tabulator, .tabulator .tabulator-header, .tabulator .tabulator-header .tabulator-col,
.tabulator .tabulator-footer, .tabulator .tabulator-tableholder .tabulator-table, .tabulator-row
{{ background: {card} !important; color: {ink} !important; border-color: {faint} !important; font-size: 12px; }}
.tabulator-row .tabulator-cell {{ border-color: {faint} !important; }}
.tabulator .tabulator-footer .tabulator-page {{ background: {card}; color: {ink}; border-color: {neutral}; }}
.tabulator .tabulator-footer .tabulator-page.active {{ color: {accent}; font-weight: bold; }}
.tabulator-row:hover {{ background: {faint} !important; cursor: pointer; }}
.tabulator-row.tabulator-selected {{ background: {faint} !important; box-shadow: inset 3px 0 {accent}; }}
"""
