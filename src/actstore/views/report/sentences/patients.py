"""Sentences on how patients differ."""

from __future__ import annotations

from math import factorial

import pandas as pd

from actstore.units import counted
from actstore.views.report.sentences.channels import wide
from actstore.views.wording import SIGNIFICANT, corrected, families, listed, number, part, percent, span

#: What the test of the table ``heterogeneity`` exchanges, and what it can show.
EXCHANGED = (
    "The test exchanges whole volumes between patients, each with those of its phase: neither neighbouring slices "
    "that are alike nor a difference between phases counts. With two volumes a patient it can show that patients "
    "differ, but it cannot single out one of them: the two highest volumes belong to one patient by chance alone in "
    "one of P studies of P patients."
)


def heterogeneity(table: pd.DataFrame, among: str = "") -> list[str]:
    """How many channels respond more alike within patients than between them, of the table of that name.

    ``among`` names the perturbations of the table, where the store has more.
    """
    tested = table[table["q"].notna()]
    if tested.empty:
        return []
    found = tested[tested["q"] < SIGNIFICANT]
    return [
        f"{part(len(found), len(tested), 'frequency', 'frequencies')} of a channel under a perturbation{among} "
        f"{'is' if len(found) == 1 else 'are'} found to differ between patients, more than volumes exchanged between "
        f"them do by chance ({corrected(tested)}).{_reach(tested)}"
    ]


def _reach(tested: pd.DataFrame) -> str:
    """A warning where there are too few patients to find a single channel."""
    patients, volumes = int(tested["patients"].max()), int(tested["volumes"].max())
    phases = max(volumes // patients, 2)
    least = 1 / factorial(patients) ** (phases - 1)
    if least * tested["tests"].min() < SIGNIFICANT:
        return ""
    return (
        f" With {patients} patients of {phases} volumes, p cannot fall below {number(least)}: a single channel that "
        "differs could not be found."
    )


def leave_one_out(table: pd.DataFrame, channels: pd.Series[int], most: int, among: str = "") -> list[str]:
    """How many of the most frequent channels stay without one patient.

    Parameters
    ----------
    table
        columns ``layer, condition, patient, shared, kept``; ``kept`` the share that stays, NaN without any.
    channels
        number of channels, indexed by layer.
    among
        names the perturbations of the table, where the store has more.
    """
    if table["patient"].nunique() < 2:
        return []
    if table["kept"].isna().all():
        return ["No channel is ever among the top of its layer, whichever patient is left out."]
    compared = table[table["layer"].isin(wide(channels, most)) & table["kept"].notna()]
    if compared.empty:
        return []
    lowest = compared["kept"].min()
    worst = compared[compared["kept"] == lowest]
    cases = [
        f"{layer} without {patient} under {condition}"
        for layer, patient, condition in zip(worst["layer"], worst["patient"], worst["condition"], strict=True)
    ]
    where = f" ({listed(cases, 2)})" if lowest < 1 else ""
    return [
        f"Leaving one patient out keeps {percent(compared['kept'].mean())} of the up to {most} most frequent channels "
        f"of a layer on average, at worst {percent(lowest)}{where}; in layers of at least {2 * most} channels"
        f"{among and ',' + among}."
    ]


def uneven(table: pd.DataFrame, most: int) -> str:
    """The caption of the channels that are most uneven over patients."""
    return (
        f"How often a channel is in its layer's top, patient by patient: of each perturbation the {most} channels of "
        f"lowest q, whether significant or not, the first of equals; q is corrected over {families(table)}. A white "
        "dot marks the patient furthest above its expected count, in standard deviations, and tests nothing. n = "
        f"{span(table['samples'].min(), table['samples'].max())} samples, "
        f"{counted(int(table['patients'].max()), 'patient')}."
    )
