"""How far the numbers can be trusted, and whether patients agree."""

from __future__ import annotations

from actstore.units import counted
from actstore.views.figures import evidence as figures
from actstore.views.figures import groups
from actstore.views.report.sentences import channels as on_channels
from actstore.views.report.sentences import patients as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import notes_of, rests_on, with_interval


def certainty(study: Study) -> Section:
    """Intervals and stability of the chosen channels."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    colours, most = study.colours, study.findings.most
    table = study.ask("certainty", missing)
    if table is not None:
        order = table[table["frequency"] > 0].sort_values("frequency", ascending=False, kind="stable")
        chosen = order.groupby(["condition", "layer"], sort=False).head(most)
        findings += on_channels.certain(chosen, study.channels, most, study.among)
        if order.empty:
            missing.append("No channel is ever among the top of its layer: there is no frequency to be sure of.")
        else:
            first = figures.first_of_layer(table)
            drawn.append(
                Figure(
                    "certainty",
                    lambda: figures.certainty(table, colours),
                    "The most frequent channel of each layer (its number beside it), with a 95 % interval from "
                    "resampling patients; filled where at least 95 % of resamples choose it among the most frequent. "
                    f"{rests_on(first)}.",
                    "Dots with intervals, one a layer, one plot a perturbation",
                    first,
                )
            )
        least = chosen.sort_values("selected", kind="stable", ignore_index=True)
        shown = least[["layer", "channel", "condition", "samples"]].assign(
            frequency=with_interval(least, "frequency", "low", "high", "error"), selected=least["selected"]
        )
        tables.append(
            ShownTable(
                "certainty-selected",
                "The least sure of the most frequent channels: frequency, and the share of resamples that choose them",
                shown,
                least,
            )
        )
        words += notes_of(table, "frequencies of channels")
    stable = study.ask("stability", missing)
    if stable is not None:
        drawn.append(
            Figure(
                "stability",
                lambda: figures.stability(stable, colours),
                "Overlap of the most frequent channels of a resample of the patients with those of all patients: the "
                "mean over resamples, and the range of 95 % of them. The range describes resamples; it is no "
                f"confidence interval. Filled: up to {max(study.findings.top, most)} most frequent, hollow: "
                f"{min(study.findings.top, most)}. {rests_on(stable)}.",
                "Dots with ranges of overlap, one a layer, one plot a perturbation",
                stable,
            )
        )
    settings = study.ask("sensitivity", missing)
    if settings is not None:
        mean = figures.over_layers(settings)
        drawn.append(
            Figure(
                "sensitivity",
                lambda: figures.sensitivity(settings),
                f"Overlap with the setting of this report (top {study.findings.top}, up to {most} most frequent) when "
                "another number of channels counts as top or as most frequent: mean over layers. Sets of different "
                f"size cannot overlap fully. {rests_on(settings)}.",
                "Cells of overlap by number of top and most frequent channels",
                mean,
            )
        )
    return Section("certainty", "How sure", words, drawn, tables, findings, missing)


def patients(study: Study) -> Section:
    """Channels on which patients differ."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("heterogeneity", missing)
    if table is not None:
        findings += on.heterogeneity(table, study.among)
        uneven = groups.uneven(table)
        if len(uneven):
            words.append(on.EXCHANGED)
            shares = groups.patient_shares(study.store, uneven, member=study.member)
            drawn.append(
                Figure(
                    "heterogeneity",
                    lambda: groups.heterogeneity(uneven, shares),
                    on.uneven(uneven, groups.UNEVEN),
                    "Channel by patient maps of frequency",
                    groups.with_highest(shares, uneven),
                )
            )
            shown = uneven[
                ["layer", "channel", "condition", "count", "samples", "patients", "q", "tests", "highest", "share"]
            ]
            tables.append(
                ShownTable("heterogeneity-uneven", "Channels of lowest q, whether significant or not", shown, uneven)
            )
        words += notes_of(table, "whether patients differ")
    out = study.ask("leave-one-out", missing)
    if out is not None:
        out = out.assign(kept=groups.retained_share(out))
        words += on.leave_one_out(out, study.channels, study.findings.most, study.among)
        if out["patient"].nunique() < 2:
            missing.append("One patient: none can be left out.")
        else:
            drawn.append(
                Figure(
                    "leave-one-out",
                    lambda: groups.leave_one_out(out),
                    "Share of a layer's most frequent channels that stay when one patient is left out. "
                    f"{rests_on(out)}, {counted(out['patient'].nunique(), 'patient')}.",
                    "Layer by patient maps of the share of channels that stay",
                    out,
                )
            )
    return Section("patients", "Do patients agree", words, drawn, tables, findings, missing)
