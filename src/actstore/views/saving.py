"""A figure as one file: a page that needs no server and no network, or a still picture."""

from __future__ import annotations

import math
import re
import warnings
from base64 import b64encode
from io import StringIO
from pathlib import Path
from typing import Any

import holoviews as hv

from actstore.errors import StoreError
from actstore.paths import given
from actstore.views.export import save_images

#: Frames of sliders and menus that a page holds at most.
MOST_FRAMES = 1000

_TYPES = {"css": "text/css", "ico": "image/x-icon", "png": "image/png"}


def save(figure: Any, path: str | Path) -> Path:
    """Save a HoloViews object as ``.html``, ``.png`` or ``.svg``, whichever backend is current.

    A page is drawn by bokeh and holds everything that it shows, scripts and styles too, with every frame of its sliders
    and menus. Unlike that of ``hv.save`` it asks no other host for anything. Pictures are drawn by matplotlib: of a
    HoloMap or DynamicMap the first frame, and ``figure.layout()`` all of a HoloMap.

    Raises
    ------
    StoreError
        if the name ends otherwise, there are more than 1,000 frames, or the file cannot be written.
    """
    path = given(path)
    kind = path.suffix.lower()
    try:
        if kind == ".html":
            path.write_text(_page(figure, path.stem), encoding="utf-8")
        elif kind in (".png", ".svg"):
            with warnings.catch_warnings():
                # Of an image without a value, where a condition does not apply.
                warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
                save_images(figure, *((path, None) if kind == ".png" else (None, path)))
        else:
            raise StoreError(f"{path} is of no kind that figures are saved as: name it .html, .png or .svg")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _page(figure: Any, title: str) -> str:
    from bokeh.resources import INLINE
    from panel.io.resources import CDN_DIST, DIST_DIR
    from panel.pane import HoloViews

    sliders = {dim.name: len(dim.values) for found in figure.traverse(None, [hv.DynamicMap]) for dim in found.kdims}
    if (frames := math.prod(sliders.values())) > MOST_FRAMES:
        parts = " x ".join(f"{n} {name}" for name, n in sliders.items())
        raise StoreError(
            f"{frames:,} frames ({parts}) are too many for a page, {MOST_FRAMES:,} at most: select fewer first"
        )
    page = StringIO()
    pane: Any = HoloViews
    pane(figure, backend="bokeh", linked_axes=False).save(
        page, title=title, resources=INLINE, embed=True, progress=False
    )

    # Panel links its styles and icons even into a page whose scripts are inline.
    def carried(link: re.Match[str]) -> str:
        content = b64encode((DIST_DIR / link[1]).read_bytes()).decode()
        return f"data:{_TYPES[link[2]]};base64,{content}"

    return re.sub(rf"{re.escape(CDN_DIST)}([\w./-]+\.({'|'.join(_TYPES)}))(?:\?v=[\w.]+)?", carried, page.getvalue())
