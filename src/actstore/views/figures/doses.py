"""Dose–response: Dice, channels and kinds of failure against the strength of a perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.units import counted
from actstore.views.figures import marks
from actstore.views.figures.channels import layer_map
from actstore.views.figures.sweeps import sweep_columns, sweep_title
from actstore.views.figures.theme import MOST_CONDITIONS, grid, panel, plot_size


def dose(table: pd.DataFrame, half: pd.DataFrame | None, colours: Mapping[str, str]) -> hv.Layout:
    """Dice of every class against the strength of the perturbation, with 95 % intervals; one plot a perturbed class.

    The perturbed class is drawn thick; dots are the strengths that were run. Dashed lines mark the strengths at which
    half of its Dice is lost; strength 1 changes nothing.

    Parameters
    ----------
    table
        columns ``transform, target, class_name, strength, dice, low, high``.
    half
        columns ``transform, target, class_name, half_below, half_above``.

    Examples
    --------
    >>> colours = {"LV": "#cc79a7", "RV": "#0072b2", "MYO": "#e69f00"}
    >>> figure = views.dose(findings.table("dose"), findings.table("dose-half"), colours)
    """
    groups = list(table.groupby(sweep_columns(table), sort=False))[:MOST_CONDITIONS]
    size = plot_size(len(groups), 240)
    strengths = (float(table["strength"].min()), float(table["strength"].max()))
    panels = []
    for i, (sweep, own) in enumerate(groups):
        transform, target, *_ = sweep
        elements: list[Any] = []
        for name, of_class in own.groupby("class_name", sort=False):
            ordered = of_class.sort_values("strength")
            x, y, low, high = (ordered[c].to_numpy(float) for c in ("strength", "dice", "low", "high"))
            colour = colours[str(name)]
            if np.isfinite(low).any():
                elements.append(marks.band(x, low, high, colour))
            elements.append(marks.line(x, y, colour, label=str(name), width=3 if name == target else 1.4))
            run = pd.DataFrame({"strength": x, "dice": y.round(4), "class": str(name)})
            elements.append(marks.dots(run, "strength", "dice", colour, size=6 if name == target else 4))
        if half is not None:
            of_sweep = (half[sweep_columns(half)] == list(sweep)).all(axis=1)
            at = half[of_sweep & (half["class_name"] == target)]
            lost = at[["half_below", "half_above"]].to_numpy(float).ravel()
            elements += [marks.rule(x=float(x)) for x in lost[np.isfinite(lost)]]
        last = i == len(groups) - 1
        panels.append(
            panel(
                elements,
                size,
                title=sweep_title(*sweep),
                xlim=strengths,
                ylim=(-0.03, 1.03),
                xlabel=f"strength of {transform}",
                ylabel="mean Dice" if i % 3 == 0 else "",
                legend="right" if last else None,
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

    Examples
    --------
    >>> figure = views.dose_channels(findings.table("dose-channels"), list(store.layers.index))
    """
    panels = []
    sides = [s for s in ("slope_below", "slope_above") if s in table and table[s].notna().any()]
    groups = list(table.groupby(sweep_columns(table), sort=False))[:MOST_CONDITIONS]
    size = (250, max(14 * len(layers), 90))
    slopes = np.abs(table[sides].to_numpy(float))
    slopes = slopes[~np.isnan(slopes)]
    steepest = (float(np.quantile(slopes, 0.99)) if slopes.size else 0.0) or 1.0
    for side in sides:
        for i, (sweep, own) in enumerate(groups):
            shown = own.assign(row=own["layer"].map(list(layers).index), slope=own[side].abs().round(5))
            panels.append(
                layer_map(
                    shown[shown["slope"].notna()],
                    layers,
                    "slope",
                    size,
                    title=f"{sweep_title(*sweep)}, {side.removeprefix('slope_')} 1",
                    clim=(0.0, steepest),
                    colorbar=i == len(groups) - 1,
                    first=i % 3 == 0,
                    base=shown,
                    label="slope",
                )
            )
    return grid(panels, min(3, len(groups)), size, hspace=0.14, vspace=0.25)


def changes_of_case(table: pd.DataFrame) -> pd.DataFrame:
    """How many slices change their kind of failure between two neighbouring strengths.

    Takes columns ``patient, transform, target, strength, previous_strength``, a row a change, and returns
    ``transform, target, previous_strength, strength, slices, patients``; with ``channels`` where the table has them.
    """
    groups = table.groupby([*sweep_columns(table), "previous_strength", "strength"], sort=False)
    return groups.agg(slices=("patient", "size"), patients=("patient", "nunique")).reset_index()


def dose_cases(table: pd.DataFrame, colours: Mapping[str, str]) -> hv.Layout:
    """How many slices change their kind of failure between two neighbouring strengths; one plot a perturbed class.

    Parameters
    ----------
    table
        columns ``patient, transform, target, strength, previous_strength``, a row a change.

    Examples
    --------
    >>> colours = {"LV": "#cc79a7", "RV": "#0072b2", "MYO": "#e69f00"}
    >>> figure = views.dose_cases(findings.table("dose-cases"), colours)
    """
    counts = changes_of_case(table)
    groups = list(counts.groupby(sweep_columns(counts), sort=False))[:MOST_CONDITIONS]
    size = plot_size(len(groups), 180)
    ends = counts[["previous_strength", "strength"]]
    limits = (float(ends.min().min()), float(ends.max().max()))
    panels = []
    for i, (sweep, own) in enumerate(groups):
        transform, target, *_ = sweep
        edges = own[["previous_strength", "strength"]].to_numpy(float)
        bars = pd.DataFrame(
            {
                "x0": edges.min(axis=1),
                "y0": 0,
                "x1": edges.max(axis=1),
                "y1": own["slices"].to_numpy(),
                "from": own["previous_strength"].to_numpy(),
                "to": own["strength"].to_numpy(),
                "slices": own["slices"].to_numpy(),
            }
        )
        panels.append(
            panel(
                [marks.blocks(bars, colours[str(target)])],
                size,
                title=f"{sweep_title(*sweep)} · {counted(int(own['slices'].sum()), 'change')}",
                xlim=limits,
                ylim=(0, float(own["slices"].max()) * 1.08),
                xlabel=f"strength of {transform}",
                ylabel="slices that change" if i % 3 == 0 else "",
            )
        )
    return grid(panels, 3, size)


def with_half_lost(table: pd.DataFrame, half: pd.DataFrame | None) -> pd.DataFrame:
    """The table of doses with ``half_below`` and ``half_above``, the dashed lines, on rows of the perturbed class."""
    if half is None:
        return table
    keys = [*sweep_columns(table), "class_name"]
    own = half.loc[half["class_name"] == half["target"], [*keys, "half_below", "half_above"]]
    return table.merge(own, on=keys, how="left", validate="many_to_one")
