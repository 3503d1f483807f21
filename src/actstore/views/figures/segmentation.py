"""Dice before and after, and kinds of failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.errors import StoreError
from actstore.tables.rows import sample_columns
from actstore.tables.summaries import case_summary
from actstore.tables.unchanged import noun_of
from actstore.units import plural_of
from actstore.views.figures import marks
from actstore.views.figures.selection import chosen, paired_dice, shown_conditions
from actstore.views.figures.theme import INK, colours_of, grid, panel, plot_size, shades

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Patients that are named and distinguished by colour; of more, the lines are drawn alike.
NAMED_PATIENTS = 12
#: Slices drawn one by one; of more, an even selection is drawn, and the boxes are of all.
DRAWN_SLICES = 400


def dice(store: Store, conditions: list[str] | None = None) -> hv.Layout:
    """Dice of each class, original (hollow) against perturbed (filled), one plot a perturbation.

    A dot is a slice that contains the class; boxes are quartiles, thick lines medians, whiskers Tukey's.

    Parameters
    ----------
    conditions
        which; by default those of :func:`actstore.views.figures.selection.shown_conditions`.

    Raises
    ------
    StoreError
        if no perturbation applies to any slice.

    Examples
    --------
    >>> figure = views.dice(store, ["brightness(LV, 0.1)"])
    """
    table, shown = _paired(store, conditions)
    colours = colours_of(store)
    size = plot_size(len(shown), 260)
    panels = []
    for condition in shown:
        own = table[table["condition"] == condition]
        groups, points = [], []
        for i, (name, colour) in enumerate(colours.items()):
            of_class = own[own["class_name"] == name]
            for kind, x in (("original", i - 0.21), ("perturbed", i + 0.21)):
                groups.append((of_class[kind].to_numpy(), x, colour))
                drawn = of_class.iloc[_evenly(len(of_class), DRAWN_SLICES)]
                place = x + marks.swarm(drawn[kind].to_numpy(), 0.16, span=(0, 1))
                points.append(
                    drawn[[*sample_columns(table), "class_name"]].assign(
                        x=place, dice=drawn[kind], input=kind, colour=colour
                    )
                )
        each = pd.concat(points)
        elements = [
            *marks.boxes(groups, width=0.17),
            *(
                marks.dots(each[each["input"] == kind], "x", "dice", "colour", hollow=kind == "original", size=4)
                for kind in ("original", "perturbed")
            ),
        ]
        panels.append(
            panel(
                elements,
                size,
                title=_title(condition, own),
                xticks=list(enumerate(colours)),
                xlim=(-0.6, len(colours) - 0.4),
                ylim=(-0.03, 1.03),
                xlabel="original (hollow) and perturbed (filled)",
                ylabel="Dice",
                show_grid=False,
            )
        )
    return grid(panels, 3, size)


def dice_change(store: Store, conditions: list[str] | None = None) -> hv.Layout:
    """Histogram of the change in Dice of the perturbed class, one plot a perturbation; the dashed line is the mean.

    Examples
    --------
    >>> figure = views.dice_change(store, ["brightness(LV, 0.1)"])
    """

    def draw(own: pd.DataFrame, target: str, colour: str) -> tuple[list[Any], dict[str, Any]]:
        edges = np.linspace(-1, 1, 41)
        counts, _ = np.histogram(own["change"], edges)
        bars = pd.DataFrame({"x0": edges[:-1], "y0": 0, "x1": edges[1:], "y1": counts, "slices": counts})
        low = min(-0.1, float(np.floor(own["change"].min() * 10) / 10))
        high = max(0.1, float(np.ceil(own["change"].max() * 10) / 10))
        elements = [marks.blocks(bars[bars["slices"] > 0], colour), marks.rule(x=float(own["change"].mean()))]
        limits = {"xlim": (low, high), "ylim": (0, max(counts) * 1.08)}
        return elements, {"xlabel": f"change in Dice of {target}", "ylabel": plural_of(noun_of(store)), **limits}

    return _of_targets(store, conditions, 200, draw)


def dice_cumulative(store: Store, conditions: list[str] | None = None) -> hv.Layout:
    """Share of slices whose Dice of the perturbed class is at most a value: original dashed, perturbed solid.

    Examples
    --------
    >>> figure = views.dice_cumulative(store, ["brightness(LV, 0.1)"])
    """

    def draw(own: pd.DataFrame, target: str, colour: str) -> tuple[list[Any], dict[str, Any]]:
        curves = []
        for kind in ("original", "perturbed"):
            ordered = np.sort(own[kind].to_numpy())
            x = np.r_[-0.02, ordered, 1.02]
            y = np.r_[0, np.arange(1, len(ordered) + 1) / len(ordered), 1]
            curves.append(marks.line(x, y, colour, label=kind, dashed=kind == "original", step=True))
        labels = {
            "xlabel": f"Dice of {target} (dashed: original)",
            "ylabel": f"share of {plural_of(noun_of(store))} up to it",
        }
        return curves, {**labels, "xlim": (-0.02, 1.02), "ylim": (0, 1.03)}

    return _of_targets(store, conditions, 220, draw)


def dice_by_patient(store: Store, conditions: list[str] | None = None) -> hv.Layout:
    """Mean Dice of the perturbed class of each patient, original and perturbed, joined by a line a patient.

    Examples
    --------
    >>> figure = views.dice_by_patient(store, ["brightness(LV, 0.1)"])
    """
    table, shown = _paired(store, conditions)
    patients = sorted(table["patient"].unique())
    few = len(patients) <= NAMED_PATIENTS
    colours = dict(zip(patients, shades(len(patients)) if few else [INK] * len(patients), strict=True))
    size = ({1: 480, 2: 330}.get(len(shown), 225), 240)
    panels = []
    for i, condition in enumerate(shown):
        own = table[(table["condition"] == condition) & (table["class_name"] == table["target"])]
        means = own.groupby("patient")[["original", "perturbed"]].mean()
        elements: list[Any] = []
        for patient, row in means.iterrows():
            label = str(patient) if few else ""
            elements.append(
                marks.line([0, 1], row.to_numpy(), colours[str(patient)], alpha=0.9 if few else 0.25, label=label)
            )
        if not few:
            elements.append(marks.line([0, 1], means.mean().to_numpy(), INK, width=3.5, label="mean of patients"))
        last = i == len(shown) - 1
        panels.append(
            panel(
                elements,
                size,
                title=_title(condition, own),
                xticks=[(0, "original"), (1, "perturbed")],
                xlim=(-0.15, 1.15),
                ylim=(-0.03, 1.03),
                xlabel="",
                ylabel=f"mean Dice of {own['target'].iloc[0]}",
                legend="right" if last else None,
            )
        )
    return grid(panels, 3, size)


def dice_by_position(store: Store, conditions: list[str] | None = None, *, bins: int = 5) -> hv.Layout:
    """Dice of the perturbed class along the heart, original dashed and perturbed solid: mean and quartiles of slices.

    Position is of :func:`actstore.analysis.slice_position`.

    Examples
    --------
    >>> figure = views.dice_by_position(store, ["brightness(LV, 0.1)"])
    """

    def draw(own: pd.DataFrame, target: str, colour: str) -> tuple[list[Any], dict[str, Any]]:
        curve = along_the_heart(own, bins=bins)
        x = curve["position"].to_numpy()
        low, high = (curve[f"perturbed_{end}"].to_numpy() for end in ("lower_quartile", "upper_quartile"))
        elements = [
            marks.line(x, curve["original"].to_numpy(), colour, label="original", dashed=True),
            marks.band(x, low, high, colour),
            marks.line(x, curve["perturbed"].to_numpy(), colour, label="perturbed"),
        ]
        labels = {"xlabel": "position", "ylabel": f"Dice of {target} (dashed: original)"}
        axes = {"xticks": [(0, "base"), (0.5, "middle"), (1, "apex")], "xlim": (0, 1), "ylim": (-0.03, 1.03)}
        return elements, {**labels, **axes}

    return _of_targets(store, conditions, 220, draw)


def dice_paired(store: Store, condition: str | None = None) -> hv.Layout:
    """Dice under a perturbation against that on the original, one plot a class; on the dashed line nothing changes.

    A dot is a slice that contains the class.

    Parameters
    ----------
    condition
        name of a perturbation, control or repeat; by default the first perturbation that applies to any sample.

    Raises
    ------
    StoreError
        if there is no such condition, or it applies to no sample.

    Examples
    --------
    >>> figure = views.dice_paired(store, "brightness(LV, 0.1)")
    """
    _, c = chosen(store, None, condition)
    table = paired_dice(store, [c])
    colours = colours_of(store)
    side = {1: 360, 2: 320}.get(len(colours), 250)
    size = (side, side)
    panels = []
    for i, (name, colour) in enumerate(colours.items()):
        own = table[table["class_name"] == name][["original", "perturbed", *sample_columns(table)]]
        panels.append(
            panel(
                [
                    marks.line([0, 1], [0, 1], INK, width=1, dashed=True, alpha=0.55),
                    marks.dots(own, "original", "perturbed", colour),
                ],
                size,
                title=f"{name} · n = {len(own)}",
                xlim=(-0.03, 1.03),
                ylim=(-0.03, 1.03),
                xlabel="Dice, original",
                ylabel=f"Dice, {store.conditions.index[c]}" if i % 3 == 0 else "",
            )
        )
    return grid(panels, 3, size)


def along_the_heart(slices: pd.DataFrame, *, bins: int = 5) -> pd.DataFrame:
    """Mean Dice and its quartiles in ``bins`` equal parts of the heart, from columns ``condition, target, position,
    original, perturbed``.

    Columns ``condition, target, position, samples, original, perturbed, perturbed_lower_quartile,
    perturbed_upper_quartile``; ``position`` is the middle of the part. A slice without a position is in none.
    """
    known = slices[slices["position"].notna()]
    middle = (np.minimum((known["position"] * bins).astype(int), bins - 1) + 0.5) / bins
    groups = known.assign(position=middle).groupby(["condition", "target", "position"], sort=False)
    found = groups.agg(
        samples=("perturbed", "size"),
        original=("original", "mean"),
        perturbed=("perturbed", "mean"),
        perturbed_lower_quartile=("perturbed", lambda values: values.quantile(0.25)),
        perturbed_upper_quartile=("perturbed", lambda values: values.quantile(0.75)),
    ).reset_index()
    order = {name: i for i, name in enumerate(dict.fromkeys(slices["condition"]))}
    return found.sort_values(
        ["condition", "position"], key=lambda c: c.map(order) if c.name == "condition" else c, ignore_index=True
    )


def cases(store: Store, conditions: list[str] | None = None) -> hv.Layout:
    """How many slices fall into each kind of failure, one plot a perturbation, the most usual kind on top.

    Raises
    ------
    StoreError
        if no perturbation applies to any slice.

    Examples
    --------
    >>> figure = views.cases(store)
    """
    table = case_summary(store)
    shown = [c for c in conditions or shown_conditions(store) if (table["condition"] == c).any()]
    if not shown:
        raise StoreError(f"{store.path} has no prediction under a perturbation: no slice contains a perturbed class")
    table = table[table["condition"].isin(shown)]
    names = list(table.groupby("case", sort=False)["samples"].sum().sort_values(ascending=False, kind="stable").index)
    colours = colours_of(store)
    size = ({1: 600, 2: 330}.get(len(shown), 225), 24 * len(names) + 10)
    panels = []
    for i, condition in enumerate(shown):
        own = table[table["condition"] == condition]
        row = own["case"].map(names.index)
        bars = own[["case", "samples", "share"]].assign(x0=0.0, x1=own["share"], y0=row - 0.36, y1=row + 0.36)
        labels = [f"{n} ({share * 100:.0f} %)" for n, share in zip(own["samples"], own["share"], strict=True)]
        text = pd.DataFrame({"x": own["share"] + 0.02, "y": row, "text": labels})
        panels.append(
            panel(
                [marks.blocks(bars, colours[own["target"].iloc[0]]), marks.words(text, "x", "y", "text")],
                size,
                title=f"{condition} · n = {own['samples'].sum()}",
                xlim=(0, 1.32),
                ylim=(-0.6, len(names) - 0.4),
                xticks=[(0, "0"), (0.5, "50 %"), (1, "100 %")],
                yticks=list(enumerate(names)),
                yaxis="left" if i % 3 == 0 else None,
                invert_yaxis=True,
                xlabel="share of slices",
                ylabel="",
            )
        )
    return grid(panels, 3, size, hspace=0.12)


def _paired(store: Store, conditions: list[str] | None) -> tuple[pd.DataFrame, list[str]]:
    table = paired_dice(store)
    shown = [c for c in conditions or shown_conditions(store) if (table["condition"] == c).any()]
    if not shown:
        raise StoreError(f"{store.path} has no Dice under a perturbation: no slice contains a perturbed class")
    return table, shown


def _of_targets(
    store: Store,
    conditions: list[str] | None,
    height: int,
    draw: Callable[[pd.DataFrame, str, str], tuple[list[Any], dict[str, Any]]],
) -> hv.Layout:
    """One plot a perturbation: ``draw`` gets the rows of the perturbed class, its name and its colour."""
    table, shown = _paired(store, conditions)
    colours = colours_of(store)
    size = plot_size(len(shown), height)
    panels = []
    for condition in shown:
        own = table[(table["condition"] == condition) & (table["class_name"] == table["target"])]
        target = str(own["target"].iloc[0])
        elements, options = draw(own, target, colours[target])
        panels.append(panel(elements, size, title=_title(condition, own), **options))
    return grid(panels, 3, size)


def _title(condition: str, own: pd.DataFrame) -> str:
    return f"{condition} · n = {int((own['class_name'] == own['target']).sum())}"


def _evenly(number: int, most: int) -> Any:
    return np.arange(number) if number <= most else np.linspace(0, number - 1, most).astype(int)
