"""Curves over thresholds, reliability of probabilities, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.views.figures import marks
from actstore.views.figures.theme import INK, MOST_CONDITIONS, NEUTRAL, by_condition, class_colours, grid, panel

Colours = Mapping[str, str]

#: Inside of each plot, three of which stand in a row.
_SIZE = (235, 235)
_COLUMNS = 3
_UNIT = (-0.02, 1.02)
_TICKS = [(share, f"{share:g}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)]


def roc(table: pd.DataFrame, colours: Colours | None = None) -> hv.Layout:
    """Rates of true against false positives of each class, one plot a condition; dashed, of scores that say nothing.

    Parameters
    ----------
    table
        columns ``condition, class_name, false_positive_rate, true_positive_rate``, as of the table ``roc``.
    colours
        of classes, by default in the order of the table.

    Examples
    --------
    >>> figure = views.roc(findings.table("roc"))
    """
    return _curves(
        table,
        colours,
        ("false_positive_rate", "true_positive_rate"),
        ("false positive rate", "true positive rate"),
        diagonal=True,
        legend="bottom_right",
    )


def precision_recall(table: pd.DataFrame, colours: Colours | None = None) -> hv.Layout:
    """Precision against recall of each class, one plot a condition.

    Parameters
    ----------
    table
        columns ``condition, class_name, recall, precision``, as of the table ``precision-recall``.
    colours
        as for :func:`roc`.

    Examples
    --------
    >>> figure = views.precision_recall(findings.table("precision-recall"))
    """
    return _curves(
        table, colours, ("recall", "precision"), ("recall", "precision"), diagonal=False, legend="bottom_left"
    )


def calibration(table: pd.DataFrame, colours: Colours | None = None) -> hv.Layout:
    """How often a class is true where it is given a probability, and below it how many pixels are; by condition.

    On the dashed line probabilities are what they say; below it the network is too sure.

    Parameters
    ----------
    table
        columns ``condition, class_name, low, high, count, confidence, frequency``, as of the table ``calibration``.
    colours
        as for :func:`roc`.

    Examples
    --------
    >>> figure = views.calibration(findings.table("calibration"))
    """
    colours = _of_classes(table, colours)
    groups = [own for _, own in table.groupby("condition", sort=False)][:MOST_CONDITIONS]
    most = int(np.ceil(np.log10(max(float(table["count"].max()), 10.0))))
    step = -(-most // 4)
    powers = [(float(p), _power(p)) for p in range(0, most + 1, step)]
    columns = min(_COLUMNS, len(groups))
    panels = []
    for first in range(0, len(groups), columns):
        row = groups[first : first + columns]
        for i, own in enumerate(row):
            panels.append(_reliability(own, colours, begins=i == 0, legend=first + i == 0))
        panels += [_empty(_SIZE)] * (columns - len(row))
        for i, own in enumerate(row):
            panels.append(_counts(own, colours, (0.0, most * 1.05), powers, begins=i == 0))
        panels += [_empty((_SIZE[0], 90))] * (columns - len(row))
    return grid(panels, columns, (_SIZE[0], 190))


def confusion(table: pd.DataFrame) -> hv.Layout:
    """Per cent of each true class that are predicted as each class, one plot a condition.

    Parameters
    ----------
    table
        columns ``condition, true_class, predicted_class, count, percent``, as of the table ``confusion``.

    Examples
    --------
    >>> figure = views.confusion(findings.table("confusion"))
    """
    names = list(dict.fromkeys(table["predicted_class"]))

    def draw(own: pd.DataFrame, _: bool, first: bool) -> hv.Overlay:
        known = own[own["percent"].notna()]
        shown = known.assign(x=known["predicted_class"].map(names.index), y=known["true_class"].map(names.index))
        text = shown[["x", "y"]].assign(text=[_percent(value) for value in shown["percent"]])
        light = (shown["percent"] > 60).to_numpy()
        return panel(
            [
                marks.cells(
                    shown[["x", "y", "percent", "true_class", "predicted_class", "count"]],
                    "x",
                    "y",
                    "percent",
                    clim=(0, 100),
                    colorbar=False,
                ),
                marks.words(text[light], "x", "y", "text", align="center", colour=INK),
                marks.words(text[~light], "x", "y", "text", align="center", colour="#ffffff"),
            ],
            _SIZE,
            title=str(own["condition"].iloc[0]),
            xlim=(-0.5, len(names) - 0.5),
            ylim=(-0.5, len(names) - 0.5),
            xticks=list(enumerate(names)),
            yticks=list(enumerate(names)),
            yaxis="left" if first else None,
            xrotation=30 if len(names) > 4 else 0,
            invert_yaxis=True,
            xlabel="predicted as",
            ylabel="true class" if first else "",
            show_grid=False,
        )

    return by_condition(table, draw, _COLUMNS, _SIZE)


def _curves(
    table: pd.DataFrame,
    colours: Colours | None,
    columns: tuple[str, str],
    labels: tuple[str, str],
    *,
    diagonal: bool,
    legend: str,
) -> hv.Layout:
    colours = _of_classes(table, colours)
    conditions = list(dict.fromkeys(table["condition"]))[:MOST_CONDITIONS]

    def draw(own: pd.DataFrame, _: bool, first: bool) -> hv.Overlay:
        elements = [marks.line([0, 1], [0, 1], NEUTRAL, width=1, dashed=True)] if diagonal else []
        for name, rows in own.groupby("class_name", sort=False):
            x, y = (rows[column].to_numpy(float) for column in columns)
            elements.append(marks.line(x, y, colours[str(name)], label=str(name)))
        shown = legend if own["condition"].iloc[0] == conditions[0] else None
        return _unit_square(elements, own, labels[0], labels[1] if first else "", shown)

    return by_condition(table, draw, _COLUMNS, _SIZE)


def _reliability(own: pd.DataFrame, colours: Colours, *, begins: bool, legend: bool) -> hv.Overlay:
    elements = [marks.line([0, 1], [0, 1], NEUTRAL, width=1, dashed=True)]
    for name, rows in own.groupby("class_name", sort=False):
        colour = colours[str(name)]
        x, y = rows["confidence"].to_numpy(float), rows["frequency"].to_numpy(float)
        elements.append(marks.line(x, y, colour, label=str(name), width=1.5))
        elements.append(marks.dots(rows[["confidence", "frequency", "count"]], "confidence", "frequency", colour))
    ylabel = "share that is of the class" if begins else ""
    return _unit_square(elements, own, "mean probability", ylabel, "bottom_right" if legend else None)


def _unit_square(elements: list[Any], own: pd.DataFrame, xlabel: str, ylabel: str, legend: str | None) -> hv.Overlay:
    """One condition's plot whose axes both run from 0 to 1."""
    return panel(
        elements,
        _SIZE,
        title=str(own["condition"].iloc[0]),
        xlim=_UNIT,
        ylim=_UNIT,
        xticks=_TICKS,
        yticks=_TICKS,
        xlabel=xlabel,
        ylabel=ylabel,
        legend=legend,
    )


def _counts(
    own: pd.DataFrame,
    colours: Colours,
    ylim: tuple[float, float],
    powers: list[tuple[float, str]],
    *,
    begins: bool,
) -> hv.Overlay:
    elements = []
    for name, rows in own.groupby("class_name", sort=False):
        low, high, count = (rows[column].to_numpy(float) for column in ("low", "high", "count"))
        x, y = np.stack([low, high], 1).ravel(), np.repeat(np.log10(count), 2)
        # Nothing is drawn across empty bins.
        gaps = 2 * (np.flatnonzero(low[1:] > high[:-1] + 1e-9) + 1)
        x, y = (np.insert(values, gaps, np.nan) for values in (x, y))
        elements.append(marks.line(x, y, colours[str(name)], width=1.5))
    return panel(
        elements,
        (_SIZE[0], 90),
        xlim=_UNIT,
        ylim=ylim,
        xticks=_TICKS,
        yticks=powers,
        xlabel="probability",
        ylabel="number" if begins else "",
    )


def _empty(size: tuple[int, int]) -> hv.Overlay:
    """Nothing, where a row of plots ends early."""
    return panel([marks.line([np.nan], [np.nan], NEUTRAL)], size, xaxis=None, yaxis=None, xlim=_UNIT, ylim=_UNIT)


def _of_classes(table: pd.DataFrame, colours: Colours | None) -> Colours:
    """A colour for every class of the table."""
    names = list(dict.fromkeys(table["class_name"]))
    return class_colours(("", *names)) | dict(colours or {})


def _power(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent < 4 else f"1e{exponent}"


def _percent(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}" if value >= 0.05 else "<0.1"
