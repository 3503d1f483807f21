"""Samples in the plane, with an arrow from each on the original to where a perturbation moves it."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.conditions import ORIGINAL
from actstore.errors import StoreError
from actstore.views.figures import marks
from actstore.views.figures.theme import INK, MOST_CONDITIONS, NEUTRAL, PALETTE, grid, line_colours, panel, styled

#: Arrows of a plot, evenly over the samples.
MOST_ARROWS = 250
#: Length of an arrow's head in pixels, at most, and its half angle.
_HEAD, _ANGLE = 7.0, np.deg2rad(24)


def moved_most(table: pd.DataFrame) -> str:
    """The layer in which perturbations move samples furthest, in median, beside how samples of the original spread.

    ``table`` as of :func:`projection`. The first layer where nothing moves.

    Raises
    ------
    StoreError
        if the table has no rows.
    """
    if table.empty:
        raise StoreError("no sample is in the projection: in every layer all samples are one")
    shares = {}
    for layer, own in table.groupby("layer", sort=False):
        original = own[own["condition"] == ORIGINAL]
        spread = np.sqrt(original["x"].var(ddof=0) + original["y"].var(ddof=0))
        moved = own.loc[own["condition"] != ORIGINAL, "moved"].median()
        shares[str(layer)] = moved / spread if spread > 0 and np.isfinite(moved) else 0.0
    return max(shares, key=shares.__getitem__)


def projection(table: pd.DataFrame, colours: dict[str, str] | None = None, *, layer: str | None = None) -> hv.Layout:
    """Samples of one layer in the plane, one plot a perturbation: grey on the original, an arrow to where each moves.

    The title has the trustworthiness of the picture: 1 where neighbours in it are neighbours in the layer's space, 0.5
    where they might be drawn at random.

    Parameters
    ----------
    table
        The table ``projection``: columns ``layer, patient, condition, target, x, y, moved, method, trustworthiness``.
    colours
        class name to colour.
    layer
        by default that of :func:`moved_most`.

    Raises
    ------
    StoreError
        if there is no such layer, or no sample.

    Examples
    --------
    >>> figure = views.projection(findings.table("projection"))
    """
    layer = layer or moved_most(table)
    own = table[table["layer"] == layer]
    if own.empty:
        raise StoreError(f"no sample of layer {layer!r}: there are {', '.join(dict.fromkeys(table['layer']))}")
    keys = [name for name in ("patient", "frame", "slice", "patch") if name in own]
    original = own[own["condition"] == ORIGINAL]
    changed = own[own["condition"] != ORIGINAL]
    conditions = list(dict.fromkeys(changed["condition"]))[:MOST_CONDITIONS] or [ORIGINAL]
    targets = [target for target in dict.fromkeys(changed["target"]) if target]
    known = colours or dict(zip(targets, PALETTE, strict=False))
    of_lines = line_colours(changed, known) if len(changed) else {}
    columns = min(len(conditions), 3)
    size = {1: (480, 400), 2: (400, 330)}.get(columns, (255, 230))
    limits = [_limits(own[axis]) for axis in ("x", "y")]
    trust, method = float(own["trustworthiness"].iloc[0]), str(own["method"].iloc[0])
    names = {"pca": ("component 1", "component 2"), "tsne": ("t-SNE 1", "t-SNE 2")}[method]
    panels = []
    for i, condition in enumerate(conditions):
        elements: list[Any] = [marks.dots(original[["x", "y", *keys]], "x", "y", NEUTRAL, hollow=True, size=4)]
        colour = of_lines.get(condition, INK)
        ends = changed[changed["condition"] == condition].merge(original, on=keys, suffixes=("", "_from"))
        if len(ends):
            at = np.unique(np.linspace(0, len(ends) - 1, min(len(ends), MOST_ARROWS)).round().astype(int))
            shown = ends.iloc[at]
            elements.append(_arrows(shown, limits, size, colour))
            elements.append(marks.dots(shown[["x", "y", *keys, "moved"]], "x", "y", colour, size=3))
        if columns == 3:
            # No room in the title.
            at_top = {"x": [limits[0][0]], "y": [limits[1][1] + 0.1 * (limits[1][1] - limits[1][0])]}
            text = pd.DataFrame({**at_top, "text": [f"trustworthiness {trust:.2f}"]})
            elements.append(marks.words(text, "x", "y", "text"))
        panels.append(
            panel(
                elements,
                size,
                title=f"{layer} · {condition} · trustworthiness {trust:.2f}"
                if columns < 3
                else f"{layer} · {condition}",
                xlim=_padded(limits[0]),
                ylim=_padded(limits[1], 0.16 if columns == 3 else 0.05),
                xlabel=names[0],
                ylabel=names[1] if i % columns == 0 else "",
                show_grid=False,
                bokeh={"fontsize": {"title": "12px", "labels": "11px", "xticks": "10px", "yticks": "10px"}},
                matplotlib={"fontsize": {"title": 8.5, "labels": 8, "xticks": 7, "yticks": 7}},
            )
        )
    return grid(panels, columns, size, hspace=0.3, vspace=0.25)


def _limits(values: pd.Series[Any]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 1, high + 1)


def _padded(limits: tuple[float, float], share: float = 0.05) -> tuple[float, float]:
    margin = share * (limits[1] - limits[0])
    return limits[0] - margin, limits[1] + margin


def _arrows(ends: pd.DataFrame, limits: list[tuple[float, float]], size: tuple[int, int], colour: str) -> hv.Segments:
    """Shafts and heads of arrows from ``x_from, y_from`` to ``x, y``."""
    scale = np.array([side / (high - low) for side, (low, high) in zip(size, limits, strict=True)])
    start, stop = (ends[names].to_numpy(float) for names in (["x_from", "y_from"], ["x", "y"]))
    way = (stop - start) * scale
    length = np.linalg.norm(way, axis=1, keepdims=True)
    head = np.minimum(_HEAD, 0.5 * length) * np.divide(way, length, out=np.zeros_like(way), where=length > 0)
    parts: list[NDArray[np.float64]] = [np.concatenate([start, stop], axis=1)]
    for angle in (_ANGLE, -_ANGLE):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        parts.append(np.concatenate([stop, stop - head @ turn.T / scale], axis=1))
    return styled(
        hv.Segments(np.concatenate(parts), ["x", "y", "x1", "y1"]),
        color=colour,
        bokeh={"line_width": 1.1, "line_alpha": 0.75},
        matplotlib={"linewidth": 0.7, "alpha": 0.75},
    )
