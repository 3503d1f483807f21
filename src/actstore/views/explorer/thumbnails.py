"""Small pictures of samples side by side in one image: maps in which a channel responds most, or neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.models import HoverTool, LinearColorMapper
from numpy.typing import NDArray

from actstore.views.arrays import Floats
from actstore.views.explorer.channel_plot import ChannelPlot
from actstore.views.explorer.colour_maps import ink, on_page, palette
from actstore.views.explorer.html import legend
from actstore.views.explorer.page_theme import PageTheme
from actstore.views.explorer.streamed import IMAGE, nothing, set_limits, small_figure
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
#: How many values the colours of a map are distinguish.
LEVELS = 255
_EDGES = ("left", "right", "top", "bottom")


@dataclass(frozen=True)
class Thumbnail:
    """The map or picture of a sample or a channel."""

    number: int
    #: What it is called, a sample as :meth:`actstore.views.explorer.source.Source.in_short` does.
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
        """In two lines, short enough to stand over a map; of what has no place, its name."""
        if not self.place:
            return self.name
        name = self.name if len(self.name) <= FITS else self.name[: FITS - 1] + "…"
        return f"{name}\n{self.place} · {number(self.value)}" if np.isfinite(self.value) else f"{name}\n{self.place}"


class ThumbnailGrid:
    """Maps of one size in rows of ``columns``; positions are pixels of the whole image.

    Parameters
    ----------
    rows
        for which there is room, also where there are fewer maps; None: as many as they take.
    side
        pixels a side that a map has at most.
    head
        room above each, as a share of its larger side.
    """

    def __init__(
        self,
        thumbnails: list[Thumbnail],
        columns: int = COLUMNS,
        rows: int | None = MOST // COLUMNS,
        *,
        side: int = MOST_SIDE,
        head: float = HEAD,
    ) -> None:
        rows = rows or -(-len(thumbnails) // columns)
        self.thumbnails, self.columns = thumbnails[: rows * columns], columns
        shape = self.thumbnails[0].pixels.shape if self.thumbnails else (1, 1)
        #: How many pixels of a map are averaged into one a side, and how often one is repeated.
        self.fewer = -(-max(shape) // side)
        self.more = -(-LEAST_SIDE // max(shape))
        #: Size of a map as it is drawn: (y, x).
        self.size = (shape[0] // self.fewer * self.more or 1, shape[1] // self.fewer * self.more or 1)
        self.head = round(head * max(self.size))
        self.gap = max(1, round(GAP * max(self.size)))
        self.shape = (rows * (self.size[0] + self.head), columns * (self.size[1] + self.gap) - self.gap)

    @property
    def most(self) -> float:
        """The largest value in any map, either way."""
        changes = [np.abs(one.pixels) for one in self.thumbnails]
        return max((float(np.nanmax(change)) for change in changes if np.isfinite(change).any()), default=0.0)

    def corner(self, i: int) -> tuple[int, int]:
        """The first (y, x) of a map."""
        row, column = divmod(i, self.columns)
        return row * (self.size[0] + self.head) + self.head, column * (self.size[1] + self.gap)

    def at(self, x: float, y: float) -> int | None:
        """The number of the map that lies with its title at a position; None beside them."""
        column, row = int((x + 0.5) // (self.size[1] + self.gap)), int((y + 0.5) // (self.size[0] + self.head))
        i = row * self.columns + column
        if not (0 <= column < self.columns and row >= 0 and i < len(self.thumbnails)):
            return None
        return self.thumbnails[i].number if (x + 0.5) % (self.size[1] + self.gap) <= self.size[1] else None

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
    """The figure of the thumbnails; a tap finds the number of one. ``options`` are those of the figure."""

    def __init__(
        self,
        theme: PageTheme,
        go: Callable[[int], None],
        *,
        names: tuple[str, str, str] = ("sample", "at", "MAD"),
        **options: Any,
    ) -> None:
        self._names, self._theme = names, theme.name
        plot = small_figure(x_axis_type=None, y_axis_type=None, x_range=(0, 1), y_range=(1, 0), min_border=0, **options)
        mapper = LinearColorMapper(palette=palette(DIVERGING), high_color="rgba(0, 0, 0, 0)")
        plot.image("image", "x", "y", "dw", "dh", color_mapper=mapper, source=nothing(*IMAGE))
        edge = {"fill_alpha": 0, "line_color": theme.neutral, "line_width": 0.5}
        edges = plot.quad(*_EDGES, **edge, source=nothing(*_EDGES, *filter(None, names)))
        plot.line([], [], line_color="#111111", line_width=1.2)
        word: dict[str, Any] = {"text_align": "center", "text_color": theme.ink, "text_font_size": "10px"}
        plot.text("x", "y", "text", text_baseline="bottom", **word, source=nothing("x", "y", "text"))
        plot.quad(*_EDGES, fill_alpha=0, line_color=theme.accent, line_width=2.5, source=nothing(*_EDGES))
        plot.add_tools(HoverTool(tooltips=[(name, f"@{{{name}}}") for name in names if name], renderers=[edges]))
        super().__init__(plot, ("image", "edges", "outlines", "titles", "shown"), go)
        self.grid = ThumbnailGrid([])

    def at(self, x: float, y: float) -> int | None:
        """The number of the thumbnail at a position."""
        return self.grid.at(x, y)

    def show_strongest(self, grid: ThumbnailGrid, among: str) -> None:
        """Draw maps of change: the strongest ``among`` so many samples, such as "12 slices"."""
        limits = (-grid.most, grid.most)
        self.draw(grid, limits)
        self.show_below(legend(f"strongest of {among}: {CHANGE}", (on_page(DIVERGING, self._theme), limits)))

    def draw(self, grid: ThumbnailGrid, limits: Limits, cmap: str = DIVERGING) -> None:
        """Draw all pictures in the colours of ``cmap`` between ``limits``, their titles and outlines."""
        self.grid, thumbnails, figure = grid, grid.thumbnails, self.figure
        height, width = grid.shape
        figure.put_image("image", _levels(grid.values, limits), (0, LEVELS - 1))
        shown = on_page(cmap, self._theme)
        figure.put_palette("image", shown)
        figure.style("outlines", line_color=ink(shown))
        edges = grid.edges
        rows = ([one.name, one.place, round(one.value, 5)] for one in thumbnails)
        about = dict(zip(self._names, zip(*rows, strict=True), strict=True)) if thumbnails else {}
        figure.put("edges", **edges, **{name: list(about.get(name, ())) for name in self._names if name})
        x, y = grid.outlines
        figure.put("outlines", x=x, y=y)
        above = edges["top"] - 0.03 * grid.size[0]
        middle = (edges["left"] + edges["right"]) / 2
        figure.put("titles", x=middle, y=above, text=[one.title for one in thumbnails])
        set_limits(figure.plot, (-1.0, width + 0.5), (height - 0.5 + grid.gap / 2, -0.5))

    def mark(self, number: int) -> None:
        """Frame one of the thumbnails, if it is there."""
        own = [one.number == number for one in self.grid.thumbnails]
        self.figure.put("shown", **{name: ends[own] for name, ends in self.grid.edges.items()})


def _levels(values: Floats, limits: Limits) -> NDArray[np.uint8]:
    """Values as one of :data:`LEVELS` between limits, and one more for NaN: a quarter of the bytes of float32."""
    low, high = limits
    scaled = (values - low) * ((LEVELS - 1) / max(high - low, 1e-12))
    return np.where(np.isnan(values), LEVELS, scaled.clip(0, LEVELS - 1).round()).astype(np.uint8)


def resized(pixels: Floats, shape: Sequence[int]) -> Floats:
    """Pixels (y, x) as one of a grid of ``shape``, each from the nearest one."""
    y, x = (np.arange(to) * own // to for own, to in zip(pixels.shape, shape, strict=True))
    return pixels[np.ix_(y, x)]


def screen_size(space: Sequence[int]) -> dict[str, Any]:
    """Options of a figure: pixels of the screen for the maps of an input of ``space`` ([z,] y, x)."""
    y, x = (n / max(space[-2:]) for n in space[-2:])
    width, height = COLUMNS * (x + GAP) - GAP, MOST // COLUMNS * (y + HEAD)
    scale = min(ROOM[0] / width, ROOM[1] / height)
    return {"frame_width": round(width * scale), "frame_height": round(height * scale)}
