"""Sentences on curves over thresholds, calibration and confusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from actstore.conditions import ORIGINAL
from actstore.units import counted
from actstore.views.wording import capital, percent, with_interval

#: What the curves are made of, for the words of the section.
COUNTED = (
    "Pixels are counted by the score that the network gives each class, in 1,024 bins of its logit, in every sample "
    "that a condition applies to. Areas and precision are exact to the bounds in the table; calibration is that of "
    "every pixel. Most pixels are background and easy, so that the area under the ROC curve lies near 1; average "
    "precision and F1 say more about a small class."
)

#: The same of scores of whole samples.
SCORED = "Curves are of the score of each sample, every one a threshold, so that areas and calibration are exact."


def shares(table: pd.DataFrame, name: str) -> list[str]:
    """The cells "0.9993 (0.9990 to 0.9996)" of a column that lies near 1: with the digits that tell it from 1."""
    cells = []
    for value, low, high in table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False):
        known = [share for share in (value, low, high) if np.isfinite(share)]
        apart = [min(share, 1 - share) for share in known if 0 < share < 1]
        decimals = min(max([2, *(int(np.ceil(-np.log10(one))) for one in apart)]), 7)
        written = [f"{share:.{decimals}f}" for share in known]
        cells.append(f"{written[0]} ({written[1]} to {written[2]})" if len(written) == 3 else "".join(written) or "–")
    return cells


def untouched(table: pd.DataFrame) -> list[str]:
    """Areas, calibration error and F1 on untouched images; ``table`` is of ``curves``."""
    own = table[(table["condition"] == ORIGINAL) & table["auc"].notna()]
    if own.empty:
        return []
    parts = []
    for column, what in (("average_precision", "average precision"), ("auc", "area under the ROC curve")):
        cells = zip(own["class_name"], shares(own, column), strict=True)
        parts.append(f"the {what} is {', '.join(f'{name} {cell}' for name, cell in cells)}")
    best = ", ".join(
        f"{row.class_name} {row.f1:.3f} (at most {row.f1_best:.3f}, from p = {row.threshold:.2g} on)"
        for row in own.itertuples()
    )
    return [
        f"On untouched images {'; '.join(parts)}.",
        f"F1 of calling p of 0.5 or more positive: {best}.",
    ]


def perturbed(table: pd.DataFrame, actions: dict[str, str]) -> list[str]:
    """Average precision and calibration error of each perturbed class, before and after.

    ``actions`` gives each perturbation that is shown in words. Where it applies to nothing but the class, as one of
    whole images does, precision is 1 whatever the network does, and nothing is said.
    """
    before = table[table["condition"] == ORIGINAL].set_index("class_name")
    said = []
    for condition, action in actions.items():
        own = table[(table["condition"] == condition) & (table["class_name"] == table["target"])]
        if own.empty or own["average_precision"].isna().all() or own["class_name"].iloc[0] not in before.index:
            continue
        if (own["positives"] == own["count"]).all():
            continue
        name = own["class_name"].iloc[0]
        (after,) = shares(own, "average_precision")
        (error,) = with_interval(own, "ece")
        (of_all,) = shares(before.loc[[name]], "average_precision")
        said.append(
            f"{capital(action)}: the average precision of {name} is {after}, its expected calibration error {error} "
            f"({counted(int(own['samples'].iloc[0]), 'sample')}); on all untouched images the average precision is "
            f"{of_all}."
        )
    return said


def confused(table: pd.DataFrame, conditions: Sequence[str]) -> list[str]:
    """What most of each true class's wrong pixels are taken for; ``table`` is of ``confusion``."""
    said = []
    wrong = table[(table["true_class"] != table["predicted_class"]) & table["percent"].notna()]
    for condition in (ORIGINAL, *conditions):
        own = wrong[(wrong["condition"] == condition) & (wrong["count"] > 0)]
        if own.empty:
            continue
        worst = own.sort_values("percent", ascending=False, kind="stable").iloc[0]
        said.append(
            f"{condition}: most often confused, {percent(worst['percent'] / 100)} of {worst['true_class']} is "
            f"predicted as {worst['predicted_class']}."
        )
    return said
