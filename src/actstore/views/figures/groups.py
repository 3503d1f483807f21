"""Which channels belong to a class, to a case, to a patient: figures of tables that compare groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.channels.frequency import top_counts
from actstore.analysis.channels.ranking import in_top
from actstore.analysis.evidence import patients_of
from actstore.analysis.layers import layer_slices
from actstore.measures.names import TOP
from actstore.views.figures import marks
from actstore.views.figures.channels import network_mad
from actstore.views.figures.theme import (
    DIVERGING,
    INK,
    MOST_CONDITIONS,
    NEUTRAL,
    WIDTH,
    by_condition,
    panel,
    styled,
    ticks,
)

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Patients whose names still fit under a map.
NAMED = 30
#: Channels of a condition that are drawn patient by patient.
UNEVEN = 12


def comparison(
    table: pd.DataFrame, colours: Mapping[str, str], widths: Mapping[str, int], classes: Sequence[str] | None = None
) -> hv.Overlay:
    """Which of the most frequent channels of each layer belong to one class, and which are shared.

    Parameters
    ----------
    table
        columns ``layer, channel, targets, number, specific``.
    colours
        class name to colour.
    widths
        layer to its number of channels, in network order.
    classes
        names of the perturbed classes; by default those that are in ``targets``.

    Examples
    --------
    >>> colours = {"LV": "#cc79a7", "RV": "#0072b2", "MYO": "#e69f00"}
    >>> widths = store.layers["channels"].to_dict()
    >>> figure = views.comparison(findings.table("comparison"), colours, widths)
    """
    names = list(widths)
    classes = list(dict.fromkeys(", ".join(table["targets"]).split(", "))) if classes is None else classes
    most = len(classes)
    colour = np.where(table["number"] == most, INK, NEUTRAL)
    specific = table["specific"].fillna("").astype(str)
    colour = np.where(specific != "", specific.map(dict(colours)).fillna(NEUTRAL), colour)
    row = table["layer"].map(names.index)
    shown = pd.DataFrame(
        {
            "x0": table["channel"] - 0.46,
            "y0": row - 0.44,
            "x1": table["channel"] + 0.46,
            "y1": row + 0.44,
            "layer": table["layer"],
            "channel": table["channel"],
            "among the top of": table["targets"],
            "colour": colour,
        }
    )
    ends = ["x0", "y0", "x1", "y1"]
    hover = ["layer", "channel", "among the top of"]
    keys = [marks.key(f"{name} only", colour) for name, colour in colours.items() if name in classes]
    if most > 2:
        keys.append(marks.key("some", NEUTRAL))
    keys.append(marks.key("all" if len(classes) != 2 else "both", INK))
    return panel(
        [
            marks.grey_rows(range(len(names)), [n - 1 for n in widths.values()]),
            styled(
                hv.Rectangles(shown, ends, [*hover, "colour"]),
                bokeh={
                    "fill_color": "colour",
                    "line_color": None,
                    "tools": ["hover"],
                    "hover_tooltips": [(name, f"@{{{name}}}") for name in hover],
                },
                matplotlib={"color": "colour", "linewidth": 0},
            ),
            *keys,
        ],
        (WIDTH - 200, 15 * len(names)),
        xlim=(-0.5, max(widths.values()) - 0.5),
        ylim=(-0.5, len(names) - 0.5),
        yticks=ticks(names, 60),
        invert_yaxis=True,
        xlabel="channel",
        ylabel="",
        show_grid=False,
        legend="right",
    )


def general_specific(table: pd.DataFrame) -> hv.Layout:
    """Rank correlation of the channels' order in one case with that over all samples: layer x case.

    Parameters
    ----------
    table
        columns ``layer, condition, case, samples, correlation, gained, lost``.

    Examples
    --------
    >>> figure = views.general_specific(findings.table("general-specific"))
    """
    names = list(dict.fromkeys(table["layer"]))
    size = (240, max(14 * len(names), 90))

    def draw(own: pd.DataFrame, colorbar: bool, first: bool) -> hv.Overlay:
        counts = own.groupby("case", sort=False)["samples"].max().sort_values(ascending=False, kind="stable")[:8]
        own = own[own["case"].isin(counts.index)]
        shown = own[["layer", "case", "samples", "correlation", "gained", "lost"]].round(3)
        shown = shown.assign(x=own["case"].map(list(counts.index).index), y=own["layer"].map(names.index))
        return _map(
            [marks.cells(shown, "x", "y", "correlation", clim=(-1, 1), cmap=DIVERGING, colorbar=colorbar)],
            size,
            (len(counts), len(names)),
            title=own["condition"].iloc[0],
            xticks=[(j, f"{case} ({n})") for j, (case, n) in enumerate(counts.items())],
            yticks=list(enumerate(names)),
            yaxis="left" if first else None,
            xlabel="",
        )

    return by_condition(table, draw, 3, size, hspace=0.16, vspace=0.5)


def patient_shares(
    store: Store, table: pd.DataFrame, *, top: int = TOP, member: xr.DataArray | None = None
) -> pd.DataFrame:
    """How often the channels of ``table`` are in their layer's ``top``, of each patient.

    Takes columns ``layer, condition, channel`` and returns these with ``patient, samples, count, share``. ``member`` as
    of :func:`actstore.views.figures.channels.frequency_cells`.
    """
    layers = list(dict.fromkeys(table["layer"]))
    applicable = store.applicable.compute()
    names = patients_of(applicable)[1]
    if member is None:
        member = in_top(network_mad(store, layers or list(store.layers.index)), top, applicable=applicable)
    every, samples = (found.values for found in top_counts(member, applicable))
    where = layer_slices(member)
    parts = []
    for (layer, condition), own in table.groupby(["layer", "condition"], sort=False):
        at = list(store.conditions.index).index(condition)
        patients = [patient for patient in np.argsort(names) if samples[patient, at]]
        count = every[patients, at][:, where[str(layer)]]
        counted = {
            "patient": names[patients].astype(object).repeat(len(own)),
            "channel": np.tile(own["channel"], len(patients)),
            "count": count[:, own["channel"].to_numpy()].ravel(),
            "samples": samples[patients, at].repeat(len(own)),
        }
        parts.append(pd.DataFrame({**counted, "layer": str(layer), "condition": str(condition)}))
    empty = pd.DataFrame({name: [] for name in ("patient", "channel", "count", "samples", "layer", "condition")})
    joined = pd.concat(parts, ignore_index=True) if parts else empty
    joined["share"] = joined["count"] / joined["samples"]
    return joined


def uneven(table: pd.DataFrame, most: int = UNEVEN) -> pd.DataFrame:
    """The rows of the table of heterogeneity to draw: of each condition the ``most`` with the lowest q."""
    ordered = table[table["q"].notna()].sort_values(["q", "statistic"], ascending=[True, False], kind="stable")
    conditions = list(dict.fromkeys(table["condition"]))
    chosen = [ordered[ordered["condition"] == name].head(most) for name in conditions]
    joined: pd.DataFrame = pd.concat(chosen, ignore_index=True)
    return joined


def with_highest(shares: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """``shares`` of :func:`patient_shares` with ``highest`` bool: whether :func:`heterogeneity` marks the cell."""
    keys = ["layer", "condition", "channel"]
    marked: pd.DataFrame = shares.merge(table[[*keys, "highest"]], on=keys, how="left", validate="many_to_one")
    return marked.assign(highest=marked["highest"] == marked["patient"])


def heterogeneity(table: pd.DataFrame, shares: pd.DataFrame) -> hv.Layout:
    """Channels x patients: how often each of the most uneven channels is in the top, of each patient's samples.

    A dot marks the patient that has a channel more than its share, the most in standard deviations.

    Parameters
    ----------
    table
        columns ``layer, condition, channel, q, highest``: of :func:`uneven`.
    shares
        columns ``layer, condition, channel, patient, share``: of :func:`patient_shares`.

    Examples
    --------
    >>> from actstore.views.figures.groups import patient_shares
    >>> table = findings.table("heterogeneity")
    >>> figure = views.heterogeneity(table, patient_shares(store, table))
    """
    patients = sorted(shares["patient"].unique())
    columns = 3 if len(patients) <= 12 else 1
    rows = int(table.groupby("condition", sort=False).size()[:MOST_CONDITIONS].max())
    size = ((195 if columns == 3 else WIDTH - 190), 18 * rows)

    def draw(own: pd.DataFrame, colorbar: bool, _: bool) -> hv.Overlay:
        labels = [f"{layer}·{channel}" for layer, channel in zip(own["layer"], own["channel"], strict=True)]
        of_condition = shares[shares["condition"] == own["condition"].iloc[0]]
        name = of_condition["layer"].astype(str) + "·" + of_condition["channel"].astype(str)
        shown = of_condition.assign(y=name.map(dict(zip(labels, range(len(labels)), strict=True))))
        shown = shown[shown["y"].notna()].assign(x=lambda f: f["patient"].map(patients.index))
        shown = shown[["x", "y", "layer", "channel", "patient", "samples", "share"]].round(3)
        position = {patient: float(i) for i, patient in enumerate(patients)}
        highest = own.assign(y=range(len(own)), x=own["highest"].map(position))
        highest = highest[highest["x"].notna()]
        return _map(
            [
                marks.cells(shown, "x", "y", "share", clim=(0, 1), colorbar=colorbar),
                marks.dots(highest[["x", "y", "q"]].round(4), "x", "y", INK, hollow=True, size=7),
            ],
            size,
            (len(patients), rows),
            title=own["condition"].iloc[0],
            xticks=_patient_ticks(patients),
            yticks=[(j, f"{label}  q {_small(q)}") for j, (label, q) in enumerate(zip(labels, own["q"], strict=True))],
            xlabel="patient",
        )

    return by_condition(table, draw, columns, size, hspace=0.6 if columns == 3 else 0.2, vspace=0.6)


def retained_share(table: pd.DataFrame) -> pd.Series[float]:
    """Of the most frequent channels over all patients, the share that stays: of columns ``shared`` and ``lost``.

    ``lost`` names the channels that go, as "0, 6".
    """
    lost = table["lost"].astype(str).str.count(r"\d+")
    whole = table["shared"] + lost
    return (table["shared"] / whole.where(whole > 0)).astype(float)


def leave_one_out(table: pd.DataFrame) -> hv.Layout:
    """How many of a layer's most frequent channels stay when one patient is left out: layer x patient.

    Parameters
    ----------
    table
        columns ``layer, condition, patient, shared, gained, lost``.

    Examples
    --------
    >>> figure = views.leave_one_out(findings.table("leave-one-out"))
    """
    names = list(dict.fromkeys(table["layer"]))
    patients = sorted(table["patient"].unique())
    columns = 3 if len(patients) <= 20 else 1
    size = ((250 if columns == 3 else WIDTH - 150), max(14 * len(names), 90))
    table = table.assign(kept=retained_share(table).round(3))

    def draw(own: pd.DataFrame, colorbar: bool, first: bool) -> hv.Overlay:
        shown = own[["layer", "patient", "shared", "gained", "lost", "kept"]]
        shown = shown.assign(x=own["patient"].map(patients.index), y=own["layer"].map(names.index))
        return _map(
            [marks.cells(shown, "x", "y", "kept", clim=(0, 1), colorbar=colorbar)],
            size,
            (len(patients), len(names)),
            title=own["condition"].iloc[0],
            xticks=_patient_ticks(patients),
            yticks=list(enumerate(names)),
            yaxis="left" if first else None,
            xlabel="patient left out",
        )

    return by_condition(table, draw, columns, size, hspace=0.14, vspace=0.5)


def _map(elements: Sequence[Any], size: tuple[int, int], cells: tuple[int, int], **options: Any) -> hv.Overlay:
    """A plot of so many cells across and down, the first on top."""
    limits: dict[str, Any] = {"xlim": (-0.5, cells[0] - 0.5), "ylim": (-0.5, cells[1] - 0.5)}
    return panel(elements, size, **limits, xrotation=90, invert_yaxis=True, ylabel="", show_grid=False, **options)


def _patient_ticks(patients: Sequence[str]) -> list[tuple[int, str]]:
    return ticks([name.removeprefix("patient") for name in patients], NAMED)


def _small(q: float) -> str:
    return "< 0.001" if q < 0.001 else f"{q:.3f}"
