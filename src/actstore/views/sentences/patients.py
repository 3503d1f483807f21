"""What is said of how patients differ."""

from __future__ import annotations

import pandas as pd

from actstore.units import counted
from actstore.views.sentences.channels import wide
from actstore.views.wording import SIGNIFICANT, corrected, listed, part, percent, span

#: What the test of the table ``heterogeneity`` exchanges, for whoever reads its counts.
EXCHANGED = (
    "The test exchanges whole volumes between patients, each with those of its phase: neither neighbouring slices "
    "that are alike nor a difference between phases counts. With two volumes a patient it shows that patients "
    "differ, but cannot single out one: by chance, the highest volumes of both phases belong to one patient in 1 of as "
    "many studies as there are patients."
)


def heterogeneity(table: pd.DataFrame, among: str = "") -> list[str]:
    """How many channels respond more alike within patients than between them, of the table of that name.

    ``among`` says which perturbations the table is of, where the store has more.
    """
    tested = table[table["q"].notna()]
    if tested.empty:
        return []
    found = tested[tested["q"] < SIGNIFICANT]
    return [
        f"{part(len(found), len(tested), 'frequency', 'frequencies')} of a channel under a perturbation{among} "
        f"{'differs' if len(found) == 1 else 'differ'} between patients more than volumes exchanged between them do by "
        f"chance ({corrected(tested)})."
    ]


def leave_one_out(table: pd.DataFrame, channels: pd.Series[int], most: int, among: str = "") -> list[str]:
    """How many of the most frequent channels stay without one patient.

    Parameters
    ----------
    table
        columns ``layer, condition, patient, shared, kept``; ``kept`` the share that stays, NaN without any.
    channels
        number of channels, indexed by layer.
    among
        which perturbations the table is of, where the store has more.
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
        f"Leaving one patient out keeps {percent(compared['kept'].mean())} of a layer's {most} most frequent channels "
        f"on average, at worst {percent(lowest)}{where}; in layers of at least {2 * most} channels"
        f"{among and ',' + among}."
    ]


def uneven(table: pd.DataFrame, most: int) -> str:
    """The caption of the channels that are most uneven over patients."""
    return (
        f"How often a channel is in its layer's top, patient by patient: of each perturbation the {most} channels of "
        "lowest q, whether significant or not. A white dot marks the patient of whose slices a channel has more than "
        "its share, the most in standard deviations; it is no test. "
        f"n = {span(table['samples'].min(), table['samples'].max())} samples, "
        f"{counted(int(table['patients'].max()), 'patient')}."
    )
