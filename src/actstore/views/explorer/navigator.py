"""The layer x channel map: shows where in the network something happens, and leads there."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import param
import xarray as xr
from bokeh.models import ColumnDataSource, CustomJSHover, FixedTicker, HoverTool, LinearColorMapper

from actstore.analysis.channels.relative import in_units
from actstore.errors import ActstoreError
from actstore.views.arrays import Bools, Floats
from actstore.views.explorer.colour_maps import on_page, palette
from actstore.views.explorer.edits import ChannelEdits, Effects
from actstore.views.explorer.html import html_pane, legend, note
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import SAMPLE, SUBSET, State
from actstore.views.explorer.statistics import LoadProgress, Whole
from actstore.views.explorer.streamed import IMAGE, StreamedFigure, nothing, on_tap, small_figure
from actstore.views.figures.network_colours import Colour, control_of, effect, limits_of, top_cells, with_control
from actstore.views.figures.theme import SEQUENTIAL, ticks

#: What the map is coloured by, in words.
COLOURS: dict[str, Colour] = {
    "MAD of this sample": "mad",
    "standardised MAD of this sample": "standardised",
    "frequency in the top 3, subset": "frequency",
    "effect against control, subset": "control",
    "maximum in this sample": "maximum",
}
#: How the value below the pointer is written; of an effect, its interval and corrected p too.
_HOVER = """
const {x, y} = special_vars
return details.data.text[Math.round(y) * width + Math.round(x)] || value.toFixed(4)
"""
_EDGES = ("left", "right", "bottom", "top")
#: What is read before the map is coloured: conditions with their statistics, whole arrays, effects of interventions.
Needed = int | Whole | ChannelEdits


def offered_colours(source: Source) -> dict[str, str]:
    """What the map of this store's channels can be coloured by, in words."""
    own = {name: colour for name, colour in COLOURS.items() if colour in source.colours}
    return own | {edits.label: edits.colour for edits in source.edits.offered}


def values_of(source: Source, state: State, subset: Bools) -> Floats:
    """What each channel of the network is coloured by: float (channel).

    Raises
    ------
    StoreError
        if the store was not captured for it.
    """
    c, sample = source.condition(state.condition), source.sample(state)
    if edits := source.edits.of_colour(state.colour):
        return source.edits.effects(edits, state.condition).values
    if state.colour == "maximum":
        return source.sample_maximum(sample)
    if state.colour == "mad":
        return source.sample_mad(sample, c)
    if state.colour == "standardised":
        mad, scale = (xr.DataArray(v, dims="channel") for v in (source.sample_mad(sample, c), source.whole("scale")))
        found: Floats = in_units(mad, scale).values
        return found
    if state.colour == "frequency":
        member = source.scores(c).member[subset]
        return member.mean(axis=0) if len(member) else np.full(member.shape[1], np.nan)
    return _effect(source, c, subset)


def missing(source: Source, state: State) -> list[Needed]:
    """What :func:`values_of` needs that is not read yet."""
    if edits := source.edits.of_colour(state.colour):
        return [] if source.edits.loaded(edits) else [edits]
    if not source.store.reduced or state.colour in ("mad", "maximum"):
        return []
    if state.colour == "standardised":
        return [] if source.has("scale") else ["scale"]
    wanted = [source.condition(state.condition)]
    if state.colour == "control":
        wanted += control_of(source.conditions, wanted[0])
    needed: list[Needed] = [c for c in wanted if not source.loaded(c)]
    if state.colour == "control" and not source.has("rescaled"):
        needed.append("rescaled")
    return needed


def load(source: Source, needed: list[Needed], progress: LoadProgress) -> None:
    """Read what :func:`missing` found; ``progress`` is called with layers done and all layers."""
    for i, what in enumerate(needed):
        if isinstance(what, ChannelEdits):
            source.edits.load(what)
        elif isinstance(what, str):
            source.whole(what)
        else:
            source.scores(what, _share(progress, i, len(needed)))


def _share(progress: LoadProgress, part: int, parts: int) -> LoadProgress:
    return lambda done, whole: progress(part * whole + done, parts * whole)


def _effect(source: Source, condition: int, subset: Bools) -> Floats:
    """Hedges' g of the MAD under a perturbation against that under its control, paired by patient: (channel)."""
    rows = source.conditions
    at = with_control(rows, condition)
    score = xr.DataArray(
        np.stack([source.scores(c).mad[subset] for c in at], axis=1).astype(np.float64),
        dims=("sample", "condition", "channel"),
        coords={
            "patient": ("sample", source.samples["patient"].to_numpy()[subset]),
            "condition": rows.index.to_numpy()[at],
            **{name: ("condition", rows[name].to_numpy()[at]) for name in rows.columns},
        },
    )
    return effect(score, xr.DataArray(source.whole("rescaled")[subset][:, at], dims=("sample", "condition")))


class Navigator(Part):
    """The map, a choice of its colours, and marks on the top channels of each layer."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        source = session.source
        self.layers = list(source.channels)
        self.head = html_pane()
        #: What the pointer shows of each cell, row by row, instead of its value alone.
        self._details = ColumnDataSource({"text": []})
        self._widest = max(source.channels.values())
        self.figure = self._drawn(self._widest)
        on_tap(self.figure.plot, self._tapped)

    def _drawn(self, widest: int) -> StreamedFigure:
        theme, rows = self.session.theme, len(self.layers)
        plot = small_figure(
            tools="wheel_zoom,pan,reset",
            active_scroll="wheel_zoom",
            x_range=(-0.5, widest - 0.5),
            y_range=(rows - 0.5, -0.5),
            x_axis_label="channel (○ the top 3 of each layer; tap a cell to see it)",
            sizing_mode="stretch_both",
        )
        plot.xaxis.ticker.min_interval = 1
        plot.xaxis.ticker.num_minor_ticks = 0
        labels = dict(ticks(self.layers, 12))
        plot.yaxis.update(ticker=FixedTicker(ticks=list(labels)), major_label_overrides=labels)
        mapper = LinearColorMapper(palette=palette(SEQUENTIAL), nan_color="rgba(0, 0, 0, 0)")
        image = plot.image("image", "x", "y", "dw", "dh", color_mapper=mapper, source=nothing(*IMAGE))
        top: dict[str, Any] = {"size": 4, "fill_color": "#ffffff", "line_color": "#111111"}
        plot.scatter("channel", "layer", **top, source=nothing("channel", "layer"))
        # Two frames: one of them is seen on any colour.
        for width, colour in ((6, theme.card), (3, theme.mark)):
            plot.quad(*_EDGES, fill_alpha=0, line_color=colour, line_width=width, source=nothing(*_EDGES))
        plot.add_tools(self._hover(image))
        return StreamedFigure(plot, ("map", "top", "around", "shown"))

    def _hover(self, image: Any) -> HoverTool:
        names = CustomJSHover(args={"names": self.layers}, code="return names[Math.round(special_vars.y)] ?? ''")
        formats: dict[str, Any] = {"$y": names}
        shown = "@image{0.0000}"
        if self.source.edits.offered:
            details = {"details": self._details, "width": self._widest}
            formats["@image"], shown = CustomJSHover(args=details, code=_HOVER), "@image{custom}"
        return HoverTool(
            tooltips=[("", "$y{custom} channel $x{0}"), ("value", shown)], formatters=formats, renderers=[image]
        )

    def _tapped(self, x: float, y: float) -> None:
        row, channel = round(y), round(x)
        if 0 <= row < len(self.layers) and 0 <= channel < self.source.channels[self.layers[row]]:
            self.session.go(layer=self.layers[row], channel=channel)

    @param.depends(*of_state(*SUBSET, *SAMPLE, "colour"))
    def _show(self) -> bool:
        source, state = self.source, self.state
        if needed := missing(source, state):
            key = (state.condition, state.colour)
            self.read(key, partial(load, source, needed), "reading statistics", self._show, self._say)
            return False
        try:
            self._draw(values_of(source, state, self.session.subset))
        except ActstoreError as error:
            self._say(str(error))
            return True
        return False

    def _say(self, message: str) -> None:
        """Show a message, and no value."""
        self._draw(np.full(sum(self.source.channels.values()), np.nan), message)

    def _draw(self, values: Floats, message: str = "") -> None:
        source, state = self.source, self.state
        grid = source.as_grid(values)
        edits = source.edits.of_colour(state.colour)
        limits, cmap = limits_of(values, "effect" if edits else cast(Colour, state.colour))
        cmap = on_page(cmap, self.session.theme.name)
        top = list(top_cells(grid))
        self.figure.put_image("map", grid, limits)
        self.figure.put_palette("map", cmap)
        self.figure.put("top", channel=[channel for _, channel in top], layer=[row for row, _ in top])
        known = bool(np.isfinite(values).any())
        self._show_details(source.edits.effects(edits, state.condition) if edits and known else None)
        self.head.object = str(legend("", (cmap, limits) if known else None) + note(message))

    @param.depends(*of_state("layer", "channel"))
    def _mark(self) -> None:
        channel, row = self.state.channel, self.layers.index(self.state.layer)
        edges = {"left": channel - 0.5, "right": channel + 0.5, "bottom": row - 0.5, "top": row + 0.5}
        for frame in ("around", "shown"):
            self.figure.put(frame, **{name: [value] for name, value in edges.items()})

    def _show_details(self, effects: Effects | None) -> None:
        text: list[str] = []
        if effects is not None:
            for where in self.source.where.values():
                row = [effects.hover(channel) for channel in range(where.start, where.stop)]
                text += row + [""] * (self._widest - len(row))
        self._details.data = {"text": text}
