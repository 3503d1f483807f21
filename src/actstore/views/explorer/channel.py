"""One channel over all samples: where it responds most, in whom, and to how much."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import panel as pn
from markupsafe import Markup

from actstore.errors import StoreError
from actstore.views.explorer import mosaic, strips
from actstore.views.explorer.doses import DoseCurve, Sweep, persisted_mad, sweep_of
from actstore.views.explorer.look import Look
from actstore.views.explorer.mosaic import Mosaic, Tile
from actstore.views.explorer.parts import Redraw, Session, again, drawn, pane
from actstore.views.explorer.plots import tapped
from actstore.views.explorer.source import Source
from actstore.views.explorer.statistics import TOP, Floats
from actstore.views.explorer.strips import Strips
from actstore.views.theme import class_colours

FIGURES = ("mosaic", "strips", "curve")
READING = "reading statistics …"
Progress = Callable[[int, int], None]
NO_SWEEP = Sweep("", (0, 0), ("", ""), (0.0, 1.0))


class ChannelCard:
    """The shown channel under the shown condition: its strongest maps, its MAD by patient, its dose–response."""

    def __init__(self, session: Session) -> None:
        self._session = session
        source = session.source
        self._colours = class_colours(source.store.class_names)
        self._frame = mosaic.frame_of(source.space)
        #: What is shown.
        self.mosaic = Mosaic([])
        self.strips = Strips(strips.frame_of(source.samples, np.array([], dtype=np.intp), np.array([])))
        self.curve = DoseCurve(NO_SWEEP, np.empty((0, 2)))
        self._sample, self._among = -1, 0
        #: Standard deviation of each channel of the network, once read.
        self._scale: Floats | None = None
        #: MAD (sample, strength, channel) of the layer and conditions that were read last.
        self._swept: tuple[Hashable, Floats] = (None, np.empty((0, 0, 0)))
        #: What is being read.
        self._asked: set[Hashable] = set()
        #: One a figure: those that stay as they are need not be drawn again.
        self._redraw = {name: Redraw() for name in FIGURES}
        self._shown: dict[str, Hashable] = {}
        self.facts = _html(session.look)
        self._taps = (
            tapped(lambda x, y: self._go(sample=self.mosaic.at(x, y))),
            tapped(lambda x, y: self._go(sample=self.strips.at(x, y))),
            tapped(lambda x, y: self._go(condition=self.curve.at(x))),
        )
        draw = (self._draw_mosaic, self._draw_strips, self._draw_curve)
        self.notes: dict[str, pn.pane.HTML] = {}
        self.figures: dict[str, pn.pane.HoloViews] = {}
        columns = []
        for name, draws in zip(FIGURES, draw, strict=True):
            figure = drawn(draws, self._redraw[name])
            self.notes[name] = _html(session.look, visible=False)
            if name == "mosaic":
                # Maps keep their shape: the plot has its own size, the column room for it.
                self.figures[name] = pane(figure, session.look, visible=False)
                room: dict[str, Any] = {"width": self._frame[0] + 40, "min_width": self._frame[0] + 40}
            else:
                room = {"sizing_mode": "stretch_width"}
                self.figures[name] = pane(figure, session.look, visible=False, **room)
            columns.append(pn.Column(self.notes[name], self.figures[name], **room))
        self._view = pn.Column(self.facts, pn.Row(*columns, sizing_mode="stretch_width"), sizing_mode="stretch_width")

    @property
    def view(self) -> pn.viewable.Viewable:
        """Numbers, and below them three figures."""
        return self._view

    def update(self) -> None:
        """Show the session's layer and channel under its condition, over its subset."""
        source, state = self._session.source, self._session.state
        c, self._sample = source.condition(state.condition), source.sample(state)
        ready = source.loaded(c) and self._scale is not None
        self.facts.object = self._told(c, ready)
        if not ready:
            self._wait(c)
            return
        mad = source.scores(c).mad[:, self._index]
        chosen = np.flatnonzero(self._session.subset & np.isfinite(mad))
        of = (state.layer, state.channel, c, chosen.tobytes())
        plane = state.slice if source.is_3d else None
        if self._changed("mosaic", (of, self._sample, plane)):
            self._show_mosaic(chosen, mad)
        if self._changed("strips", (of, self._sample)):
            self.strips = Strips(strips.frame_of(source.samples, chosen, mad[chosen]))
            self._show("strips", None if len(chosen) else "")
        if self._changed("curve", of):
            self._show_curve(chosen)

    @property
    def _index(self) -> int:
        state = self._session.state
        return int(self._session.source.where[state.layer].start) + state.channel

    # Reading

    def _wait(self, condition: int) -> None:
        """Show no figure until the statistics of ``condition`` are read, if they are persisted."""
        source = self._session.source
        for name in self.figures:
            self._show(name, READING if name == "mosaic" else "")
        try:
            source.need_statistics()
        except StoreError as error:
            self._show("mosaic", str(error))
            return
        self._soon(("scores", condition), lambda progress: _read(source, condition, progress), self._keep, READING)

    def _soon(self, key: Hashable, work: Callable[[Progress], Any], done: Callable[[Any], None], what: str) -> None:
        """Do ``work`` once for ``key``, then show everything again."""
        if key in self._asked:
            return
        self._asked.add(key)

        def finish(found: Any) -> None:
            self._asked.discard(key)
            done(found)
            self.update()

        self._session.soon(work, finish, what)

    def _keep(self, scale: Floats) -> None:
        self._scale = scale

    # What is shown

    def _changed(self, name: str, key: Hashable) -> bool:
        """Whether a figure shows something else than ``key``, which it will from now on."""
        changed = self._shown.get(name) != key
        self._shown[name] = key
        return changed

    def _show(self, name: str, note: str | None) -> None:
        """A figure, drawn again, or where there is none, a ``note`` in its place."""
        if note is None:
            again(self._redraw[name])
        else:
            self._shown.pop(name, None)
        self.figures[name].visible = note is None
        self.notes[name].visible = bool(note)
        self.notes[name].object = str(Markup("<p>{}</p>").format(note or ""))

    def _show_mosaic(self, chosen: Any, mad: Floats) -> None:
        self._among = len(chosen)
        strongest = chosen[np.argsort(-mad[chosen], kind="stable")][: mosaic.MOST]
        try:
            self.mosaic = Mosaic([self._tile(int(sample), float(mad[sample])) for sample in strongest])
            note = None if len(strongest) else "no sample of the subset has this perturbation"
        except StoreError as error:
            self.mosaic, note = Mosaic([]), str(error)
        self._show("mosaic", note)

    def _tile(self, sample: int, mad: float) -> Tile:
        source, state = self._session.source, self._session.state
        c, target = source.condition(state.condition), source.target(state.condition)
        original, perturbed = (
            source.map(state.layer, sample, i, state.channel, state.slice).astype(np.float32) for i in (0, c)
        )
        cover = source.cover(state.layer, sample, target, state.slice) if target else None
        plane = state.slice if source.is_3d else None
        return mosaic.tile_of(source.samples.iloc[sample], sample, mad, perturbed - original, cover, plane)

    def _show_curve(self, chosen: Any) -> None:
        source, state = self._session.source, self._session.state
        try:
            sweep = sweep_of(source.conditions, state.condition)
        except StoreError as error:
            self._show("curve", str(error))
            return
        key, layer = (state.layer, sweep.conditions), state.layer
        if self._swept[0] != key:
            self._show("curve", READING)

            def keep(found: Floats) -> None:
                self._swept = (key, found)

            self._soon(key, lambda _: _read_sweep(source, layer, sweep), keep, f"reading statistics of {layer}")
            if self._swept[0] != key:
                return
        self.curve = DoseCurve(sweep, self._swept[1][chosen, :, state.channel])
        self._show("curve", None if self.curve.samples else "")

    def _told(self, c: int, ready: bool) -> str:
        """The line of numbers."""
        source, state = self._session.source, self._session.state
        size = " × ".join(map(str, source.sizes[state.layer]))
        own = (
            f"{state.layer} · {source.modules[state.layer]} · channel {state.channel} of {source.channels[state.layer]}"
        )
        parts = [("", f"{own} · {size}")]
        if source.store.reduced:
            of_layer = source.sample_mad(self._sample, c)[source.where[state.layer]]
            mad = float(of_layer[state.channel])
            if np.isfinite(mad):
                # As the top channels are ranked: of equal ones the first.
                rank = int(np.flatnonzero(np.argsort(-of_layer, kind="stable") == state.channel)[0]) + 1
                parts.append(("MAD of this sample", f"{mad:.4g}, rank {rank} of {len(of_layer)} in {state.layer}"))
                if ready and self._scale is not None:
                    parts.append(("in standard deviations", _ratio(mad, float(self._scale[self._index]))))
            else:
                parts.append(("", f"{state.condition} does not apply to this sample"))
        if ready:
            member = source.scores(c).member[self._session.subset, self._index]
            share = f" ({member.mean() * 100:.0f} %)" if len(member) else ""
            parts.append((f"among the top {TOP}", f"in {int(member.sum())} of {len(member)} samples{share}"))
        told = [Markup("<span>{} <b>{}</b></span>").format(name, value) for name, value in parts]
        return str(Markup("<div>{}</div>").format(Markup("").join(told)))

    # Drawing and tapping

    def _colour(self) -> str:
        target = self._session.source.target(self._session.state.condition)
        return self._colours.get(target, self._session.look.accent)

    def _draw_mosaic(self) -> Any:
        look = self._session.look
        return self.mosaic.drawn(look, self._sample, self._among, self._frame, hooks=[self._taps[0]])

    def _draw_strips(self) -> Any:
        return self.strips.drawn(self._session.look, self._colour(), self._sample, hooks=[self._taps[1]])

    def _draw_curve(self) -> Any:
        condition = self._session.state.condition
        return self.curve.drawn(self._session.look, self._colour(), condition, hooks=[self._taps[2]])

    def _go(self, **change: Any) -> None:
        if None not in change.values():
            self._session.go(**change)


def _read(source: Source, condition: int, progress: Progress) -> Floats:
    source.scores(condition, progress)
    return source.scale


def _read_sweep(source: Source, layer: str, sweep: Sweep) -> Floats:
    """MAD of a layer at each strength: float32 (sample, strength, channel)."""
    return persisted_mad(source, layer)[:, list(sweep.conditions)].astype(np.float32)


def _ratio(mad: float, scale: float) -> str:
    if scale > 0:
        return f"{mad / scale:.4g}"
    return "∞" if mad > 0 else "–"


def _html(look: Look, **options: Any) -> pn.pane.HTML:
    style = f"""
:host {{ color: {look.soft}; font-size: 13px; }}
b {{ color: {look.ink}; font-weight: 600; }}
span {{ display: inline-block; margin-right: 1.6em; overflow-wrap: anywhere; }}
p {{ margin: 4px 0; }}
"""
    return pn.pane.HTML("", sizing_mode="stretch_width", margin=(0, 5), stylesheets=[style], **options)
