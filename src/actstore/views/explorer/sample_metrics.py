"""Dice and confusion of the sample that is shown, or the probabilities that a classifier gives it.

Tables are written by hand: pandas takes ten times as long, at every step through the slices, for cells with titles.
"""

from __future__ import annotations

import numpy as np
import param
from markupsafe import Markup

from actstore.views.explorer.html import failure, html_pane
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.probabilities import probability_bars
from actstore.views.explorer.state import SAMPLE
from actstore.views.figures.theme import colours_of

#: What a sample is called that the condition does not apply to.
ABSENT = "not applicable"


class SampleMetrics(Part):
    """Dice of each class before and after, the kind of failure, and the confusion of both predictions, in pixels."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.view = html_pane()

    @param.depends(*of_state(*SAMPLE, "condition"))
    def _show(self) -> None:
        source, sample, c = self.source, self.sample, self.condition
        if source.classified:
            self.view.object = str(self._title(sample, c) + probability_bars(source, sample, c))
            return
        tables = Markup('<div class="tables">{}{}</div>').format(self._dice(sample, c), self._confusion(sample, c))
        self.view.object = str(self._title(sample, c) + tables)

    def _dice(self, sample: int, c: int) -> Markup:
        source = self.source
        colours = colours_of(source.store)
        rows = Markup("")
        shown = 1 if source.alone else 3
        for i, name in enumerate(source.foreground):
            before, after = source.dice[sample, [0, c], i]
            there = source.present[sample, i]
            note = f"no {name} in this sample: 1 where none is predicted, else 0"
            numbers = (_dice(before), _dice(after), _dice(after - before, signed=True))[:shown]
            rows += Markup('<tr class="{}" title="{}"><th style="border-color:{}">{}</th>{}</tr>').format(
                "" if there else "absent",
                "" if there else note,
                colours[name],
                name,
                Markup("").join(Markup("<td>{}</td>").format(number) for number in numbers),
            )
        heads = Markup("").join(Markup("<th>{}</th>").format(name) for name in ("original", "perturbed", "Δ")[:shown])
        caption = "Dice" if source.present[sample].all() else f"Dice (italics: not in this {source.noun})"
        table = Markup('<table class="dice"><caption>{}</caption><tr><th></th>{}</tr>{}</table>')
        return table.format(caption, heads, rows)

    def _title(self, sample: int, c: int) -> Markup:
        """Which sample it is, and what became of it."""
        source, state = self.source, self.state
        case = source.cases[sample, c] or (ABSENT if not source.applicable[sample, c] else "—")
        row = source.samples.iloc[sample]
        if source.classified:
            name = source.image_names[sample]
            return Markup('<p class="who">{}{} · <b>{}</b></p>').format(
                state.patient, f" · {name}" if name != state.patient else "", case
            )
        sizes = [row[f"spacing_{axis}"] for axis in "zyx"]
        known = all(size > 0 for size in sizes)  # NaN where no header stated it
        spacing = " × ".join(f"{size:.3g}" for size in sizes) + " mm" if known else "voxel size unknown"
        phase = f" ({row['phase']})" if row["phase"] else ""
        patch = f" · patch {state.patch}" if source.patched else ""
        if case == "—":
            case = ""
        what = "" if case == ABSENT else "kind of failure: "
        outcome = Markup(" · {}<b>{}</b>").format(what, failure(case)) if case else ""
        return Markup('<p class="who" title="{}">{} · frame {}{} · slice {}{}{}</p>').format(
            spacing, state.patient, state.frame, phase, state.slice, patch, outcome
        )

    def _confusion(self, sample: int, condition: int) -> Markup:
        source = self.source
        found = source.confusion.isel(sample=sample).transpose("condition", "true_class", "predicted_class").values
        after = found[condition] if source.applicable[sample, condition] else np.full(found[0].shape, "—")
        names = source.store.class_names
        head = Markup("").join(Markup('<th title="{0}">{0}</th>').format(name) for name in names)
        rows = Markup("")
        for i, name in enumerate(names):
            cells = Markup("").join(
                Markup('<td class="{}" title="true {}, predicted {}; original {}">{}</td>').format(
                    "same" if i == j else "wrong" if count not in (0, "—") else "", name, other, before, count
                )
                for j, (other, before, count) in enumerate(zip(names, found[0, i], after[i], strict=True))
            )
            rows += Markup('<tr><th title="{0}">{0}</th>{1}</tr>').format(name, cells)
        caption = f"pixels{'' if source.alone else ', perturbed'}: true ↓ predicted →"
        table = Markup('<table class="confusion"><caption>{}</caption><tr><th></th>{}</tr>{}</table>')
        return table.format(caption, head, rows)


def _dice(value: float, *, signed: bool = False) -> str:
    if not np.isfinite(value):
        return "—"
    return f"{value:+.3f}".replace("-", "−") if signed else f"{value:.3f}"
