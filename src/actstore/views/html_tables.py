"""Data frames as tables of a page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from pandas.io.formats.style import Styler

from actstore.views.wording import number


def html_table(shown: pd.DataFrame, name: str, *, labelled_by: str | None = None) -> Markup:
    """A ``<table>`` of the rows, all text escaped, columns of numbers aligned right.

    Parameters
    ----------
    name
        unique on the page: the table's id is ``T_<name>``.
    labelled_by
        id of the element with the caption.
    """
    table = shown.rename(columns=lambda column: str(column).replace("_", " "))
    numeric = [column for column in table if pd.api.types.is_numeric_dtype(table[column])]
    right: Any = {column: [{"selector": "", "props": "text-align: right"}] for column in numeric}
    style = Styler(table, uuid=name, cell_ids=False).hide(axis="index").set_table_styles(right)
    style = style.format(lambda value: str(escape(_cell(value)))).format_index(escape="html", axis="columns")
    return Markup(style.to_html(table_attributes=f'aria-labelledby="{labelled_by}"' if labelled_by else None))


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return number(float(value))
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", " ")
    return str(value)
