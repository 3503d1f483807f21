"""Does an order find what matters: curves over growing sets of channels, and the areas between them and chance."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.analysis.interventions.cumulative import EVERY_LAYER, RANDOM
from actstore.analysis.interventions.effects import SHARES
from actstore.views.figures import marks
from actstore.views.figures.interventions import PLOT, by_layer, each_plot, of_targets
from actstore.views.figures.theme import MOST_CONDITIONS, NEUTRAL, PALETTE, grid, panel, plot_size

#: Of each order in which channels are added its colour, and how a legend calls it.
ORDERS = {
    "frequency": (PALETTE[0], "frequency"),
    "mad": (PALETTE[1], "MAD"),
    "effect": (PALETTE[2], "effect"),
    RANDOM: (NEUTRAL, "random"),
}
#: Plots of curves, one a layer.
MOST_CURVES = 6


def curves_of(table: pd.DataFrame, most: int = MOST_CURVES) -> pd.DataFrame:
    """The rows of the table ``cumulative`` that :func:`cumulative` draws: so many layers, evenly spread.

    Of the first intervention, condition and class.
    """
    own = of_targets(table)
    first = own[(own[PLOT] == own[PLOT].iloc[0]).all(axis=1)]
    layers = list(dict.fromkeys(first["layer"]))
    at = np.unique(np.linspace(0, len(layers) - 1, min(most, len(layers))).round().astype(int))
    kept: pd.DataFrame = first[first["layer"].isin([layers[i] for i in at])]
    return kept.reset_index(drop=True)


def cumulative(table: pd.DataFrame) -> hv.Layout:
    """Mean Dice against the number of channels that are edited together, by order, with 95 % intervals.

    One plot a layer, evenly spread over the network, of the first intervention, condition and class: select rows for
    others. The number of channels is on a logarithmic scale.

    Parameters
    ----------
    table
        columns ``intervention, condition, target, class_name, layer, order, count, dice, dice_low, dice_high``, as of
        the table ``cumulative``.

    Examples
    --------
    >>> figure = views.cumulative(findings.table("cumulative"))
    """
    own = curves_of(table)
    groups = list(own.groupby("layer", sort=False))
    ends = own[["dice", "dice_low", "dice_high"]]
    low, high = float(ends.min().min()), float(ends.max().max())
    reach = max(high - low, 0.02) * 0.06
    size = plot_size(len(groups), 210)
    panels = []
    for i, (layer, rows) in enumerate(groups):
        counts = sorted(rows["count"].unique())
        elements: list[Any] = []
        for order, (colour, label) in ORDERS.items():
            curve = rows[rows["order"] == order].sort_values("count")
            if curve.empty:
                continue
            x = np.log2(curve["count"].to_numpy(float))
            y, below, above = (curve[name].to_numpy(float) for name in ("dice", "dice_low", "dice_high"))
            if np.isfinite(below).any():
                elements.append(marks.band(x, below, above, colour))
            elements.append(marks.line(x, y, colour, label=label, dashed=order == RANDOM))
        panels.append(
            panel(
                elements,
                size,
                title=str(layer),
                xlim=(-0.1, float(np.log2(counts[-1])) + 0.1),
                ylim=(low - reach, high + reach),
                xticks=[(float(np.log2(count)), str(count)) for count in counts if float(np.log2(count)).is_integer()],
                xlabel="channels",
                ylabel="Dice" if i % 3 == 0 else "",
                legend="top_left" if i == 0 else None,
            )
        )
    return grid(panels, 3, size)


def areas(table: pd.DataFrame) -> hv.Layout:
    """The area between the curve of each order and that of random sets, by layer and over all, with 95 % intervals.

    Right of the line the order finds what matters sooner than chance. One plot an intervention, condition and class.

    Parameters
    ----------
    table
        columns ``intervention, quantity, condition, target, class_name, layer, order, area, low, high``, as of the
        table ``areas``.

    Examples
    --------
    >>> figure = views.areas(findings.table("areas"))
    """
    drawn = of_targets(table)
    ends = [0.0, *drawn[["area", "low", "high"]].to_numpy(float).ravel()]
    low, high = np.nanmin(ends), np.nanmax(ends)
    reach = max(high - low, 0.02) * 0.06

    def draw(own: pd.DataFrame, title: str) -> hv.Overlay:
        layers = [name for name in dict.fromkeys(own["layer"]) if name != EVERY_LAYER] + [EVERY_LAYER]
        elements: list[Any] = [marks.rule(x=0.0)]
        orders = [order for order in ORDERS if order in set(own["order"])]
        for i, order in enumerate(orders):
            colour, label = ORDERS[order]
            rows = own[own["order"] == order]
            at = rows.assign(x=rows["area"], y=rows["layer"].map(layers.index) + (i - (len(orders) - 1) / 2) * 0.25)
            known = at[at["x"].notna()]
            elements += [
                marks.intervals(known, "y", "low", "high", colour, across=True),
                marks.dots(known[["x", "y", "layer", "order", "samples", "patients"]].round(4), "x", "y", colour),
                marks.key(label, colour),
            ]
        label = "area" if own["quantity"].iloc[0] in SHARES else "area (Dice)"
        return by_layer(
            elements, layers, title, plots, xlim=(low - reach, high + reach), xlabel=label, legend="bottom_right"
        )

    plots = min(len(drawn.drop_duplicates(PLOT)), MOST_CONDITIONS)
    return each_plot(drawn, draw)
