"""Which channels respond, how much, what they show, and to which class they belong."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from actstore.summaries import frequency_summary
from actstore.units import counted
from actstore.views import channels as figures
from actstore.views import cohort as groups
from actstore.views import images as pictures
from actstore.views.page import Figure, Section, Study, Table, caution, cohort, number, percent, with_interval
from actstore.views.selection import target_of, typical_sample


def channels(study: Study) -> Section:
    """How often each channel is among the top of its layer."""
    store, top, most = study.store, study.findings.top, study.findings.most
    if not study.conditions:
        return Section("channels", "Which channels respond", missing=[study.nothing])

    @cache
    def cells(by: str | None) -> pd.DataFrame:
        return figures.frequency_cells(store, by, top=top)

    def maps(by: str | None, groups: list[str] | None, columns: int, most: int | None) -> Any:
        return figures.frequency_maps(cells(by), study.layers, most=most, groups=groups, columns=columns)

    patients = store.samples["patient"].nunique()
    every = cells(None)
    by_condition = cells("condition")
    by_condition = by_condition[by_condition["group"].isin(study.conditions)]
    by_case = cells("case")
    kinds = (
        by_case.drop_duplicates("group").sort_values("samples", ascending=False, kind="stable")["group"][:6].tolist()
    )
    cut = f"coloured are the {most} most frequent channels of a layer, grey the others"
    drawn = [
        Figure(
            "frequency",
            lambda: maps(None, None, 1, None),
            f"Share of perturbed slices in which a channel is among the {top} of its layer with the highest MAD, over "
            f"all perturbations. Layers run down in network order. n = "
            f"{counted(every['samples'].iloc[0], 'slice')} of {counted(patients, 'patient')}.",
            "Layer by channel map of how often a channel is in its layer's top",
            every,
        ),
        Figure(
            "frequency-by-condition",
            lambda: maps("condition", study.conditions, 3, most),
            f"The same for each perturbation; {cut}. n above each map, {counted(patients, 'patient')}.",
            "Layer by channel maps, one a perturbation",
            by_condition,
        ),
        Figure(
            "frequency-by-case",
            lambda: maps("case", kinds, 3, most),
            f"The same for each kind of failure, the {len(kinds)} most usual; {cut}. n above each map. Maps of few "
            "slices say little.",
            "Layer by channel maps, one a kind of failure",
            by_case,
        ),
    ]
    wide = {layer for layer, n in store.layers["channels"].items() if n > 2 * top}
    first = by_condition[by_condition["layer"].isin(wide)].sort_values("share", ascending=False, kind="stable")
    findings = still(every, study.layers)
    if len(first) and first["count"].iloc[0] > 0:
        row = first.iloc[0]
        often = by_condition[by_condition["layer"].isin(wide)].groupby(["layer", "channel"])["share"].min() >= 0.5
        findings.append(
            f"Channel {row['channel']} of {row['layer']} responds most steadily: it is in the top {top} of its layer "
            f"in {percent(row['share'])} of slices under {row['group']} (n = {row['samples']}). {int(often.sum())} "
            f"of {counted(len(often), 'channel')} (layers of more than {2 * top}) are there in at least half of the "
            "slices under every perturbation."
        )
    tables = []
    # Without a row where nothing is ranked anywhere, which `still` says.
    if not (frequency := study.findings.table("frequency")).empty:
        wide_table = frequency_summary(store, top=top, most=most)
        tables.append(
            Table(
                "frequency-most",
                f"The {most} most frequent channels of each layer: channel (slices)",
                wide_table[["layer", *[c for c in study.conditions if c in wide_table]]],
                frequency,
            )
        )
    return Section(
        "channels",
        "Which channels respond",
        [
            "MAD is the mean absolute difference of a channel between a perturbed slice and its original, over the "
            f"whole map. A channel counts as responding where its MAD is among the {top} highest of its layer."
        ],
        drawn,
        tables,
        findings=findings,
    )


def still(cells: pd.DataFrame, layers: list[str]) -> list[str]:
    """What is said of layers no channel of which is ever among the top, by :func:`figures.frequency_cells` of all."""
    most = cells.groupby("layer")["count"].max()
    quiet = [layer for layer in layers if most[layer] == 0]
    if not quiet:
        return []
    where = "any layer" if len(quiet) == len(layers) else ", ".join(quiet)
    return [f"In {where}, no channel changed under any perturbation (or not by a number): none is ranked there."]


def layers(study: Study) -> Section:
    """MAD per layer."""
    title = "How much each layer changes"
    missing: list[str] = []
    table = study.ask("layers", missing)
    if table is None:
        return Section("layers", title, missing=missing)
    colours = study.colours
    findings = []
    for condition, own in table.groupby("condition", sort=False):
        if own["mad"].notna().any() and not own["mad"].any():
            findings.append(f"{condition}: no layer changes.")
        elif own["mad"].notna().any():
            raw, standard = (own.sort_values(name, ascending=False).iloc[0] for name in ("mad", "standardised"))
            findings.append(
                f"{condition}: the raw change is largest in {raw['layer']} (mean MAD {number(raw['mad'])}), relative "
                f"to what channels vary on the original in {standard['layer']} ({number(standard['standardised'])} "
                "standard deviations)."
            )
    shown = table[["layer", "condition", "samples"]].assign(
        MAD=with_interval(table, "mad", "low", "high"),
        standardised=table["standardised"],
        network_rank=table["network_rank"],
    )
    order = table["mad"].sort_values(ascending=False, kind="stable").index
    return Section(
        "layers",
        title,
        [
            "Layers differ in the range of their activations, and with it in MAD. Beside the raw value stand the "
            "MAD divided by the channel's standard deviation on the original, and the channel's rank within the "
            "whole network.",
            *findings,
            *caution(table),
        ],
        [
            Figure(
                "layers",
                lambda: figures.layers(table, colours),
                "Mean MAD over the channels of each layer: raw with 95 % interval over patients, standardised, and as "
                f"rank in the network. {cohort(table)}.",
                "Curves of mean MAD over layers, raw, standardised and ranked",
                table,
            )
        ],
        [
            Table(
                "layers-mad", "Layers with the highest MAD, with 95 % intervals over patients", shown.loc[order], table
            )
        ],
    )


def activations(study: Study) -> Section:
    """Activation maps of the channels that respond most."""
    store, title = study.store, "What the channels show"
    if not study.conditions:
        return Section("activations", title, missing=[study.nothing])
    kept = {layer.name for layer in store.layout.layers if layer.kept}
    if not kept:
        need = 'The full tensors were not kept (store.keep = "statistics"), so that there are no maps to show; '
        return Section("activations", title, missing=[need + 'capture with store.keep = "all" or a list of layers.'])
    chosen = responding(study, sorted(kept))
    drawn = []
    for layer, channel, condition in chosen:
        sample = typical_sample(store, condition)
        row = store.samples.iloc[sample]
        where = f"{row['patient']}, frame {row['frame']}, slice {row['slice']}"
        target = target_of(store, condition)
        drawn.append(
            Figure(
                f"activation-{layer}-{channel}-{target}",
                lambda a=(layer, channel, sample, condition): pictures.activation(store, *a),  # type: ignore[misc]
                f"Channel {channel} of {layer} under {condition}: {where}. All three maps share one scale; the "
                f"outline is {target} at the layer's resolution. n = 1 slice.",
                f"Activation maps of channel {channel} of {layer}, original, perturbed and difference",
                _pixels(study, layer, channel, condition, sample),
            )
        )
    return Section(
        "activations",
        title,
        [
            "Of each perturbation, the channel most often in its layer's top, in a layer of every resolution, on the "
            "slice of median change in Dice."
        ],
        drawn,
        missing=[] if drawn else ["No channel of these layers changed under any perturbation."],
    )


def responding(study: Study, kept: list[str], most: int = 6) -> list[tuple[str, int, str]]:
    """(layer, channel, condition) to show: of each condition the most frequent channels of layers of different size."""
    cells = figures.frequency_cells(study.store, "condition", top=study.findings.top)
    cells = cells[cells["layer"].isin(kept)]
    size = study.store.layers["size"].astype(str)
    cells = cells.assign(size=cells["layer"].map(size))
    found: list[tuple[str, int, str]] = []
    each = max(1, most // max(len(study.conditions), 1))
    for condition in study.conditions[:most]:
        own = cells[(cells["group"] == condition) & (cells["count"] > 0)]
        own = own.sort_values("share", ascending=False, kind="stable")
        wide = own[own["layer"].map(study.store.layers["channels"]) > 2 * study.findings.top]
        best: Any = (wide if len(wide) else own).drop_duplicates("size").head(each)
        found += [(str(row.layer), int(row.channel), condition) for row in best.itertuples()]
    return found


def specific(study: Study) -> Section:
    """Which channels belong to one class, and which order belongs to one kind of failure."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("comparison", missing)
    if table is not None:
        widths = {str(layer): int(n) for layer, n in study.store.layers["channels"].items()}
        counts = study.store.applicable.sel(condition=study.conditions).sum("sample").values
        said = cohort(pd.DataFrame({"samples": counts, "patients": study.store.samples["patient"].nunique()}))
        only = table[table["specific"].fillna("") != ""]
        classes = len(set(", ".join(table["targets"]).split(", ")))
        everywhere = int((table["number"] == classes).sum())
        parts = ", ".join(f"{name} {n}" for name, n in only["specific"].value_counts().items())
        if classes > 1:
            findings.append(
                f"Of {counted(len(table), 'channel')} among the {study.findings.most} most frequent of their layer, "
                f"{len(only)} are so for one class only{f' ({parts})' if parts else ''}{_certain(study, only)}, and "
                f"{everywhere} for each of {classes} classes."
            )
        else:
            words.append("One class was perturbed: there is no other to compare with.")
        drawn.append(
            Figure(
                "comparison",
                lambda: groups.comparison(table, study.colours, widths),
                f"Channels among the {study.findings.most} most frequent of their layer: coloured where of one "
                "perturbed class only, black where of all, grey-blue where of some; pale cells are never among "
                f"them. {said}.",
                "Layer by channel map of class-specific and shared channels",
                table,
            )
        )
        if classes > 1 and len(only):
            shown = only[["layer", "channel", "specific"]]
            tables.append(
                Table("comparison-specific", "Channels among the most frequent of one class only", shown, only)
            )
    orders = study.ask("general-specific", missing)
    if orders is not None:
        mean = orders.groupby(["condition", "case"], sort=False).agg(
            samples=("samples", "max"), patients=("patients", "max"), correlation=("correlation", "mean")
        )
        drawn.append(
            Figure(
                "general-specific",
                lambda: groups.general_specific(orders),
                "Rank correlation between the order of a layer's channels in one kind of failure and over all slices "
                f"of the perturbation; slices in brackets. {cohort(orders)}.",
                "Layer by case maps of rank correlation",
                orders,
            )
        )
        tables.append(
            Table(
                "general-specific-mean",
                "Mean rank correlation over layers, by perturbation and kind of failure",
                mean.reset_index(),
                orders,
            )
        )
        words += caution(orders)
    return Section("specific", "Shared or specific", words, drawn, tables, findings, missing)


def _certain(study: Study, only: pd.DataFrame) -> str:
    """How many of the channels of one class only are found again in resamples and respond to more than a control."""
    keys = ["layer", "channel", "target"]
    wanted = only.rename(columns={"specific": "target"})[keys]
    certain = study.table("certainty")
    found = wanted.merge(certain.loc[certain["selected"] >= 0.95, keys].drop_duplicates(), on=keys)
    said = f", {len(found)} of them in 95 % of resamples of the patients"
    controls = study.ask("controls", [])
    if controls is not None:
        found = found.merge(controls.loc[controls["sensitive"].astype(bool), keys].drop_duplicates(), on=keys)
        said += f" and {len(found)} also against their control"
    return said


def _pixels(study: Study, layer: str, channel: int, condition: str, sample: int) -> pd.DataFrame:
    """The whole maps of a figure of activations: ``[z,] y, x, original, perturbed, difference``."""
    maps = [study.store.map(layer, sample, c, channel).astype(np.float32) for c in ("original", condition)]
    names = ("z", "y", "x")[-maps[0].ndim :]
    where = {name: index.ravel() for name, index in zip(names, np.indices(maps[0].shape), strict=True)}
    values = {"original": maps[0], "perturbed": maps[1], "difference": maps[1] - maps[0]}
    return pd.DataFrame(where | {name: value.ravel() for name, value in values.items()})
