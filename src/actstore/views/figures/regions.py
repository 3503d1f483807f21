"""Change inside, around and outside the perturbed region."""

from __future__ import annotations

from collections.abc import Mapping

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.views.figures import marks
from actstore.views.figures.theme import by_condition, panel, ticks, tint


def mean_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Means over channels of the table of regions: ``condition, target, layer, inside_share, rim_share, …``."""
    shares = [f"{kind}_share" for kind in ("inside", "rim", "outside")]
    return table.groupby(["condition", "target", "layer"], sort=False, as_index=False)[shares].mean()


def regions(table: pd.DataFrame, colours: Mapping[str, str]) -> hv.Layout:
    """Of all change in a layer, the share inside the perturbed region, in the rim around it, and outside: stacked.

    Parameters
    ----------
    table
        columns ``layer, condition, target, channel, inside_share, rim_share, outside_share``; the mean over channels.

    Examples
    --------
    >>> colours = {"LV": "#cc79a7", "RV": "#0072b2", "MYO": "#e69f00"}
    >>> figure = views.regions(findings.table("regions"), colours)
    """
    names = list(dict.fromkeys(table["layer"]))
    size = (250, max(15 * len(names), 90))
    kinds = ("inside", "rim", "outside")
    row = np.arange(len(names))

    def draw(own: pd.DataFrame, _: bool, first: bool) -> hv.Overlay:
        colour = colours[str(own["target"].iloc[0])]
        mean = own.set_index("layer")[[f"{kind}_share" for kind in kinds]].reindex(names)
        ends = np.c_[np.zeros(len(mean)), mean.cumsum(axis=1).to_numpy()]
        elements = []
        for k, (kind, lightness) in enumerate(zip(kinds, (0.0, 0.5, 0.82), strict=True)):
            share = mean[f"{kind}_share"].round(3).to_numpy()
            edges = {"x0": ends[:, k], "y0": row - 0.42, "x1": ends[:, k + 1], "y1": row + 0.42}
            bars = pd.DataFrame({**edges, "layer": names, "where": kind, "share": share})
            elements.append(marks.blocks(bars[bars["share"].notna()], tint(colour, lightness)))
        return panel(
            elements,
            size,
            title=own["condition"].iloc[0],
            xlim=(0, 1.08),
            ylim=(-0.6, len(names) - 0.4),
            xticks=[(0, "0"), (0.5, "50 %"), (1, "100 %")],
            yticks=ticks(names, size[1], 13),
            yaxis="left" if first else None,
            invert_yaxis=True,
            xlabel="inside (dark), rim, outside (pale)",
            ylabel="",
            show_grid=False,
        )

    return by_condition(mean_shares(table), draw, 3, size, hspace=0.14, vspace=0.25)
