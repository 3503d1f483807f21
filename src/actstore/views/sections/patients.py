"""How far the numbers can be trusted, and whether patients agree."""

from __future__ import annotations

import numpy as np

from actstore.units import counted
from actstore.views import cohort as groups
from actstore.views import evidence as figures
from actstore.views.page import Figure, Section, Study, Table, caution, cohort, number, percent, with_interval


def certainty(study: Study) -> Section:
    """Intervals and stability of the chosen channels."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    colours = study.colours
    table = study.ask("certainty", missing)
    if table is not None:
        order = table[table["frequency"] > 0].sort_values("frequency", ascending=False, kind="stable")
        chosen = order.groupby(["condition", "layer"], sort=False).head(study.findings.most)
        width = (chosen["high"] - chosen["low"]).median()
        sure = chosen[chosen["selected"] >= 0.95]
        if width == width:
            findings.append(
                f"{len(sure)} of {len(chosen)} most frequent channels ({study.findings.most} of each layer and "
                "perturbation) are found again in at least 95 % of resamples of the patients; the 95 % interval of "
                f"their frequency is {number(width)} wide (median)."
            )
        if order.empty:
            missing.append("No channel is ever among the top of its layer: there is no frequency to be sure of.")
        else:
            drawn.append(
                Figure(
                    "certainty",
                    lambda: figures.certainty(table, colours),
                    "The most frequent channel of each layer (its number beside it), with a 95 % interval from "
                    "resampling patients; filled where at least 95 % of resamples choose it among the most frequent. "
                    f"{cohort(table)}.",
                    "Dots with intervals, one a layer, one plot a perturbation",
                    table,
                )
            )
        shown = chosen[["layer", "channel", "condition", "samples"]].assign(
            frequency=with_interval(chosen, "frequency", "low", "high"), selected=chosen["selected"]
        )
        tables.append(
            Table(
                "certainty-selected",
                "The least sure of the most frequent channels: frequency, and the share of resamples that choose them",
                shown.sort_values("selected", kind="stable"),
                table,
            )
        )
        words += caution(table)
    stable = study.ask("stability", missing)
    if stable is not None:
        drawn.append(
            Figure(
                "stability",
                lambda: figures.stability(stable, colours),
                f"Overlap of the most frequent channels between resamples of the patients: mean and 95 % interval. "
                f"{cohort(stable)}.",
                "Dots with intervals of overlap, one a layer, one plot a perturbation",
                stable,
            )
        )
    settings = study.ask("sensitivity", missing)
    if settings is not None:
        drawn.append(
            Figure(
                "sensitivity",
                lambda: figures.sensitivity(settings),
                "Overlap with the chosen setting when another number of channels counts as top or as most frequent: "
                f"mean over layers. {cohort(settings)}.",
                "Cells of overlap by number of top and most frequent channels",
                settings,
            )
        )
    return Section("certainty", "How sure", words, drawn, tables, findings, missing)


def patients(study: Study) -> Section:
    """Channels on which patients differ."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("heterogeneity", missing)
    if table is not None:
        tested = table[table["q"].notna()]
        found = tested[tested["q"] < figures.SIGNIFICANT]
        if len(tested):
            findings.append(
                f"{len(found)} of {len(tested)} frequencies (channel and perturbation) differ between patients more "
                "than chance makes them when whole volumes are exchanged (false discovery rate 5 %)."
            )
            words.append(
                "Two volumes a patient cannot single out one patient: the one that is marked has the highest count for "
                "its samples, which is no test."
            )
            uneven = groups.uneven(table)
            shares = groups.patient_shares(study.store, uneven, top=study.findings.top)
            drawn.append(
                Figure(
                    "heterogeneity",
                    lambda: groups.heterogeneity(uneven, shares),
                    "How often a channel is in its layer's top, patient by patient: the channels of lowest q of each "
                    "perturbation, whether significant or not. A white dot marks the patient whose count is "
                    f"furthest above its share. {cohort(tested)}.",
                    "Channel by patient maps of frequency",
                    shares,
                )
            )
            shown = uneven[["layer", "channel", "condition", "count", "samples", "patients", "q", "highest"]]
            tables.append(Table("heterogeneity-uneven", "The most uneven channels", shown, table))
        words += caution(table)
    out = study.ask("leave-one-out", missing)
    if out is not None:
        kept = groups.kept_share(out)
        if kept.notna().any():
            worst = out.iloc[int(kept.fillna(np.inf).to_numpy().argmin())]
            words.append(
                f"Leaving one patient out keeps {percent(kept.mean())} of a layer's most frequent channels on average, "
                f"at worst {percent(kept.min())} ({worst['layer']} without {worst['patient']})."
            )
        else:
            words.append("No channel is ever among the top of its layer, whichever patient is left out.")
        drawn.append(
            Figure(
                "leave-one-out",
                lambda: groups.leave_one_out(out),
                "Share of a layer's most frequent channels that stay when one patient is left out. "
                f"{cohort(out)}, {counted(out['patient'].nunique(), 'patient')}.",
                "Layer by patient maps of the share of channels that stay",
                out,
            )
        )
    return Section("patients", "Do patients agree", words, drawn, tables, findings, missing)
