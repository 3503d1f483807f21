"""One channel over all samples: where it responds most, in whom, and to how much."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import panel as pn
from markupsafe import Markup
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.units import counted
from actstore.views.explorer import mosaic
from actstore.views.explorer.doses import CurvePlot, DoseCurve, Sweep, still, sweep_of
from actstore.views.explorer.mosaic import Maps, Mosaic, Tile
from actstore.views.explorer.parts import Session, Work, html, style
from actstore.views.explorer.plots import Plot
from actstore.views.explorer.source import Source
from actstore.views.explorer.statistics import TOP, Floats, Progress
from actstore.views.explorer.strips import StripPlot, Strips
from actstore.views.theme import class_colours

READING = "reading statistics …"
_FACTS = """
span { display: inline-block; margin: 0 1.6em 4px 0; overflow-wrap: anywhere; color: var(--soft); }
b { color: var(--ink); font-weight: 600; }
"""


class ChannelCard:
    """The shown channel under the shown condition: its strongest maps, its MAD by patient, its dose–response."""

    def __init__(self, session: Session) -> None:
        self._session = session
        source, look = session.source, session.look
        self._colours = class_colours(source.store.class_names)
        #: MAD (sample, strength, channel) of the layer and conditions that were read last.
        self._swept: tuple[Hashable, Floats] = (None, np.empty((0, 0, 0)))
        #: What is being read.
        self._asked: set[Hashable] = set()
        #: Patient, frame and slice of each sample; looking each up in a data frame takes longer than to draw it.
        self._about: NDArray[Any] = source.samples[["patient", "frame", "slice"]].to_numpy(object)
        self._sweeps: dict[str, Sweep] = {}
        names = [f"{patient} · f{frame} · s{slice_}" for patient, frame, slice_ in self._about]
        self.facts = html(stylesheets=[style(), _FACTS])
        self.maps = Maps(look, source.space, lambda sample: session.go(sample=sample))
        self.strips = StripPlot(look, np.array(names, object), lambda sample: session.go(sample=sample))
        self.curve = CurvePlot(look, lambda condition: session.go(condition=condition))
        # Maps keep their shape, and their column its width.
        width = max(mosaic.frame_of(source.space)[0] + 30, 360)
        self.maps.view.param.update(sizing_mode=None, width=width, min_width=width)
        figures = pn.Row(*(plot.view for plot in self._plots), sizing_mode="stretch_width", margin=0)
        self._view = pn.Column(self.facts, figures, sizing_mode="stretch_width", margin=0)

    @property
    def view(self) -> pn.viewable.Viewable:
        """Numbers, and below them three figures."""
        return self._view

    @property
    def _plots(self) -> tuple[Maps, StripPlot, CurvePlot]:
        return self.maps, self.strips, self.curve

    def update(self) -> None:
        """Show the session's layer and channel under its condition, over its subset."""
        source, state = self._session.source, self._session.state
        c, sample = source.condition(state.condition), source.sample(state)
        ready = source.loaded(c) and source.has("scale")
        self.facts.object = self._told(c, sample, ready)
        if not ready:
            self._wait(c)
            return
        mad = source.scores(c).mad[:, self._index]
        chosen = np.flatnonzero(self._session.subset & ~np.isnan(mad))
        about: Hashable = (state.layer, state.channel, c, chosen.tobytes())
        shows = (self._show_maps, self._show_strips, self._show_curve)
        keys = ((about, state.slice if source.is_3d else None), about, about)
        for plot, key, show in zip(self._plots, keys, shows, strict=True):
            if plot.about != key:
                plot.about = key
                show(chosen, mad)
        self.maps.mark(sample)
        self.strips.mark(sample)

    @property
    def _index(self) -> int:
        state = self._session.state
        return int(self._session.source.where[state.layer].start) + state.channel

    # Reading

    def _wait(self, condition: int) -> None:
        """Show no figure until the statistics of ``condition`` are read, if they are persisted."""
        source = self._session.source
        self.strips.hide()
        self.curve.hide()
        try:
            source.need_statistics()
        except StoreError as error:
            self.maps.hide(str(error))
            return
        self.maps.hide(READING)
        self._soon(("scores", condition), lambda progress: _read(source, condition, progress), READING, self.maps)

    def _soon(
        self,
        key: Hashable,
        work: Work,
        what: str,
        plot: Plot,
        keep: Callable[[Any], object] = lambda found: None,
    ) -> None:
        """Do ``work`` once for ``key``, ``keep`` what comes of it, show everything again; ``plot`` says what failed."""
        if key in self._asked:
            return
        self._asked.add(key)

        def done(found: object) -> None:
            self._asked.discard(key)
            keep(found)
            self.update()

        def failed(message: str) -> None:
            self._asked.discard(key)
            plot.hide(message)

        self._session.soon(work, done, what, failed)

    # What is shown

    def _show_maps(self, chosen: NDArray[np.intp], mad: Floats) -> None:
        changed = chosen[mad[chosen] > 0]
        strongest = changed[np.argsort(-mad[changed], kind="stable")][: mosaic.MOST]
        source = self._session.source
        target = source.target(self._session.state.condition)
        try:
            tiles = [self._tile(int(sample), float(mad[sample]), target) for sample in strongest]
        except StoreError as error:
            self.maps.hide(str(error))
            return
        if tiles:
            self.maps.show(Mosaic(tiles), len(chosen))
        elif len(chosen):
            self.maps.hide(f"this channel changes in none of {len(chosen)} samples")
        else:
            self.maps.hide("no sample of the subset has this perturbation")

    def _tile(self, sample: int, mad: float, target: str) -> Tile:
        source, state = self._session.source, self._session.state
        original, perturbed = (
            source.map(state.layer, sample, i, state.channel, state.slice).astype(np.float32)
            for i in (0, source.condition(state.condition))
        )
        cover = source.cover(state.layer, sample, target, state.slice) if target else None
        patient, frame, slice_ = self._about[sample]
        shown = state.slice if source.is_3d else slice_
        return Tile(sample, patient, frame, shown, mad, perturbed - original, cover)

    def _show_strips(self, chosen: NDArray[np.intp], mad: Floats) -> None:
        drawn = chosen[np.isfinite(mad[chosen])]
        if len(drawn):
            self.strips.show(Strips(drawn, self._about[drawn, 0], mad[drawn]), self._colour)
        else:
            self.strips.hide("" if len(chosen) == 0 else "no finite MAD")

    def _show_curve(self, chosen: NDArray[np.intp], _: Floats) -> None:
        source, state = self._session.source, self._session.state
        layer = state.layer
        try:
            if state.condition not in self._sweeps:
                self._sweeps[state.condition] = sweep_of(source.conditions, state.condition)
        except StoreError as error:
            self.curve.hide(str(error))
            return
        sweep = self._sweeps[state.condition]
        key = (layer, sweep.conditions)
        if self._swept[0] != key:

            def keep(found: Floats) -> None:
                self._swept = (key, found)

            self.curve.hide(READING)
            what = f"reading statistics of {layer}"
            self._soon(key, lambda _: _read_sweep(source, layer, sweep), what, self.curve, keep)
        elif len(chosen):
            curve = DoseCurve(sweep, self._swept[1][chosen, :, state.channel])
            self.curve.show(curve, state.condition, self._colour)
        else:
            self.curve.hide()

    @property
    def _colour(self) -> str:
        target = self._session.source.target(self._session.state.condition)
        return self._colours.get(target, self._session.look.accent)

    def _told(self, c: int, sample: int, ready: bool) -> str:
        """The line of numbers."""
        source, state = self._session.source, self._session.state
        size = " × ".join(map(str, source.sizes[state.layer]))
        own = (
            f"{state.layer} · {source.modules[state.layer]} · channel {state.channel} of {source.channels[state.layer]}"
        )
        parts = [("", f"{own} · {size}")]
        if source.store.reduced:
            of_layer = source.sample_mad(sample, c)[source.where[state.layer]]
            mad = float(of_layer[state.channel])
            if source.applicable[sample, c]:
                place = ", no change, no rank" if mad == 0 else ""
                if mad > 0:
                    # As the top channels are ranked: of equal ones the first.
                    rank = 1 + int((of_layer > mad).sum() + (of_layer[: state.channel] == mad).sum())
                    place = f", rank {rank} of {len(of_layer)} in {state.layer}"
                parts.append(("MAD of this sample", f"{mad:.4g}{place}"))
                if ready:
                    parts.append(("in standard deviations", _ratio(mad, float(source.scale[self._index]))))
            else:
                parts.append(("", f"{state.condition} does not apply to this sample"))
        if ready:
            member = source.scores(c).member[self._session.subset, self._index]
            share = f" ({member.mean() * 100:.0f} %)" if len(member) else ""
            parts.append((f"among the top {TOP}", f"in {int(member.sum())} of {counted(len(member), 'sample')}{share}"))
        return str(Markup("").join(Markup("<span>{} <b>{}</b></span>").format(*part) for part in parts))


def _read(source: Source, condition: int, progress: Progress) -> None:
    source.scores(condition, progress)
    source.scale  # noqa: B018


def _read_sweep(source: Source, layer: str, sweep: Sweep) -> Floats:
    """MAD of a layer at each strength: float32 (sample, strength, channel)."""
    at = list(sweep.conditions)
    return still(source.persisted_mad(layer)[:, at].astype(np.float32), source.applicable[:, at])


def _ratio(mad: float, scale: float) -> str:
    if scale > 0:
        return f"{mad / scale:.4g}"
    return "∞" if mad > 0 else "–"
