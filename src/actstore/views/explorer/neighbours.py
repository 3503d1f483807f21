"""The tab on what is alike: a sample's neighbours in the chosen layer, and all samples in the plane."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import panel as pn
import param
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.views.arrays import Floats
from actstore.views.explorer import thumbnails
from actstore.views.explorer.html import style_sheet
from actstore.views.explorer.likeness import MOST_TSNE, Paint
from actstore.views.explorer.part import Part, Session, of_state
from actstore.views.explorer.projection_plot import Groups, ProjectionPlot
from actstore.views.explorer.state import SAMPLE
from actstore.views.explorer.thumbnails import Thumbnail, ThumbnailGrid, ThumbnailPlot
from actstore.views.figures.theme import GREY

#: Neighbours of a sample, which itself is the first picture.
NEAREST = thumbnails.MOST - 1
METHODS = {"principal components": "pca", "t-SNE": "tsne"}
_STYLE = """
.swatch { display: inline-block; margin: 0 1.1em 2px 0; color: var(--soft); font-size: 11.5px; }
.swatch u { display: inline-block; width: 9px; height: 9px; border-radius: 5px; margin-right: 4px; }
"""


class NeighboursTab(Part):
    """Small pictures of the samples nearest to the one that is shown, and the projection of its layer."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        source, theme = session.source, session.theme
        go: Callable[[int], None] = lambda sample: session.go(sample=sample)  # noqa: E731
        self.nearest = ThumbnailPlot(
            theme, go, names=("sample", "at", "distance"), **thumbnails.screen_size(source.space)
        )
        self.projection = ProjectionPlot(theme, np.array([" · ".join(name) for name in source.short_names], object), go)
        self.projection.head.stylesheets = [style_sheet(), _STYLE]
        self._groups = _groups(session)
        wide: dict[str, Any] = {"stylesheets": [style_sheet()], "margin": (0, 12, 4, 0), "width": 225}
        paints = {"by label" if source.classified else "by largest class": "label", "by patient": "patient"}
        self.paint = pn.widgets.RadioButtonGroup(options=paints, **wide)
        offered = len(source.samples) <= MOST_TSNE
        self.method = pn.widgets.RadioButtonGroup(options=METHODS, visible=offered, **wide)
        for name in ("paint", "method"):
            getattr(self, name).param.watch(lambda event, name=name: session.go(**{name: event.new}), "value")
        width = max(thumbnails.screen_size(source.space)["frame_width"] + 30, 360)
        self.nearest.view.param.update(sizing_mode=None, width=width, min_width=width)
        right = pn.Column(
            pn.Row(self.paint, self.method, margin=0, styles={"flex-wrap": "wrap"}),
            self.projection.view,
            sizing_mode="stretch_width",
            margin=0,
        )
        #: Pictures to the left, the plane to the right.
        self.view = pn.Row(self.nearest.view, right, sizing_mode="stretch_width", margin=0)

    @param.depends(*of_state("paint", "method"))
    def _show_choices(self) -> None:
        self.paint.value, self.method.value = self.state.paint, self.state.method

    @param.depends(*of_state(*SAMPLE, "layer", "condition", "input_channel"))
    def _show_nearest(self) -> bool:
        source, layer, sample = self.source, self.state.layer, self.sample
        try:
            source.likeness.need_statistics()
            if source.likeness.points(layer) is None:
                work = partial(self._wanted, layer, lambda: source.likeness.read(layer))
                self.read(layer, work, f"reading {layer}", self._show_read, self.nearest.hide)
                return False
            found, distance = source.likeness.nearest(layer, sample, NEAREST)
            if len(found):
                self._draw([sample, *found.tolist()], np.array([np.nan, *distance]))
            else:
                only = "all samples are of one patient" if source.samples["patient"].nunique() < 2 else "none is known"
                self.nearest.hide(f"no neighbour of another patient: {only}")
        except StoreError as error:
            self.nearest.hide(str(error))
            return True
        return False

    def _show_read(self) -> None:
        self._show_nearest()
        self._show_projection()

    def _draw(self, samples: list[int], distance: Floats) -> None:
        """Draw pictures, the sample itself first; each from its darkest to its lightest."""
        source, state = self.source, self.state
        shown = []
        for sample, away in zip(samples, distance.tolist(), strict=True):
            picture = source.picture("image", sample, 0, state.slice, source.input_channel(state)).astype(np.float32)
            low, high = float(picture.min()), float(picture.max())
            scaled = (picture - low) / (high - low or 1.0)
            shown.append(Thumbnail(sample, *source.in_short(sample, state.slice), away, scaled, None))
        self.nearest.draw(ThumbnailGrid(shown), (0.0, 1.0), GREY)
        self.nearest.show_below(f"nearest of other patients in {state.layer}, and distance")
        self.nearest.mark(samples[0])

    @param.depends(*of_state(*SAMPLE, "layer", "condition", "method", "paint"))
    def _show_projection(self) -> None:
        source, state = self.source, self.state
        layer, c, method = state.layer, self.condition, state.method
        key = (layer, c, method)
        if not source.likeness.known:
            self.projection.hide("")
            return
        if (picture := source.likeness.picture(*key)) is None:
            work = partial(self._wanted, layer, lambda: source.likeness.draw(*key))
            self.read(key, work, f"projection of {layer}", self._show_projection, self.projection.hide)
            return
        name = {"pca": "principal components", "tsne": "t-SNE"}[method]
        share = f", {100 * picture.share:.0f} % of variance" if np.isfinite(picture.share) else ""
        some = "" if len(picture.samples) == len(source.samples) else f", {len(picture.samples)} samples drawn evenly"
        title = f"{layer} · {name}{share} · trustworthiness {picture.trustworthiness:.2f}{some}"
        self.projection.show(picture, self._groups[state.paint], self.sample, title, state.condition if c else "")

    def _wanted(self, layer: str, work: Callable[[], Any], _: object) -> object:
        """Do ``work``, unless the page shows another layer by then."""
        return work() if self.state.layer == layer else None


def _groups(session: Session) -> dict[Paint, Groups]:
    source = session.source
    names = list(source.store.class_names) if source.classified else source.foreground
    patients: NDArray[Any] = source.samples["patient"].to_numpy()
    number = {name: i for i, name in enumerate(source.patients)}
    of_patient = np.array([number[name] for name in patients], np.intp)
    return {"label": Groups(names, source.labels), "patient": Groups(source.patients, of_patient)}
