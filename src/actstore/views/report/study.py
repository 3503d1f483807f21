"""What a report is made of, sections of words, figures and tables with their data, and the study behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from actstore.analysis.channels.ranking import in_top
from actstore.analysis.evidence import perturbations
from actstore.tables.catalogue import Unanswerable
from actstore.tables.findings import Findings
from actstore.tables.unchanged import no_sample, noun_of
from actstore.views.figures.channels import frequency_cells
from actstore.views.figures.selection import shown_conditions
from actstore.views.figures.theme import colours_of
from actstore.views.report.sentences.segmentation import action

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Rows of a table on the page; all are in its file.
ROWS = 20


@dataclass(frozen=True)
class Figure:
    """A drawing, its caption, and the numbers that it shows."""

    #: Names its files: ``dice.png``, ``dice.svg``, ``dice.csv``, ``dice.parquet``.
    key: str
    draw: Callable[[], Any]
    caption: str
    #: Describes it to a reader who cannot see it.
    alt: str
    data: pd.DataFrame
    #: What the explorer shows of it, by the names of its address: ``condition``, ``layer``, …; empty for no link.
    view: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownTable:
    """A table: its first rows stand on the page, and all of them in its file."""

    #: Names its files.
    key: str
    caption: str
    #: The rows to show, with headers as columns; the first :data:`ROWS` are.
    shown: pd.DataFrame
    #: The same rows in the same order, with plain numbers.
    data: pd.DataFrame

    def __post_init__(self) -> None:
        if len(self.shown) != len(self.data):
            raise ValueError(
                f"{self.key}: {len(self.shown)} rows are shown and {len(self.data)} written: give the same"
            )


@dataclass(frozen=True)
class Section:
    """One question of the study and its answer."""

    key: str
    title: str
    #: Plain words, with numbers.
    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[ShownTable] = ()
    #: Sentences for the summary.
    findings: Sequence[str] = ()
    #: What the store would need to answer, where it cannot.
    missing: Sequence[str] = ()


class Study:
    """What every section needs: the store, its tables, the conditions to show, and the colour of each class."""

    def __init__(self, store: Store, findings: Findings | None = None) -> None:
        self.store = store
        self.findings = findings or Findings(store)
        self._cells: dict[str | None, pd.DataFrame] = {}

    @cached_property
    def colours(self) -> dict[str, str]:
        """Class name to colour."""
        return colours_of(self.store)

    @cached_property
    def conditions(self) -> list[str]:
        """The perturbations that are shown one by one, those that apply to no sample left out."""
        return [name for name in shown_conditions(self.store) if name in self.every.index]

    @property
    def nothing(self) -> str:
        """Why no perturbation is shown."""
        return no_sample(self.store)

    @cached_property
    def every(self) -> pd.DataFrame:
        """All perturbations that apply to a sample: ``transform, target, strength, …``, indexed by condition."""
        applies = self.store.applicable.any("sample").compute().values
        at = perturbations(self.store.confusion)
        found: pd.DataFrame = self.store.conditions.iloc[at[applies[at]]]
        return found

    @property
    def noun(self) -> str:
        """What a sample is."""
        return noun_of(self.store)

    def view(self, sample: int, condition: str, **more: object) -> dict[str, object]:
        """What leads to a sample under a condition in the explorer, for :attr:`Figure.view`."""
        row = self.store.samples.iloc[sample]
        place = {name: row[name] for name in ("patient", "frame", "slice", "patch") if name in row}
        return {**place, "condition": condition, **more}

    @property
    def among(self) -> str:
        """Names the perturbations that a count covers, where the figures do not show all."""
        if len(self.every) == len(self.conditions):
            return ""
        return f" of the {len(self.conditions)} of {len(self.every)} perturbations that the figures show"

    @property
    def layers(self) -> list[str]:
        """Layer names in network order."""
        return list(self.store.layers.index)

    @property
    def channels(self) -> pd.Series[int]:
        """How many channels each layer has, in network order."""
        return self.store.layers["channels"]

    @cached_property
    def member(self) -> xr.DataArray:
        """Whether a channel is among its layer's top by MAD: bool (sample, condition, channel), in memory."""
        findings = self.findings
        if findings.metric == "mad":
            return findings.member
        return in_top(findings.network["mad"], findings.top, applicable=findings.applicable)

    def frequency_cells(self, by: str | None) -> pd.DataFrame:
        """How often each channel is among the top, as :func:`actstore.views.figures.channels.frequency_cells`."""
        if by not in self._cells:
            self._cells[by] = frequency_cells(self.store, by, top=self.findings.top, member=self.member)
        return self._cells[by]

    def table(self, name: str) -> pd.DataFrame:
        """A table of the findings; where it has conditions, the rows of those that are shown.

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
        """As :meth:`table`, or None where there is no answer; then ``missing`` gains what the store would need."""
        try:
            return self.table(name)
        except Unanswerable as error:
            missing.append(str(error))
            return None

    def action(self, condition: str) -> str:
        """What a condition does, in words: "darkening LV to 10 %"."""
        return action(condition, self.store.conditions)
