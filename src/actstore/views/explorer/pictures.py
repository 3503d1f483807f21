"""The two rows of pictures: input, and the maps of one channel; original, perturbed, difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
from markupsafe import Markup
from numpy.typing import NDArray

from actstore.errors import ActstoreError
from actstore.views.explorer.html import legend
from actstore.views.explorer.parts import Redraw, Session, again, drawn, html, pane
from actstore.views.explorer.source import Floats
from actstore.views.pixels import ON_INPUT, Place, border_paths
from actstore.views.theme import DIVERGING, GREY, SEQUENTIAL, class_colours, tint

Limits = tuple[float, float]
#: What the three pictures of a row show.
COLUMNS = ("original", "perturbed", "difference")
#: Of a map whose condition does not apply.
_NOTHING = np.full((2, 2), np.nan, np.float32)


def limits_of(original: Floats, perturbed: Floats, *, shared: bool) -> tuple[Limits, Limits, Limits]:
    """The values between which original, perturbed and difference are coloured; that of the difference is symmetric.

    ``shared``: one scale for the first two.
    """
    ends = [_ends(original), _ends(perturbed)]
    if shared:
        ends = [_ends(np.array(ends))] * 2
    most = float(np.nanmax(np.abs(_ends(perturbed - original))))
    return ends[0], ends[1], (-most, most)


def _ends(values: Floats) -> Limits:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def picture(values: NDArray[Any], limits: Limits, place: Place = ON_INPUT) -> hv.Image:
    """``values`` (y, x) in pixels of the input, coloured between ``limits``, which its dimension carries."""
    height, width = values.shape
    low, high = limits
    value = hv.Dimension("value", range=(low, low + max(high - low, 1e-12)))
    x, y = place.centre(np.arange(width), 1), place.centre(np.arange(height), 0)
    return hv.Image((x, y, values.astype(np.float32, copy=False)), ["x", "y"], value)


def lines(paths: Sequence[dict[str, Any]]) -> hv.Contours:
    """Outlines of :func:`actstore.views.pixels.border_paths`; of none, one that is nowhere."""
    return hv.Contours(
        list(paths) or [{"x": [np.nan] * 2, "y": [np.nan] * 2, "colour": "#000000"}], ["x", "y"], "colour"
    )


class Row:
    """Three pictures beside each other, the legend above them, and what each is drawn from."""

    def __init__(self, session: Session, cmap: str) -> None:
        self.session = session
        self._redraw = Redraw()
        self._cmaps = (cmap, cmap, DIVERGING)
        self.values: list[NDArray[Any]] = [_NOTHING] * 3
        self.limits: Sequence[Limits] = [(0.0, 1.0)] * 3
        self.place = ON_INPUT
        #: Of each picture: solid outlines, dashed ones.
        self.outlines: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [([], [])] * 3
        self.head = html()
        height, width = session.source.space[-2:]
        self.figures = [self._figure(i, (width, height)) for i in range(3)]

    def _figure(self, i: int, size: tuple[int, int]) -> pn.pane.HoloViews:
        width, height = size
        image = drawn(lambda: picture(self.values[i], self.limits[i], self.place), self._redraw)
        solid = drawn(lambda: lines(self.outlines[i][0]), self._redraw)
        dashed = drawn(lambda: lines(self.outlines[i][1]), self._redraw)
        figure = (image * solid * dashed).opts(
            hv.opts.Image(
                cmap=self._cmaps[i],
                tools=["hover"],
                hover_tooltips=[("x, y", "$x{0}, $y{0}"), ("value", "@image{0.0000}")],
                clipping_colors={"NaN": self.session.look.faint},
            ),
            hv.opts.Contours(color="colour", line_width=1.8, show_legend=False),
            hv.opts.Overlay(
                xaxis=None,
                yaxis=None,
                invert_yaxis=True,
                xlim=(-0.5, width - 0.5),
                ylim=(-0.5, height - 0.5),
                responsive=True,
                default_tools=["pan", "wheel_zoom", "reset"],
                active_tools=["pan", "wheel_zoom"],
                toolbar=None,
                show_legend=False,
                border=0,
                hooks=[_bare],
            ),
        )
        dashed.opts(hv.opts.Contours(line_dash="5 3"))
        return pane(figure, self.session.look, linked=True, sizing_mode="stretch_both", margin=0)

    def redraw(self) -> None:
        """Draw the three again."""
        again(self._redraw)

    def empty(self) -> None:
        """Nothing to draw."""
        self.values, self.limits, self.outlines = [_NOTHING] * 3, [(0.0, 1.0)] * 3, [([], [])] * 3
        self.place = ON_INPUT

    def told(self, titles: Sequence[str], message: str = "") -> None:
        """Write the heads: a title and a colour scale each, or a message in place of what cannot be shown."""
        cells = [
            legend(title, cmap, limits) for title, cmap, limits in zip(titles, self._cmaps, self.limits, strict=True)
        ]
        note = Markup('<p class="note">{}</p>').format(message) if message else ""
        self.head.object = str(Markup('<div class="heads">{}{}{}</div>{}').format(*cells, note))


def _bare(plot: Any, _: Any) -> None:
    """Nothing around the picture: its frame is the whole figure."""
    figure = plot.state
    figure.min_border = 0
    figure.outline_line_color = None
    figure.match_aspect = False


class Inputs:
    """The input, with outlines of truth (solid) and prediction (dashed)."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.row = Row(session, GREY)

    def update(self) -> None:
        """Show the sample and condition of the session's state."""
        source, state, row = self.session.source, self.session.state, self.row
        sample, c = source.sample(state), source.condition(state.condition)
        applies = bool(source.applicable[sample, c])
        shown = [source.picture("image", sample, i, state.slice) for i in ((0, c) if applies else (0, 0))]
        original, perturbed = (image.astype(np.float32) for image in shown)
        row.values = [original, perturbed, perturbed - original]
        row.limits = limits_of(original, perturbed, shared=state.scale == "shared")
        label = source.picture("label", sample, 0, state.slice)
        solid = self._paths(label) if state.truth else []
        row.outlines = [(solid, []), (solid, []), (solid, [])]
        if state.prediction:
            for i, condition in enumerate((0, c) if applies else (0,)):
                found = source.picture("prediction", sample, condition, state.slice)
                row.outlines[i] = (solid, self._paths(found, light=True))
        if not applies:
            row.values[1:] = [np.full_like(original, np.nan)] * 2
        row.redraw()
        target = source.target(state.condition)
        missing = f"{target} is not in this sample: {state.condition} was not inferred here" if not applies else ""
        row.told(("Input, original", f"Input, {state.condition}", "perturbed − original"), missing)

    def _paths(self, label: NDArray[Any], *, light: bool = False) -> list[dict[str, Any]]:
        store = self.session.source.store
        colours = class_colours(store.class_names)
        masks = [
            (label == store.classes[name], tint(colour, 0.45) if light else colour) for name, colour in colours.items()
        ]
        return border_paths(masks)


class Activations:
    """The maps of one channel, with the outline of the perturbed class at the layer's resolution."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.row = Row(session, SEQUENTIAL)

    def update(self) -> None:
        """Show the channel, sample and condition of the session's state."""
        source, state, row = self.session.source, self.session.state, self.row
        sample, c = source.sample(state), source.condition(state.condition)
        applies = bool(source.applicable[sample, c])
        title = f"{state.layer} channel {state.channel}"
        try:
            original, perturbed = (
                source.map(state.layer, sample, i, state.channel, state.slice).astype(np.float32)
                for i in ((0, c) if applies else (0, 0))
            )
        except ActstoreError as error:
            row.empty()
            row.redraw()
            row.told((title, state.condition, "perturbed − original"), str(error))
            return
        row.values = [original, perturbed, perturbed - original]
        row.limits = limits_of(original, perturbed, shared=state.scale == "shared")
        row.place = source.place(state.layer)
        row.outlines = [([], [])] * 3
        target = source.target(state.condition)
        if target and state.truth:
            cover = source.cover(state.layer, sample, target, state.slice)
            light, dark = (border_paths([(cover, colour)], place=row.place) for colour in ("#ffffff", "#111111"))
            row.outlines = [(light, []), (light, []), (dark, [])]
        if not applies:
            row.values[1:] = [np.full_like(original, np.nan)] * 2
        row.redraw()
        size = " × ".join(map(str, source.sizes[state.layer]))
        row.told((f"{title} · {size}", f"{title}, {state.condition}", "perturbed − original"))
