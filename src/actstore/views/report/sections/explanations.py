"""Where predictions come from: maps over the input, and the checks that say how far to trust them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.analysis.segmentation.counts import true_pixels
from actstore.tables.catalogue import Unanswerable
from actstore.tables.explanations import (
    EXPLANATIONS,
    Explanation,
    deletion_table,
    landmarks_table,
    randomisation_table,
)
from actstore.units import counted
from actstore.views.figures.explanations import explanation, focus, projections
from actstore.views.figures.selection import place_label
from actstore.views.figures.trust import deletion, randomisation
from actstore.views.report.sentences import explanations as on
from actstore.views.report.study import Figure, Section, ShownTable, Study
from actstore.views.wording import rests_on, with_interval

if TYPE_CHECKING:
    from actstore.store.store import Store

TITLE = "Where in the image"
#: Explanations that are drawn.
MOST = 4
#: Channels of a layer that are drawn one by one.
CHANNELS = 5


def has_explanations(store: Store) -> bool:
    """Whether a store has what the section shows."""
    return bool(EXPLANATIONS.names(store))


def explained(study: Study) -> Section:
    """Explanations of a run, and their checks."""
    try:
        found = EXPLANATIONS.all(study.store)
    except Unanswerable as error:
        return Section("explanations", TITLE, missing=[str(error)])
    words, drawn, tables, findings = [], [], [], []
    for one in found[:MOST]:
        words.append(on.made(one.name, one.settings))
        drawn += _channels(study, one) if one.of_channels else _classes(study, one)
    if len(found) > MOST:
        words.append(f"The store holds {counted(len(found) - MOST, 'explanation')} more, which are in the tables.")
    resamples = study.findings.resamples
    lies = landmarks_table(found, resamples=resamples)
    tables.append(
        ShownTable("landmarks", "Where maps lie: energy over area, by class of the label", _lying(lies), lies)
    )
    try:
        left = deletion_table(found, resamples=resamples)
    except Unanswerable:
        pass
    else:
        at = left[left["deleted"] == on.AT]
        words += on.deletion(at)
        findings += on.beaten(at)
        drawn.append(
            Figure(
                "deletion",
                lambda: deletion(left),
                "What is left of a class's probability as the body is deleted tile by tile: in the map's order (blue), "
                "those nearest to the middle of the class first (orange), at random (grey); bands: 95 %. "
                f"{rests_on(left)}.",
                "Curves of the probability left against the share deleted, in three orders",
                left,
            )
        )
    try:
        alike = randomisation_table(found, resamples=resamples)
    except Unanswerable:
        pass
    else:
        words += on.randomisation(alike)
        drawn.append(
            Figure(
                "randomisation",
                lambda: randomisation(alike),
                "Rank correlation of maps with those of the same network whose weights are permuted, layer after layer "
                f"from the back (dashed: of magnitudes). {rests_on(alike)}.",
                "Curves of the correlation against the number of layers permuted",
                alike,
            )
        )
    return Section("explanations", TITLE, words, drawn, tables, findings)


def _classes(study: Study, one: Explanation) -> list[Figure]:
    """The sample in which most is explained, and the one that is segmented worst."""
    store = study.store
    pixels = np.where(_explained(one), one.group["pixels"].values.sum(1), 0)
    if not pixels.any():
        return []
    chosen = {int(one.samples[pixels.argmax()]): "the sample in which most is explained"}
    if (worst := _worst(study, one)) is not None:
        chosen.setdefault(worst, "the sample that is segmented worst of those")
    return [
        Figure(
            f"explanation-{one.name}-{number}",
            lambda sample=sample: explanation(store, one.name, sample),  # type: ignore[misc]
            f"{one.name} ({one.method}), {place_label(store, sample, ', ')}, {why}: the input with outlines of truth "
            "(solid) and prediction (dashed), and a map for each class over it; red raises the score, blue lowers it. "
            f"n = 1 {study.noun}.",
            f"Maps of the classes of {one.name} over one sample",
            _numbers(one, sample),
        )
        for number, (sample, why) in enumerate(chosen.items())
    ]


def _worst(study: Study, one: Explanation) -> int | None:
    """The sample with the lowest mean Dice of the classes in it, of those that are explained."""
    members = study.store.members
    original = study.findings.dice.isel(condition=0)
    present = true_pixels(study.findings.confusion.isel(condition=0), members).values > 0
    values = np.where(present, original.values, np.nan)
    known = np.zeros(len(values), bool)
    known[one.samples] = _explained(one)
    rows = np.flatnonzero(known & present.any(1))
    return int(rows[np.nanmean(values[rows], 1).argmin()]) if len(rows) else None


def _explained(one: Explanation) -> NDArray[np.bool_]:
    """Whether each of its samples has a map of any class in its first condition."""
    found: NDArray[np.bool_] = one.group["score"].isel(condition=0).notnull().any("class_name").values
    return found


def _channels(study: Study, one: Explanation) -> list[Figure]:
    store = study.store
    responses = one.group["response"].values[:, 0, 0, 0]
    if not np.isfinite(responses).any():
        return []
    sample = int(one.samples[np.nan_to_num(responses, nan=-np.inf).argmax()])
    layer, top = str(one.group["layer"].values[0]), one.group.sizes["rank"]
    at = f"{place_label(store, sample, ', ')}, the sample with the largest response. n = 1 {study.noun}."
    data = _strongest(one, sample)
    return [
        Figure(
            f"projections-{one.name}",
            lambda: projections(store, one.name, layer, sample, most=CHANNELS),
            f"{one.name} ({one.method}): the strongest channels of {layer}, each projected back over the input: {at}",
            f"Projections of the strongest channels of {layer} over one sample",
            data,
        ),
        Figure(
            f"focus-{one.name}",
            lambda: focus(store, one.name, layer, sample, most=(CHANNELS, top)),
            f"{one.name} ({one.method}): where the strongest channels of {layer} look together; the line is half of "
            f"the largest value: {at}",
            f"Heat map of the strongest channels of {layer} over one sample",
            data,
        ),
    ]


def _numbers(one: Explanation, sample: int) -> pd.DataFrame:
    """Columns ``sample, condition, class_name, pixels, score`` of what a figure shows."""
    own = one.group[["pixels", "score"]].isel(sample=one.row(sample), condition=0).compute()
    return pd.DataFrame(
        {
            "sample": sample,
            "condition": str(own["condition"].item()),
            "class_name": own["class_name"].values,
            "pixels": own["pixels"].values,
            "score": own["score"].values.astype(float),
        }
    )


def _strongest(one: Explanation, sample: int) -> pd.DataFrame:
    """Columns ``sample, condition, layer, rank, channel, response`` of what a figure shows."""
    own = one.group[["channel", "response"]].isel(sample=one.row(sample), condition=0, layer=0).compute()
    return pd.DataFrame(
        {
            "sample": sample,
            "condition": str(own["condition"].item()),
            "layer": str(own["layer"].item()),
            "rank": own["rank"].values,
            "channel": own["channel"].values,
            "response": own["response"].values.astype(float),
        }
    )


def _lying(table: pd.DataFrame) -> pd.DataFrame:
    """As it is shown."""
    columns = ["explanation", "condition", "class_name", "layer", "rank", "landmark", "samples", "energy", "area"]
    shown = table[columns].copy()
    shown["energy over area"] = with_interval(table, "concentration", "low", "high", "error")
    return shown
