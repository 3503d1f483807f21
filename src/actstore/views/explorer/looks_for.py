"""What a channel looks for: its optimum, back-projection and strongest samples; and the channels most like it."""

from __future__ import annotations

from functools import partial

import numpy as np
import panel as pn
import param

from actstore.errors import StoreError
from actstore.views.arrays import Floats
from actstore.views.explorer import thumbnails
from actstore.views.explorer.html import legend
from actstore.views.explorer.layer_optima import BLANK
from actstore.views.explorer.likeness import Likeness
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.state import SAMPLE
from actstore.views.explorer.thumbnails import Thumbnail, ThumbnailGrid, ThumbnailPlot, resized
from actstore.views.figures.scales import around_zero, extremes
from actstore.views.figures.theme import DIVERGING, GREY


class LooksFor(Part):
    """Two rows of small pictures: a tap shows the sample, or the channel."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        size = thumbnails.screen_size(session.source.space)
        go = lambda sample: session.go(sample=sample) if sample >= 0 else None  # noqa: E731
        self.finds = ThumbnailPlot(session.theme, go, names=("sample", "at", "maximum"), **size)
        self.alike = ThumbnailPlot(
            session.theme, lambda k: session.go(channel=k), names=("channel", "", "correlation"), **size
        )
        for plot in (self.finds, self.alike):
            width = size["frame_width"] + 30
            plot.view.param.update(sizing_mode=None, width=width, min_width=width)
        self.view = pn.Row(self.finds.view, self.alike.view, margin=0, styles={"flex-wrap": "wrap"})

    @param.depends(*of_state(*SAMPLE, "layer", "channel", "condition", "input_channel"))
    def _show(self) -> bool:
        source, layer = self.source, self.state.layer
        try:
            if source.likeness.known and source.likeness.points(layer) is None:
                work = partial(_read, source.likeness, layer)
                self.read(layer, work, f"reading {layer}", self._show, self._hide)
                return False
            self._show_finds()
            self._show_alike()
        except StoreError as error:
            self._hide(str(error))
            return True
        return False

    def _hide(self, message: str) -> None:
        self.finds.hide(message)
        self.alike.hide()

    def _show_finds(self) -> None:
        source, state = self.source, self.state
        k, plane = source.input_channel(state), state.slice
        own = source.picture("image", self.sample, 0, plane, k)
        shown = [*self._optimum(own.shape, k), *self._projection(own.shape)]
        if source.likeness.known:
            strongest = source.findings.strongest(state.layer, state.channel, thumbnails.MOST - len(shown))
            for sample, value in zip(*(found.tolist() for found in strongest), strict=True):
                image = source.picture("image", sample, 0, plane, k)
                shown.append(Thumbnail(sample, *source.in_short(sample, plane), value, _grey(image), None))
        if shown:
            self.finds.draw(ThumbnailGrid(shown), (0.0, 1.0), GREY)
            self.finds.mark(self.sample)
            self.finds.show_below("what it looks for: strongest originals")
        else:
            self.finds.hide("this store has no optima, and no statistics of which samples reach most")

    def _optimum(self, shape: tuple[int, ...], k: int) -> list[Thumbnail]:
        source, state = self.source, self.state
        if state.layer not in source.optima.layers:
            return []
        one = source.optima.of(state.layer).get(state.channel)
        if one is None or one.status in BLANK:
            return []
        return [Thumbnail(-1, "optimum", one.status, one.value, resized(_grey(one.image[k]), shape), None)]

    def _projection(self, shape: tuple[int, ...]) -> list[Thumbnail]:
        source, state = self.source, self.state
        plane = state.slice if source.is_3d else None
        found = source.findings.projection(state.layer, state.channel, self.sample, state.condition, plane)
        if found is None:
            return []
        low, high = around_zero(found)
        scaled = (found - low) / (high - low)
        return [Thumbnail(-1, "projected back", "this sample", np.nan, resized(scaled, shape), None)]

    def _show_alike(self) -> None:
        source, state = self.source, self.state
        if not source.likeness.known:
            self.alike.hide()
            return
        channels, correlation = source.findings.alike(state.layer, state.channel, thumbnails.MOST)
        if not len(channels) or not source.has_maps(state.layer) or not source.has_tensors[state.layer]:
            words = ", ".join(f"{k} ({r:+.2f})" for k, r in zip(channels, correlation, strict=True))
            self.alike.hide(f"channels like it over samples: {words}" if words else "no channel varies with it")
            return
        maps = [source.map(state.layer, self.sample, 0, int(k), state.slice).astype(np.float32) for k in channels]
        most = [max(map(abs, around_zero(one))) for one in maps]
        shown = [
            Thumbnail(int(k), f"{k} · {r:+.2f}".replace("-", "−"), "", float(r), one / top, None)
            for k, r, one, top in zip(channels, correlation, maps, most, strict=True)
        ]
        self.alike.draw(ThumbnailGrid(shown), (-1.0, 1.0), DIVERGING)
        self.alike.show_below(legend("channels like it: correlation of maxima over samples", None))


def _read(likeness: Likeness, layer: str, _: object) -> Floats:
    return likeness.read(layer)


def _grey(image: Floats) -> Floats:
    """Between 0 and 1, each picture from its darkest to its lightest."""
    values = np.asarray(image, np.float32)
    low, high = extremes(values)
    found: Floats = (values - low) / (high - low or 1.0)
    return found
