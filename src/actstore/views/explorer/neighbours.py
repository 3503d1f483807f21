"""The tab on what is alike: a sample's neighbours in the chosen layer, and all samples in the plane."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import panel as pn
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.views.arrays import Floats
from actstore.views.explorer import thumbnails
from actstore.views.explorer.html import style_sheet
from actstore.views.explorer.likeness import MOST_TSNE, Paint
from actstore.views.explorer.projection_plot import Groups, ProjectionPlot
from actstore.views.explorer.protocols import Session
from actstore.views.explorer.thumbnails import Thumbnail, ThumbnailGrid, ThumbnailPlot
from actstore.views.figures.theme import GREY

#: Neighbours of a sample, which itself is the first picture.
NEAREST = thumbnails.MOST - 1
READING = "reading statistics …"
DRAWING = "computing …"
METHODS = {"principal components": "pca", "t-SNE": "tsne"}
_STYLE = """
.swatch { display: inline-block; margin: 0 1.1em 2px 0; color: var(--soft); font-size: 11.5px; }
.swatch u { display: inline-block; width: 9px; height: 9px; border-radius: 5px; margin-right: 4px; }
"""


class NeighboursTab:
    """Small pictures of the samples nearest to the one that is shown, and the projection of its layer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        source, theme = session.source, session.theme
        go: Callable[[int], None] = lambda sample: session.go(sample=sample)  # noqa: E731
        self.nearest = ThumbnailPlot(theme, source.space, go, value="distance", cmap=GREY)
        self.projection = ProjectionPlot(theme, np.array([" · ".join(name) for name in source.short_names], object), go)
        self.projection.head.stylesheets = [style_sheet(), _STYLE]
        self._groups = _groups(session)
        wide: dict[str, Any] = {"stylesheets": [style_sheet()], "margin": (0, 12, 4, 0), "width": 225}
        paints = {"by label" if source.classified else "by largest class": "label", "by patient": "patient"}
        self.paint = pn.widgets.RadioButtonGroup(options=paints, **wide)
        offered = len(source.samples) <= MOST_TSNE
        self.method = pn.widgets.RadioButtonGroup(options=METHODS, visible=offered, **wide)
        self._following = False
        for widget, name in ((self.paint, "paint"), (self.method, "method")):
            widget.param.watch(lambda event, name=name: self._chosen(name, event.new), "value")
        width = max(thumbnails.screen_size(source.space)[0] + 30, 360)
        self.nearest.view.param.update(sizing_mode=None, width=width, min_width=width)
        right = pn.Column(
            pn.Row(self.paint, self.method, margin=0, styles={"flex-wrap": "wrap"}),
            self.projection.view,
            sizing_mode="stretch_width",
            margin=0,
        )
        #: Pictures to the left, the plane to the right.
        self.view = pn.Row(self.nearest.view, right, sizing_mode="stretch_width", margin=0)
        self._asked: set[Hashable] = set()

    def _chosen(self, name: str, value: str) -> None:
        if not self._following:
            self._session.go(**{name: value})

    def update(self) -> None:
        """Show the neighbours of the session's sample in its layer, and where it lies in the plane."""
        state = self._session.state
        self._following = True
        try:
            self.paint.value, self.method.value = state.paint, state.method
        finally:
            self._following = False
        try:
            self._session.source.likeness.need_statistics()
        except StoreError as error:
            self.nearest.hide(str(error))
            self.projection.hide("")
            return
        self._show_nearest()
        self._show_projection()

    def _show_nearest(self) -> None:
        source, state = self._session.source, self._session.state
        layer, sample = state.layer, source.sample(state)
        try:
            if source.likeness.points(layer) is None:
                self.nearest.hide(READING)
                self._soon(
                    ("points", layer), lambda: source.likeness.read(layer), f"reading {layer}", self.nearest.hide
                )
                return
            about = (layer, sample, state.slice, source.input_channel(state))
            if about == self.nearest.about:
                return
            found, distance = source.likeness.nearest(layer, sample, NEAREST)
            if not len(found):
                only = "all samples are of one patient" if source.samples["patient"].nunique() < 2 else "none is known"
                self.nearest.hide(f"no neighbour of another patient: {only}")
                return
            self._draw([sample, *found.tolist()], np.array([np.nan, *distance]))
            self.nearest.about = about
        except StoreError as error:
            self.nearest.hide(str(error))

    def _draw(self, samples: list[int], distance: Floats) -> None:
        """Draw pictures, the sample itself first; each from its darkest to its lightest."""
        source, state = self._session.source, self._session.state
        shown = []
        for sample, away in zip(samples, distance.tolist(), strict=True):
            picture = source.picture("image", sample, 0, state.slice, source.input_channel(state)).astype(np.float32)
            low, high = float(picture.min()), float(picture.max())
            scaled = (picture - low) / (high - low or 1.0)
            shown.append(Thumbnail(sample, *source.in_short(sample, state.slice), away, scaled, None))
        self.nearest.draw(ThumbnailGrid(shown), (0.0, 1.0))
        self.nearest.show_below(f"nearest of other patients in {state.layer}, and distance")
        self.nearest.mark(samples[0])

    def _show_projection(self) -> None:
        source, state = self._session.source, self._session.state
        layer, c, method = state.layer, source.condition(state.condition), state.method
        key = (layer, c, method)
        if (picture := source.likeness.picture(*key)) is None:
            self.projection.hide(DRAWING)
            self._soon(key, lambda: source.likeness.draw(*key), f"projection of {layer}", self.projection.hide)
            return
        name = {"pca": "principal components", "tsne": "t-SNE"}[method]
        share = f", {100 * picture.share:.0f} % of variance" if np.isfinite(picture.share) else ""
        some = "" if len(picture.samples) == len(source.samples) else f", {len(picture.samples)} samples drawn evenly"
        title = f"{layer} · {name}{share} · trustworthiness {picture.trustworthiness:.2f}{some}"
        groups = self._groups[state.paint]
        self.projection.show(picture, groups, source.sample(state), title, state.condition if c else "")

    def _soon(self, key: Hashable, work: Callable[[], Any], what: str, failed: Callable[[str], None]) -> None:
        """Do ``work`` once, unless the page shows another layer by then; then show everything again."""
        if key in self._asked:
            return
        self._asked.add(key)
        layer = self._session.state.layer

        def done(_: object) -> None:
            self._asked.discard(key)
            self.update()

        def refused(message: str) -> None:
            self._asked.discard(key)
            failed(message)

        def wanted(_: object) -> object:
            return work() if self._session.state.layer == layer else None

        self._session.soon(wanted, done, what, refused)


def _groups(session: Session) -> dict[Paint, Groups]:
    source = session.source
    names = list(source.store.class_names) if source.classified else source.foreground
    patients: NDArray[Any] = source.samples["patient"].to_numpy()
    number = {name: i for i, name in enumerate(source.patients)}
    of_patient = np.array([number[name] for name in patients], np.intp)
    return {"label": Groups(names, source.labels), "patient": Groups(source.patients, of_patient)}
