"""How much and how far: dose–response, and change inside, around and outside the perturbed region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.views import marks
from actstore.views.channels import layer_map
from actstore.views.theme import grid, panel, tint

_SHOWN = 6


def dose(table: pd.DataFrame, half: pd.DataFrame | None, colours: Mapping[str, str]) -> hv.Layout:
    """Dice of every class against the strength of the perturbation, with 95 % intervals; one plot a perturbed class.

    The perturbed class is drawn thick. Dashed lines mark the strengths at which half of its Dice is lost; strength 1
    changes nothing.

    Parameters
    ----------
    table
        columns ``transform, target, class_name, strength, dice, low, high``.
    half
        columns ``transform, target, class_name, half_below, half_above``.
    """
    groups = list(table.groupby(["transform", "target"], sort=False))[:_SHOWN]
    size = ({1: 480, 2: 370}.get(len(groups), 250), 240)
    strengths = (float(table["strength"].min()), float(table["strength"].max()))
    panels = []
    for i, ((transform, target), own) in enumerate(groups):
        elements: list[Any] = []
        for name, of_class in own.groupby("class_name", sort=False):
            ordered = of_class.sort_values("strength")
            x, y, low, high = (ordered[c].to_numpy(float) for c in ("strength", "dice", "low", "high"))
            colour = colours[str(name)]
            if np.isfinite(low).any():
                elements.append(marks.band(x, low, high, colour))
            elements.append(marks.line(x, y, colour, label=str(name), width=3 if name == target else 1.4))
        if half is not None:
            at = half[(half["transform"] == transform) & (half["target"] == target) & (half["class_name"] == target)]
            lost = at[["half_below", "half_above"]].to_numpy(float).ravel()
            elements += [marks.rule(x=float(x)) for x in lost[np.isfinite(lost)]]
        last = i == len(groups) - 1
        panels.append(
            panel(
                elements,
                size,
                title=f"{transform}({target})",
                xlim=strengths,
                ylim=(-0.03, 1.03),
                xlabel=f"strength of {transform}",
                ylabel="mean Dice" if i % 3 == 0 else "",
                show_legend=last,
                bokeh={"legend_position": "right"} if last else {},
                matplotlib={"legend_position": "right"} if last else {},
            )
        )
    return grid(panels, 3, size)


def dose_channels(table: pd.DataFrame, layers: Sequence[str]) -> hv.Layout:
    """Slope of each channel's MAD against strength, below 1 and above: layer x channel, one map a class and side.

    Parameters
    ----------
    table
        columns ``layer, channel, transform, target, slope_below, slope_above``.
    layers
        in network order.
    """
    panels = []
    sides = [s for s in ("slope_below", "slope_above") if s in table and table[s].notna().any()]
    groups = list(table.groupby(["transform", "target"], sort=False))[:_SHOWN]
    size = (250, max(14 * len(layers), 90))
    slopes = np.abs(table[sides].to_numpy(float))
    slopes = slopes[~np.isnan(slopes)]
    steepest = (float(np.quantile(slopes, 0.99)) if slopes.size else 0.0) or 1.0
    for side in sides:
        for i, ((transform, target), own) in enumerate(groups):
            shown = own.assign(row=own["layer"].map(list(layers).index), slope=own[side].abs().round(5))
            panels.append(
                layer_map(
                    shown[shown["slope"].notna()],
                    layers,
                    "slope",
                    size,
                    title=f"{transform}({target}), {side.removeprefix('slope_')} 1",
                    clim=(0.0, steepest),
                    colorbar=i == len(groups) - 1,
                    first=i % 3 == 0,
                    base=shown,
                    label="slope",
                )
            )
    return grid(panels, min(3, len(groups)), size, hspace=0.14, vspace=0.25)


def dose_cases(table: pd.DataFrame, colours: Mapping[str, str]) -> hv.Layout:
    """How many slices change their kind of failure on the way to each strength; one plot a perturbed class.

    Parameters
    ----------
    table
        columns ``patient, transform, target, strength, case, previous_strength, previous_case``, a row a change.
    """
    changed = table[(table["case"] != table["previous_case"]) & table["previous_strength"].notna()]
    groups = list(changed.groupby(["transform", "target"], sort=False))[:_SHOWN]
    size = ({1: 480, 2: 370}.get(len(groups), 250), 180)
    panels = []
    for i, ((transform, target), own) in enumerate(groups):
        counted = own.groupby(["previous_strength", "strength"]).size().rename("slices").reset_index()
        ends = counted[["previous_strength", "strength"]].to_numpy(float)
        bars = pd.DataFrame(
            {
                "x0": ends.min(axis=1),
                "y0": 0,
                "x1": ends.max(axis=1),
                "y1": counted["slices"],
                "from": counted["previous_strength"],
                "to": counted["strength"],
                "slices": counted["slices"],
            }
        )
        panels.append(
            panel(
                [marks.blocks(bars, colours[str(target)])],
                size,
                title=f"{transform}({target}) · {len(own)} changes",
                xlim=(
                    float(table[["previous_strength", "strength"]].min().min()),
                    float(table[["previous_strength", "strength"]].max().max()),
                ),
                ylim=(0, float(counted["slices"].max()) * 1.08),
                xlabel=f"strength of {transform}",
                ylabel="slices that change" if i % 3 == 0 else "",
            )
        )
    return grid(panels, 3, size)


def regions(table: pd.DataFrame, colours: Mapping[str, str]) -> hv.Layout:
    """Of all change in a layer, the share inside the perturbed region, in the rim around it, and outside: stacked.

    Parameters
    ----------
    table
        columns ``layer, condition, target, channel, inside_share, rim_share, outside_share``; the mean over channels.
    """
    names = list(dict.fromkeys(table["layer"]))
    conditions = list(dict.fromkeys(table["condition"]))[:_SHOWN]
    size = (250, max(15 * len(names), 90))
    kinds = ("inside", "rim", "outside")
    panels = []
    for i, condition in enumerate(conditions):
        own = table[table["condition"] == condition]
        colour = colours[str(own["target"].iloc[0])]
        mean = own.groupby("layer", sort=False)[[f"{kind}_share" for kind in kinds]].mean().reindex(names)
        ends = np.c_[np.zeros(len(mean)), mean.cumsum(axis=1).to_numpy()]
        row = np.arange(len(names))
        elements: list[Any] = []
        for k, (kind, lightness) in enumerate(zip(kinds, (0.0, 0.5, 0.82), strict=True)):
            bars = pd.DataFrame(
                {
                    "x0": ends[:, k],
                    "y0": row - 0.42,
                    "x1": ends[:, k + 1],
                    "y1": row + 0.42,
                    "layer": names,
                    "where": kind,
                    "share": mean[f"{kind}_share"].round(3).to_numpy(),
                }
            )
            elements.append(marks.blocks(bars[bars["share"].notna()], tint(colour, lightness)))
        step = -(-len(names) * 13 // size[1])
        panels.append(
            panel(
                elements,
                size,
                title=condition,
                xlim=(0, 1.08),
                ylim=(-0.6, len(names) - 0.4),
                xticks=[(0, "0"), (0.5, "50 %"), (1, "100 %")],
                yticks=[(j, name) for j, name in enumerate(names) if j % step == 0],
                yaxis="left" if i % 3 == 0 else None,
                invert_yaxis=True,
                xlabel="inside (dark), rim, outside (pale)",
                ylabel="",
                show_grid=False,
            )
        )
    return grid(panels, 3, size, hspace=0.14, vspace=0.25)
