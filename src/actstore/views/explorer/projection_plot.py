"""Samples in the plane: a dot each on the original, an arrow to where the condition moves it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import panel as pn
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Arrow, VeeHead
from markupsafe import Markup
from numpy.typing import NDArray

from actstore.views.explorer.html import html_pane, note
from actstore.views.explorer.likeness import Picture
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.streamed import StreamedFigure, nothing, on_tap, small_figure
from actstore.views.figures.theme import PALETTE

HEIGHT = 300
#: Samples up to which each has an arrow; of more, only the one that is shown.
FEW = 60
_DOTS = ("x", "y", "colour", "of", "group")


class Groups:
    """Names of groups, and the group of each sample.

    Parameters
    ----------
    names
        of the groups that there are.
    of
        number of each sample's group, -1 for none: int (sample).
    """

    def __init__(self, names: Sequence[str], of: NDArray[np.intp]) -> None:
        self.names = np.array([*names, ""], object)
        self.of = of

    @property
    def few(self) -> bool:
        """Whether every group can have a colour of its own."""
        return len(self.names) - 1 <= len(PALETTE)

    def colours(self, theme: PageTheme, sample: int) -> NDArray[Any]:
        """A colour a sample: of its group, or where these are many, of the group of ``sample`` alone."""
        if self.few:
            return np.array([*PALETTE[: len(self.names) - 1], theme.neutral], object)[self.of]
        own = (self.of == self.of[sample]) & (self.of >= 0)
        return np.where(own, theme.accent, theme.neutral).astype(object)

    def legend(self, theme: PageTheme, sample: int) -> Markup:
        """What the colours are."""
        cell = Markup('<span class="swatch"><u style="background:{}"></u>{}</span>')
        if self.few:
            shown = [*zip(PALETTE, self.names[:-1], strict=False)]
            shown += [(theme.neutral, "none")] if (self.of < 0).any() else []
        else:
            own = self.names[self.of[sample]]
            shown = [(theme.accent, own), (theme.neutral, "others")] if own else [(theme.neutral, "others")]
        return Markup("").join(cell.format(colour, name) for colour, name in shown)


class ProjectionPlot:
    """The figure, its legend above; ``go`` is called with the number of a tapped sample."""

    def __init__(self, theme: PageTheme, names: NDArray[Any], go: Callable[[int], None]) -> None:
        self._theme, self._names, self._go = theme, names, go
        tools: dict[str, Any] = {"tools": "pan,wheel_zoom,reset", "active_scroll": "wheel_zoom"}
        size: dict[str, Any] = {"sizing_mode": "stretch_width", "height": HEIGHT}
        plot = small_figure(**tools, **size, title=" ", x_range=(0, 1), y_range=(0, 1))
        self._arrows = ColumnDataSource({name: [] for name in ("x0", "y0", "x1", "y1", "colour")})
        head = VeeHead(size=7, fill_color="colour", line_color="colour")
        ends: dict[str, Any] = {"x_start": "x0", "y_start": "y0", "x_end": "x1", "y_end": "y1"}
        ends |= {"line_color": "colour", "line_width": 1.2}
        plot.add_layout(Arrow(end=head, **ends, source=self._arrows))
        fill = {"fill_color": "colour", "line_color": "colour"}
        original = plot.scatter("x", "y", size=6, fill_alpha=0.75, **fill, source=nothing(*_DOTS))
        moved = plot.scatter("x", "y", size=6, marker="diamond", **fill | {"fill_alpha": 0.25}, source=nothing(*_DOTS))
        ring = {"fill_color": None, "line_color": theme.ink, "line_width": 2}
        plot.scatter([], [], size=13, **ring)
        plot.add_tools(HoverTool(tooltips=[("", "@of"), ("", "@group")], renderers=[original, moved]))
        self.figure = StreamedFigure(plot, ("original", "moved", "shown"))
        self.figure.view.sizing_mode = "stretch_width"
        self.head = html_pane()
        self._holder = pn.Column(self.figure.view, sizing_mode="stretch_width", margin=0, visible=False)
        self.view = pn.Column(self.head, self._holder, sizing_mode="stretch_width", margin=0)
        self.picture: Picture | None = None
        #: What the dots show.
        self._drawn: Hashable = None
        on_tap(plot, self._tapped)

    def _tapped(self, x: float, y: float) -> None:
        if self.picture is None:
            return
        ranges = (self.figure.plot.x_range, self.figure.plot.y_range)
        width, height = (abs(along.end - along.start) or 1.0 for along in ranges)
        if (found := self.picture.at(x, y, (width, height))) is not None:
            self._go(found)

    def hide(self, message: str) -> None:
        """Show a message in place of the figure."""
        self.picture = None
        self.head.object = str(note(message))
        self._holder.visible = False

    def show(self, picture: Picture, groups: Groups, sample: int, title: str, condition: str) -> None:
        """Draw a picture, ``sample`` marked; ``condition`` is "" for the original alone."""
        figure, theme = self.figure, self._theme
        if picture is not self.picture:
            self.picture, self._drawn = picture, None
            finite = picture.places[np.isfinite(picture.places).all(axis=-1)]
            for along, ends in zip((figure.plot.x_range, figure.plot.y_range), finite.T, strict=True):
                low, high = float(ends.min()), float(ends.max())
                margin = 0.06 * (high - low) or 1.0
                along.update(start=low - margin, end=high + margin, reset_start=low - margin, reset_end=high + margin)
            kind = "component" if picture.method == "pca" else "t-SNE"
            figure.plot.xaxis[0].axis_label, figure.plot.yaxis[0].axis_label = f"{kind} 1", f"{kind} 2"
        at = picture.samples
        colour = groups.colours(theme, sample)[at]
        about = {"of": self._names[at], "group": groups.names[groups.of[at]]}
        # Thousands of dots are not sent again at every step through the samples.
        if self._drawn != (drawn_for := (id(groups), -1 if groups.few else int(groups.of[sample]))):
            self._drawn = drawn_for
            self._put("original", picture.places[:, 0], {**about, "colour": colour})
        ends = picture.places[:, -1]
        moved = np.isfinite(ends).all(axis=1) if condition else np.zeros(len(at), bool)
        joined = moved & ((at == sample) | (len(at) <= FEW))
        drawn = moved if len(at) <= FEW else joined
        self._put("moved", ends[drawn], {name: values[drawn] for name, values in {**about, "colour": colour}.items()})
        start, stop = picture.places[joined, 0], ends[joined]
        own = np.where(at[joined] == sample, theme.ink, colour[joined])
        self._arrows.data = {"x0": start[:, 0], "y0": start[:, 1], "x1": stop[:, 0], "y1": stop[:, 1], "colour": own}
        mark = picture.places[at == sample, 0]
        figure.put("shown", x=mark[:, 0], y=mark[:, 1])
        figure.plot.title.text = title
        keys = Markup('<span class="swatch">● original</span>')
        if condition:
            keys += Markup('<span class="swatch">→ ◆ {}{}</span>').format(
                condition, "" if len(at) <= FEW else ", of the sample shown"
            )
        missing = "" if len(mark) else "the sample shown is not among those drawn"
        self.head.object = str(Markup("<p>{}{}</p>{}").format(groups.legend(theme, sample), keys, note(missing)))
        self._holder.visible = True

    def _put(self, glyph: str, places: NDArray[Any], columns: dict[str, Any]) -> None:
        self.figure.put(glyph, x=places[:, 0], y=places[:, 1], **columns)
