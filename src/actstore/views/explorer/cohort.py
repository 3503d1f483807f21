"""The part of the explorer on all samples of a condition: where the subset is chosen that the page is about."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import holoviews as hv
import numpy as np
import panel as pn

from actstore.errors import StoreError
from actstore.views.explorer import cohort_figures as figures
from actstore.views.explorer import cohort_numbers as numbers
from actstore.views.explorer.cohort_figures import PITCH, Box
from actstore.views.explorer.cohort_table import ROWS, empty_table
from actstore.views.explorer.parts import Redraw, Session, again, drawn, pane
from actstore.views.explorer.state import DiceBox, MadRange
from actstore.views.explorer.statistics import Bools, Floats
from actstore.views.theme import class_colours

if TYPE_CHECKING:
    import pandas as pd


class _Figure:
    """A figure that is drawn again only when what it shows has changed, and that tells where somebody points.

    ``seen`` says what ``draw`` would draw; ``tap`` is told a place inside the axes, ``box`` the bounds of a box.
    """

    def __init__(
        self,
        draw: Callable[[], hv.Overlay],
        seen: Callable[[], Any],
        *,
        tap: Callable[[float, float], None],
        box: Callable[[Box], None] | None = None,
    ) -> None:
        self._redraw: hv.streams.Stream = Redraw()
        self._seen, self._last = seen, seen()
        self.shown = drawn(draw, self._redraw)
        # HoloViews attaches what listens to a dynamic map of overlays only if that has a linked stream of its own.
        self.shown.streams.append(hv.streams.LinkedStream())

        def tapped(x: float | None, y: float | None) -> None:
            # Both are None beside the axes.
            if x is not None and y is not None:
                tap(x, y)

        self.taps = hv.streams.SingleTap(source=self.shown)
        self.taps.add_subscriber(tapped)
        if box is not None:
            self.boxes = hv.streams.BoundsXY(source=self.shown)
            self.boxes.add_subscriber(lambda bounds: box(bounds))

    def update(self) -> None:
        """Draw again if there is anything else to see."""
        seen = self._seen()
        if seen != self._last:
            self._last = seen
            again(self._redraw)


class Cohort:
    """Dice before and after, kinds of failure, MAD by layer and the table of the samples that they are about."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._source = session.source
        self._colours = class_colours(self._source.store.class_names)
        self._about: tuple[str, bytes] | None = None
        self._asked: set[int] = set()
        self._mads: tuple[int, Floats] | None = None
        self._squares = figures.squares(self._colours, session.look)
        self._figures: list[_Figure] = []
        self._words = pn.pane.HTML("", margin=(0, 10), align="center", styles={"color": session.look.ink})
        self._clear = pn.widgets.Button(label="clear", height=28, margin=(0, 4), align="center")
        self._clear.on_click(lambda _: session.go(case="", dice=None, mad=None))
        self._table = empty_table(session.look)
        self._table.on_click(lambda event: session.go(sample=int(self._table.value.index[event.row])))
        self._read()
        self._view = self._lay_out()

    @property
    def view(self) -> pn.viewable.Viewable:
        """What stands on the page."""
        return self._view

    def update(self) -> None:
        """Show what the session's state and subset are now."""
        state = self._session.state
        self._read()
        self._ask()
        for figure in self._figures:
            figure.update()
        self._mark()
        self._words.object = escape(numbers.in_words(self._source, state, self._session.subset))
        self._clear.disabled = not state.narrowed

    def _lay_out(self) -> pn.FlexBox:
        look, source = self._session.look, self._source
        dice = self._shown(self._dice_figure, self._dice_seen, tap=self._tap_dice, box=self._box_dice)
        cases = self._shown(self._case_figure, self._case_seen, tap=self._tap_case)
        mad: Any
        try:
            source.need_statistics()
            mad = self._shown(self._mad_figure, self._mad_seen, tap=self._tap_mad, box=self._box_mad)
        except StoreError as error:
            mad = pn.pane.HTML(escape(str(error)), styles={"color": look.soft})
        wide = {"sizing_mode": "stretch_width", "margin": 0}
        line = pn.Row(self._words, self._clear, styles={"flex": "1 1 100%"}, margin=0)
        return pn.FlexBox(
            line,
            pn.Row(dice, margin=0, styles={"overflow-x": "auto", "max-width": "100%"}),
            pn.Column(mad, styles={"flex": "1 1 300px", "min-width": "300px"}, **wide),
            pn.Column(cases, styles={"flex": "1 1 190px", "min-width": "190px"}, **wide),
            pn.Column(self._table, styles={"flex": "3 1 480px", "min-width": "480px"}, **wide),
            sizing_mode="stretch_width",
            flex_wrap="wrap",
            align_items="flex-start",
        )

    def _shown(self, *args: Any, **heard: Any) -> pn.pane.HoloViews:
        figure = _Figure(*args, **heard)
        self._figures.append(figure)
        return pane(figure.shown, self._session.look, margin=(0, 4))

    # What is read, again only when the condition or the subset has changed

    def _read(self) -> None:
        source, state, subset = self._source, self._session.state, self._session.subset
        self._sample = source.sample(state)
        about = (state.condition, subset.tobytes())
        if about == self._about:
            return
        self._about = about
        c = self._c = source.condition(state.condition)
        self._target = source.target(state.condition) or source.foreground[0]
        #: Numbers of the condition's samples, and which of them are in the subset.
        self._numbers = np.flatnonzero(source.applicable[:, c])
        self._chosen: Bools = subset[self._numbers]
        self._dots = self._dice_dots()
        self._counts = numbers.case_counts(source.cases[self._numbers, c], self._chosen)
        self._fill_table(np.flatnonzero(subset))

    def _fill_table(self, at: Any) -> None:
        source, k = self._source, self._source.foreground.index(self._target)
        case, dice = source.cases[at, self._c], source.dice[at, :, k]
        rows = source.samples.iloc[at].set_axis(at)
        titles = {"original": f"Dice {self._target}", "perturbed": "perturbed"}
        if self._table.titles != titles:
            self._table.titles = titles
        # A page beyond the end of the new rows would show nothing.
        self._table.selection, self._table.page = [], 1
        self._table.value = numbers.samples_table(rows, case, dice[:, 0], dice[:, self._c])

    def _mark(self) -> None:
        rows: pd.Index[Any] = self._table.value.index
        at = np.flatnonzero(rows == self._sample).tolist()
        if at and self._table.selection != at:
            self._table.page = int(np.flatnonzero(self._table.current_view.index == self._sample)[0]) // ROWS + 1
        self._table.selection = at

    def _ask(self) -> None:
        source, c = self._source, self._c
        if not source.store.reduced or source.loaded(c) or c in self._asked:
            return
        self._asked.add(c)
        name = self._session.state.condition
        self._session.soon(
            lambda progress: source.scores(c, progress), lambda _: self.update(), f"statistics of {name}"
        )

    def _mad(self) -> Floats | None:
        """MAD by layer: float (sample of the condition, layer), or None while it is not loaded."""
        c, source = self._c, self._source
        if not source.loaded(c):
            return None
        if self._mads is None or self._mads[0] != c:
            mads = [source.layer_mad(layer, c)[self._numbers] for layer in source.channels]
            self._mads = c, np.stack(mads, axis=1)
        return self._mads[1]

    # Figures

    def _dice_dots(self) -> list[hv.Points]:
        source, at = self._source, self._numbers
        told = {name: source.samples[name].to_numpy()[at] for name in ("patient", "frame", "slice")}
        told["case"] = source.cases[at, self._c]
        colours = list(self._colours.values())
        original, perturbed = source.dice[at, 0], source.dice[at, self._c]
        return figures.dice_dots(told, original, perturbed, self._chosen, colours, self._session.look)

    def _dice_seen(self) -> Any:
        return self._about, self._sample, self._session.state.dice

    def _dice_figure(self) -> hv.Overlay:
        source, dice = self._source, self._session.state.dice
        ring = box = None
        if source.applicable[self._sample, self._c]:
            ring = source.dice[self._sample, [0, self._c]].T
        if dice:
            box = source.foreground.index(dice.class_name), (dice.left, dice.low, dice.right, dice.high)
        return figures.dice_figure(
            self._squares,
            self._dots,
            len(source.foreground),
            title=f"Dice of each class · {self._n()}",
            ring=ring,
            box=box,
            look=self._session.look,
        )

    def _case_seen(self) -> Any:
        return self._about, self._session.state.case

    def _case_figure(self) -> hv.Overlay:
        colour = self._colours[self._target]
        title = f"cases · {self._n()}" if len(self._counts) else "no case is known of this condition"
        return figures.case_figure(self._counts, title, self._session.state.case, colour, self._session.look)

    def _mad_seen(self) -> Any:
        state = self._session.state
        return self._about, self._sample, state.mad, state.layer, self._source.loaded(self._c)

    def _mad_figure(self) -> hv.Overlay:
        source, state = self._source, self._session.state
        layers = list(source.channels)
        found = self._mad()
        mad = np.empty((0, len(layers))) if found is None else found
        chosen = self._chosen if found is not None else np.zeros(0, bool)
        sample = mad[self._numbers[: len(mad)] == self._sample]
        box = None
        if state.mad:
            at = layers.index(state.mad.layer)
            box = (at - 0.5, state.mad.low, at + 0.5, state.mad.high)
        return figures.mad_figure(
            layers,
            numbers.spread(mad[chosen]),
            numbers.spread(mad).median,
            sample[0] if len(sample) else np.full(len(layers), np.nan),
            title=f"MAD by layer · {self._n() if found is not None else 'loading'}",
            shown=state.layer,
            box=box,
            colour=self._colours[self._target],
            look=self._session.look,
        )

    def _n(self) -> str:
        n, of = int(self._chosen.sum()), len(self._chosen)
        return f"n = {n}" if n == of else f"n = {n} of {of}"

    # What people do

    def _class_at(self, x: float) -> int:
        return figures.class_at(x, len(self._source.foreground))

    def _tap_dice(self, x: float, y: float) -> None:
        k = self._class_at(x)
        dice = self._source.dice[self._numbers, :, k]
        at = numbers.nearest(dice[:, 0], dice[:, self._c], x - k * PITCH, y)
        if at is not None:
            self._session.go(sample=int(self._numbers[at]))

    def _box_dice(self, bounds: Box) -> None:
        k = self._class_at((bounds[0] + bounds[2]) / 2)
        left, right = numbers.outwards(bounds[0] - k * PITCH, bounds[2] - k * PITCH, most=1)
        low, high = numbers.outwards(bounds[1], bounds[3], most=1)
        self._session.go(dice=DiceBox(self._source.foreground[k], left, right, low, high))

    def _tap_case(self, _: float, y: float) -> None:
        row = round(y)
        if 0 <= row < len(self._counts):
            name = str(self._counts["case"][row])
            self._session.go(case="" if name == self._session.state.case else name)

    def _layer_at(self, x: float) -> str:
        layers = list(self._source.channels)
        return layers[int(np.clip(round(x), 0, len(layers) - 1))]

    def _tap_mad(self, x: float, _: float) -> None:
        self._session.go(layer=self._layer_at(x))

    def _box_mad(self, bounds: Box) -> None:
        left, bottom, right, top = bounds
        low, high = numbers.outwards(bottom, top)
        self._session.go(mad=MadRange(self._layer_at((left + right) / 2), low, high))
