"""The tab on one channel over all samples: where it responds most, in whom, and to which strength."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any

import numpy as np
import panel as pn
import param
from markupsafe import Markup
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.measures.names import TOP
from actstore.units import by, counted
from actstore.views.arrays import Floats
from actstore.views.explorer import thumbnails
from actstore.views.explorer.dose_plot import DosePlot
from actstore.views.explorer.effect_lines import EffectLines
from actstore.views.explorer.html import html_pane, style_sheet
from actstore.views.explorer.looks_for import LooksFor
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.patient_plot import PatientPlot
from actstore.views.explorer.pictures import control_region
from actstore.views.explorer.pin_buttons import PinButtons
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import SAMPLE, SUBSET
from actstore.views.explorer.statistics import LoadProgress
from actstore.views.explorer.thumbnails import Thumbnail, ThumbnailGrid, ThumbnailPlot
from actstore.views.figures.spread import PatientColumns
from actstore.views.figures.sweeps import DoseCurve, Sweep, sweep_of, with_unchanged
from actstore.views.figures.theme import colours_of

ALONE = (
    "this run perturbed nothing: there is no change to show. Add [[perturb]] to the spec and capture to another store"
)
_FACTS = """
span { display: inline-block; margin: 0 1.6em 4px 0; overflow-wrap: anywhere; color: var(--soft); }
b { color: var(--ink); font-weight: 600; }
"""


class ChannelTab(Part):
    """The shown channel under the shown condition: its strongest maps, its MAD by patient, its dose–response."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        source, theme = session.source, session.theme
        self._colours = colours_of(source.store)
        #: Layer and conditions whose MAD was read last, and that MAD: (sample, strength, channel).
        self._sweep_mad: tuple[Hashable, Floats] = (None, np.empty((0, 0, 0)))
        #: Patient, frame, slice and, of patches, patch of each sample: to look each up in a data frame takes longer
        #: than to draw it.
        self._about: NDArray[Any] = source.samples[source.named_by].to_numpy(object)
        self._sweeps: dict[str, Sweep | str] = {}
        #: MAD of the channel, (sample), and the samples that figures are about.
        self._mad: Floats = np.empty(0)
        self._chosen: NDArray[np.intp] = np.empty(0, np.intp)
        names = [
            " · ".join([patient, *(f"{name[0]}{n}" for name, n in zip(source.named_by[1:], numbers, strict=True))])
            for patient, *numbers in self._about
        ]
        self.facts = html_pane(stylesheets=[style_sheet(), _FACTS])
        self.effects, self.looks_for = EffectLines(session), LooksFor(session)
        # What effects read takes longer.
        pins = PinButtons(session)
        self.inside = [pins, self.looks_for, self.effects]
        self.strongest = ThumbnailPlot(
            theme, lambda sample: session.go(sample=sample), **thumbnails.screen_size(source.space)
        )
        self.patients = PatientPlot(theme, np.array(names, object), lambda sample: session.go(sample=sample))
        self.doses = DosePlot(theme, lambda condition: session.go(condition=condition))
        # Maps keep their shape, and their column its width.
        width = max(thumbnails.screen_size(source.space)["frame_width"] + 30, 360)
        self.strongest.view.param.update(sizing_mode=None, width=width, min_width=width)
        for plot in (self.patients, self.doses):
            plot.view.styles = {"flex": "1 1 250px", "min-width": "250px"}
        figures = pn.Row(
            *(plot.view for plot in self._plots), sizing_mode="stretch_width", margin=0, styles={"flex-wrap": "wrap"}
        )
        #: Numbers, below them three figures, and what the channel looks for.
        parts = [self.facts, pins, self.effects, figures, self.looks_for]
        self.view = pn.Column(*parts, sizing_mode="stretch_width", margin=0)

    @property
    def _plots(self) -> tuple[ThumbnailPlot, PatientPlot, DosePlot]:
        return self.strongest, self.patients, self.doses

    @property
    def _ready(self) -> bool:
        """Whether there is MAD to show, and it is read."""
        source = self.source
        return source.loaded(self.condition) and source.has("scale") and not source.alone

    @property
    def _index(self) -> int:
        return int(self.source.where[self.state.layer].start) + self.state.channel

    @param.depends(*of_state(*SAMPLE, *SUBSET, "layer", "channel"))
    def _show_numbers(self) -> None:
        self.facts.object = self._numbers(self.condition, self.sample, self._ready)

    @param.depends(*of_state(*SUBSET, "layer", "channel"))
    def _show_figures(self) -> bool:
        source, c = self.source, self.condition
        if source.alone:
            self.strongest.hide(ALONE)
            return False
        if not self._ready:
            return self._wait(c)
        mad = source.scores(c).mad[:, self._index]
        self._mad, self._chosen = mad, np.flatnonzero(self.session.subset & ~np.isnan(mad))
        self._show_strongest()
        self._show_patients()
        self._show_doses()
        self._mark()
        return False

    @param.depends(*of_state("slice"))
    def _show_plane(self) -> None:
        if self.source.is_3d and self._ready:
            self._show_strongest()

    @param.depends(*of_state(*SAMPLE))
    def _mark(self) -> None:
        if self._ready:
            self.strongest.mark(self.sample)
            self.patients.mark(self.sample)

    def _wait(self, condition: int) -> bool:
        """Show no figure until the statistics of ``condition`` are read, if they are persisted."""
        source = self.source
        try:
            source.need_statistics()
        except StoreError as error:
            self._hide(str(error))
            return True
        work = partial(_read, source, condition)
        self.read(("scores", condition), work, "reading statistics", self._arrived, self._hide)
        return False

    def _hide(self, message: str) -> None:
        self.patients.hide()
        self.doses.hide()
        self.strongest.hide(message)

    def _arrived(self) -> None:
        self._show_numbers()
        self._show_figures()

    # What is shown

    def _show_strongest(self) -> None:
        chosen, mad = self._chosen, self._mad
        changed = chosen[mad[chosen] > 0]
        strongest = changed[np.argsort(-mad[changed], kind="stable")][: thumbnails.MOST]
        source, layer = self.source, self.state.layer
        if not source.has_maps(layer):
            self.strongest.hide(f"{layer} has one value a sample and channel, and no maps")
            return
        target = "" if source.classified else source.target(self.state.condition)
        try:
            maps = [self._thumbnail(int(sample), float(mad[sample]), target) for sample in strongest]
        except StoreError as error:
            self.strongest.hide(str(error))
            return
        if maps:
            self.strongest.show_strongest(ThumbnailGrid(maps), counted(len(chosen), source.noun))
        elif len(chosen):
            self.strongest.hide(f"this channel changes in none of {counted(len(chosen), source.noun)}")
        elif there := int(self.session.subset.sum()):
            self.strongest.hide(f"the MAD of this channel is NaN in all of {counted(there, source.noun)}")
        else:
            self.strongest.hide("no sample of the subset has this perturbation")

    def _thumbnail(self, sample: int, mad: float, target: str) -> Thumbnail:
        source, state = self.source, self.state
        original, perturbed = (
            source.map(state.layer, sample, i, state.channel, state.slice).astype(np.float32)
            for i in (0, source.condition(state.condition))
        )
        region = control_region(source, state, sample)
        cover = source.cover(state.layer, sample, target, state.slice, region) if target else None
        return Thumbnail(sample, *source.in_short(sample, state.slice), mad, perturbed - original, cover)

    def _show_patients(self) -> None:
        chosen, mad = self._chosen, self._mad
        drawn = chosen[np.isfinite(mad[chosen])]
        if len(drawn):
            self.patients.show(PatientColumns(drawn, self._about[drawn, 0], mad[drawn]), self._colour, self.source.noun)
        else:
            self.patients.hide("" if len(chosen) == 0 else "no finite MAD")

    def _show_doses(self) -> None:
        source, state, layer = self.source, self.state, self.state.layer
        sweep = self._sweep(state.condition)
        if isinstance(sweep, str):
            self.doses.hide(sweep)
            return
        key = (layer, sweep.conditions)
        if self._sweep_mad[0] != key:

            def keep(found: Floats) -> None:
                self._sweep_mad = (key, found)

            work = lambda _: _read_sweep(source, layer, sweep)  # noqa: E731
            self.read(key, work, f"reading statistics of {layer}", self._show_doses, self.doses.hide, keep)
        elif len(self._chosen):
            curve = DoseCurve(sweep, self._sweep_mad[1][self._chosen, :, state.channel])
            self.doses.show(curve, state.condition, self._colour, source.noun)
        else:
            self.doses.hide()

    def _sweep(self, condition: str) -> Sweep | str:
        """The sweep of a condition, or why there is none."""
        if condition not in self._sweeps:
            try:
                self._sweeps[condition] = sweep_of(self.source.conditions, condition)
            except StoreError as error:
                self._sweeps[condition] = str(error)
        return self._sweeps[condition]

    @property
    def _colour(self) -> str:
        target = self.source.target(self.state.condition)
        return self._colours.get(target, self.session.theme.accent)

    def _numbers(self, c: int, sample: int, ready: bool) -> str:
        """The line of numbers."""
        source, state = self.source, self.state
        size = by(source.sizes[state.layer], " × ") or "one value"
        own = (
            f"{state.layer} · {source.modules[state.layer]} · channel {state.channel} of {source.channels[state.layer]}"
        )
        parts = [("", f"{own} · {size}")]
        if source.store.reduced and not source.alone:
            of_layer = source.sample_mad(sample, c)[source.where[state.layer]]
            mad = float(of_layer[state.channel])
            if source.applicable[sample, c]:
                place = ", no change, no rank" if mad == 0 else ""
                if mad > 0:
                    # Ranked as the top channels are: the first of equal ones.
                    rank = 1 + int((of_layer > mad).sum() + (of_layer[: state.channel] == mad).sum())
                    place = f", rank {rank} of {len(of_layer)} in {state.layer}"
                parts.append(("MAD of this sample", f"{mad:.4g}{place}"))
                if ready:
                    scale = float(source.whole("scale")[self._index])
                    parts.append(("in standard deviations of the channel", _ratio(mad, scale)))
            else:
                parts.append(("", f"{state.condition} does not apply to this sample"))
        if ready:
            member = source.scores(c).member[self.session.subset, self._index]
            share = f" ({member.mean() * 100:.0f} %)" if len(member) else ""
            parts.append(
                (f"among the top {TOP}", f"in {int(member.sum())} of {counted(len(member), source.noun)}{share}")
            )
        return str(Markup("").join(Markup("<span>{} <b>{}</b></span>").format(*part) for part in parts))


def _read(source: Source, condition: int, progress: LoadProgress) -> None:
    source.scores(condition, progress)
    source.whole("scale")


def _read_sweep(source: Source, layer: str, sweep: Sweep) -> Floats:
    """MAD of a layer at each strength: float32 (sample, strength, channel)."""
    at = list(sweep.conditions)
    return with_unchanged(source.persisted_mad(layer)[:, at].astype(np.float32), source.applicable[:, at])


def _ratio(mad: float, scale: float) -> str:
    if scale > 0:
        return f"{mad / scale:.4g}"
    return "∞" if mad > 0 else "–"
