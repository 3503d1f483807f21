"""Small pictures of samples side by side in one image: maps in which a channel responds most, or neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.units import counted
from actstore.views.arrays import Floats
from actstore.views.explorer.channel_plot import ChannelPlot
from actstore.views.explorer.html import legend
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.figures import marks, pixels
from actstore.views.figures.images import CHANGE
from actstore.views.figures.pixels import Place, border_paths
from actstore.views.figures.scales import Limits
from actstore.views.figures.theme import DIVERGING
from actstore.views.wording import number

#: How many maps, and how many of them in a row.
MOST, COLUMNS = 8, 4
#: Pixels a side that a map is drawn with: fewer are drawn larger, more are averaged.
LEAST_SIDE, MOST_SIDE = 16, 128
#: Room above a map for two lines of text, and beside it, as a share of its larger side.
HEAD, GAP = 0.34, 0.07
#: Pixels of the screen that all maps may take: (width, height).
ROOM = (470, 226)
#: Characters of a patient's name that fit over a map.
FITS = 15


@dataclass(frozen=True)
class Thumbnail:
    """One sample's map or picture."""

    sample: int
    #: What the sample is called, as :meth:`actstore.views.explorer.source.Source.in_short` does.
    name: str
    place: str
    #: What it is shown for: MAD, or a distance; NaN for none.
    value: float
    #: Of a map perturbed - original: (y, x).
    pixels: Floats
    #: Share of each pixel that the perturbed class covers; None where no class is perturbed.
    cover: Floats | None

    @property
    def title(self) -> str:
        """In two lines, short enough to stand over a map."""
        name = self.name if len(self.name) <= FITS else self.name[: FITS - 1] + "…"
        return f"{name}\n{self.place} · {number(self.value)}" if np.isfinite(self.value) else f"{name}\n{self.place}"


class ThumbnailGrid:
    """Maps of one layer in rows of :data:`COLUMNS`; positions are pixels of the whole image."""

    def __init__(self, thumbnails: list[Thumbnail]) -> None:
        self.thumbnails = thumbnails[:MOST]
        shape = self.thumbnails[0].pixels.shape if self.thumbnails else (1, 1)
        #: How many pixels of a map are averaged into one a side, and how often one is repeated.
        self.fewer = -(-max(shape) // MOST_SIDE)
        self.more = -(-LEAST_SIDE // max(shape))
        #: Size of a map as it is drawn: (y, x).
        self.size = (shape[0] // self.fewer * self.more or 1, shape[1] // self.fewer * self.more or 1)
        self.head = round(HEAD * max(self.size))
        self.gap = max(1, round(GAP * max(self.size)))
        rows = -(-MOST // COLUMNS)
        self.shape = (rows * (self.size[0] + self.head), COLUMNS * (self.size[1] + self.gap) - self.gap)

    @property
    def most(self) -> float:
        """The largest value in any map, either way."""
        changes = [np.abs(one.pixels) for one in self.thumbnails]
        return max((float(np.nanmax(change)) for change in changes if np.isfinite(change).any()), default=0.0)

    def corner(self, i: int) -> tuple[int, int]:
        """The first (y, x) of a map."""
        row, column = divmod(i, COLUMNS)
        return row * (self.size[0] + self.head) + self.head, column * (self.size[1] + self.gap)

    def at(self, x: float, y: float) -> int | None:
        """The sample whose map or title lies at a position; None beside them."""
        column, row = int((x + 0.5) // (self.size[1] + self.gap)), int((y + 0.5) // (self.size[0] + self.head))
        i = row * COLUMNS + column
        if not (0 <= column < COLUMNS and row >= 0 and i < len(self.thumbnails)):
            return None
        return self.thumbnails[i].sample if (x + 0.5) % (self.size[1] + self.gap) <= self.size[1] else None

    @property
    def edges(self) -> dict[str, Floats]:
        """The ends of each map: float64 (map)."""
        y, x = np.array([self.corner(i) for i in range(len(self.thumbnails))], float).reshape(-1, 2).T - 0.5
        return {"left": x, "right": x + self.size[1], "top": y, "bottom": y + self.size[0]}

    @property
    def values(self) -> Floats:
        """float32 (y, x), NaN between the maps."""
        found = np.full(self.shape, np.nan if self.thumbnails else 0.0, np.float32)
        for i, one in enumerate(self.thumbnails):
            y, x = self.corner(i)
            found[y : y + self.size[0], x : x + self.size[1]] = self._scaled(one.pixels)
        return found

    def _scaled(self, pixels: Floats) -> Floats:
        n, (height, width) = self.fewer, pixels.shape
        if n > 1:
            # Drop the last pixels that do not fill a whole one.
            cut = pixels[: height // n * n, : width // n * n].astype(np.float32)
            pixels = cut.reshape(height // n, n, width // n, n).mean(axis=(1, 3))
        return pixels.repeat(self.more, axis=0).repeat(self.more, axis=1)

    @property
    def outlines(self) -> Floats:
        """Borders of the perturbed class, (2, point) x and y, broken by NaN."""
        scale = self.more / self.fewer
        lines = [np.empty((2, 0))]
        for i, one in enumerate(self.thumbnails):
            if one.cover is not None:
                place = Place((scale, scale), self.corner(i))
                for path in border_paths([(one.cover, "")], place=place):
                    lines += [np.stack([path["x"], path["y"]]), np.full((2, 1), np.nan)]
        return np.concatenate(lines, axis=1)


class ThumbnailPlot(ChannelPlot):
    """The figure of the thumbnails; a tap finds the sample of a map."""

    def __init__(
        self,
        theme: PageTheme,
        space: Sequence[int],
        go: Callable[[int], None],
        *,
        value: str = "MAD",
        cmap: str = DIVERGING,
    ) -> None:
        names, corners = ["sample", "at", value], ["x0", "y0", "x1", "y1"]
        self._value, self._cmap = value, cmap
        image = pixels.image(np.zeros((2, 2), np.float32), cmap, (-1.0, 1.0))
        nothing = pd.DataFrame({"x": [], "y": [], "text": []})
        titles = marks.words(nothing, "x", "y", "text", align="center", colour=theme.ink)
        glyphs = {
            "image": image.opts(tools=[], backend="bokeh"),
            "edges": hv.Rectangles([], corners, names).opts(
                fill_alpha=0,
                line_color=theme.neutral,
                line_width=0.5,
                tools=["hover"],
                hover_tooltips=[(name, f"@{{{name}}}") for name in names],
                backend="bokeh",
            ),
            "outlines": marks.line([], [], "#111111", width=1.2),
            "titles": titles.opts(text_baseline="bottom", text_font_size="10px", backend="bokeh"),
            "shown": hv.Rectangles([], corners).opts(
                fill_alpha=0, line_color=theme.accent, line_width=2.5, backend="bokeh"
            ),
        }
        width, height = screen_size(space)
        super().__init__(glyphs, go, frame_width=width, frame_height=height, **pixels.BARE)
        self.grid = ThumbnailGrid([])

    def at(self, x: float, y: float) -> int | None:
        """The sample at a position."""
        return self.grid.at(x, y)

    def show_strongest(self, grid: ThumbnailGrid, among: int) -> None:
        """Draw maps of change: the strongest of ``among`` samples."""
        limits = (-grid.most, grid.most)
        self.draw(grid, limits)
        self.show_below(legend(f"strongest of {counted(among, 'sample')}: {CHANGE}", (self._cmap, limits)))

    def draw(self, grid: ThumbnailGrid, limits: Limits) -> None:
        """Draw all pictures between ``limits``, their titles and outlines."""
        self.grid, thumbnails, figure = grid, grid.thumbnails, self.figure
        height, width = grid.shape
        figure.put_image("image", grid.values, limits)
        edges = grid.edges
        about = {"sample": [one.name for one in thumbnails], "at": [one.place for one in thumbnails]}
        figure.put("edges", **edges, **about, **{self._value: [round(one.value, 5) for one in thumbnails]})
        x, y = grid.outlines
        figure.put("outlines", x=x, y=y)
        above = edges["top"] - 0.03 * grid.size[0]
        middle = (edges["left"] + edges["right"]) / 2
        figure.put("titles", x=middle, y=above, text=[one.title for one in thumbnails])
        self.set_limits((-1.0, width + 0.5), (height - 0.5 + grid.gap / 2, -0.5))

    def mark(self, sample: int) -> None:
        """Frame the map of a sample, if it is there."""
        own = [one.sample == sample for one in self.grid.thumbnails]
        self.figure.put("shown", **{name: ends[own] for name, ends in self.grid.edges.items()})


def screen_size(space: Sequence[int]) -> tuple[int, int]:
    """Pixels of the screen, wide and high, for the maps of an input of ``space`` ([z,] y, x)."""
    y, x = (n / max(space[-2:]) for n in space[-2:])
    width, height = COLUMNS * (x + GAP) - GAP, MOST // COLUMNS * (y + HEAD)
    scale = min(ROOM[0] / width, ROOM[1] / height)
    return round(width * scale), round(height * scale)
