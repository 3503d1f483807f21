"""Sentences on channels: which respond, how much, and to which class they belong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from actstore.analysis.evidence import FEWEST_PATIENTS
from actstore.units import counted, plural_of
from actstore.views.wording import SURE, capital, corrected, listed, number, part, span


def responding(top: int, noun: str = "slice") -> str:
    """What MAD is, and when a channel counts as responding."""
    return (
        f"MAD is the mean absolute difference of a channel between a perturbed {noun} and its original, over the "
        f"whole map. A channel counts as responding where it is among the {top} of its layer with the highest MAD."
    )


def wide(channels: pd.Series[int], of: int) -> list[str]:
    """Layers with at least twice ``of`` channels: only there does it mean something to be among ``of``.

    ``channels`` is their number, indexed by layer.
    """
    return [str(layer) for layer, n in channels.items() if n >= 2 * of]


def _apart(channels: pd.Series[int], of: int) -> str:
    """Names the layers that are too narrow."""
    narrow = [str(layer) for layer, n in channels.items() if n < 2 * of]
    if not narrow:
        return ""
    left_out = "is left out: it has" if len(narrow) == 1 else "are left out: they have"
    return f" {listed(narrow)} {left_out} fewer than {2 * of} channels."


def steadiest(cells: pd.DataFrame, channels: pd.Series[int], top: int, rests: str) -> list[str]:
    """The channel most often among the top of its layer, over all perturbations and slices; equal ones together.

    Parameters
    ----------
    cells
        columns ``layer, channel, count, samples``: over all perturbations.
    channels
        number of channels, indexed by layer.
    rests
        where the perturbed images come from: "88 slices under 3 perturbations".
    """
    own = cells[cells["layer"].isin(wide(channels, top))]
    if own.empty or not own["count"].max():
        return []
    most = int(own["count"].max())
    best = own[own["count"] == most]
    where = f"in {part(most, int(best['samples'].iloc[0]), 'perturbed image')}, of {rests}"
    names = [f"channel {c} of {layer}" for c, layer in zip(best["channel"], best["layer"], strict=True)]
    apart = _apart(channels, top)
    if len(names) == 1:
        claim = f"{capital(names[0])} responds most steadily: it is among the top {top} of its layer"
        return [f"{claim} {where}.{apart}"]
    return [
        f"{counted(len(names), 'channel')} respond most steadily, each among the top {top} of its layer {where}: "
        f"{listed(names)}.{apart}"
    ]


def throughout(cells: pd.DataFrame, channels: pd.Series[int], top: int, noun: str = "slice") -> list[str]:
    """How many channels respond in at least half of the slices under each perturbation.

    ``cells`` has columns ``group, layer, channel, share``: a group for each perturbation.
    """
    own = cells[cells["layer"].isin(wide(channels, top))]
    if own.empty:
        return []
    least = own.groupby(["layer", "channel"])["share"].min()
    groups = own["group"].nunique()
    under = f"each of {groups} perturbations" if groups > 1 else "the only perturbation"
    return [
        f"{part(int((least >= 0.5).sum()), len(least), 'channel')} in layers of at least {2 * top} channels are among "
        f"the top {top} in at least half of the {plural_of(noun)} under {under}."
    ]


def still(cells: pd.DataFrame, layers: Sequence[str]) -> list[str]:
    """Layers no channel of which is ever among the top; ``cells`` has columns ``layer, count``."""
    most = cells.groupby("layer")["count"].max()
    quiet = [layer for layer in layers if most[layer] == 0]
    if not quiet:
        return []
    where = "any layer" if len(quiet) == len(layers) else listed(quiet)
    return [f"In {where}, no channel changed under any perturbation (or not by a number): none is ranked there."]


def layers(table: pd.DataFrame) -> list[str]:
    """Where change is largest, raw and standardised, of each perturbation of the table ``layers``."""
    found = []
    for condition, own in table.groupby("condition", sort=False):
        if own["mad"].isna().all():
            continue
        if not own["mad"].any():
            found.append(f"{condition}: no layer changes.")
            continue
        raw = _largest(own, "mad")
        sentence = f"{condition}: the raw change is largest in {raw} (mean MAD {number(own['mad'].max())})"
        if own["standardised"].notna().any():
            sentence += (
                f", relative to how much channels vary on the original in {_largest(own, 'standardised')} "
                f"({number(own['standardised'].max())} standard deviations)"
            )
        found.append(f"{sentence}.")
    return found


def _largest(table: pd.DataFrame, column: str) -> str:
    return listed(table.loc[table[column] == table[column].max(), "layer"].astype(str).tolist())


def specific(
    table: pd.DataFrame, channels: pd.Series[int], most: int, classes: int, controls: pd.DataFrame | None
) -> list[str]:
    """How many of the most frequent channels belong to one class, how surely, and how many to every class.

    Parameters
    ----------
    table
        ``comparison``: columns ``layer, channel, number, specific, specific_share``.
    channels
        number of channels, indexed by layer.
    classes
        how many are perturbed.
    controls
        the table of that name, where there is one: columns ``layer, channel, target, sensitive, q, tests``.
    """
    compared = table[table["layer"].isin(wide(channels, most))]
    if classes < 2 or compared.empty:
        return []
    only = compared[compared["specific"].fillna("") != ""]
    counts = ", ".join(f"{name} {n}" for name, n in only["specific"].value_counts().items())
    everywhere = int((compared["number"] == classes).sum())
    every = "both" if classes == 2 else f"all {classes}"
    sentence = (
        f"{part(len(only), len(compared), 'channel')} among the {most} most frequent of their layer are so for one "
        f"class only{f' ({counts})' if counts else ''}, {everywhere} for {every} classes; all perturbations of a class "
        "count together."
    )
    known = only[only["specific_share"].notna()]
    if len(known):
        sure = known[known["specific_share"] >= SURE]
        sentence += (
            f" Of those of one class only, {len(sure)} are among the {most} of this class and of no other in at least "
            "95 % of resamples of the patients"
        )
        sentence += f"{_beyond_control(sure, controls)}."
    return [sentence + _apart(channels, most)]


def _beyond_control(sure: pd.DataFrame, controls: pd.DataFrame | None) -> str:
    if controls is None or controls["q"].isna().all() or sure.empty:
        return ""
    keys = ["layer", "channel", "target"]
    sensitive = controls.loc[controls["sensitive"].astype(bool), keys].drop_duplicates()
    both = sure.rename(columns={"specific": "target"})[keys].merge(sensitive, on=keys)
    return f", and {len(both)} of these also respond to the class more than to its control ({corrected(controls)})"


def certain(chosen: pd.DataFrame, channels: pd.Series[int], most: int, among: str = "") -> list[str]:
    """How many of the most frequent channels are found again in resamples of the patients.

    Parameters
    ----------
    chosen
        the most frequent channels of the table ``certainty``: columns ``layer, low, high, selected``.
    channels
        number of channels, indexed by layer.
    among
        names the perturbations of the table, where the store has more.
    """
    own = chosen[chosen["layer"].isin(wide(channels, most))]
    compared = own[own["selected"].notna()]
    if compared.empty:
        return []
    enough = "" if len(compared) == len(own) else f" with at least {FEWEST_PATIENTS} patients"
    sure = int((compared["selected"] >= SURE).sum())
    width = float((compared["high"] - compared["low"]).median())
    wide_by = f"{number(width)} wide (median)"
    interval = f"; the 95 % interval of their frequency is {wide_by}" if np.isfinite(width) else ""
    of = f"up to {most} of each layer and perturbation{among}{enough}"
    apart = _apart(channels, most)
    return [
        f"{part(sure, len(compared), 'most frequent channel')} ({of}) are found again in at least 95 % of resamples of "
        f"the patients{interval}.{apart}"
    ]


def shown_channels(conditions: int, every: int, resolutions: int, of: int, noun: str = "slice") -> str:
    """Which channels the figures of activations show: layers of ``resolutions`` of the ``of`` that the network has."""
    first = f" (the first {conditions} of {every})" if conditions < every else ""
    stored = "network has" if resolutions == of else f"tensors were kept of (the network has {of})"
    sizes = f"a layer of each of the {resolutions} resolutions that the {stored}" if resolutions > 1 else "a layer"
    return (
        f"Of each perturbation{first}, the channel most often in its layer's top, in {sizes}, on the {noun} of median "
        "change in Dice."
    )


def counts_of(cells: pd.DataFrame, patients: int, noun: str = "slice") -> str:
    """On how many slices a map of frequencies rests."""
    n = span(cells["samples"].min(), cells["samples"].max())
    return f"n = {n} {plural_of(noun)} of {counted(patients, 'patient')}."
