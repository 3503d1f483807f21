"""Which channels respond, how much, what they show, and to which class they belong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from actstore.tables.summaries import frequency_summary, most_frequent_by_layer
from actstore.units import counted, plural_of
from actstore.views.figures import channels as figures
from actstore.views.figures import groups
from actstore.views.figures import images as pictures
from actstore.views.figures.selection import place_label, target_of, typical_sample
from actstore.views.report.sentences import channels as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import notes_of, rests_on, slug, with_interval

#: Figures of activations, at most.
MOST_MAPS = 24


def channels(study: Study) -> Section:
    """How often each channel is among the top of its layer."""
    store, top, most = study.store, study.findings.top, study.findings.most
    if not study.conditions:
        return Section("channels", "Which channels respond", missing=[study.nothing])

    def maps(by: pd.DataFrame, columns: int, most: int | None) -> Any:
        groups = None if columns == 1 else list(dict.fromkeys(by["group"]))
        return figures.frequency_maps(by, study.layers, most=most, groups=groups, columns=columns)

    patients, noun = store.samples["patient"].nunique(), study.noun
    used = store.applicable.sel(condition=study.every.index.to_numpy()).any("condition")
    rests = f"{counted(int(used.sum()), noun)} under {counted(len(study.every), 'perturbation')}"
    every, by_condition, by_case = (study.frequency_cells(by) for by in (None, "condition", "case"))
    shown = by_condition[by_condition["group"].isin(study.conditions)]
    samples = by_case.drop_duplicates("group").sort_values("samples", ascending=False, kind="stable")
    kinds = samples["group"][:6].tolist()
    usual = by_case[by_case["group"].isin(kinds)].sort_values("group", key=lambda g: g.map(kinds.index), kind="stable")
    cut = f"coloured are the {most} most frequent channels of a layer, grey the others"
    drawn = [
        Figure(
            "frequency",
            lambda: maps(every, 1, None),
            f"Share of perturbed images in which a channel is among the {top} of its layer with the highest MAD, over "
            f"all perturbations. Layers run down in network order. n = {every['samples'].iloc[0]} perturbed images, of "
            f"{rests}, {counted(patients, 'patient')}.",
            "Layer by channel map of how often a channel is in its layer's top",
            every,
        ),
        Figure(
            "frequency-by-condition",
            lambda: maps(shown, 3, most),
            f"The same for each perturbation; {cut}. {on.counts_of(shown, patients, noun)}",
            "Layer by channel maps, one a perturbation",
            shown,
        ),
        Figure(
            "frequency-by-case",
            lambda: maps(usual, 3, most),
            f"The same for each kind of failure, the {len(kinds)} most usual of {len(samples)}, all perturbed classes "
            f"together: what differs between maps may be the class. {cut[0].upper()}{cut[1:]}. "
            f"{on.counts_of(usual, patients, noun)}",
            "Layer by channel maps, one a kind of failure",
            usual,
        ),
    ]
    tables = []
    # Empty where no channel is ranked anywhere; the sentence of `still` covers that.
    if not (frequency := study.findings.table("frequency")).empty:
        plain = study.findings.metric == "mad" and not study.findings.by
        wide = most_frequent_by_layer(store, frequency) if plain else frequency_summary(store, top=top, most=most)
        wide = wide[["layer", *[c for c in study.conditions if c in wide]]]
        tables.append(
            ShownTable(
                "frequency-most",
                f"Up to {most} most frequent channels of each layer: channel ({plural_of(noun)})",
                wide,
                wide,
            )
        )
    return Section(
        "channels",
        "Which channels respond",
        [on.responding(top, study.noun)],
        drawn,
        tables,
        findings=[
            *on.still(every, study.layers),
            *on.steadiest(every, study.channels, top, rests),
            *on.throughout(by_condition, study.channels, top, study.noun),
        ],
    )


def layers(study: Study) -> Section:
    """MAD per layer."""
    title = "How much each layer changes"
    missing: list[str] = []
    table = study.ask("layers", missing)
    if table is None:
        return Section("layers", title, missing=missing)
    colours = study.colours
    ordered = table.sort_values("mad", ascending=False, kind="stable", ignore_index=True)
    shown = ordered[["layer", "condition", "samples"]].assign(
        MAD=with_interval(ordered, "mad", "low", "high", "error"),
        standardised=ordered["standardised"],
        mean_network_rank=ordered["mean_network_rank"],
    )
    return Section(
        "layers",
        title,
        [
            "Layers differ in the range of their activations, and with it in MAD. Beside the raw value stand the "
            "MAD divided by the channel's standard deviation on the original, and the rank of a channel's mean MAD "
            "within the whole network (0 lowest, 1 highest), averaged over the layer.",
            *on.layers(table),
            *notes_of(table, "mean MAD of a layer"),
        ],
        [
            Figure(
                "layers",
                lambda: figures.layers(table, colours),
                "Mean MAD over the channels of each layer: raw with 95 % interval over patients, standardised, and as "
                f"rank in the network. {rests_on(table)}.",
                "Curves of mean MAD over layers, raw, standardised and ranked",
                table,
            )
        ],
        [ShownTable("layers-mad", "Layers with the highest MAD, with 95 % intervals over patients", shown, ordered)],
    )


def activations(study: Study) -> Section:
    """Activation maps of the channels that respond most."""
    store, title = study.store, "What the channels show"
    if not study.conditions:
        return Section("activations", title, missing=[study.nothing])
    # A layer without space, or of one pixel, has no map to show.
    with_tensors = [layer.name for layer in store.layout.layers if layer.kept and math.prod(layer.space) > 1]
    if not with_tensors:
        why = 'The full tensors were not kept (store.keep = "statistics"), so that there are no maps to show; '
        return Section("activations", title, missing=[why + 'capture with store.keep = "all" or a list of layers.'])
    sizes = _resolutions(study, with_tensors)
    conditions = study.conditions[: max(MOST_MAPS // len(sizes), 1)]
    drawn = []
    for layer, channel, condition in responding(study, with_tensors, conditions):
        sample = typical_sample(store, condition)
        where = place_label(store, sample)
        target = target_of(store, condition)
        number = study.conditions.index(condition) + 1
        drawn.append(
            Figure(
                f"activation-{layer}-{channel}-{slug(target)}-{number}",
                lambda a=(layer, channel, sample, condition): pictures.activation(store, *a),  # type: ignore[misc]
                f"Channel {channel} of {layer} under {condition}: {where}. All three maps share one scale; the "
                f"outline is {target} at the layer's resolution. n = 1 {study.noun}.",
                f"Activation maps of channel {channel} of {layer}, original, perturbed and difference",
                _pixels(study, layer, channel, condition, sample),
                study.view(sample, condition, layer=layer, channel=channel),
            )
        )
    every = _resolutions(study, study.layers)
    words = [on.shown_channels(len(conditions), len(study.conditions), len(sizes), len(every), study.noun)]
    missing = [] if drawn else ["No channel of these layers changed under any perturbation."]
    return Section("activations", title, words, drawn, missing=missing)


def _resolutions(study: Study, layers: list[str]) -> list[str]:
    """Sizes of the maps of ``layers``, each once."""
    return list(dict.fromkeys(study.store.layers.loc[layers, "size"].astype(str)))


def responding(study: Study, layers: list[str], conditions: list[str]) -> list[tuple[str, int, str]]:
    """(layer, channel, condition): for each condition and resolution, the channel most often on top, in network order.

    Layers of fewer than twice ``top`` channels come after all others: there nearly every channel is on top.
    """
    cells = study.frequency_cells("condition")
    wide = on.wide(study.channels, study.findings.top)
    cells = cells.assign(
        size=cells["layer"].map(study.store.layers["size"].astype(str)), narrow=~cells["layer"].isin(wide)
    )
    cells = cells[cells["layer"].isin(layers) & (cells["count"] > 0)]
    ordered = cells.sort_values(["narrow", "share"], ascending=[True, False], kind="stable")
    found: list[tuple[str, int, str]] = []
    for condition in conditions:
        best = ordered[ordered["group"] == condition].drop_duplicates("size").sort_values("row")
        found += [(str(row.layer), int(row.channel), condition) for row in best.itertuples()]  # type: ignore[arg-type]
    return found


def specific(study: Study) -> Section:
    """Which channels belong to one class, and which order belongs to one kind of failure."""
    missing: list[str] = []
    drawn, tables, findings, words = [], [], [], []
    table = study.ask("comparison", missing)
    if table is not None:
        widths = {str(layer): int(n) for layer, n in study.channels.items()}
        counts = study.store.applicable.sel(condition=study.every.index.to_numpy()).sum("sample").values
        patients = study.store.samples["patient"].nunique()
        only = table[table["specific"].fillna("") != ""].reset_index(drop=True)
        classes = study.every["target"].nunique()
        findings += on.specific(table, study.channels, study.findings.most, classes, study.ask("controls", []))
        if classes < 2:
            words.append("One class was perturbed: there is no other to compare with.")
        drawn.append(
            Figure(
                "comparison",
                lambda: groups.comparison(table, study.colours, widths, study.every["target"].unique().tolist()),
                f"Channels among the up to {study.findings.most} most frequent of their layer: coloured where of one "
                "perturbed class only, black where of all, grey-blue where of some; pale cells are never among "
                f"them. {rests_on(pd.DataFrame({'samples': counts, 'patients': patients}))}.",
                "Layer by channel map of class-specific and shared channels",
                table,
            )
        )
        if classes > 1 and len(only):
            shown = only[["layer", "channel", "specific", "specific_share"]]
            tables.append(
                ShownTable(
                    "comparison-specific",
                    "Channels among the most frequent of one class only, of all layers",
                    shown,
                    only,
                )
            )
    orders = study.ask("general-specific", missing)
    if orders is not None:
        mean = orders.groupby(["condition", "case"], sort=False).agg(
            samples=("samples", "max"), patients=("patients", "max"), correlation=("correlation", "mean")
        )
        mean = mean.reset_index()
        # Without enough samples of a kind there is no correlation to draw.
        known = orders[orders.groupby("condition")["correlation"].transform("count") > 0]
        if len(known):
            drawn.append(
                Figure(
                    "general-specific",
                    lambda: groups.general_specific(known),
                    "Rank correlation between the order of a layer's channels in one kind of failure and over all "
                    f"{plural_of(study.noun)} of the perturbation, {plural_of(study.noun)} in brackets. A kind that is "
                    f"most of them correlates by construction. {rests_on(known)}.",
                    "Layer by case maps of rank correlation",
                    known,
                )
            )
        tables.append(
            ShownTable(
                "general-specific-mean",
                "Mean rank correlation over layers, by perturbation and kind of failure",
                mean,
                mean,
            )
        )
        words += notes_of(orders, "orders of channels by kind of failure", ("condition", "case"))
    return Section("specific", "Shared or specific", words, drawn, tables, findings, missing)


def _pixels(study: Study, layer: str, channel: int, condition: str, sample: int) -> pd.DataFrame:
    """The whole maps of a figure of activations: ``[z,] y, x, original, perturbed, difference``."""
    maps = [study.store.map(layer, sample, c, channel).astype(np.float32) for c in ("original", condition)]
    names = ("z", "y", "x")[-maps[0].ndim :]
    where = {name: index.ravel() for name, index in zip(names, np.indices(maps[0].shape), strict=True)}
    values = {"original": maps[0], "perturbed": maps[1], "difference": maps[1] - maps[0]}
    return pd.DataFrame(where | {name: value.ravel() for name, value in values.items()})
