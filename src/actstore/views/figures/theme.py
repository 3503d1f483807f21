"""Colours, sizes and options of every figure, for both backends, in one place."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import holoviews as hv
import holoviews.plotting.mpl  # registers the backend that options are for, without making it current
import pandas as pd

import holoviews.plotting.bokeh  # noqa: F401  # isort: skip  # after matplotlib, which stays the default

from actstore.conditions import BACKGROUND

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Evenly stepped in lightness, readable in grey and by colour-blind people.
SEQUENTIAL = "viridis"
#: For values on both sides of 0: blue below, red above.
DIVERGING = "RdBu_r"
#: For images.
GREY = "gray"

#: Okabe & Ito, Color Universal Design, 2008: seven hues that colour-blind people can distinguish, strongest first.
PALETTE = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
#: What a caption calls each of them.
COLOUR_NAMES = dict(zip(PALETTE, ("blue", "green", "orange", "pink", "amber", "light blue", "yellow"), strict=True))

INK = "#1b2530"
SOFT = "#5a6673"
FAINT = "#e3e8ed"
NEUTRAL = "#8a96a3"

#: Conditions, or groups of them, that a figure draws one by one.
MOST_CONDITIONS = 6
#: Width of the page's text column, in pixels of the screen.
WIDTH = 960
#: Pixels of the screen to an inch of paper.
PER_INCH = 96

_FONTS = {
    "bokeh": {"title": 13, "labels": 12, "xticks": 11, "yticks": 11, "legend": 11, "legend_title": 11, "clabel": 11},
    "matplotlib": {
        "title": 10,
        "labels": 9,
        "xticks": 8,
        "yticks": 8,
        "legend": 8,
        "legend_title": 8,
        "clabel": 8,
        "cticks": 8,
    },
}


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """One fixed colour of :data:`PALETTE` to each foreground class, by its number; background (the first) has none."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names[1:])}


def colours_of(store: Store) -> dict[str, str]:
    """One fixed colour to each class and region that results of ``store`` are of."""
    return class_colours((BACKGROUND, *store.members))


def tint(colour: str, share: float = 0.55) -> str:
    """``colour`` mixed with ``share`` of white."""
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * share):02x}" for c in channels)


def line_colours(table: pd.DataFrame, colours: Mapping[str, str]) -> dict[str, str]:
    """The colour of each condition of ``table`` among ``colours`` of its target, paler for other input channels.

    Without a column ``channels``, conditions of one target have one colour.
    """
    first = table.drop_duplicates("condition")
    channels = first["channels"] if "channels" in first else pd.Series("", index=first.index)
    choices = list(dict.fromkeys(channels))
    shares = {name: 0.6 * i / max(len(choices) - 1, 1) for i, name in enumerate(choices)}
    rows = zip(first["condition"], first["target"], channels, strict=True)
    return {str(name): tint(colours[str(target)], shares[of]) for name, target, of in rows if target}


def shades(number: int) -> list[str]:
    """``number`` colours for things that are no classes, such as patients: hues around the wheel, one lightness."""
    found = []
    for i in range(number):
        r, g, b = colorsys.hls_to_rgb((0.58 + i / max(number, 1)) % 1, 0.45, 0.55)
        found.append(f"#{round(r * 255):02x}{round(g * 255):02x}{round(b * 255):02x}")
    return found


def styled(
    element: Any, *, bokeh: Mapping[str, Any] | None = None, matplotlib: Mapping[str, Any] | None = None, **common: Any
) -> Any:
    """``element`` with options for both backends, whichever is current."""
    element = element.opts(**common, **(bokeh or {}), backend="bokeh")
    return element.opts(**common, **(matplotlib or {}), backend="matplotlib")


def ticks(names: Sequence[str], room: int, each: int = 1) -> list[tuple[int, str]]:
    """Position and name of all names, or of every second, third, …: of as many as fit into ``room``, ``each`` wide."""
    step = -(-len(names) * each // room)
    return [(i, name) for i, name in enumerate(names) if i % step == 0]


def plot_size(plots: int, height: int) -> tuple[int, int]:
    """(width, height) of each of so many plots, three of which stand in a row."""
    return {1: 480, 2: 370}.get(plots, 250), height


def panel(
    elements: Sequence[Any],
    size: tuple[int, int],
    *,
    bokeh: Mapping[str, Any] | None = None,
    matplotlib: Mapping[str, Any] | None = None,
    legend: str | None = None,
    **common: Any,
) -> hv.Overlay:
    """One plot of ``elements`` over each other, ``size`` pixels wide and high inside its axes.

    ``legend`` is the legend's position, if there is to be one. The axes link to no other plot's. The options of the
    plot are set on its first element too: ``*`` makes a new plot of the elements, and takes ticks, limits and the
    direction of the axes from that one.
    """
    width, height = size
    first, *others = elements
    if "title" in common:
        # HoloViews fills in text between braces.
        common["title"] = common["title"].replace("{", "{{").replace("}", "}}")
    if legend:
        common["legend_position"] = legend
    common = {"show_legend": bool(legend), "axiswise": True, "framewise": True} | common
    own = {
        "frame_width": width,
        "frame_height": height,
        "fontsize": {name: f"{points}px" for name, points in _FONTS["bokeh"].items()},
        "default_tools": ["box_zoom", "reset", "save"],
        "active_tools": [],
        "shared_axes": False,
        "toolbar": None,
    }
    paper = {
        "aspect": width / height,
        "fig_inches": (width / PER_INCH * 1.25, height / PER_INCH * 1.4),
        "fontsize": _FONTS["matplotlib"],
    }
    options = {"bokeh": own | common | dict(bokeh or {}), "matplotlib": paper | common | dict(matplotlib or {})}
    for backend, plot in options.items():
        known = hv.Store.registry[backend][type(first)].param
        first = first.opts(**{name: value for name, value in plot.items() if name in known}, backend=backend)
    return styled(hv.Overlay([first, *others]), **options)


def grid(
    panels: Sequence[Any], columns: int, size: tuple[int, int], *, hspace: float = 0.25, vspace: float = 0.35
) -> hv.Layout:
    """Panels of one ``size`` in rows of ``columns``, each with its own axes."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    inches = (columns * size[0] / PER_INCH * (1 + hspace), rows * size[1] / PER_INCH * (1 + vspace))
    return styled(
        hv.Layout(list(panels)).cols(columns),
        bokeh={"shared_axes": False, "toolbar": None},
        matplotlib={
            "fig_inches": inches,
            "sublabel_format": "",
            "hspace": hspace,
            "vspace": vspace,
            "shared_axes": False,
        },
    )


def by_condition(
    table: pd.DataFrame,
    draw: Callable[[pd.DataFrame, bool, bool], hv.Overlay],
    columns: int,
    size: tuple[int, int],
    **spaces: Any,
) -> hv.Layout:
    """One plot a condition, the first :data:`MOST_CONDITIONS`.

    ``draw`` gets the rows of the condition, whether its plot ends a row of plots, and whether it begins one.
    """
    groups = [own for _, own in table.groupby("condition", sort=False)][:MOST_CONDITIONS]
    ends = [(i + 1) % columns == 0 or i == len(groups) - 1 for i in range(len(groups))]
    plots = [draw(own, end, i % columns == 0) for i, (own, end) in enumerate(zip(groups, ends, strict=True))]
    return grid(plots, columns, size, **spaces)
