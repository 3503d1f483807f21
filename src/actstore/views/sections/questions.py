"""Local or global, compared with what, how much, and whether it matters."""

from __future__ import annotations

from typing import Any

import numpy as np

from actstore.units import counted
from actstore.views import evidence as figures
from actstore.views import response
from actstore.views.page import Figure, Section, Study, Table, caution, cohort, number, percent, with_interval


def regions(study: Study) -> Section:
    """Change inside, around and outside the perturbed region."""
    missing: list[str] = []
    table = study.ask("regions", missing)
    title = "Local or global"
    if table is None:
        return Section("regions", title, missing=missing)
    outside = table.groupby("layer", sort=False)["outside_share"].mean()
    inside = table.groupby("layer", sort=False)["inside_share"].mean()
    finding = (
        f"Of a map's change in {outside.index[0]}, {percent(inside.iloc[0])} lies inside the perturbed region and "
        f"{percent(outside.iloc[0])} outside it and its rim; in {outside.index[-1]}, {percent(inside.iloc[-1])} and "
        f"{percent(outside.iloc[-1])} (means over samples, channels and perturbations)."
    )
    far = table.sort_values("outside_share", ascending=False, kind="stable")
    names = ["layer", "channel", "condition", "samples", "mad", "inside", "rim", "outside", "outside_share"]
    return Section(
        "regions",
        title,
        [
            "A normalisation over the whole map spreads a local change everywhere. The mask is averaged over each of "
            "the layer's pixels; shares are of the summed absolute difference.",
            *caution(table),
        ],
        [
            Figure(
                "regions",
                lambda: response.regions(table, study.colours),
                f"Where change lies: inside the perturbed region, in a rim around it, and outside. Mean over channels. "
                f"{cohort(table)}.",
                "Stacked bars of the share of change inside, in the rim and outside, one a layer",
                table,
            )
        ],
        [Table("regions-outside", "Channels that change most outside the region", far[names], table)],
        [finding],
    )


def controls(study: Study) -> Section:
    """Against the same perturbation elsewhere, and against no perturbation at all."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("controls", missing)
    if table is not None:
        tested = table[table["q"].notna()].groupby("condition", sort=False)["sensitive"].agg(["sum", "size"])
        if len(tested):
            parts = ", ".join(f"{int(row['sum'])} of {row['size']} to {name}" for name, row in tested.iterrows())
            findings.append(
                "Channels that respond more to the class than to the same perturbation elsewhere in the body: "
                f"{parts} (false discovery rate 5 %)."
            )
        drawn.append(
            Figure(
                "controls",
                lambda: figures.controls(table, study.colours),
                "Effect of each channel against its control, by layer: above 0 it responds more to the class than to a "
                f"region of equal size and shape elsewhere; filled where class-sensitive. {cohort(table)}.",
                "Dots of effect size, one a channel, by layer",
                table,
            )
        )
        first = table.sort_values(["sensitive", "effect"], ascending=False, kind="stable")
        shown = first[["layer", "channel", "condition", "mad", "control"]].assign(
            effect=with_interval(first, "effect"), q=first["q"], sensitive=first["sensitive"]
        )
        tables.append(
            Table("controls-sensitive", "Channels with the largest effect against their control", shown, table)
        )
        words += caution(table)
    noise = study.ask("noise", missing)
    if noise is not None:
        layers = study.ask("layers", [])
        largest = noise.groupby("condition", sort=False)["largest"].max()
        words.append(
            "The noise floor, the original once more: "
            + "; ".join(
                f"{name}: bit for bit the same" if value == 0 else f"{name}: largest MAD {number(value)}"
                for name, value in largest.items()
            )
            + "."
        )
        drawn.append(
            Figure(
                "noise",
                lambda: figures.noise(noise, layers, study.colours),
                "MAD of the original run again (largest of a layer's channels, black) beside the mean MAD of the "
                f"perturbations. A line along the lower edge is no difference at all. {cohort(noise)}.",
                "Curves of MAD over layers, repeats and perturbations, on a log scale",
                noise,
            )
        )
    return Section("controls", "Compared with what", words, drawn, tables, findings, missing)


def dose(study: Study) -> Section:
    """Dice and channels against the strength of the perturbation."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("dose", missing)
    half = study.ask("dose-half", missing) if table is not None else None
    if table is not None:
        drawn.append(
            Figure(
                "dose",
                lambda: response.dose(table, half, study.colours),
                "Mean Dice against strength with 95 % intervals over patients; the perturbed class is drawn thick, "
                f"dashed lines mark where half of its Dice is lost. {cohort(table)}.",
                "Curves of Dice against strength, one plot a perturbed class",
                table,
            )
        )
        words += caution(table)
    if half is not None:
        parts = []
        own_half: Any = half[half["class_name"] == half["target"]]
        for row in own_half.itertuples():
            told = [number(end) for end in (row.half_below, row.half_above) if np.isfinite(end)]
            lost = f"at {' and '.join(told)}" if told else "at no strength that was run"
            rests = f"{counted(row.samples, 'slice')} of {counted(row.patients, 'patient')}"
            parts.append(f"{row.target} {lost} ({row.transform}; {rests})")
        if parts:
            findings.append(f"Strength at which half of the Dice is lost: {', '.join(parts)}.")
        shown = half[["transform", "target", "class_name", "samples", "baseline"]].assign(
            half_lost_below=with_interval(half, "half_below"), half_lost_above=with_interval(half, "half_above")
        )
        own = half["class_name"] == half["target"]
        words += caution(half[own])
        tables.append(Table("dose-half", "Strength at which half of the Dice is lost", shown[own], half))
    channels = study.ask("dose-channels", missing) if table is not None else None
    if channels is not None and channels.filter(like="slope_").notna().any(axis=None):
        drawn.append(
            Figure(
                "dose-channels",
                lambda: response.dose_channels(channels, study.layers),
                "How steeply each channel's MAD rises with the distance from the strength that changes nothing, below "
                "and above it: slope "
                f"without its sign. {cohort(channels)}.",
                "Layer by channel maps of slope",
                channels,
            )
        )
    cases = study.ask("dose-cases", missing) if table is not None else None
    if cases is not None:
        drawn.append(
            Figure(
                "dose-cases",
                lambda: response.dose_cases(cases, study.colours),
                f"How many slices change their kind of failure between two strengths. n = "
                f"{counted(len(cases), 'row')} of {counted(cases['patient'].nunique(), 'patient')}.",
                "Bars of the number of slices that change case between strengths",
                cases,
            )
        )
    return Section("dose", "How much", words, drawn, tables, findings, missing)


def association(study: Study) -> Section:
    """Whether a channel's change goes with the loss of Dice."""
    missing: list[str] = []
    table = study.ask("association", missing)
    title = "Does it matter"
    if table is None:
        return Section("association", title, missing=missing)
    own = table[table["class_name"] == table["target"]]
    tested = own[own["q"].notna()]
    findings = []
    if len(tested):
        found = tested[(tested["q"] < figures.SIGNIFICANT) & (tested["correlation"] > 0)]
        often = tested[tested["frequency_rank"] <= study.findings.top]
        both = int(((often["q"] < figures.SIGNIFICANT) & (often["correlation"] > 0)).sum())
        findings.append(
            f"For {len(found)} of {len(tested)} pairs of channel and perturbation, MAD goes with the loss of Dice "
            f"within patients (false discovery rate 5 %); so do {both} of the {len(often)} that are "
            f"among the {study.findings.top} most frequent of their layer."
        )
    first = own.assign(size=own["correlation"].abs()).sort_values("size", ascending=False, kind="stable")
    shown = first[["layer", "channel", "condition", "samples"]].assign(
        correlation=with_interval(first, "correlation", "low", "high"),
        q=first["q"],
        frequency_rank=first["frequency_rank"],
        association_rank=first["association_rank"],
    )
    return Section(
        "association",
        title,
        [
            "Association is no cause: a channel may change with the loss of Dice because both follow from how much of "
            "the slice the class takes.",
            *caution(table),
        ],
        [
            Figure(
                "association",
                lambda: figures.association(table, study.colours),
                "Correlation of a channel's MAD with the loss of Dice of the perturbed class, against its rank by "
                "frequency (beyond the last: never among the top); filled: q < 0.05, counted above. "
                f"{cohort(own)}.",
                "Dots of correlation against rank by frequency, one a channel",
                table,
            )
        ],
        [Table("association-strongest", "Channels with the strongest association", shown, table)],
        findings,
    )
