"""Sentences on where change lies, on controls, strengths, and the loss of Dice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from actstore.units import counted, plural_of
from actstore.views.figures.sweeps import sweep_columns
from actstore.views.wording import SIGNIFICANT, corrected, listed, number, part, percent, rests_on


def regions(table: pd.DataFrame, rim: float, among: str = "") -> list[str]:
    """Where change lies in the first and in the last layer of the table ``regions``; ``rim`` in millimetres.

    ``among`` names the perturbations of the table, where the store has more.
    """
    shares = table.groupby("layer", sort=False)[["inside_share", "outside_share"]].mean().dropna()
    if shares.empty:
        return []
    clauses = [
        f"in {layer}, {percent(row['inside_share'])} lies inside the perturbed region and "
        f"{percent(row['outside_share'])} outside it and its rim of {rim:g} mm"
        for layer, row in (shares.iloc[[0, -1]] if len(shares) > 1 else shares).iterrows()
    ]
    return [f"Of a map's change, {'; '.join(clauses)} (means over samples, channels and perturbations{among})."]


def seen(table: pd.DataFrame) -> list[str]:
    """Layers whose pixels do not cover all of the class, of the table ``regions``."""
    least = table.groupby("layer", sort=False)["seen"].min()
    partly = least[least < 0.9995]
    if partly.empty:
        return []
    shares = [f"{layer} ({percent(share)} at worst)" for layer, share in partly.items()]
    return [
        f"The pixels of {listed(shares)} do not cover all of the perturbed region: these layers end before the input "
        "does, and shares count only what they cover."
    ]


def controls(table: pd.DataFrame) -> list[str]:
    """How many channels respond to a class more than to its control, by perturbation of the table ``controls``."""
    tested = table[table["q"].notna()]
    if tested.empty:
        return []
    counts = tested.groupby("condition", sort=False)["sensitive"].agg(["sum", "size"])
    parts = ", ".join(f"{int(row['sum'])} of {row['size']} to {name}" for name, row in counts.iterrows())
    return [
        f"Channels that respond more to the class than to the same perturbation elsewhere in the body: {parts} "
        f"({corrected(tested)}; {rests_on(tested)})."
    ]


def rescaled(table: pd.DataFrame, noun: str = "slice") -> list[str]:
    """How many pairs the test leaves out because normalisation rescaled them, by perturbation of ``controls``."""
    first = table.groupby("condition", sort=False).agg(rescaled=("rescaled", "max"), samples=("samples", "max"))
    own: Any = first[first["rescaled"] > 0]
    if own.empty:
        return []
    parts = [
        f"{row.rescaled} of {counted(row.samples + row.rescaled, noun)} under {row.Index}" for row in own.itertuples()
    ]
    return [
        f"Left out, because normalisation rescaled the whole of the perturbed image or of its control: "
        f'{listed(parts, 9)}. With data.preprocess.window = "original" in the spec it rescales none.'
    ]


def noise(table: pd.DataFrame) -> list[str]:
    """How much repeats differ from the original, of the table ``noise``."""
    parts = [
        f"{name}: bit for bit the same" if value == 0 else f"{name}: largest MAD {number(value)}"
        for name, value in table.groupby("condition", sort=False)["largest"].max().items()
    ]
    return [f"The noise floor, the original once more: {'; '.join(parts)}."]


def half_lost(table: pd.DataFrame, doses: pd.DataFrame, noun: str = "slice") -> list[str]:
    """The strength at which half of the Dice of the perturbed class is lost, and between which strengths it lies.

    Parameters
    ----------
    table
        ``dose-half``.
    doses
        ``dose``: columns ``transform, target, class_name, strength`` and, where any are chosen, ``channels``.
    """
    parts = []
    sweep = sweep_columns(table)
    own: Any = table[(table["class_name"] == table["target"]) & (table["samples"] > 0)]
    for row in own.itertuples():
        run = doses[(doses[sweep] == [getattr(row, name) for name in sweep]).all(axis=1)]["strength"].unique()
        ends = [_between(float(end), run) for end in (row.half_below, row.half_above) if np.isfinite(end)]
        lost = " and ".join(ends) if ends else "at no strength that was run"
        rests = f"{counted(row.samples, noun)} of {counted(row.patients, 'patient')}"
        channels = getattr(row, "channels", "")
        parts.append(f"{row.target} {lost} ({row.transform}{f' in {channels}' if channels else ''}; {rests})")
    if not parts:
        return []
    return [f"Strength at which half of the Dice is lost, on straight lines between strengths: {', '.join(parts)}."]


def _between(strength: float, run: Any) -> str:
    """ "at 0.75, between 0.5 and 1"; "at 0.5" where it is a strength that was run."""
    if np.isclose(run, strength).any():
        return f"at {number(strength)}"
    return f"at {number(strength)}, between {run[run < strength].max():g} and {run[run > strength].min():g}"


def case_changes(counts: pd.DataFrame, noun: str = "slice") -> str:
    """The caption of changes of kind between strengths; ``counts`` has columns ``slices, patients``."""
    return (
        f"How many {plural_of(noun)} change their kind of failure between two neighbouring strengths; the step from "
        f"the original, which has no kind, does not count. {counted(int(counts['slices'].sum()), 'change')} in all."
    )


def association(table: pd.DataFrame, top: int, among: str = "", noun: str = "slice") -> list[str]:
    """How many channels' change goes with the loss of Dice, and which of them exceed the size of the class.

    Parameters
    ----------
    table
        ``association``: columns ``condition, target, class_name, channel, correlation, q, tests, size_baseline,
        frequency_rank, note``.
    top
        channels of a layer that count as most frequent.
    among
        names the perturbations of the table, where the store has more.
    """
    own = table[table["class_name"] == table["target"]]
    tested = own[own["q"].notna()]
    sentences = []
    if len(tested) and _least_p(tested) >= SIGNIFICANT:
        patients = counted(int(tested["patients"].max()), "patient")
        sentences.append(
            f"With {patients}, p cannot fall below {number(_least_p(tested))}: whether MAD rises with the loss of Dice "
            "cannot be found."
        )
    elif len(tested):
        sentences += _found(tested, top, among, noun)
    return sentences + untested(own)


def _least_p(tested: pd.DataFrame) -> float:
    """The smallest p of a sign test of as many patients: all signs alike, either way."""
    return float(2.0 ** (1 - int(tested["patients"].max())))


def _found(tested: pd.DataFrame, top: int, among: str, noun: str) -> list[str]:
    found = tested["q"] < SIGNIFICANT
    rising, falling = (tested[found & (sign * tested["correlation"] > 0)] for sign in (1, -1))
    often = tested[tested["frequency_rank"] <= top]
    both = int(((often["q"] < SIGNIFICANT) & (often["correlation"] > 0)).sum())
    opposite = f" (to fall for {len(falling)})" if len(falling) else ""
    least, reach = _least_p(tested), ""
    if least * tested["tests"].min() >= SIGNIFICANT:
        reach = (
            f" With {int(tested['patients'].max())} patients, p cannot fall below {number(least)}: a single channel "
            "that does could not be found."
        )
    sentences = [
        f"For {part(len(rising), len(tested), 'pair')} of channel and perturbation{among}, MAD is found to rise with "
        f"the loss of Dice over the {plural_of(noun)} of a volume{opposite}; so it is for {both} of the {len(often)} "
        f"among the {top} most frequent of their layer ({corrected(tested)}; {rests_on(tested)}).{reach}"
    ]
    baseline = tested.dropna(subset=["size_baseline"]).drop_duplicates("condition").set_index("condition")
    if len(baseline):
        sizes = ", ".join(f"{number(value)} under {name}" for name, value in baseline["size_baseline"].items())
        compared = rising.dropna(subset=["size_baseline"])
        over = int((compared["correlation"] > compared["size_baseline"].abs()).sum())
        exceed = f": {over} of these {len(compared)} correlations exceed it" if len(compared) else ""
        sentences.append(f"The size of the class alone correlates with the loss of Dice by {sizes}{exceed}.")
    return sentences


def untested(own: pd.DataFrame) -> list[str]:
    """Perturbations for which no association can be tested, and why; ``own`` are rows of the perturbed class."""
    none = own.groupby("condition", sort=False)["q"].apply(lambda q: q.isna().all())
    sentences = []
    for condition in none.index[none]:
        notes = own.loc[(own["condition"] == condition) & (own["note"].fillna("") != ""), "note"]
        # The most frequent note: a silent channel has one of its own.
        reason = str(notes.mode().iloc[0]).removesuffix(": no association") if len(notes) else ""
        why = f": {reason}" if reason else ""
        sentences.append(f"Under {condition}, no association with the loss of Dice can be tested{why}.")
    return sentences


def no_cause(noun: str = "slice") -> str:
    """What an association does not say."""
    return (
        "Association is no cause: a channel may change with the loss of Dice because both follow from how much of the "
        f"{noun} the class takes. The size of the class stands beside every correlation as the baseline."
    )
