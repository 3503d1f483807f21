"""Images and outlines in pixels of the network's input, row 0 on top: what every picture is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import holoviews as hv
import numpy as np
from numpy.typing import NDArray

from actstore.analysis.members import mask_of
from actstore.geometry import Grid
from actstore.views.figures.theme import FAINT, colours_of, styled, tint

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Options of a plot that shows an image.
BARE: dict[str, Any] = {"xaxis": None, "yaxis": None, "invert_yaxis": True, "show_grid": False}


class Place(NamedTuple):
    """Where the pixels of a layer lie on the input: (y, x) each of how many of its pixels one is wide, and where the
    first begins."""

    stride: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def centre(self, index: NDArray[Any], axis: int) -> NDArray[np.float64]:
        """Pixel numbers of the layer, whole at their centres, as those of the input."""
        return np.asarray((index + 0.5) * self.stride[axis] + self.offset[axis] - 0.5, dtype=np.float64)


#: Of the input itself.
ON_INPUT = Place()


def place_of(grid: Grid) -> Place:
    """Of a layer whose pixels lie on ``grid``, of which y and x are the last axes."""
    return Place((grid.step[-2], grid.step[-1]), (grid.low[-2], grid.low[-1]))


def image(
    values: NDArray[Any],
    cmap: str,
    limits: tuple[float, float],
    *,
    place: Place = ON_INPUT,
    colorbar: bool = False,
    nan: str = FAINT,
) -> hv.Image:
    """``values`` (y, x) coloured between ``limits``; the dims are x and y in pixels of the input, and value.

    NaN has the colour ``nan``, by default one that no value has; "transparent" shows what lies below.
    """
    height, width = values.shape
    low, high = limits
    # Row 0 lies on top: coordinates are pixel numbers, and the axis of y is turned. Bokeh knows no float16.
    shown = values if values.dtype == np.float64 else values.astype(np.float32, copy=False)
    drawn = hv.Image(
        (place.centre(np.arange(width), 1), place.centre(np.arange(height), 0), shown), ["x", "y"], "value"
    )
    ends = (low, low + max(high - low, 1e-12))
    # A range that is given is not looked for, and none could be found where all is NaN.
    return styled(
        drawn.redim.range(value=ends),
        cmap=cmap,
        clim=ends,
        colorbar=colorbar,
        clabel="",
        clipping_colors={"NaN": nan},
        bokeh={"tools": ["hover"], "colorbar_opts": {"width": 8, "padding": 4}},
        matplotlib={"interpolation": "nearest", "cbar_width": 0.04, "cbar_padding": 0.03},
    )


def outlines(store: Store, label: NDArray[Any] | None, prediction: NDArray[Any] | None = None) -> list[hv.Contours]:
    """Borders of every class and region: of the truth ``label`` (y, x) solid, of a ``prediction`` dashed."""
    colours = [(store.members[name], colour) for name, colour in colours_of(store).items()]
    found = []
    if label is not None:
        found += border([(mask_of(label, of), colour) for of, colour in colours], width=2.2)
    if prediction is not None:
        light = [(mask_of(prediction, of), tint(colour, 0.45)) for of, colour in colours]
        found += border(light, width=1.7, dashed=True)
    return found


def border(
    masks: Sequence[tuple[NDArray[Any], str]], *, width: float, dashed: bool = False, place: Place = ON_INPUT
) -> list[hv.Contours]:
    """The border of each mask (y, x) in its colour, closed where it meets the border of the image; none of no mask."""
    paths = border_paths(masks, place=place)
    if not paths:
        return []
    return [
        styled(
            hv.Contours(paths, ["x", "y"], "colour"),
            color="colour",
            bokeh={"line_width": width, "line_dash": "5 3" if dashed else "solid"},
            matplotlib={"linewidth": width * 0.6, "linestyle": (0, (3, 2)) if dashed else "solid"},
        )
    ]


def border_paths(masks: Sequence[tuple[NDArray[Any], str]], *, place: Place = ON_INPUT) -> list[dict[str, Any]]:
    """What :func:`border` draws: a mask's x, y, broken by NaN, and colour; nothing of an empty mask."""
    paths = []
    for mask, colour in masks:
        parts = contours(mask)
        if len(parts):
            # One path with gaps: HoloViews takes seconds for the hundreds that a noisy prediction has.
            gap = np.full((1, 2), np.nan)
            y, x = np.concatenate([piece for part in parts for piece in (part, gap)][:-1]).T
            paths.append({"x": place.centre(x, 1), "y": place.centre(y, 0), "colour": colour})
    return paths


def contours(mask: NDArray[Any]) -> Sequence[NDArray[np.float64]]:
    """Closed lines (points, [y, x]) around ``mask`` (y, x): where it crosses one half, or half of its largest value."""
    from skimage import measure

    padded = np.pad(np.asarray(mask, dtype=float), 1)
    if not padded.any():
        return []
    find: Any = measure.find_contours
    return [line - 1 for line in find(padded, min(0.5, padded.max() / 2))]
