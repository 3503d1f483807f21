"""How sure, compared with what, and whether it matters: figures of tables over channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.views.figures import marks
from actstore.views.figures.theme import (
    INK,
    MOST_CONDITIONS,
    NEUTRAL,
    PALETTE,
    by_condition,
    line_colours,
    panel,
    ticks,
)
from actstore.views.wording import SIGNIFICANT, SURE


def first_of_layer(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table of certainty to draw: the most frequent channel of each condition and layer.

    Takes and returns columns ``layer, condition, frequency, …``; a layer no channel of which is ever on top has no row.
    """
    return (
        table[table["frequency"] > 0]
        .sort_values("frequency", ascending=False, kind="stable")
        .drop_duplicates(["condition", "layer"])
        .sort_index()
        .reset_index(drop=True)
    )


def certainty(table: pd.DataFrame, colours: Mapping[str, str] | None = None) -> hv.Layout:
    """The most frequent top channel of each layer with its 95 % interval; its number stands beside the interval.

    A layer no channel of which is ever among the top stays empty.

    Filled where bootstrap resamples of the patients choose the same channel among the most frequent in at least 95 %.

    Parameters
    ----------
    table
        columns ``layer, condition, target, channel, frequency, low, high, selected``.
    colours
        class name to colour, here as in every figure; by default in order of appearance.

    Examples
    --------
    >>> figure = views.certainty(findings.table("certainty"))
    """

    def draw(own: pd.DataFrame, colour: str) -> list[Any]:
        sure = own["selected"] >= SURE
        hover = own[["x", "y", "layer", "channel", "samples", "patients", "frequency", "selected"]].round(3)
        text = own.assign(
            x=own[["high", "frequency"]].max(axis=1).clip(upper=1.0) + 0.045, text=own["channel"].astype(str)
        )
        return [
            marks.intervals(own, "y", "low", "high", colour, across=True),
            marks.dots(hover[sure], "x", "y", colour, size=7),
            marks.dots(hover[~sure], "x", "y", colour, hollow=True, size=7),
            marks.words(text, "x", "y", "text"),
        ]

    names = list(dict.fromkeys(table["layer"]))
    return _by_layer(
        first_of_layer(table),
        "frequency",
        draw,
        colours,
        xlabel="share of samples in the top",
        xlim=(0, 1.18),
        layers=names,
    )


def stability(table: pd.DataFrame, colours: Mapping[str, str] | None = None) -> hv.Layout:
    """How alike the most frequent channels of a layer are over resamples of the patients: mean and range of 95 %.

    Parameters
    ----------
    table
        columns ``layer, condition, target, k, most, overlap, low, high``; filled for the largest ``most``, hollow else.

    Examples
    --------
    >>> figure = views.stability(findings.table("stability"))
    """
    largest = table["most"].max()

    def draw(own: pd.DataFrame, colour: str) -> list[Any]:
        hover = own[["x", "y", "layer", "k", "most", "overlap", "samples", "patients"]].round(3)
        wide = own["most"] == largest
        return [
            marks.intervals(own, "y", "low", "high", colour, across=True),
            marks.dots(hover[~wide], "x", "y", colour, hollow=True, size=7),
            marks.dots(hover[wide], "x", "y", colour, size=7),
        ]

    label = f"overlap (filled: {largest} most frequent)" if table["most"].nunique() > 1 else "overlap"
    return _by_layer(table, "overlap", draw, colours, xlabel=label, xlim=(-0.02, 1.04))


def over_layers(table: pd.DataFrame) -> pd.DataFrame:
    """``condition, k, most`` and the mean ``overlap`` over layers, of the table of sensitivity."""
    mean: pd.DataFrame = table.groupby(["condition", "k", "most"], sort=False)[["overlap"]].mean().reset_index()
    return mean


def sensitivity(table: pd.DataFrame) -> hv.Layout:
    """Overlap with the chosen setting for other numbers of top (``k``) and most frequent channels: mean over layers.

    Examples
    --------
    >>> figure = views.sensitivity(findings.table("sensitivity"))
    """
    mean = over_layers(table)
    ks, mosts = (sorted(mean[name].unique()) for name in ("k", "most"))
    size = (250, max(26 * len(mosts), 90))

    def draw(own: pd.DataFrame, _: bool, first: bool) -> hv.Overlay:
        own = own.assign(x=own["k"].map(ks.index), y=own["most"].map(mosts.index), overlap=own["overlap"].round(3))
        text = own.assign(text=[f"{value:.2f}" for value in own["overlap"]])
        light = text["overlap"] > 0.6
        shown = own[["x", "y", "overlap", "k", "most"]]
        return panel(
            [
                marks.cells(shown, "x", "y", "overlap", clim=(0, 1), colorbar=False),
                marks.words(text[light], "x", "y", "text", align="center", colour=INK),
                marks.words(text[~light], "x", "y", "text", align="center", colour="#ffffff"),
            ],
            size,
            title=own["condition"].iloc[0],
            xlim=(-0.5, len(ks) - 0.5),
            ylim=(-0.5, len(mosts) - 0.5),
            xticks=[(j, str(k)) for j, k in enumerate(ks)],
            yticks=[(j, str(m)) for j, m in enumerate(mosts)],
            xlabel="channels that count as top, k",
            ylabel="most frequent, n" if first else "",
            show_grid=False,
        )

    return by_condition(mean, draw, 3, size)


def controls(table: pd.DataFrame, colours: Mapping[str, str] | None = None) -> hv.Layout:
    """Effect of each channel against its control, by layer; filled where class-sensitive.

    Parameters
    ----------
    table
        columns ``layer, condition, target, channel, mad, control, effect, q, sensitive``.

    Examples
    --------
    >>> figure = views.controls(findings.table("controls"))
    """

    def draw(own: pd.DataFrame, colour: str) -> list[Any]:
        sensitive = own["sensitive"].astype(bool)
        hover = own[["x", "y", "layer", "channel", "mad", "control", "effect", "q", "samples", "patients"]]
        hover = hover.assign(y=hover["y"] + _spread(hover["layer"])).round(4)
        return [
            marks.rule(x=0.0),
            marks.dots(hover[~sensitive], "x", "y", NEUTRAL, hollow=True, size=4),
            marks.dots(hover[sensitive], "x", "y", colour, size=4.5),
        ]

    effects = [0.0, *table["effect"].dropna()]  # with too few patients, none is known
    reach = max(np.ptp(effects), 0.1) * 0.05
    limits = (min(effects) - reach, max(effects) + reach)
    return _by_layer(table, "effect", draw, colours, xlabel="effect against the control", xlim=limits)


def noise_curves(table: pd.DataFrame, layers: pd.DataFrame | None = None) -> pd.DataFrame:
    """The curves of :func:`noise`: ``condition, target, layer, mad``; of repeats, the largest channel, target ""."""
    largest = table.groupby(["condition", "layer"], sort=False)[["largest"]].max().reset_index()
    curves: pd.DataFrame = largest.rename(columns={"largest": "mad"}).assign(target="")
    if layers is not None:
        shown = list(dict.fromkeys(layers["condition"]))[:MOST_CONDITIONS]
        own = layers.loc[layers["condition"].isin(shown), ["condition", "target", "layer", "mad"]]
        order = {name: i for i, name in enumerate(shown)}
        curves = pd.concat([curves, own.sort_values("condition", key=lambda c: c.map(order), kind="stable")])
    return curves[["condition", "target", "layer", "mad"]].reset_index(drop=True)


def noise(
    table: pd.DataFrame, layers: pd.DataFrame | None = None, colours: Mapping[str, str] | None = None
) -> hv.Overlay:
    """MAD of the repeats by layer: largest channel; beside it the mean MAD of the perturbations, on a log scale.

    A repeat without any difference lies on the lower edge.

    Parameters
    ----------
    table
        columns ``layer, channel, condition, mad, largest`` of the repeats.
    layers
        the table of the same name, to compare with.

    Examples
    --------
    >>> figure = views.noise(findings.table("noise"))
    """
    names = list(dict.fromkeys(table["layer"]))
    positive = table["largest"][table["largest"] > 0]
    above = [] if layers is None else [layers["mad"].max()]
    floor = float(positive.min()) / 3 if len(positive) else 1e-9
    colours = colours or ({} if layers is None else _in_order(layers))
    elements: list[Any] = []
    repeats = set(table["condition"])
    of_lines = {} if layers is None else line_colours(layers, colours)
    for i, (condition, own) in enumerate(noise_curves(table, layers).groupby("condition", sort=False)):
        x, y = own["layer"].map(names.index).to_numpy(), np.log10(own["mad"].clip(lower=floor).to_numpy())
        if condition in repeats:
            elements.append(marks.line(x, y, INK, label=f"{condition}, largest", dashed=i > 0))
        else:
            elements.append(marks.line(x, y, of_lines[str(condition)], label=str(condition)))
    # Logarithms on a linear axis: matplotlib's logarithmic axes do not keep an aspect.
    lowest, highest = np.log10(floor), np.log10(max([*above, float(table["largest"].max()), floor * 10]))
    return panel(
        elements,
        (640, 260),
        ylim=(lowest - 0.3, highest + 0.5),
        yticks=[(e, f"1e{e}") for e in range(int(np.floor(lowest)), int(np.ceil(highest)) + 1)],
        xlim=(-0.5, len(names) - 0.5),
        xticks=ticks(names, 21),
        xrotation=90,
        xlabel="layer",
        ylabel="MAD (log scale)",
        legend="right",
    )


def association(table: pd.DataFrame, colours: Mapping[str, str] | None = None) -> hv.Layout:
    """Association of each channel's MAD with the loss of Dice, against its rank by top-k frequency; filled: q < 0.05.

    Channels that are never among the top stand beyond the last rank.

    Parameters
    ----------
    table
        columns ``layer, condition, target, class_name, channel, correlation, q, size_baseline, frequency,
        frequency_rank, association_rank``; drawn for the perturbed class. A dashed line is the correlation of the
        class's size with the loss.

    Examples
    --------
    >>> figure = views.association(findings.table("association"))
    """
    own_class = table[table["class_name"] == table["target"]]
    colours = colours or _in_order(table)
    size = (250, 240)

    def draw(own: pd.DataFrame, _: bool, first: bool) -> hv.Overlay:
        # Beyond the last rank: never among the top.
        own = own.assign(frequency_rank=own["frequency_rank"].fillna(np.nan_to_num(own["frequency_rank"].max()) + 1))
        found = own["q"] < SIGNIFICANT
        columns = ["frequency_rank", "correlation", "layer", "channel", "frequency", "association_rank", "q"]
        shown = own[columns].round(4)
        baseline = own["size_baseline"].dropna().unique()[:1].tolist()
        colour = colours[str(own["target"].iloc[0])]
        reach = max(1.05 * float(own["correlation"].abs().fillna(0).max()), *(1.05 * abs(v) for v in baseline), 0.1)
        return panel(
            [
                marks.rule(y=0.0, dashed=False),
                *(marks.rule(y=float(value)) for value in baseline),
                marks.dots(shown[~found], "frequency_rank", "correlation", NEUTRAL, hollow=True, size=4),
                marks.dots(shown[found], "frequency_rank", "correlation", colour, size=5),
            ],
            size,
            title=f"{own['condition'].iloc[0]} · {int(found.sum())} of {len(own)}",
            ylim=(-reach, reach),
            xlim=(0, float(own["frequency_rank"].max()) + 1),
            xlabel="rank by frequency in the layer",
            ylabel="correlation with loss of Dice" if first else "",
        )

    return by_condition(own_class, draw, 3, size)


def _by_layer(
    table: pd.DataFrame,
    value: str,
    draw: Callable[[pd.DataFrame, str], list[Any]],
    colours: Mapping[str, str] | None,
    *,
    xlabel: str,
    xlim: tuple[float, float],
    layers: list[str] | None = None,
) -> hv.Layout:
    """One plot a condition, layers running down, ``value`` across; ``draw`` gets the rows with columns x and y.

    ``layers`` are those of ``table`` by default.
    """
    colours = colours or _in_order(table)
    names = layers or list(dict.fromkeys(table["layer"]))
    plots = min(table["condition"].nunique(), MOST_CONDITIONS)
    size = ({1: 480, 2: 370}.get(plots, 255), max(min(15 * len(names), 900), 90))

    def plot(own: pd.DataFrame, _: bool, first: bool) -> hv.Overlay:
        own = own.assign(x=own[value].astype(float), y=own["layer"].map(names.index).astype(float))
        return panel(
            draw(own[own["x"].notna()], colours[str(own["target"].iloc[0])]),
            size,
            title=own["condition"].iloc[0],
            xlim=xlim,
            ylim=(-0.7, len(names) - 0.3),
            yticks=ticks(names, size[1], 13),
            yaxis="left" if first else None,
            invert_yaxis=True,
            xlabel=xlabel,
            ylabel="",
            show_grid=True,
        )

    return by_condition(table, plot, 3, size, hspace=0.14, vspace=0.25)


def _spread(layer: pd.Series[str]) -> Any:
    """Small steps up and down, so that the channels of a layer do not lie on one line."""
    number = layer.groupby(layer, sort=False).cumcount().to_numpy()
    return (number * 0.618 % 1 - 0.5) * 0.6


def _in_order(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(dict.fromkeys(table["target"]), PALETTE * len(table), strict=False))
