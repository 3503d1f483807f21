"""The tab on all channels of the chosen layer at once, in this sample: a tap chooses a channel."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import panel as pn
import param
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.units import counted
from actstore.views.arrays import Floats
from actstore.views.explorer.colour_maps import on_page
from actstore.views.explorer.html import legend, style_sheet
from actstore.views.explorer.layer_optima import BLANK
from actstore.views.explorer.navigator import load, missing, values_of
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.pictures import absent
from actstore.views.explorer.state import SAMPLE, SUBSET
from actstore.views.explorer.thumbnails import Thumbnail, ThumbnailGrid, ThumbnailPlot
from actstore.views.figures.images import CHANGE
from actstore.views.figures.scales import Limits, around_zero, extremes
from actstore.views.figures.theme import DIVERGING, GREY, SEQUENTIAL

#: Channels that are drawn, and how many of them in a row.
MOST, COLUMNS = 256, 16
#: In a row where there are few.
FEW, FEW_COLUMNS = 24, 8
#: Pixels a side of a map, of few and of many channels: some 300,000 in all travel to the browser in a few tens of
#: milliseconds.
SIDES = {64: 64, MOST: 32}
#: Room above a map for one line of text, as a share of its side.
HEAD = 0.26
#: Pixels of the screen that a map is wide at most.
WIDEST = 124
#: How the menus call what is shown, and what channels are sorted by.
SHOWN = {"the difference": "difference", "the original": "original", "the condition": "perturbed", "optima": "optima"}
ORDERS = {"number": "number", "MAD": "mad", "frequency in the top 3": "frequency", "effect when edited": "effect"}


class GalleryTab(Part):
    """Maps, differences or optima of a layer's channels, in one image."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        source = session.source
        wide: dict[str, Any] = {"stylesheets": [style_sheet()], "margin": (0, 12, 6, 0), "width": 190}
        shown = {
            text: name for text, name in SHOWN.items() if not (source.alone and name in ("difference", "perturbed"))
        }
        orders = {
            "maximum in this sample" if source.alone and name == "mad" else text: name for text, name in ORDERS.items()
        }
        offered = {"frequency": not source.alone, "effect": bool(source.edits.offered)}
        orders = {text: name for text, name in orders.items() if offered.get(name, True)}
        self.gallery = pn.widgets.Select(label="Show of each channel", options=shown, **wide)
        self.order = pn.widgets.Select(label="Sorted by", options=orders, **wide)
        for name in ("gallery", "order"):
            getattr(self, name).param.watch(lambda event, name=name: session.go(**{name: event.new}), "value")
        self.plot = ThumbnailPlot(
            session.theme,
            lambda channel: session.go(channel=channel),
            names=("channel", "", "value"),
            sizing_mode="scale_width",
            aspect_ratio=4,
        )
        choices = pn.Row(self.gallery, self.order, margin=0, styles={"flex-wrap": "wrap"})
        self.view = pn.Column(choices, self.plot.view, sizing_mode="stretch_width", margin=0)

    @param.depends(*of_state("gallery", "order"))
    def _show_choices(self) -> None:
        self.gallery.value, self.order.value = self._what, self.state.order

    @param.depends(*of_state(*SAMPLE, *SUBSET, "layer", "scale", "colour", "gallery", "order", "input_channel"))
    def _show(self) -> bool:
        try:
            values = self._values()
            pixels = self._pixels()
        except StoreError as error:
            self.plot.hide(str(error))
            return True
        if values is None:
            return False
        if not any(np.isfinite(image).any() for image in pixels.values()):
            self.plot.hide(f"{self.state.condition} was not inferred here: {absent(self.source, self.state)}")
            return False
        self._draw(pixels, values)
        self._mark()
        return False

    @param.depends(*of_state("channel"))
    def _mark(self) -> None:
        self.plot.mark(self.state.channel)

    @property
    def _what(self) -> str:
        """What is shown; without perturbations there is the original alone."""
        what = str(self.state.gallery)
        return "original" if self.source.alone and what in ("difference", "perturbed") else what

    def _values(self) -> Floats | None:
        """What channels are sorted by: (channel), by default their negative number; None: shown once it is read."""
        source, state = self.source, self.state
        if state.order == "number":
            return -np.arange(source.channels[state.layer], dtype=float)
        edits = [edit.colour for edit in source.edits.offered]
        if state.order == "effect" and not edits:
            raise StoreError("no intervention of this store edits each channel alone: sort by something else")
        colours = {"mad": source.colours[0], "frequency": "frequency"}
        colour = colours.get(state.order) or (state.colour if state.colour in edits else edits[0])
        wanted = state.copy(colour=colour)
        if needed := missing(source, wanted):
            work = partial(load, source, needed)
            self.read((state.condition, colour), work, "reading statistics", self._show, self.plot.hide)
            return None
        return values_of(source, wanted, self.session.subset)[source.where[state.layer]]

    def _pixels(self) -> dict[int, Floats]:
        """What is drawn of each channel: (y, x)."""
        source, state, sample = self.source, self.state, self.sample
        layer, what = state.layer, self._what
        if what == "optima":
            own = source.optima.of(layer)
            k = source.input_channel(state)
            return {i: one.image[k] for i, one in own.items() if one.status not in BLANK}
        if not source.has_maps(layer):
            raise StoreError(f"{layer} has one value a sample and channel, and no maps")
        conditions = {"original": [0], "perturbed": [self.condition]}.get(what, [self.condition, 0])
        maps = [source.maps(layer, sample, c, state.slice).astype(np.float32) for c in conditions]
        return dict(enumerate(maps[0] - maps[1] if len(maps) > 1 else maps[0]))

    def _draw(self, pixels: dict[int, Floats], values: Floats) -> None:
        state = self.state
        # The largest first, what is not known last.
        shown = [int(k) for k in np.argsort(-values, kind="stable") if int(k) in pixels][:MOST]
        drawn, cmap, limits = self._coloured(np.stack([pixels[k] for k in shown]))
        sorted_by = np.full(len(values), np.nan) if state.order == "number" else values
        titles = [self._title(k, float(sorted_by[k])) for k in shown]
        maps = [
            Thumbnail(k, title, "", float(sorted_by[k]), image, None)
            for k, title, image in zip(shown, titles, drawn, strict=True)
        ]
        side = next(side for number, side in SIDES.items() if len(maps) <= number)
        columns = COLUMNS if len(maps) > FEW else FEW_COLUMNS
        grid = ThumbnailGrid(maps, columns, None, side=side, head=HEAD)
        height, width = grid.shape
        self.plot.figure.plot.update(aspect_ratio=width / height, max_width=columns * WIDEST)
        self.plot.draw(grid, limits, cmap)
        shared = state.scale == "shared" and self._what != "optima"
        scale = (on_page(cmap, self.session.theme.name), limits) if shared else None
        self.plot.show_below(legend(self._head(len(maps)), scale))

    def _title(self, channel: int, value: float) -> str:
        return str(channel) if np.isnan(value) else f"{channel} · {value:.2g}".replace("-", "−")

    def _head(self, shown: int) -> str:
        state, every = self.state, self.source.channels[self.state.layer]
        what = {"difference": CHANGE, "original": "the original", "perturbed": state.condition, "optima": "optima"}
        some = "" if shown == every else f"{shown} of "
        each = "" if state.scale == "shared" and self._what != "optima" else ", each on its own scale"
        return f"{state.layer}: {some}{counted(every, 'channel')}, {what[self._what]}{each} · tap one to see it"

    def _coloured(self, maps: NDArray[Any]) -> tuple[NDArray[Any], str, Limits]:
        """Maps (channel, y, x) as they are drawn, their colour map, and its limits."""
        around = self._what == "difference"
        if self._what != "optima" and self.state.scale == "shared":
            return maps, DIVERGING, around_zero(maps)
        ends = [around_zero(one) if around else extremes(one) for one in maps]
        low, high = (np.array(end, np.float32)[:, None, None] for end in zip(*ends, strict=True))
        scaled = (maps - low) / np.where(high > low, high - low, 1)
        cmap = GREY if self._what == "optima" else DIVERGING if around else SEQUENTIAL
        return scaled, cmap, (0.0, 1.0)
