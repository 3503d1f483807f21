"""Local or global, compared with what, how much, and whether it matters."""

from __future__ import annotations

from actstore.analysis.maps.regions import RIM
from actstore.units import plural_of
from actstore.views.figures import doses
from actstore.views.figures import evidence as figures
from actstore.views.figures import regions as regions_figures
from actstore.views.figures.sweeps import sweep_columns
from actstore.views.report.sections.interventions import has_interventions
from actstore.views.report.sentences import questions as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import filled, notes_of, rests_on, with_interval


def regions(study: Study) -> Section:
    """Change inside, around and outside the perturbed region."""
    missing: list[str] = []
    table = study.ask("regions", missing)
    title = "Local or global"
    if table is None:
        return Section("regions", title, missing=missing)
    far = table.sort_values("outside_share", ascending=False, kind="stable", ignore_index=True)
    names = ["layer", "channel", "condition", "samples", "mad", "inside", "rim", "outside", "outside_share"]
    return Section(
        "regions",
        title,
        [
            "A normalisation over the whole map can spread a local change everywhere. The mask is averaged over each "
            f"of the layer's pixels; the rim reaches {RIM:g} mm beyond it. Inside, rim and outside are MAD per pixel; "
            "shares are of the summed absolute difference, and grow with the area.",
            *on.seen(table),
            *notes_of(table, "shares of change by region"),
        ],
        [
            Figure(
                "regions",
                lambda: regions_figures.regions(table, study.colours),
                f"Where change lies: inside the perturbed region, in a rim of {RIM:g} mm around it, and outside. Mean "
                f"over channels. {rests_on(table)}.",
                "Stacked bars of the share of change inside, in the rim and outside, one a layer",
                regions_figures.mean_shares(table),
            )
        ],
        [ShownTable("regions-outside", "Channels that change most outside the region", far[names], far)],
        on.regions(table, RIM, study.among),
    )


def controls(study: Study) -> Section:
    """Against the same perturbation elsewhere, and against no perturbation at all."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("controls", missing)
    if table is not None:
        findings += on.controls(table)
        words += on.rescaled(study.findings.table("controls"), study.noun)
        drawn.append(
            Figure(
                "controls",
                lambda: figures.controls(table, study.colours),
                "Effect of each channel against its control, by layer: above 0 it responds more to the class than to a "
                f"region of equal size and shape elsewhere; {filled(table)}. {rests_on(table)}.",
                "Dots of effect size, one a channel, by layer",
                table,
            )
        )
        first = table.sort_values(["sensitive", "effect"], ascending=False, kind="stable", ignore_index=True)
        shown = first[["layer", "channel", "condition", "mad", "control"]].assign(
            effect=with_interval(first, "effect"), q=first["q"], tests=first["tests"], sensitive=first["sensitive"]
        )
        tables.append(
            ShownTable(
                "controls-effect",
                "Channels by their effect against their control, the class-sensitive first",
                shown,
                first,
            )
        )
        words += notes_of(table, "effects against controls")
    noise = study.ask("noise", missing)
    if noise is not None:
        layers = study.ask("layers", [])
        words += on.noise(noise)
        drawn.append(
            Figure(
                "noise",
                lambda: figures.noise(noise, layers, study.colours),
                "MAD of the original run again (largest of a layer's channels, black) beside the mean MAD of the "
                "perturbations. A repeat without any difference lies along the lower edge: a logarithmic scale has "
                f"no 0. {rests_on(noise)}.",
                "Curves of MAD over layers, repeats and perturbations, on a log scale",
                figures.noise_curves(noise, layers),
            )
        )
    return Section("controls", "Compared with what", words, drawn, tables, findings, missing)


def dose(study: Study) -> Section:
    """Dice and channels against the strength of the perturbation."""
    missing: list[str] = []
    many = plural_of(study.noun)
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("dose", missing)
    half = study.ask("dose-half", missing) if table is not None else None
    if table is not None:
        drawn.append(
            Figure(
                "dose",
                lambda: doses.dose(table, half, study.colours),
                f"Mean Dice against strength with 95 % intervals over patients, of the {many} that contain the class; "
                "the perturbed class is drawn thick, dots are the strengths that were run, dashed lines mark where "
                "half of its Dice is lost. "
                f"{rests_on(table)}.",
                "Curves of Dice against strength, one plot a perturbed class",
                doses.with_half_lost(table, half),
            )
        )
        words += notes_of(table, "Dice by strength", sweep_columns(table))
    if half is not None:
        findings += on.half_lost(half, table, study.noun) if table is not None else []
        own = half[half["class_name"] == half["target"]].reset_index(drop=True)
        shown = own[[*sweep_columns(own), "samples", "baseline"]].assign(
            half_lost_below=with_interval(own, "half_below"), half_lost_above=with_interval(own, "half_above")
        )
        words += notes_of(own, "the strength at which half of the Dice is lost", sweep_columns(own))
        tables.append(ShownTable("dose-half", "Strength at which half of the Dice is lost", shown, own))
    channels = study.ask("dose-channels", missing) if table is not None else None
    if channels is not None and channels.filter(like="slope_").notna().any(axis=None):
        drawn.append(
            Figure(
                "dose-channels",
                lambda: doses.dose_channels(channels, study.layers),
                "How steeply each channel's MAD rises with the distance from the strength that changes nothing, below "
                "and above it: slope without its sign. Colours end at the 99th percentile of all slopes. "
                f"{rests_on(channels)}.",
                "Layer by channel maps of slope",
                channels,
            )
        )
    cases = study.ask("dose-cases", []) if table is not None else None
    if cases is not None:
        counts = doses.changes_of_case(cases)
        drawn.append(
            Figure(
                "dose-cases",
                lambda: doses.dose_cases(cases, study.colours),
                on.case_changes(counts, study.noun),
                f"Bars of the number of {many} that change case between strengths",
                counts,
            )
        )
    elif table is not None:
        words.append(f"No {study.noun} changes its kind of failure between two neighbouring strengths.")
    return Section("dose", "How much", list(dict.fromkeys(words)), drawn, tables, findings, missing)


def association(study: Study) -> Section:
    """Whether a channel's change goes with the loss of Dice."""
    missing: list[str] = []
    table = study.ask("association", missing)
    caused = has_interventions(study.store)
    title = "What goes with a worse prediction" if caused else "Does it matter"
    if table is None:
        return Section("association", title, missing=missing)
    own = table[table["class_name"] == table["target"]]
    said = on.association(own, study.findings.top, study.among, study.noun)
    # Where channels were edited, the summary says what that did instead.
    findings, words = ([], said) if caused else (said, [])
    known = own[own["correlation"].notna()]
    if known.empty:
        return Section("association", title, words or on.untested(own), findings=findings)
    strongest = known.sort_values("correlation", key=abs, ascending=False, kind="stable", ignore_index=True)
    shown = strongest[["layer", "channel", "condition", "samples"]].assign(
        correlation=with_interval(strongest, "correlation", "low", "high"),
        size_correlation=strongest["size_correlation"],
        size_baseline=strongest["size_baseline"],
        q=strongest["q"],
        tests=strongest["tests"],
        frequency_rank=strongest["frequency_rank"],
        association_rank=strongest["association_rank"],
    )
    return Section(
        "association",
        title,
        [on.no_cause(study.noun), *words, *notes_of(known, "the association with the loss of Dice")],
        [
            Figure(
                "association",
                lambda: figures.association(known, study.colours),
                "Correlation of a channel's MAD with the loss of Dice of the perturbed class, against its rank by "
                f"frequency (beyond the last: never among the top); {filled(known)}, counted above; the dashed line "
                f"is the correlation of the class's size with the loss. {rests_on(known)}.",
                "Dots of correlation against rank by frequency, one a channel",
                known,
            )
        ],
        [ShownTable("association-strongest", "Channels with the strongest association", shown, strongest)],
        findings,
    )
