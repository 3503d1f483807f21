"""The two rows of pictures: input, and the maps of one channel; original, perturbed, difference.

In a run without perturbations each row has the original alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import param
from bokeh.models import CrosshairTool, HoverTool, LinearColorMapper
from bokeh.models.annotations import Span
from bokeh.models.callbacks import CustomJS
from bokeh.plotting import figure
from markupsafe import Markup
from numpy.typing import NDArray

from actstore.analysis.members import mask_of
from actstore.conditions import CONTROL
from actstore.errors import ActstoreError
from actstore.units import by
from actstore.views.arrays import Bools, Floats
from actstore.views.explorer.colour_maps import ink, on_page, palette
from actstore.views.explorer.html import html_pane, legend, note, number
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import SAMPLE, State
from actstore.views.explorer.streamed import BLANK, IMAGE, LINES, StreamedFigure, nothing, set_limits
from actstore.views.explorer.value_bars import ValueBars
from actstore.views.figures.images import CHANGE
from actstore.views.figures.pixels import ON_INPUT, Place, border_paths
from actstore.views.figures.scales import Limits, extremes, of_inputs, of_maps
from actstore.views.figures.theme import GREY, colours_of, tint

Paths = list[dict[str, Any]]
#: How maps are drawn.
_DRAWN = ("scale", "truth", "opacity", "contrast", "colours")


class Row:
    """Three pictures beside each other, or one of the original alone, their axes linked, with legends above them."""

    def __init__(self, session: Session, like: Row | None = None) -> None:
        self.session = session
        self.head = html_pane()
        #: Colour map and limits of each picture; None where nothing is drawn.
        self.count = 1 if session.source.alone else 3
        self.scales: Sequence[tuple[str, Limits] | None] = [None] * self.count
        #: The lines of the crosshair, the same in every picture.
        self.cross: tuple[Span, Span] = like.cross if like else (self._line("width"), self._line("height"))
        self.pictures = [self._picture() for _ in range(self.count)]
        first = (like or self).pictures[0].plot
        for picture in self.pictures:
            picture.plot.update(x_range=first.x_range, y_range=first.y_range)

    def _line(self, dimension: Any) -> Span:
        return Span(dimension=dimension, line_color=self.session.theme.mark, line_width=1, line_alpha=0.7)

    def _picture(self) -> StreamedFigure:
        """A picture drawn by Bokeh alone: with HoloViews, six of them delay the first paint ten times as long."""
        height, width = self.session.source.space[-2:]
        # Row 0 is on top.
        ranges: dict[str, Any] = {"x_range": (-0.5, width - 0.5), "y_range": (height - 0.5, -0.5)}
        tools: dict[str, Any] = {"tools": "pan,wheel_zoom,reset", "active_scroll": "wheel_zoom"}
        bare: dict[str, Any] = {"x_axis_type": None, "y_axis_type": None, "toolbar_location": None, "min_border": 0}
        picture: Any = figure(**ranges, **tools, **bare, sizing_mode="stretch_both")
        picture.grid.visible = False
        mapper = LinearColorMapper(palette=palette(GREY), nan_color=self.session.theme.faint)
        grey = LinearColorMapper(palette=palette(GREY), nan_color="rgba(0, 0, 0, 0)")
        picture.image("image", "x", "y", "dw", "dh", color_mapper=grey, source=nothing(*IMAGE))
        image = picture.image("image", "x", "y", "dw", "dh", color_mapper=mapper, source=nothing(*IMAGE))
        for dash in ("solid", "5 3"):
            picture.multi_line("xs", "ys", line_color="colour", line_width=1.8, line_dash=dash, source=nothing(*LINES))
        tips = [("x, y", "$x{0}, $y{0}"), ("value", "@image{0.0000}")]
        picture.add_tools(HoverTool(tooltips=tips, renderers=[image]))
        picture.js_on_event("mousemove", CustomJS(code="actstorePointed(cb_obj.x, cb_obj.y)"))
        picture.add_tools(CrosshairTool(overlay=self.cross))
        return StreamedFigure(picture, ("under", "image", "solid", "dashed"))

    def show(
        self,
        values: Sequence[Floats],
        scales: Sequence[tuple[str, Limits]],
        outlines: Sequence[tuple[Paths, Paths]],
        place: Place = ON_INPUT,
    ) -> None:
        """Draw maps (y, x), original, perturbed and difference, each with its solid and its dashed outlines."""
        theme = self.session.theme.name
        scales = [(on_page(cmap, theme), limits) for cmap, limits in scales]
        drawn = list(zip(values, scales, outlines, strict=True))[: self.count]
        self.scales = [scale if np.isfinite(image).any() else None for image, scale, _ in drawn]
        for picture, (image, (cmap, limits), (solid, dashed)) in zip(self.pictures, drawn, strict=True):
            picture.put_image("image", image, limits, place)
            picture.put_palette("image", cmap)
            picture.style("image", global_alpha=1.0)
            picture.put_lines("solid", solid)
            picture.put_lines("dashed", dashed)

    def put_under(self, images: Sequence[Floats], opacity: int) -> None:
        """Show images (y, x), original and perturbed, or none, below the maps, which have an ``opacity`` (per cent)."""
        for i, picture in enumerate(self.pictures):
            if images:
                image = images[i % 2]
                picture.put_image("under", image, extremes(image))
            elif len(picture.columns("under")["image"]):
                picture.put("under", **{name: [] for name in IMAGE})
            picture.style("image", global_alpha=opacity / 100)

    def refuse(self, titles: Sequence[str], why: str) -> None:
        """Draw nothing, and say why."""
        self.clear()
        self.show_heads(titles, why)

    def clear(self) -> None:
        """Draw nothing."""
        self.show([BLANK] * 3, [(GREY, (0, 1))] * 3, [([], [])] * 3)
        self.put_under([], 100)

    def show_heads(self, titles: Sequence[str], message: str = "") -> None:
        """Show a title and a colour scale above each picture, and a message on what cannot be shown."""
        cells = [legend(title, scale) for title, scale in zip(titles, self.scales, strict=False)]
        columns = Markup('<div class="heads" style="grid-template-columns:repeat({},minmax(0,1fr))">{}</div>{}')
        self.head.object = str(columns.format(self.count, Markup("").join(cells), note(message)))


class Inputs(Part):
    """The input, with outlines of truth (solid) and prediction (dashed); without any of a classifier's images."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.row = Row(session)
        self._window: tuple[slice, slice] | None = None

    @param.depends(*of_state("patient", "frame", "patch", "condition", "view"))
    def _show_window(self) -> None:
        """Zoom on the target, or out; what the reader zoomed stays as long as the target is the same."""
        height, width = self.source.space[-2:]
        rows, columns = slice(0, height), slice(0, width)
        if self.state.view == "target" and not self.source.classified:
            # What cannot be read is said below.
            with suppress(ActstoreError):
                rows, columns = self.source.target_window(self.state)
        if (rows, columns) != self._window:
            self._window = (rows, columns)
            set_limits(self.row.pictures[0].plot, *_around(rows, columns, height / width))

    def look(self, view: str) -> None:
        """Zoom on the "target" or out to the "whole" image, also where the reader zoomed away from it."""
        self._window = None
        if self.state.view == view:
            self._show_window()
        else:
            self.session.go(view=view)

    @param.depends(*of_state(*SAMPLE, "condition", "scale", "truth", "prediction", "input_channel", "contrast"))
    def _show(self) -> bool:
        source, state, c = self.source, self.state, self.condition
        applies = bool(source.applicable[self.sample, c])
        titles = (f"Input, original{source.channel_suffix(state)}", state.condition, CHANGE)
        try:
            self._draw(self.sample, c, applies)
        except ActstoreError as error:
            self.row.refuse(titles, str(error))
            return True
        message = "" if applies else f"{state.condition} was not inferred here: {absent(source, state)}"
        self.row.show_heads(titles, message)
        return False

    def _draw(self, sample: int, c: int, applies: bool) -> None:
        source, state = self.source, self.state
        plane, channel = state.slice, source.input_channel(state)
        original, perturbed = (source.picture("image", sample, i, plane, channel) for i in (0, c))
        outlined = not source.classified
        solid = self._paths(source.picture("label", sample, 0, plane)) if outlined and state.truth else []
        dashed: list[Paths] = [[], []]
        if outlined and state.prediction:
            found = [source.picture("prediction", sample, i, state.slice) for i in ((0, c) if applies else (0,))]
            dashed[: len(found)] = [self._paths(prediction, light=True) for prediction in found]
        values = [original, perturbed, perturbed - original]
        region = control_region(source, state)
        where = border_paths([(on_plane(region, source, state), self.session.theme.mark)] if region is not None else [])
        outlines = [(solid, dashed[0]), (solid + where, dashed[1]), (solid + where, [])]
        self.row.show(values, of_inputs(values, state.scale, state.contrast), outlines)

    def _paths(self, label: NDArray[Any], *, light: bool = False) -> Paths:
        store = self.source.store
        colours = colours_of(store)
        return border_paths(
            [
                (mask_of(label, store.members[name]), tint(colour, 0.45) if light else colour)
                for name, colour in colours.items()
            ]
        )


def _around(rows: slice, columns: slice, tall: float) -> tuple[Limits, Limits]:
    """Ends of both axes that hold rows and columns in a picture so many times as tall as it is wide; row 0 on top."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    half = max(width, height / tall) / 2
    x, y = (columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2
    return (x - half, x + half), (y + half * tall, y - half * tall)


def control_region(source: Source, state: State, sample: int | None = None) -> Bools | None:
    """The pixels that a control changed in a sample, the shown one, bool ([z,] y, x); None of any other condition.

    None too where much more than a region of the target's size changed: then normalisation rescaled the image.
    """
    if source.conditions.loc[state.condition, "region"] != CONTROL:
        return None
    sample = source.sample(state) if sample is None else sample
    k, every = source.input_channel(state), slice(None)
    condition = source.condition(state.condition)
    images = (source.picture("image", sample, c, every, k) for c in (0, condition))
    label = source.picture("label", sample, 0, every)
    changed: Bools = source.recent(("changed", sample, condition, k), lambda: np.not_equal(*images))
    size = int(mask_of(label, source.store.members[source.target(state.condition)]).sum())
    return changed if 0 < changed.sum() <= 1.5 * size else None


def on_plane(mask: Bools, source: Source, state: State) -> Bools:
    """The part of a sample's mask that the pictures show: bool (y, x)."""
    return mask[state.slice] if source.is_3d else mask


def absent(source: Source, state: State) -> str:
    """Why a condition does not apply to a sample."""
    target = source.target(state.condition)
    if not target:
        return "this sample is not part of this run"
    if not source.present[source.sample(state), source.foreground.index(target)]:
        return f"the image is no {target}" if source.classified else f"the sample contains no {target}"
    if source.conditions.loc[state.condition, "region"] == CONTROL:
        return f"no region like its {target} was found elsewhere in the body, or nothing changed there"
    return "the perturbation changed no pixel"


class Activations(Part):
    """The maps of one channel, with the outline of the perturbed class at the layer's resolution.

    Of a layer without maps, bars of the values of all its channels.
    """

    def __init__(self, session: Session, like: Row) -> None:
        super().__init__(session)
        self.row = Row(session, like)
        source = session.source
        #: Covers the pictures; None where every layer has maps.
        self.bars: ValueBars | None = None
        if not all(map(source.has_maps, source.channels)):
            self.bars = ValueBars(session.theme, lambda channel: session.go(channel=channel))

    @param.depends(
        *of_state(
            *SAMPLE,
            "condition",
            "layer",
            "channel",
            "scale",
            "truth",
            "opacity",
            "contrast",
            "colours",
            "input_channel",
        )
    )
    def _show(self) -> bool:
        source, state = self.source, self.state
        if self.bars is not None:
            self.bars.view.visible = not source.has_maps(state.layer)
            if self.bars.view.visible:
                self._show_values(self.bars)
                return False
        title = f"{state.layer} channel {state.channel}"
        try:
            self._draw()
        except ActstoreError as error:
            self.row.refuse((title, state.condition, CHANGE), str(error))
            return True
        applies = source.applicable[self.sample, self.condition]
        message = "" if applies else f"{state.condition} was not inferred here: there is no map of it"
        self.row.show_heads((f"{title} · {by(source.sizes[state.layer])}", state.condition, CHANGE), message)
        return False

    def _draw(self) -> None:
        source, state, sample = self.source, self.state, self.sample
        place, target = source.place(state.layer), "" if source.classified else source.target(state.condition)
        maps = [source.map(state.layer, sample, i, state.channel, state.slice) for i in (0, self.condition)]
        cover: Paths = []
        if target and state.truth:
            region = control_region(source, state)
            cover = border_paths([(source.cover(state.layer, sample, target, state.slice, region), "")], place=place)
        original, perturbed = (values.astype(np.float32) for values in maps)
        values = [original, perturbed, perturbed - original]
        scales = of_maps(values, state.scale, state.contrast, state.chosen_colours)
        theme = self.session.theme.name
        lines = [[path | {"colour": ink(on_page(cmap, theme))} for path in cover] for cmap, _ in scales]
        self.row.show(values, scales, [(line, []) for line in lines], place)
        self.row.put_under(self._images() if state.opacity < 100 else [], state.opacity)

    def _images(self) -> list[Floats]:
        k = self.source.input_channel(self.state)
        read = (self.source.picture("image", self.sample, c, self.state.slice, k) for c in (0, self.condition))
        return [image.astype(np.float32) for image in read]

    def _show_values(self, bars: ValueBars) -> None:
        """Show the values of a layer without maps."""
        state, row, c = self.state, self.row, self.condition
        title, message = f"{state.layer} channel {state.channel}", ""
        row.clear()
        try:
            values = self.source.values(state.layer, self.sample)
        except ActstoreError as error:
            bars.view.visible, message = False, str(error)
        else:
            title += f": {number(float(values[0, state.channel]))}"
            if c:
                title += f", {state.condition}: {number(float(values[c, state.channel]))}"
            bars.show(values[[0, c]] if c else values[:1], state.channel, state.condition)
        # One line over all three pictures.
        row.head.object = str(legend(title, None) + note(message))
