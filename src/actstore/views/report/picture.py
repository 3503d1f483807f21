"""A figure as the page carries it: drawn once, readable on light and dark pages, with what shows when pointed at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from actstore.views.figures.saving import drawing
from actstore.views.figures.theme import DIVERGING, FAINT, INK, SOFT
from actstore.views.wording import number

#: Colours of a dark page for those of a light one, by what is drawn in them.
_DARK = {
    f'[style*="fill: {INK}"]': "fill: #e6ebf0",
    f'[style*="stroke: {INK}"]': "stroke: #e6ebf0",
    f'[style*="fill: {SOFT}"]': "fill: #a3afbb",
    f'[style*="stroke: {SOFT}"]': "stroke: #a3afbb",
    f'[style*="fill: {FAINT}"]': "fill: #2e3843",
    f'[style*="stroke: {FAINT}"]': "stroke: #2e3843",
    # The page behind axes, and the gaps between cells.
    'path[style="fill: #ffffff"]': "fill: none",
    '[style*="stroke: #ffffff"]:not([style*="fill: none"])': "stroke: #15191e",
    '[style*="fill: none; stroke: #111111"]': "stroke: #f4f6f8",
    # White in the middle becomes black, and blue and red keep their hues.
    '[id^="centred"], [id^="bar-of"] image': "filter: url(#turned)",
}
_STYLE = (
    "@media screen and (prefers-color-scheme: dark) {"
    + " ".join(f"{what} {{ {how} !important }}" for what, how in _DARK.items())
    + "}"
)
_FILTER = (
    '<filter id="turned" x="0" y="0" width="1" height="1" color-interpolation-filters="sRGB"><feComponentTransfer>'
    + "".join(f'<feFunc{channel} type="table" tableValues="1 0"/>' for channel in "RGB")
    + '</feComponentTransfer><feColorMatrix type="hueRotate" values="180"/></filter>'
)
#: Marks of one figure that show their values when pointed at, at most.
_MOST_SPOTS = 6000
#: Sides of the picture, in the units of spots.
UNITS = 10_000


def save_picture(figure: Any, png: Path, svg: Path) -> str:
    """Draw a HoloViews object once, and save it as PNG and SVG.

    Returns
    -------
    JSON of what shows when pointed at, a row each mark: left, top, right and bottom in ten-thousandths of the picture,
    and a text. Safe inside a ``<script>`` element.
    """
    with drawing(figure) as (plot, box):
        parts = [part for part in plot.traverse(lambda one: one) if "axis" in part.handles and "artist" in part.handles]
        _mark_centred(parts)
        for path in (png, svg):
            plot.state.savefig(path, dpi=144, bbox_inches=box, metadata={"Date": None} if path == svg else None)
        spots = [spot for part in parts for spot in _spots(part, plot.state, box)]
    return json.dumps(spots[:_MOST_SPOTS], separators=(",", ":")).replace("</", "<\\/")


def on_page(svg: str) -> str:
    """A picture as :func:`save_picture` writes it, with colours for dark pages, and without digits that no eye sees."""
    lean = re.sub(r"(\.\d{3})\d{2,}", r"\1", svg)
    return lean.replace("</style>", f"{_STYLE}</style>{_FILTER}", 1)


def _mark_centred(parts: list[Any]) -> None:
    """Give what is coloured on both sides of 0 a name that the style of dark pages knows."""
    for number_, part in enumerate(parts):
        style = hv.Store.lookup_options("matplotlib", part.current_frame, "style").kwargs
        if style.get("cmap") == DIVERGING:
            part.handles["artist"].set_gid(f"centred-{number_}")
            if "cax" in part.handles:
                part.handles["cax"].set_gid(f"bar-of-{number_}")


def _spots(part: Any, figure: Figure, box: Bbox) -> Iterator[list[Any]]:
    """Where the marks of one element lie, and what they say: those that say it in a notebook too."""
    element = part.current_frame
    if not isinstance(element, hv.Points | hv.Rectangles):
        return
    tips = hv.Store.lookup_options("bokeh", element, "plot").kwargs.get("hover_tooltips")
    if not tips:
        return
    frame = element.dframe()
    ends = frame[[dim.name for dim in element.kdims]].to_numpy(np.float64)
    corners = ends.reshape(len(frame), len(element.kdims) // 2, 2)
    pixels: NDArray[Any] = part.handles["axis"].transData.transform(corners.reshape(-1, 2)).reshape(corners.shape)
    inches = pixels / figure.dpi
    x = (inches[..., 0] - box.x0) / box.width * UNITS
    y = (box.y1 - inches[..., 1]) / box.height * UNITS
    shown = [(label, [_written(value) for value in frame[name[2:-1]]]) for label, name in tips if name[2:-1] in frame]
    seen = np.flatnonzero(np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1))
    edges = np.stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)], axis=1)[seen].round().astype(int)
    for i, edge in zip(seen.tolist(), edges.tolist(), strict=True):
        yield [*edge, " · ".join(f"{label} {values[i]}" for label, values in shown)]


def _written(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
