"""The samples in which a channel responds most: their maps side by side in one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.units import counted
from actstore.views import marks, pixels
from actstore.views.explorer.html import legend
from actstore.views.explorer.look import Look
from actstore.views.explorer.plots import Plot
from actstore.views.explorer.statistics import Floats
from actstore.views.images import CHANGE
from actstore.views.pixels import Place, border_paths
from actstore.views.theme import DIVERGING
from actstore.views.wording import number

#: How many maps, and how many of them in a row.
MOST, COLUMNS = 8, 4
#: Pixels a side that a map is drawn with: fewer are drawn larger, more are averaged.
LEAST_SIDE, MOST_SIDE = 16, 128
#: Of the height and width of a map: room above it for two lines of text, and beside it.
HEAD, GAP = 0.34, 0.07
#: Pixels of the screen that all maps may take: (width, height).
ROOM = (470, 226)
#: Characters of a patient's name that fit over a map.
FITS = 15


@dataclass(frozen=True)
class Tile:
    """One sample's map."""

    sample: int
    patient: str
    frame: int
    slice: int
    mad: float
    #: perturbed - original: (y, x).
    change: Floats
    #: Share of each pixel that the perturbed class covers; None where no class is perturbed.
    cover: Floats | None

    @property
    def title(self) -> str:
        """In two lines, short enough to stand over a map."""
        name = self.patient if len(self.patient) <= FITS else self.patient[: FITS - 1] + "…"
        return f"{name}\nf{self.frame} · s{self.slice} · {number(self.mad)}"


class Mosaic:
    """Tiles of one layer in rows of :data:`COLUMNS`; positions are pixels of the whole."""

    def __init__(self, tiles: list[Tile]) -> None:
        self.tiles = tiles[:MOST]
        shape = self.tiles[0].change.shape if self.tiles else (1, 1)
        #: How many pixels of a map are averaged into one a side, and how many one is repeated.
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
        """The largest change in any map, either way."""
        found = [float(np.nanmax(np.abs(tile.change))) for tile in self.tiles if np.isfinite(tile.change).any()]
        return max(found, default=0.0)

    def corner(self, i: int) -> tuple[int, int]:
        """The first (y, x) of a tile's map."""
        row, column = divmod(i, COLUMNS)
        return row * (self.size[0] + self.head) + self.head, column * (self.size[1] + self.gap)

    def at(self, x: float, y: float) -> int | None:
        """The sample whose map, or title, lies at a position; None beside them."""
        column, row = int((x + 0.5) // (self.size[1] + self.gap)), int((y + 0.5) // (self.size[0] + self.head))
        i = row * COLUMNS + column
        if not (0 <= column < COLUMNS and row >= 0 and i < len(self.tiles)):
            return None
        return self.tiles[i].sample if (x + 0.5) % (self.size[1] + self.gap) <= self.size[1] else None

    @property
    def edges(self) -> dict[str, Floats]:
        """Where each map ends: float64 (tile)."""
        y, x = np.array([self.corner(i) for i in range(len(self.tiles))], float).reshape(-1, 2).T - 0.5
        return {"left": x, "right": x + self.size[1], "top": y, "bottom": y + self.size[0]}

    @property
    def values(self) -> Floats:
        """float32 (y, x), NaN between the maps."""
        found = np.full(self.shape, np.nan if self.tiles else 0.0, np.float32)
        for i, tile in enumerate(self.tiles):
            y, x = self.corner(i)
            found[y : y + self.size[0], x : x + self.size[1]] = self._scaled(tile.change)
        return found

    def _scaled(self, change: Floats) -> Floats:
        n, (height, width) = self.fewer, change.shape
        if n > 1:
            # A few pixels at the last edge make no whole one.
            cut = change[: height // n * n, : width // n * n].astype(np.float32)
            change = cut.reshape(height // n, n, width // n, n).mean(axis=(1, 3))
        return change.repeat(self.more, axis=0).repeat(self.more, axis=1)

    @property
    def outlines(self) -> Floats:
        """Borders of the perturbed class, (2, point) x and y, broken by NaN."""
        scale = self.more / self.fewer
        parts = [np.empty((2, 0))]
        for i, tile in enumerate(self.tiles):
            if tile.cover is not None:
                place = Place((scale, scale), self.corner(i))
                for path in border_paths([(tile.cover, "")], place=place):
                    parts += [np.stack([path["x"], path["y"]]), np.full((2, 1), np.nan)]
        return np.concatenate(parts, axis=1)


class Maps(Plot):
    """The figure of a mosaic; a tap finds the sample of a map."""

    def __init__(self, look: Look, space: Sequence[int], go: Callable[[int], None]) -> None:
        names, corners = ["patient", "frame", "slice", "MAD"], ["x0", "y0", "x1", "y1"]
        image = pixels.image(np.zeros((2, 2), np.float32), DIVERGING, (-1.0, 1.0)).opts(tools=[], backend="bokeh")
        edges = hv.Rectangles([], corners, names).opts(
            fill_alpha=0,
            line_color=look.neutral,
            line_width=0.5,
            tools=["hover"],
            hover_tooltips=[(name, f"@{{{name}}}") for name in names],
            backend="bokeh",
        )
        here = hv.Rectangles([], corners).opts(fill_alpha=0, line_color=look.accent, line_width=2.5, backend="bokeh")
        nothing = pd.DataFrame({"x": [], "y": [], "text": []})
        titles = marks.words(nothing, "x", "y", "text", align="center", colour=look.ink)
        titles = titles.opts(text_baseline="bottom", text_font_size="10px", backend="bokeh")
        parts = [image, edges, marks.line([], [], "#111111", width=1.2), titles, here]
        width, height = frame_of(space)
        super().__init__(parts, look, go, frame_width=width, frame_height=height, **pixels.BARE)
        self.mosaic = Mosaic([])

    def at(self, x: float, y: float) -> int | None:
        """The sample at a position."""
        return self.mosaic.at(x, y)

    def show(self, mosaic: Mosaic, among: int) -> None:
        """Draw all maps, their titles and outlines: of ``among`` so many samples the strongest."""
        self.mosaic, tiles, live = mosaic, mosaic.tiles, self.live
        height, width = mosaic.shape
        limits = (-mosaic.most, mosaic.most)
        live.put_image(0, mosaic.values, limits)
        edges = mosaic.edges
        about = {name: [getattr(tile, name) for tile in tiles] for name in ("patient", "frame", "slice")}
        live.put(1, **edges, **about, MAD=[round(tile.mad, 5) for tile in tiles])
        x, y = mosaic.outlines
        live.put(2, x=x, y=y)
        above = edges["top"] - 0.03 * mosaic.size[0]
        middle = (edges["left"] + edges["right"]) / 2
        live.put(3, x=middle, y=above, text=[tile.title for tile in tiles])
        self.reach((-1.0, width + 0.5), (height - 0.5 + mosaic.gap / 2, -0.5))
        self.told(legend(f"strongest of {counted(among, 'sample')}: {CHANGE}", (DIVERGING, limits)))

    def mark(self, sample: int) -> None:
        """Frame the map of a sample, if it is there."""
        own = [tile.sample == sample for tile in self.mosaic.tiles]
        self.live.put(4, **{name: ends[own] for name, ends in self.mosaic.edges.items()})


def frame_of(space: Sequence[int]) -> tuple[int, int]:
    """Pixels of the screen, wide and high, for the maps of an input of ``space`` ([z,] y, x)."""
    y, x = (n / max(space[-2:]) for n in space[-2:])
    width, height = COLUMNS * (x + GAP) - GAP, MOST // COLUMNS * (y + HEAD)
    scale = min(ROOM[0] / width, ROOM[1] / height)
    return round(width * scale), round(height * scale)
