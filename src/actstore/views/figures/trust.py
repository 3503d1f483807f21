"""How far maps can be trusted: what is left after deletion in their order, and how alike they are of other weights."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.views.figures import marks
from actstore.views.figures.theme import MOST_CONDITIONS, NEUTRAL, PALETTE, grid, panel, plot_size

#: Of each order its colour, and how a legend calls it.
ORDERS = {
    "map": (PALETTE[0], "map"),
    "distance": (PALETTE[2], "nearest"),
    "random": (NEUTRAL, "random"),
}


def deletion(table: pd.DataFrame) -> hv.Layout:
    """What is left of a class's probability as tiles are deleted, with 95 % intervals; one plot a map.

    In the map's order, of those nearest to the middle of the class first, and at random. A map that knows what the
    network looks at falls below the other orders.

    Parameters
    ----------
    table
        columns ``explanation, condition, class_name, order, deleted, probability, low, high``, as of the table
        ``deletion``.

    Examples
    --------
    >>> figure = views.deletion(findings.table("deletion"))
    """
    groups = list(table.groupby(["explanation", "condition", "class_name"], sort=False))[:MOST_CONDITIONS]
    size = plot_size(len(groups), 220)
    panels = []
    for i, ((name, condition, class_name), own) in enumerate(groups):
        elements = []
        for order, (colour, label) in ORDERS.items():
            ordered = own[own["order"] == order].sort_values("deleted")
            x, y, low, high = (ordered[c].to_numpy(float) for c in ("deleted", "probability", "low", "high"))
            if np.isfinite(low).any():
                elements.append(marks.band(100 * x, low, high, colour))
            elements.append(marks.line(100 * x, y, colour, label=label, dashed=order != "map"))
        panels.append(
            panel(
                elements,
                size,
                title=_title(str(name), str(condition), str(class_name)),
                xlim=(0, 100 * float(table["deleted"].max())),
                ylim=(-0.03, 1.03),
                xlabel="% of the body deleted",
                ylabel="probability left" if i % 3 == 0 else "",
                legend="top_right" if i == len(groups) - 1 else None,
            )
        )
    return grid(panels, 3, size)


def randomisation(table: pd.DataFrame) -> hv.Layout:
    """Rank correlation of maps with those of permuted weights, by the layers permuted; one plot an explanation.

    A line is the mean over samples of a class, or of a layer's channels; dashed, of the maps' magnitudes. A map that
    depends on what the network learned falls to 0.

    Parameters
    ----------
    table
        columns ``explanation, class_name, layer, permuted, sign, spearman``, as of the table ``randomisation``.

    Examples
    --------
    >>> figure = views.randomisation(findings.table("randomisation"))
    """
    groups = list(table.groupby("explanation", sort=False))[:MOST_CONDITIONS]
    # Beside each its legend.
    size = (plot_size(len(groups), 220)[0] - 60, 220)
    panels = []
    for i, (name, own) in enumerate(groups):
        levels = sorted(own["permuted"].unique())
        elements = []
        for colour, ((class_name, layer), lines) in zip(
            PALETTE * 9, own.groupby(["class_name", "layer"], sort=False), strict=False
        ):
            for sign, dashed in (("map", False), ("magnitude", True)):
                mean = lines[lines["sign"] == sign].groupby("permuted")["spearman"].mean()
                x = np.array([levels.index(level) for level in mean.index], float)
                label = str(class_name or layer) if sign == "map" else ""
                elements.append(marks.line(x, mean.to_numpy(), colour, label=label, dashed=dashed))
        elements.append(marks.rule(y=0.0, dashed=False))
        least = min(-0.1, float(own["spearman"].min()) - 0.05)
        panels.append(
            panel(
                elements,
                size,
                title=str(name),
                xlim=(-0.2, len(levels) - 0.8),
                ylim=(least, 1.05),
                xticks=[(k, str(level)) for k, level in enumerate(levels)],
                xlabel="layers permuted",
                ylabel="Spearman" if i % 3 == 0 else "",
                legend="right",
            )
        )
    return grid(panels, 3, size)


def _title(name: str, condition: str, class_name: str) -> str:
    where = "" if condition == "original" else f", {condition}"
    return f"{name}: {class_name}{where}"
