"""Sentences on the perturbations and on Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from actstore.analysis.evidence import PERTURBATION
from actstore.units import counted, plural_of
from actstore.views.wording import capital, family, interval, number

LINES = "Solid lines are the true outlines, dashed ones the prediction"


def action(condition: str, conditions: pd.DataFrame) -> str:
    """What a condition does, in words: "darkening LV to 10 %", with chosen input channels "… to 10 % in T1".

    ``conditions`` has columns ``transform, target, strength`` and, where any are chosen, ``channels``, indexed by
    condition.
    """
    row: Any = conditions.loc[condition]
    strength = float(row["strength"])
    if row["transform"] == "brightness" and strength != 1:
        where = f" in {row['channels']}" if row.get("channels") else ""
        return f"{'darkening' if strength < 1 else 'brightening'} {row['target']} to {strength * 100:g} %{where}"
    return f"perturbing {row['target']} by {condition}"


def perturbations(
    shown: Sequence[str], every: pd.DataFrame, normalize: str, window: str, trained: str = ""
) -> list[str]:
    """What was done to the images, and which perturbations the figures show.

    Parameters
    ----------
    shown
        conditions that figures show.
    every
        as for :func:`action`: all perturbations that apply to a sample.
    normalize, window
        of the preprocessing.
    """
    if not shown:
        return []
    actions = "; ".join(action(name, every) for name in shown)
    sentences = [
        "Each perturbation changes raw intensities inside the true outline of one class and nothing else. "
        f"{_normalisation(normalize, window, trained)} Shown one by one: {actions}."
    ]
    families = [name for name in PERTURBATION if name in every]
    pairs = len(every[families].drop_duplicates())
    if len(every) > len(shown):
        first = f", the first {len(shown)} of {pairs} pairs" if pairs > len(shown) else ""
        sentences.append(
            f"The figures show {len(shown)} of {len(every)} perturbations: of each {family(every)}{first}, the "
            "strength under which the Dice of the class is lowest. The tables of the store hold all."
        )
    return sentences


def _normalisation(normalize: str, window: str, trained: str) -> str:
    if trained:
        return (
            f"Each image is preprocessed afterwards as {trained} does it, by itself: where that normalises by the "
            "image's own intensities, the rest of the image changes too. What it is cropped to is the original's."
        )
    scheme, _, scope = normalize.partition("-")
    if scheme == "none":
        return "The network sees intensities as they are."
    if window == "original":
        return (
            f"The image is normalised afterwards ({normalize}), every condition as its original {scope}: what the "
            "perturbation leaves alone stays as it is."
        )
    return (
        f"The image is normalised afterwards ({normalize}), each perturbed {scope} by itself: where the perturbation "
        f"moves what a {scope} is normalised by, the rest of it changes too."
    )


def untouched(original: pd.DataFrame, noun: str = "slice") -> list[str]:
    """Mean Dice on untouched images; ``original`` has columns ``class_name, samples, dice``."""
    known = original.dropna(subset=["dice"])
    if known.empty:
        return []
    columns = zip(known["class_name"], known["dice"], known["samples"], strict=True)
    means = ", ".join(f"{name} {dice:.3f} ({counted(int(n), noun)})" for name, dice, n in columns)
    return [f"On untouched images the mean Dice over the {plural_of(noun)} that contain the class is {means}."]


def change(row: Mapping[str, Any] | pd.Series, conditions: pd.DataFrame, noun: str = "slice") -> str:
    """What one perturbation does to the Dice of its class, as far as the numbers show.

    ``row`` is of the table ``dice-mean``.
    """
    low, high, error = (float(row[f"change_{end}"]) for end in ("low", "high", "error"))
    before, after = number(row["original"]), number(row["perturbed"])
    values = f"from {before} to {after}"
    if np.isfinite([low, high, error]).all():
        verb = "lowers" if high < 0 else "raises" if low > 0 else "does not measurably change"
        ends = interval(float(row["perturbed"]) - float(row["original"]), low, high, error)
        sure = f"; 95 % interval of the change {' to '.join(ends)}"
        if verb == "does not measurably change":
            values = f"({before} before, {after} after)"
    else:
        note = str(row.get("note", ""))
        verb, sure = "changes", f"; {note}" if note else ""
        if before == after:
            verb, values = "leaves", f"at {after}"
    rests = f"{counted(int(row['samples']), noun)} of {counted(int(row['patients']), 'patient')}"
    done = capital(action(str(row["condition"]), conditions))
    return f"{done} {verb} the Dice of {row['class_name']} {values} (mean over {rests} that contain it{sure})."


def changes(means: pd.DataFrame, shown: Sequence[str], conditions: pd.DataFrame, noun: str = "slice") -> list[str]:
    """:func:`change` of each perturbation that is shown, for the summary."""
    own = means[means["class_name"] == means["target"]]
    rows = [own[(own["condition"] == name) & (own["samples"] > 0)] for name in shown]
    return [change(row, conditions, noun) for part in rows for _, row in part.iterrows()]


def pictured(doing: str, where: str, target: str, colours: str, noun: str = "slice") -> str:
    """The caption of an input beside its perturbed version."""
    if noun == "image":
        return (
            f"{capital(doing)}: {where}, the image of median change in the logit of {target}. The frame has the colour "
            f"of the label, dashed of the prediction; {colours}. n = 1 image."
        )
    return (
        f"{capital(doing)}: {where}, the {noun} of median change in the Dice of {target}. {LINES}; {colours}. "
        f"n = 1 {noun}."
    )
