"""The tab on all samples of a condition, where the reader chooses the subset that the page is about.

Of a classifier, accuracy stands in the place of Dice. In a run without perturbations nothing is compared.
"""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import panel as pn
import param
from numpy.typing import NDArray

from actstore.analysis.classification import EVERY
from actstore.errors import StoreError
from actstore.views.arrays import Bools, Floats
from actstore.views.explorer import cohort_numbers as numbers
from actstore.views.explorer.accuracy_plot import AccuracyFigure
from actstore.views.explorer.cohort_figures import HEIGHT, PITCH, CaseFigure, DiceFigure, MadFigure, listen
from actstore.views.explorer.cohort_table import SampleTable
from actstore.views.explorer.html import failure
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import SAMPLE, SUBSET, DiceBox, MadRange, shown_dice, shown_mad
from actstore.views.figures.spread import spread
from actstore.views.figures.theme import colours_of

#: Kinds of failure that have bars, the most usual: a classifier of many classes has hundreds.
MOST_CASES = 12
#: A figure with more classes than fit is scrolled.
_SCROLLED = {"overflow": "auto", "max-width": "100%", "max-height": f"{HEIGHT + 60}px"}


class CohortTab(Part):
    """Dice before and after or accuracy, kinds of failure, MAD by layer, and the table of their samples."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        source, theme = session.source, session.theme
        self._colours = colours_of(source.store)
        names = {"patient": source.patients, "case": source.case_names}
        words = names | {"case": [failure(name) for name in source.case_names]}
        given = {"patient": source.samples["patient"], "case": source.cases}
        #: What dots show of their samples, names as their numbers: (sample) or, of the case, (sample, condition).
        self._hover = {
            **{name: source.samples[name].to_numpy(np.int32) for name in source.named_by[1:]},
            **{name: _numbered(values, names[name]) for name, values in given.items()},
        }
        self._cases = CaseFigure(theme)
        self._dice: DiceFigure | None = None
        self._accuracy: AccuracyFigure | None = None
        if source.classified:
            self._accuracy = AccuracyFigure([EVERY, *source.store.class_names], theme)
        elif not source.alone:
            self._dice = DiceFigure(self._colours, words, theme, source.named_by)
            listen(self._dice.figure.plot, self._tap_dice, self._box_dice)
        self._mad = MadFigure(list(source.channels), theme)
        listen(self._cases.figure.plot, self._tap_case)
        listen(self._mad.figure.plot, self._tap_mad, self._box_mad)
        self._table = SampleTable(theme, lambda sample: session.go(sample=sample), _table_columns(source))
        self._words = pn.pane.HTML("", margin=(0, 10), align="center", styles={"color": theme.ink})
        self._clear = pn.widgets.Button(label="clear", height=28, margin=(0, 4), align="center")
        self._clear.on_click(lambda _: session.go(case="", dice=None, mad=None))
        self.view = self._lay_out()
        #: MAD of the condition's samples by layer, float64 (sample, layer); none until it is read.
        self._mads: Floats = np.empty((0, len(source.channels)))

    def _lay_out(self) -> pn.Column:
        mad: pn.viewable.Viewable = self._mad.figure.view
        try:
            self.source.need_statistics()
        except StoreError as error:
            mad = pn.pane.HTML(escape(str(error)), styles={"color": self.session.theme.soft})
        wide = {"sizing_mode": "stretch_width", "margin": 0}
        line = pn.Row(self._words, self._clear, styles={"flex": "1 1 100%"}, margin=0)
        first = self._dice or self._accuracy
        parts: list[Any] = (
            [pn.Row(first.figure.view, margin=0, styles={"overflow": "auto", **_SCROLLED})] if first else []
        )
        if not self.source.alone:
            parts.append(pn.Column(mad, styles={"flex": "1 1 300px", "min-width": "300px"}, **wide))
        if self.source.case_names:
            flex = {"flex": "1 1 190px", "min-width": "190px"}
            parts.append(pn.Column(self._cases.figure.view, styles=flex, **wide))
        return pn.Column(
            line,
            *parts,
            pn.Column(self._table.view, styles={"flex": "3 1 480px", "min-width": "480px"}, **wide),
            sizing_mode="stretch_width",
            # Not a FlexBox: in one, Bokeh's table does not find its style sheet.
            styles={"display": "flex", "flex-flow": "row wrap", "align-items": "flex-start"},
        )

    @param.depends(*of_state(*SUBSET))
    def _show_subset(self) -> None:
        """Show what depends on the condition and the subset alone."""
        source, c, subset = self.source, self.condition, self.session.subset
        self._target = source.target(source.names[c]) or source.foreground[0]
        #: Numbers of the condition's samples, and which of them are in the subset.
        self._numbers = at = np.flatnonzero(source.applicable[:, c])
        self._chosen: Bools = subset[at]
        n, of = int(self._chosen.sum()), len(at)
        self._n = f"n = {n}" if n == of else f"n = {n} of {of}"
        hover = {name: values[at, c] if values.ndim > 1 else values[at] for name, values in self._hover.items()}
        if self._dice:
            title = f"Dice of each class · {self._n}"
            original, perturbed = source.present_dice[at][:, [0, c]].transpose(1, 0, 2)
            self._dice.show(hover, original, perturbed, self._chosen, title)
        if self._accuracy:
            self._accuracy.show(source.accuracy(c), source.names[c], self._colours[self._target])
        self._show_cases(numbers.case_counts(source.cases[at, c], self._chosen))
        self._show_rows(np.flatnonzero(subset))
        self._clear.disabled = not self.state.narrowed
        if source.store.reduced and not source.alone:
            self._show_spread()

    @param.depends(*of_state(*SUBSET, *SAMPLE))
    def _mark_sample(self) -> None:
        source, state, subset = self.source, self.state, self.session.subset
        away = state.narrowed and not subset[self.sample]
        words = numbers.in_words(source, state, subset)
        self._words.object = escape(words + (" · the sample shown is not among them" if away else ""))
        self._table.mark(self.sample)
        if self._dice:
            self._mark_dice(self._dice)

    @param.depends(*of_state(*SUBSET, *SAMPLE, "layer"))
    def _show_mad(self) -> None:
        source, state, layers = self.source, self.state, list(self.source.channels)
        if not source.store.reduced or source.alone:
            return
        sample = self._mads[self._numbers[: len(self._mads)] == self.sample]
        box = None
        if state.mad:
            x = layers.index(state.mad.layer)
            box = (x - 0.5, state.mad.low, x + 0.5, state.mad.high)
        self._mad.show(
            self._own,
            self._everyone,
            sample[0] if len(sample) else np.full(len(layers), np.nan),
            title=f"MAD by layer · {self._n if source.loaded(self.condition) else 'loading'}",
            shown=state.layer,
            box=box,
            colour=self._colours[self._target],
        )

    @param.depends(*of_state("condition"))
    def _read_mad(self) -> None:
        source, c = self.source, self.condition
        if source.store.reduced and not source.alone and not source.loaded(c):
            work = partial(source.scores, c)
            self.read(c, work, f"statistics of {source.names[c]}", self._mad_arrived, self._say_mad)

    def _show_spread(self) -> None:
        """MAD of the subset and of all samples by layer, once it is read."""
        source, c = self.source, self.condition
        self._mads = np.empty((0, len(source.channels)))
        if source.loaded(c):
            self._mads = np.stack([source.layer_mad(layer, c)[self._numbers] for layer in source.channels], axis=1)
        self._own = spread(self._mads[self._chosen[: len(self._mads)]])
        self._everyone = spread(self._mads).median

    def _mad_arrived(self) -> None:
        if self.source.loaded(self.condition):
            self._show_spread()
            self._show_mad()

    def _say_mad(self, _: str) -> None:
        how = "loading" if self.condition in self._reading else "could not be read"
        self._mad.figure.plot.title.text = f"MAD by layer · {how}"

    def _show_cases(self, counts: pd.DataFrame) -> None:
        self._counts = counts.head(MOST_CASES)
        name = "label → prediction" if self.source.classified else "kinds of failure"
        kinds = f" · {MOST_CASES} of {len(counts)} kinds" if len(counts) > MOST_CASES else ""
        title = f"{name} · {self._n}{kinds}" if len(counts) else "no kind of failure is known of this condition"
        self._cases.show(self._counts, title, self.state.case, self._colours[self._target])

    def _show_rows(self, rows: NDArray[np.intp]) -> None:
        """Show samples in the table: Dice of the perturbed class, of a classifier the probability of the label."""
        source, c = self.source, self.condition
        if source.classified:
            own, title = source.label_probability[rows], "P(label)"
        elif source.alone:
            # Of the classes that are there; NaN where none is.
            shown = np.ma.masked_invalid(source.present_dice[rows])
            own, title = shown.mean(axis=2).filled(np.nan), "mean Dice"
        else:
            own, title = source.present_dice[rows, :, source.foreground.index(self._target)], f"Dice {self._target}"
        samples = source.samples.iloc[rows].set_axis(rows)
        self._table.show(numbers.samples_table(samples, source.cases[rows, c], own[:, 0], own[:, c]), title)

    def _mark_dice(self, figure: DiceFigure) -> None:
        source, dice, sample, c = self.source, self.state.dice, self.sample, self.condition
        ring = box = None
        if source.applicable[sample, c]:
            ring = source.present_dice[sample, [0, c]].T
        if dice:
            box = source.foreground.index(dice.class_name), (dice.left, dice.low, dice.right, dice.high)
        figure.mark(ring, box)

    # Taps and boxes

    def _tap_dice(self, x: float, y: float) -> None:
        assert self._dice is not None
        k = self._dice.class_at(x)
        dice = self.source.present_dice[self._numbers, :, k]
        at = numbers.nearest(dice[:, 0], dice[:, self.condition], x - k * PITCH, y)
        if at is not None:
            self.session.go(sample=int(self._numbers[at]))

    def _box_dice(self, x0: float, y0: float, x1: float, y1: float) -> None:
        assert self._dice is not None
        k = self._dice.class_at((x0 + x1) / 2)
        ends = shown_dice(np.clip([x0 - k * PITCH, x1 - k * PITCH, y0, y1], 0, 1)).tolist()
        self.session.go(dice=DiceBox(self.source.foreground[k], *ends))

    def _tap_case(self, _: float, y: float) -> None:
        row = round(y)
        if 0 <= row < len(self._counts):
            name = str(self._counts["case"][row])
            self.session.go(case="" if name == self.state.case else name)

    def _layer_at(self, x: float) -> str:
        layers = list(self.source.channels)
        return layers[int(np.clip(round(x), 0, len(layers) - 1))]

    def _tap_mad(self, x: float, _: float) -> None:
        self.session.go(layer=self._layer_at(x))

    def _box_mad(self, x0: float, y0: float, x1: float, y1: float) -> None:
        ends = shown_mad(np.clip([y0, y1], 0, None)).tolist()
        self.session.go(mad=MadRange(self._layer_at((x0 + x1) / 2), *ends))


def _table_columns(source: Source) -> list[str]:
    """Columns of the table of samples."""
    columns = ["image_name", "label"] if source.classified else source.named_by
    if source.classified and (source.image_names != source.samples["patient"].to_numpy()).any():
        columns = ["patient", *columns]
    known = ["case"] if source.case_names else []
    return [*columns, *known, "original", *([] if source.alone else ["perturbed", "change"])]


def _numbered(values: Any, names: list[str]) -> Any:
    """The number of each name, -1 for an unknown one."""
    at = pd.Index(names).get_indexer(pd.Index(np.ravel(values)))
    return at.reshape(np.shape(values)).astype(np.int32)
