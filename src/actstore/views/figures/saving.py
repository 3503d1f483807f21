"""A figure as one file: a page that needs no server and no network, or a still picture."""

from __future__ import annotations

import math
import re
import warnings
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import holoviews as hv

from actstore.errors import StoreError
from actstore.paths import given
from actstore.views.figures.theme import FAINT, INK, SOFT

if TYPE_CHECKING:
    from matplotlib.transforms import Bbox

#: Frames of sliders and menus that a page holds at most.
MOST_FRAMES = 1000

_TYPES = {"css": "text/css", "ico": "image/x-icon", "png": "image/png"}


_PAPER: Any = {
    "font.family": "sans-serif",
    # Names of classes and patients are no formulas.
    "text.parse_math": False,
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "actstore",
}


def save(figure: Any, path: str | Path) -> Path:
    """Save a HoloViews object as ``.html``, ``.png`` or ``.svg``, whichever backend is current.

    A page is drawn by bokeh and holds everything that it shows, scripts and styles too, with every frame of its sliders
    and menus. Unlike that of ``hv.save`` it asks no other host for anything. Pictures are drawn by matplotlib: of a
    HoloMap or DynamicMap the first frame, and ``figure.layout()`` all of a HoloMap.

    Raises
    ------
    StoreError
        if the name ends otherwise, there are more than 1,000 frames, or the file cannot be written.

    Examples
    --------
    >>> views.save(views.filters(store), "filters.svg").name
    'filters.svg'
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
            raise StoreError(f"{path}: figures are saved as .html, .png or .svg; choose one of these")
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}; choose another path or free the disk"
        ) from error
    return path


def save_images(figure: Any, png: Path | None, svg: Path | None = None, *, dpi: int = 144) -> None:
    """Draw a HoloViews object once with matplotlib and save it as PNG and SVG. Leaves no setting behind."""
    with drawing(figure) as (plot, box):
        for path in (png, svg):
            if path is not None:
                metadata = {"Date": None} if path.suffix == ".svg" else None
                plot.state.savefig(path, dpi=dpi, bbox_inches=box, metadata=metadata)


@contextmanager
def drawing(figure: Any) -> Iterator[tuple[Any, Bbox]]:
    """HoloViews' plot of ``figure`` by matplotlib, and the box in inches that holds all of it; closed at the end."""
    import matplotlib
    import matplotlib.pyplot as plt

    # Keep the backend while a notebook has figures open.
    if not plt.get_fignums():
        matplotlib.use("Agg", force=False)
    with matplotlib.rc_context(_PAPER):
        plot = hv.Store.renderers["matplotlib"].get_plot(figure)
        try:
            # Measure once: `bbox_inches="tight"` would draw everything again for each file.
            plot.state.draw_without_rendering()
            yield plot, plot.state.get_tightbbox().padded(0.06)
        finally:
            plt.close(plot.state)


def save_png(figure: Any, path: str | Path, *, dpi: int = 144) -> Path:
    """Save a HoloViews object as PNG through matplotlib."""
    path = given(path)
    save_images(figure, path, dpi=dpi)
    return path


def _page(figure: Any, title: str) -> str:
    from bokeh.resources import INLINE
    from panel.io.resources import CDN_DIST, DIST_DIR
    from panel.pane import HoloViews

    sliders = {dim.name: len(dim.values) for found in figure.traverse(None, [hv.DynamicMap]) for dim in found.kdims}
    if (frames := math.prod(sliders.values())) > MOST_FRAMES:
        sizes = " x ".join(f"{n} {name}" for name, n in sliders.items())
        raise StoreError(
            f"{frames:,} frames ({sizes}) are too many for a page, {MOST_FRAMES:,} at most: select fewer first"
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
