"""What a report is made of: sections of plain words, figures and tables, each with its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from actstore.analysis.evidence import perturbations
from actstore.findings import Findings, Unanswerable
from actstore.unchanged import no_sample
from actstore.units import counted
from actstore.views.selection import shown_conditions
from actstore.views.theme import class_colours

if TYPE_CHECKING:
    from actstore.store import Store

#: Rows of a table on the page; the whole is in its file.
ROWS = 20


@dataclass(frozen=True)
class Figure:
    """A drawing, the words under it, and the numbers that it shows."""

    #: Names its files: ``dice.png``, ``dice.svg``, ``dice.csv``, ``dice.parquet``.
    key: str
    draw: Callable[[], Any]
    caption: str
    #: What a reader who does not see it is told.
    alt: str
    data: pd.DataFrame


@dataclass(frozen=True)
class Table:
    """Rows worth reading of a table whose whole lies beside the page."""

    #: Names its files.
    key: str
    caption: str
    #: The rows to show, with headers as columns; at most :data:`ROWS` are.
    shown: pd.DataFrame
    #: The whole.
    data: pd.DataFrame


@dataclass(frozen=True)
class Section:
    """One question of the study and its answer."""

    key: str
    title: str
    #: Plain words, with numbers.
    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    #: Sentences for the summary.
    findings: Sequence[str] = ()
    #: What the store would need to answer, where it cannot.
    missing: Sequence[str] = ()


class Study:
    """What every section asks: the store, its tables, which conditions are shown, and the colour of each class."""

    def __init__(self, store: Store, findings: Findings | None = None) -> None:
        self.store = store
        self.findings = findings or Findings(store)

    @cached_property
    def colours(self) -> dict[str, str]:
        """Class name to colour."""
        return class_colours(self.store.class_names)

    @cached_property
    def conditions(self) -> list[str]:
        """The perturbations that are shown one by one, those that apply to no sample left out."""
        applies = self.store.applicable.any("sample").compute()
        used = {name for name, any_ in zip(self.store.conditions.index, applies.values, strict=True) if any_}
        return [name for name in shown_conditions(self.store) if name in used]

    @property
    def nothing(self) -> str:
        """Why no perturbation is shown."""
        return no_sample(self.store)

    @property
    def layers(self) -> list[str]:
        """Layer names in network order."""
        return list(self.store.layers.index)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the findings; of those with a condition, the rows of the conditions that are shown.

        Raises
        ------
        Unanswerable
            if the store was not captured for it, or holds nothing of it.
        """
        found = self.findings.table(name)
        if "condition" in found.columns:
            every = self.store.conditions.index[perturbations(self.store.confusion)]
            found = found[~found["condition"].isin(set(every) - set(self.conditions))]
        if found.empty:
            raise Unanswerable(f"no volume of this store has a row of the table {name}")
        return found.reset_index(drop=True)

    def ask(self, name: str, missing: list[str]) -> pd.DataFrame | None:
        """As :meth:`table`, but None where there is no answer, and what it would need is added to ``missing``."""
        try:
            return self.table(name)
        except Unanswerable as error:
            missing.append(str(error))
            return None

    def deed(self, condition: str) -> str:
        """What a condition does, in words: "darkening LV to 10 %"."""
        row: Any = self.store.conditions.loc[condition]
        strength = float(row["strength"])
        if row["transform"] == "brightness" and strength != 1:
            return f"{'darkening' if strength < 1 else 'brightening'} {row['target']} to {strength * 100:g} %"
        return f"perturbing {row['target']} by {condition}"


def cohort(table: pd.DataFrame) -> str:
    """On how much a table rests, for a caption: "n = 73 to 88 samples, 6 patients"."""
    parts = []
    for name in ("samples", "patients"):
        if name in table and len(table):
            low, high = int(table[name].min()), int(table[name].max())
            parts.append(counted(low, name.removesuffix("s")) if low == high else f"{low} to {high} {name}")
    return f"n = {', '.join(parts)}" if parts else ""


def caution(table: pd.DataFrame) -> list[str]:
    """What the notes of a table say, each once."""
    if "note" not in table:
        return []
    notes = [str(note) for note in table["note"].dropna().unique() if str(note)]
    return [f"Note: {note}." for note in notes[:3]]


def number(value: float) -> str:
    """Two decimals, or what a small number needs; an en dash for none."""
    if not np.isfinite(value):
        return "–"
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.2f}".replace("-", "−")
    return f"{value:.{1 if abs(value) < 0.01 else 4}g}".replace("-", "−")


def percent(share: float) -> str:
    """A share as whole per cent."""
    return f"{share * 100:.0f} %" if np.isfinite(share) else "–"


def with_interval(table: pd.DataFrame, name: str, low: str | None = None, high: str | None = None) -> list[str]:
    """The cells "0.05 (0.01 to 0.10)" of a column and its interval; without an interval, the number alone."""
    low, high = low or f"{name}_low", high or f"{name}_high"
    if low not in table:
        return [number(v) for v in table[name]]
    cells = zip(table[name], table[low], table[high], strict=True)
    return [f"{number(v)} ({number(a)} to {number(b)})" if np.isfinite(a) else number(v) for v, a, b in cells]


def as_html(shown: pd.DataFrame) -> Markup:
    """Head and body of a table: numbers to the right, headers for screen readers."""
    numeric = [pd.api.types.is_numeric_dtype(shown[name]) for name in shown.columns]
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(Markup(' class="n"') if right else "", str(name).replace("_", " "))
        for name, right in zip(shown.columns, numeric, strict=True)
    )
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(
                Markup("<td{}>{}</td>").format(Markup(' class="n"') if right else "", _cell(value))
                for value, right in zip(row, numeric, strict=True)
            )
        )
        for row in shown.itertuples(index=False, name=None)
    )
    return Markup("<thead><tr>{}</tr></thead><tbody>{}</tbody>").format(head, rows)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return number(float(value))
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", " ")
    return str(value)
