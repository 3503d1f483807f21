"""What all channels of a layer look for: their optima side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.analysis.optima import STATUSES, best_seed, channel_status
from actstore.errors import StoreError
from actstore.tables.optima import Optima, open_optima
from actstore.units import plural_of
from actstore.views.figures import marks
from actstore.views.figures.pixels import BARE
from actstore.views.figures.scales import Limits, Scale, check_scale, extremes
from actstore.views.figures.selection import channel_suffix, input_channel_number
from actstore.views.figures.theme import FAINT, GREY, SOFT, WIDTH, grid, panel, styled
from actstore.views.wording import number

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Statuses whose image shows nothing that the channel looks for.
BLANK = ("dead", "constant")
#: Pixels a side that an image of a sheet is drawn with: more are averaged.
MOST_SIDE = 96
#: Pixels of the screen: the width of an image at most, and the room above it for its channel.
WIDEST, HEAD = 140, 18
#: Room beside an image, as a share of its width.
GAP = 0.06
#: Images in a row: all of them up to the first number, and never more than the second.
ONE_ROW, MOST_COLUMNS = 8, 16
#: The grey of what is not an image.
WHITE = 255


def optima(
    store: Store,
    layer: str,
    *,
    of: str | None = None,
    scale: Literal["shared", "own"] = "shared",
    input_channel: int | str | None = None,
    z: int | None = None,
    width: int = WIDTH - 40,
) -> hv.Layout:
    """A contact sheet of a layer: the optimum of each channel, with its number; a sheet for each input channel.

    The optimum is that of the seed that reached the highest objective. A dead or constant channel has a blank tile that
    says so; a bounded one is named beside its number. Images of more than 96 pixels a side are averaged.

    Parameters
    ----------
    layer
        a layer's name, the path of a module that the store does not record, or "output" for the optima of classes.
    of
        name of the optima, where the store holds several.
    scale
        "shared": all images of a sheet on one scale, so that one that is nearly uniform looks so; "own": each from its
        least to its largest value.
    input_channel
        which channel of the input, by number or name, by default all.
    z
        slice of images that are volumes, by default the one at the centre.
    width
        of a sheet in pixels, at most: few images do not fill it.

    Raises
    ------
    StoreError
        if the store holds no optima, or several and none is named; or there is no such input channel or slice.
    KeyError
        naming the layers that there are.

    Examples
    --------
    >>> figure = views.optima(store, "L02")
    """
    check_scale(scale)
    found = open_optima(store, of)
    channels = found.channels(layer)
    at = list(channels.values())
    inputs = input_channels(store, input_channel)
    z = plane_of(found, z)
    best = best_of(found, at)
    sheets = [_Sheet(found, layer, list(channels), at, best, k, z, scale, width) for k in inputs]
    return grid([sheet.panel() for sheet in sheets], 1, sheets[0].screen, hspace=0.02, vspace=0.1)


def plane_of(optima: Optima, z: int | None) -> int | None:
    """The slice of an optimum that is shown: ``z``, by default the one at the centre; None in 2D.

    Raises
    ------
    StoreError
        if there is no such slice, or images are no volumes.
    """
    if len(optima.size) == 2:
        if z is not None:
            raise StoreError(f"z = {z}: the optima are images, not volumes; leave it out")
        return None
    depth = optima.size[0]
    if z is None:
        return depth // 2
    if not 0 <= z < depth:
        raise StoreError(f"z = {z} is outside 0..{depth - 1}, the slices of the optima")
    return z


def input_channels(store: Store, wanted: int | str | None) -> list[int]:
    """Numbers of the input channels to show: of the one that is named, or of all."""
    if wanted is None:
        return list(range(len(store.layout.input_channels)))
    return [input_channel_number(store, wanted, 0)]


def best_of(optima: Optima, at: list[int]) -> list[tuple[int, str]]:
    """Position of the best seed, the first where there is none, and the status, of each channel."""
    own = optima.small.isel(layer_channel=at)
    seeds = best_seed(own).clip(min=0).values
    return [(int(seed), STATUSES[code]) for seed, code in zip(seeds, channel_status(own).values, strict=True)]


def blank_tile(left: float, top: float, width: float, height: float, word: str) -> list[Any]:
    """A tile without an image that says why there is none."""
    edges = pd.DataFrame({"x0": [left], "y0": [top], "x1": [left + width], "y1": [top + height]})
    text = pd.DataFrame({"x": [left + width / 2], "y": [top + height / 2], "text": [word]})
    return [
        styled(
            hv.Rectangles(edges, ["x0", "y0", "x1", "y1"]),
            bokeh={"fill_color": FAINT, "line_color": None},
            matplotlib={"facecolor": FAINT, "edgecolor": "none"},
        ),
        marks.words(text, "x", "y", "text", align="center", colour=SOFT),
    ]


class _Sheet:
    """Images of one input channel in rows; positions are pixels of the whole sheet, from its upper left corner."""

    def __init__(
        self,
        optima: Optima,
        layer: str,
        channels: list[int],
        at: list[int],
        best: list[tuple[int, str]],
        input_channel: int,
        z: int | None,
        scale: Scale,
        width: int,
    ) -> None:
        images = optima.group["image"].isel(layer_channel=at, input_channel=input_channel)
        every = np.asarray((images if z is None else images.isel(z=z)).values, np.float32)
        kept = np.stack([_reduced(every[i, seed]) for i, (seed, _) in enumerate(best)])
        self.optima, self.channels, self.best, self.at = optima, channels, best, at
        self.height, self.width = kept.shape[1:]
        self.side = (self.width, self.height)
        shown = np.array([status not in BLANK for _, status in best])
        self.limits = extremes(kept[shown])
        self.images = np.stack([_grey(image, extremes(image) if scale == "own" else self.limits) for image in kept])
        # What is next to nothing, compared with the other end, is written as 0.
        least = 1e-3 * max(map(abs, self.limits))
        low, high = (number(end if abs(end) >= least else 0.0) for end in self.limits)
        of = f"grey from {low} to {high}"
        self.grey = "each from its least to its largest value" if scale == "own" else of
        if not shown.any():
            self.grey = "no image"
        plane = "" if z is None else f" · z {z}"
        what = "" if optima.noun == "channel" else f" · {plural_of(optima.noun)}"
        self.title = f"{layer}{what}{channel_suffix(optima.store, input_channel)}{plane} · {self.grey}"
        self.columns = _columns(len(channels), self.width / self.height)
        self.rows = -(-len(channels) // self.columns)
        self.gap = max(1, round(GAP * self.width))
        across = self.columns * (self.width + self.gap) - self.gap
        #: Pixels of the screen to one of the sheet.
        self.zoom = min(width, WIDEST * self.columns) / across
        self.head = max(2, round(HEAD / self.zoom))

    def corner(self, i: int) -> tuple[int, int]:
        """Left and upper edge of an image."""
        row, column = divmod(i, self.columns)
        return column * (self.width + self.gap), row * (self.height + self.head + self.gap) + self.head

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the sheet."""
        return (
            self.columns * (self.width + self.gap) - self.gap,
            self.rows * (self.height + self.head + self.gap) - self.gap,
        )

    @property
    def screen(self) -> tuple[int, int]:
        """(width, height) of the sheet in pixels of the screen."""
        across, down = (round(self.zoom * n) for n in self.size)
        return across, down

    def panel(self) -> hv.Overlay:
        across, down = self.size
        sheet = np.full((down, across), WHITE, np.uint8)
        tiles, words = [], []
        for i, (channel, (_, status)) in enumerate(zip(self.channels, self.best, strict=True)):
            left, top = self.corner(i)
            if status not in BLANK:
                sheet[top : top + self.height, left : left + self.width] = self.images[i]
            tiles.append(self._tile(i, left, top))
            words.append((left, top - 0.45 * self.head, f"{channel} {status}" if status == "bounded" else str(channel)))
        blank = [tile for tile in tiles if tile["status"] in BLANK]
        frame = pd.DataFrame(words, columns=["x", "y", "text"])
        return panel(
            [
                _picture(sheet),
                *(part for tile in blank for part in blank_tile(tile["x0"], tile["y0"], *self.side, tile["status"])),
                _hover(pd.DataFrame(tiles)),
                marks.words(frame, "x", "y", "text"),
            ],
            self.screen,
            title=self.title,
            xlim=(0, across),
            ylim=(0, down),
            **BARE,
        )

    def _tile(self, i: int, left: float, top: float) -> dict[str, Any]:
        """An image's place, and its numbers to show when pointed at."""
        own = self.optima.small.isel(layer_channel=self.at[i], seed=self.best[i][0])
        edges = {"x0": left, "y0": top, "x1": left + self.width, "y1": top + self.height}
        said = {"channel": self.channels[i], "status": self.best[i][1], "seed": int(own["seed"])}
        return edges | said | {"final": float(own["final"]), "data_max": float(own["data_max"])}


def _reduced(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image (y, x) averaged over as many pixels as leave at most :data:`MOST_SIDE` a side."""
    step = -(-max(image.shape) // MOST_SIDE)
    if step == 1:
        return image
    height, width = (n // step for n in image.shape)
    whole = image[: height * step, : width * step].reshape(height, step, width, step)
    return np.asarray(whole.mean(axis=(1, 3), dtype=np.float64), np.float32)


def _grey(image: NDArray[np.float32], limits: Limits) -> NDArray[np.uint8]:
    """Levels from 0 at the lower limit to :data:`WHITE` at the upper."""
    low, high = limits
    share = np.nan_to_num((image.astype(np.float64) - low) / max(high - low, 1e-12))
    return np.asarray(np.rint(WHITE * share.clip(0, 1)), np.uint8)


def _columns(count: int, aspect: float) -> int:
    """How many images stand in a row of a sheet that is wider than high."""
    if count <= ONE_ROW:
        return count
    return int(np.clip(np.ceil(np.sqrt(1.6 * count / aspect)), ONE_ROW, MOST_COLUMNS))


def _picture(sheet: NDArray[np.uint8]) -> hv.Image:
    height, width = sheet.shape
    # Coordinates are edges, as of the tiles over it, and row 0 lies on top.
    drawn = hv.Image((np.arange(width) + 0.5, np.arange(height) + 0.5, sheet), ["x", "y"], "level")
    return styled(
        drawn.redim.range(level=(0, WHITE)),
        cmap=GREY,
        clim=(0, WHITE),
        colorbar=False,
        matplotlib={"interpolation": "nearest"},
    )


def _hover(tiles: pd.DataFrame) -> hv.Rectangles:
    """Nothing that is seen: shows a tile's numbers when pointed at."""
    edges = ["x0", "y0", "x1", "y1"]
    others = [name for name in tiles.columns if name not in edges]
    return styled(
        hv.Rectangles(tiles, edges, others),
        bokeh={
            "fill_alpha": 0,
            "line_alpha": 0,
            "tools": ["hover"],
            "hover_tooltips": [(name, f"@{{{name}}}") for name in others],
        },
        matplotlib={"facecolor": "none", "edgecolor": "none"},
    )
