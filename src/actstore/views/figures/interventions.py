"""What edits of channels do: effects by layer and channel, and both rankings of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import holoviews as hv
import pandas as pd

from actstore.analysis.interventions.effects import SHARES
from actstore.measures.names import MOST
from actstore.tables.passes import EACH
from actstore.views.figures import marks
from actstore.views.figures.scales import around_zero
from actstore.views.figures.theme import (
    DIVERGING,
    INK,
    MOST_CONDITIONS,
    NEUTRAL,
    PALETTE,
    grid,
    panel,
    plot_size,
    ticks,
)
from actstore.views.wording import SIGNIFICANT

#: What a plot is of.
PLOT = ["intervention", "condition", "class_name"]


def of_targets(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that figures draw: of the perturbed class, and of every class where none is perturbed."""
    own: pd.DataFrame = table[(table["class_name"] == table["target"]) | (table["target"] == "")]
    return own.reset_index(drop=True)


def alone(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table ``effects`` that :func:`effects` draws: channels that are edited alone."""
    own = of_targets(table)
    kept: pd.DataFrame = own[own["order"] == EACH]
    return kept.reset_index(drop=True)


def effects(table: pd.DataFrame) -> hv.Layout:
    """The effect of editing each channel alone, layers running down; one plot an intervention, condition and class.

    Red is Dice that is lost (necessity, transmission), comes back (restoration) or is gained (change), blue the
    opposite. A dot marks channels whose effect is larger than that of random channels of their layer, q < 0.05.

    Parameters
    ----------
    table
        columns ``intervention, quantity, condition, target, class_name, layer, order, channel, effect, q``, as of the
        table ``effects``; drawn for the perturbed class, or every class where none is perturbed.

    Examples
    --------
    >>> figure = views.effects(findings.table("effects"))
    """

    def draw(own: pd.DataFrame, title: str) -> hv.Overlay:
        layers = list(dict.fromkeys(own["layer"]))
        cells = own.assign(x=own["channel"].astype(int), y=own["layer"].map(layers.index))
        known = cells[cells["effect"].notna()]
        shown = known[["x", "y", "effect", "layer", "channel", "low", "high", "q"]].round(4)
        limits = around_zero(shown["effect"].to_numpy(float))
        found = shown[shown["q"] < SIGNIFICANT][["x", "y", "layer", "channel", "effect", "q"]]
        return panel(
            [
                marks.cells(shown, "x", "y", "effect", clim=limits, cmap=DIVERGING),
                marks.dots(found, "x", "y", INK, hollow=True, size=5),
            ],
            (plot_size(plots, 0)[0], max(min(15 * len(layers), 900), 90)),
            title=f"{title} · {len(found)} of {len(known)}",
            xlim=(-0.5, float(cells["x"].max()) + 0.5),
            ylim=(-0.5, len(layers) - 0.5),
            yticks=ticks(layers, max(min(15 * len(layers), 900), 90), 13),
            xticks=ticks([str(k) for k in range(int(cells["x"].max()) + 1)], 240, 24),
            invert_yaxis=True,
            xlabel="channel",
            ylabel="",
            show_grid=False,
        )

    own = alone(table)
    plots = min(len(own.drop_duplicates(PLOT)), MOST_CONDITIONS)
    # Beside each its bar of colours.
    return each_plot(own, draw, columns=2 if plots > 1 else 1, hspace=0.4)


def rankings(table: pd.DataFrame, most: int = MOST) -> hv.Layout:
    """The effect of each channel against its rank by frequency in its layer; one plot an intervention and perturbation.

    Filled are channels that are among the ``most`` most frequent of their layer and among the ``most`` with the largest
    effects. If the channels that change most were those that matter, dots would fall from left to right.

    Parameters
    ----------
    table
        columns ``intervention, quantity, condition, target, layer, channel, frequency, frequency_rank, mad_rank,
        effect, effect_rank``, as of the table ``rankings``.
    most
        size of the sets.

    Examples
    --------
    >>> figure = views.rankings(findings.table("rankings"))
    """

    def draw(own: pd.DataFrame, title: str) -> hv.Overlay:
        columns = ["frequency_rank", "effect", "layer", "channel", "frequency", "mad_rank", "effect_rank"]
        shown = own[own["effect"].notna()][columns].round(4)
        both = (shown[["frequency_rank", "effect_rank"]] <= most).all(axis=1) & (shown["frequency"] > 0)
        both &= shown["effect"] > 0
        return panel(
            [
                marks.rule(y=0.0, dashed=False),
                marks.rule(x=most + 0.5),
                marks.dots(shown[~both], "frequency_rank", "effect", NEUTRAL, hollow=True, size=4),
                marks.dots(shown[both], "frequency_rank", "effect", PALETTE[0], size=5),
            ],
            plot_size(plots, 240),
            title=title,
            xlim=(0, float(own["frequency_rank"].max()) + 1),
            ylim=_reach(shown["effect"]),
            xlabel="rank by frequency in the layer",
            ylabel=_called(own),
        )

    plots = min(len(table.drop_duplicates(["intervention", "condition"])), MOST_CONDITIONS)
    return each_plot(table.assign(class_name=table["target"]), draw, hspace=0.4)


def agreement(table: pd.DataFrame) -> hv.Layout:
    """Rank correlation of effects with frequency (filled) and with MAD (hollow) over the channels of each layer.

    With 95 % intervals over patients; one plot an intervention and perturbation.

    Parameters
    ----------
    table
        columns ``intervention, condition, target, layer, frequent, large, shared, expected, spearman_frequency,
        spearman_mad`` and their ``…_low`` and ``…_high``, as of the table ``agreement``.

    Examples
    --------
    >>> figure = views.agreement(findings.table("agreement"))
    """

    def draw(own: pd.DataFrame, title: str) -> hv.Overlay:
        layers = list(dict.fromkeys(own["layer"]))
        elements: list[Any] = [marks.rule(x=0.0)]
        for name, colour, hollow, step in (("frequency", PALETTE[0], False, -0.16), ("mad", PALETTE[1], True, 0.16)):
            key = f"spearman_{name}"
            at = own.assign(y=own["layer"].map(layers.index) + step, x=own[key])
            known = at[at["x"].notna()]
            hover = ["x", "y", "layer", "frequent", "large", "shared", "expected"]
            elements += [
                marks.intervals(known, "y", f"{key}_low", f"{key}_high", colour, across=True),
                marks.dots(known[hover].round(3), "x", "y", colour, hollow=hollow, size=6),
            ]
        return by_layer(elements, layers, title, plots, xlim=(-1.05, 1.05), xlabel="rank correlation with the effect")

    plots = min(len(table.drop_duplicates(["intervention", "condition"])), MOST_CONDITIONS)
    return each_plot(table.assign(class_name=table["target"]), draw)


def each_plot(
    table: pd.DataFrame, draw: Callable[[pd.DataFrame, str], hv.Overlay], columns: int = 3, hspace: float = 0.25
) -> hv.Layout:
    """One plot an intervention, condition and class, the first :data:`MOST_CONDITIONS`."""
    groups = list(table.groupby(PLOT, sort=False))[:MOST_CONDITIONS]
    panels = []
    for (name, condition, class_name), own in groups:
        panels.append(draw(own.reset_index(drop=True), f"{name}: {condition}, {class_name}"))
    size = plot_size(len(groups), max(240, 15 * table["layer"].nunique()))
    return grid(panels, columns, size, hspace=hspace)


def by_layer(elements: list[Any], layers: list[str], title: str, plots: int, **options: Any) -> hv.Overlay:
    """Layers running down."""
    size = plot_size(plots, max(min(18 * len(layers), 900), 90))
    return panel(
        elements,
        size,
        title=title,
        ylim=(-0.7, len(layers) - 0.3),
        yticks=ticks(layers, size[1], 13),
        invert_yaxis=True,
        ylabel="",
        show_grid=True,
        **options,
    )


def _called(own: pd.DataFrame) -> str:
    """What the effect is, on an axis."""
    quantity = str(own["quantity"].iloc[0])
    return f"{quantity} (share)" if quantity in SHARES else f"{quantity} (Dice)"


def _reach(values: pd.Series[float]) -> tuple[float, float]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    room = max(high - low, 1e-3) * 0.06
    return low - room, high + room
