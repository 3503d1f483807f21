"""Sentences about classifiers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from actstore.analysis.classification import EVERY
from actstore.conditions import ORIGINAL
from actstore.units import counted
from actstore.views.wording import percent


def accuracy(table: pd.DataFrame) -> list[str]:
    """How many images are classified right, the worst class, and under each perturbation."""
    whole = table[table["class_name"] == EVERY]
    first: Any = whole[whole["condition"] == ORIGINAL].iloc[0]
    found = [
        f"The network classifies {percent(first['accuracy'])} of {counted(int(first['samples']), 'image')} right"
        f"{_interval(first)}."
    ]
    classes = table[(table["class_name"] != EVERY) & (table["condition"] == ORIGINAL)]
    worst: Any = classes.sort_values("accuracy", kind="stable").iloc[0]
    if worst["accuracy"] < 1:
        found.append(
            f"It does worst on {worst['class_name']}: {percent(worst['accuracy'])} of "
            f"{counted(int(worst['samples']), 'image')}{_interval(worst)}."
        )
    for condition, row in whole[whole["condition"] != ORIGINAL].set_index("condition").iterrows():
        own = classes[classes["class_name"] == row["target"]]
        before = f", {percent(own.iloc[0]['accuracy'])} before" if len(own) else ""
        found.append(
            f"Under {condition}, {percent(row['accuracy'])} of {counted(int(row['samples']), 'image')} stay right"
            f"{before}{_interval(row)}."
        )
    return found


def _interval(row: Any) -> str:
    """The 95 % interval in brackets, nothing where there is none."""
    if pd.isna(row["low"]):
        return ""
    return f" (95 % interval {percent(row['low'])} to {percent(row['high'])})"
