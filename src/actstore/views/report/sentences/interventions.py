"""Sentences on what edits of channels do, on orders of channels, and on whether MAD finds those that matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from actstore.analysis.evidence import FEWEST_PATIENTS
from actstore.analysis.interventions.cumulative import EVERY_LAYER
from actstore.analysis.interventions.effects import NECESSITY, RESTORATION, SHARES, TRANSMISSION
from actstore.conditions import ORIGINAL
from actstore.tables.passes import EACH, LAYER
from actstore.units import counted
from actstore.views.wording import SIGNIFICANT, interval, listed, number, rests_on, span

#: What replaces a channel's map, in words.
_EDITS = {
    "zero": "0",
    "mean": "the channel's mean over the originals",
    "shuffle": "its own values at other places",
}
#: Orders in which channels are added, in words.
_ORDERS = {"frequency": "frequency among the top", "mad": "mean MAD", "effect": "the effect of each alone"}


def made(name: str, settings: Mapping[str, Any]) -> str:
    """How one intervention was made; ``settings`` is its resolved table."""
    into = listed(["the original" if one == ORIGINAL else str(one) for one in settings["into"]])
    edit, donor = str(settings["edit"]), settings.get("donor")
    patched = "the original's map" if donor == ORIGINAL else f"its map in {donor}"
    what = patched if edit == "patch" else _EDITS.get(edit, edit)
    region = str(settings.get("region", "all"))
    where = "" if region == "all" else f" {region} {settings.get('target') or 'the perturbed class'}"
    return f"{name}: in passes of {into}, a channel's map is replaced by {what}{where}."


def largest(table: pd.DataFrame, measure: str = "Dice") -> list[str]:
    """The channel with the largest effect, and which are larger than random ones, a sentence each group.

    Parameters
    ----------
    table
        ``effects``, the rows of channels that are edited alone, of the perturbed class or where none is perturbed.
    measure
        what effects are differences of: Dice, or accuracy.
    """
    found = []
    for _, own in table[table["order"] == EACH].groupby(["intervention", "condition", "class_name"], sort=False):
        known = own[own["effect"].notna()]
        first = own.iloc[0]
        if known.empty:
            where = f"{first['intervention']}, {first['condition']}, {first['class_name']}"
            found.append(f"{where}: no effect is known{_because(own)}.")
            continue
        most = known.sort_values("effect", ascending=False, kind="stable").to_dict("records")[0]
        what = _with(most, f"channel {most['channel']} of {most['layer']}", measure)
        found.append(
            f"{first['intervention']}: {what}, the largest effect of {counted(len(known), 'channel')}. {_tested(own)}"
        )
    return found


def layers(table: pd.DataFrame, measure: str = "Dice") -> list[str]:
    """The layers whose channels together have the largest and the smallest effect; rows as of :func:`largest`."""
    found = []
    whole = table[(table["order"] == LAYER) & table["effect"].notna()]
    for _, own in whole.groupby(["intervention", "condition", "class_name"], sort=False):
        rows = own.sort_values("effect", ascending=False, kind="stable").to_dict("records")
        said = [f"{row['layer']} {_value(row, 'effect')}" for row in (rows[0], rows[-1])[: len(rows)]]
        of = "" if rows[0]["quantity"] in SHARES else f" in {measure}"
        found.append(
            f"{rows[0]['intervention']}, all channels of a layer together: {rows[0]['quantity']}{of} of "
            f"{rows[0]['class_name']} from {' down to '.join(said)}."
        )
    return found


def orders(table: pd.DataFrame, measure: str = "Dice") -> list[str]:
    """Whether an order finds what matters before chance, a sentence for each order.

    Parameters
    ----------
    table
        ``areas``, the rows of the perturbed class or where none is perturbed.
    measure
        as for :func:`largest`.
    """
    found = []
    keys = ["intervention", "condition", "class_name", "order"]
    for _, own in table.groupby(keys, sort=False):
        every: Any = own[own["layer"] == EVERY_LAYER].iloc[0]
        where = f"{every['intervention']}, {every['class_name']} under {every['condition']}"
        if not np.isfinite(every["area"]):
            found.append(f"{where}: no area is known{_because(own)}.")
            continue
        unit = f"of the lost {measure} " if every["quantity"] in SHARES else f"{measure} "
        optimistic = " (an order made from the same patients, and so optimistic)" if every["order"] == "effect" else ""
        found.append(
            f"{where}: in order of {_ORDERS[str(every['order'])]}{optimistic}, the {every['quantity']} of channels is "
            f"larger by {_value(every, 'area')} {unit}than that of as many random ones, in the mean over doublings of "
            f"their number and over {counted(len(own) - 1, 'layer')}; {_than_chance(every)}."
        )
    return found


def responsible(table: pd.DataFrame) -> list[str]:
    """Whether the most frequent channels are those with the largest effects, of the table ``agreement``."""
    found = []
    for (name, condition), own in table.groupby(["intervention", "condition"], sort=False):
        if not own["samples"].any():
            where = f"{name}, {own['target'].iloc[0]} under {condition}"
            found.append(f"{where}: rankings cannot be compared{_because(own)}.")
            continue
        frequent, shared, expected = (float(own[column].sum()) for column in ("frequent", "shared", "expected"))
        tested = own[own["q"].notna()]
        more = int((tested["q"] < SIGNIFICANT).sum())
        there = f"there are{'' if more else ' not'}"
        if len(tested) > 1:
            there = f"in {more or 'none'} of {counted(len(tested), 'layer')} there are"
        by_chance = (
            f"{there} more than by chance (q < "
            f"{SIGNIFICANT:g}, corrected over {counted(int(tested['tests'].max()), 'layer')})"
            if len(tested)
            else "in no layer can the number be tested, since a set holds every channel or none"
        )
        found.append(
            f"{name}, {own['target'].iloc[0]} under {condition}: of {int(frequent)} channels that are among the most "
            f"frequent of their layer, {int(shared)} are among those with the largest {own['quantity'].iloc[0]}, "
            f"{number(expected)} expected by chance; {by_chance}. {_correlated(own)} ({rests_on(own)})."
        )
    return found


def published(effects: pd.DataFrame, ranked: pd.DataFrame, most: int) -> list[str]:
    """How many of the most frequent channels matter, and of those that matter are frequent, a sentence each group.

    Parameters
    ----------
    effects
        rows as of :func:`largest`.
    ranked
        the table ``rankings``.
    most
        how many channels of a layer count as most frequent.
    """
    keys = ["intervention", "layer", "channel", "class_name", "into"]
    tested = effects[effects["q"].notna()].rename(columns={"condition": "into"})[[*keys, "q"]]
    of_original = ranked["quantity"].isin([NECESSITY, TRANSMISSION])
    into = ranked["condition"].mask(of_original, ORIGINAL)
    joined = ranked.assign(class_name=ranked["target"], into=into).merge(tested, on=keys)
    joined["often"] = (joined["frequency_rank"] <= most) & (joined["frequency"] > 0)
    found = []
    for (name, condition), own in joined.groupby(["intervention", "condition"], sort=False):
        matter = own["q"] < SIGNIFICANT
        both, often = int((matter & own["often"]).sum()), int(own["often"].sum())
        where = f"{name}, {own['target'].iloc[0]} under {condition}"
        if not matter.any():
            found.append(
                f"{where}: none of the {often} channels that are among the {most} most frequent of their layer has a "
                f"larger effect than random channels (q < {SIGNIFICANT:g}), and no other channel has."
            )
            continue
        found.append(
            f"{where}: of the {often} channels that are among the {most} most frequent of their layer, {both} "
            f"ha{'s' if both == 1 else 've'} a larger effect than random channels (q < {SIGNIFICANT:g}); of the other "
            f"{len(own) - often}, {int(matter.sum()) - both}."
        )
    return found


def _correlated(own: pd.DataFrame) -> str:
    """Rank correlations over the channels of each layer."""
    said = []
    for column, what in (("spearman_frequency", "frequency"), ("spearman_mad", "MAD")):
        known = own[own[column].notna()]
        if known.empty:
            continue
        sure = known[known[f"{column}_low"].notna()]
        if len(known) == 1:
            row = known.iloc[0]
            between = f" ({number(row[f'{column}_low'])} to {number(row[f'{column}_high'])})" if len(sure) else ""
            said.append(f"of {what} {number(row[column])}{between} in its one layer")
            continue
        ends = f"{number(known[column].min())} to {number(known[column].max())} over layers"
        above = int((sure[f"{column}_low"] > 0).sum())
        below = int((sure[f"{column}_high"] < 0).sum())
        surely = f", with the interval above 0 in {above} and below in {below} of {len(sure)}" if len(sure) else ""
        said.append(f"of {what} {ends}{surely}")
    if not said:
        return "No rank correlation with the effect is known"
    return f"Rank correlation with the effect: {'; '.join(said)}"


def _with(row: Any, channel: str, measure: str) -> str:
    """What the edit of ``channel`` does."""
    value, class_name = _value(row, "effect"), row["class_name"]
    if row["quantity"] == RESTORATION:
        return (
            f"with the map of the original in {channel}, a share of {value} of the {measure} of {class_name} that "
            f"{row['condition']} costs ({number(row['loss'])}) comes back"
        )
    if row["quantity"] == TRANSMISSION:
        return (
            f"with the map of {row['donor']} in {channel}, the original loses a share of {value} of the {measure} of "
            f"{class_name} that this perturbation costs ({number(row['loss'])})"
        )
    if row["quantity"] == NECESSITY:
        return f"without {channel} the original loses {value} {measure} of {class_name}"
    return f"with {channel} edited, {measure} of {class_name} under {row['condition']} changes by {value}"


def _tested(own: pd.DataFrame) -> str:
    """Which channels have a larger effect than random ones."""
    tested = own[own["q"].notna()]
    if tested.empty:
        few = own["patients"].max() < FEWEST_PATIENTS
        why = f": {counted(int(own['patients'].max()), 'patient')} are too few" if few else _because(own)
        return f"Whether it is larger than that of random channels of the layer cannot be tested{why}."
    how = f"{_corrected(tested)}; {rests_on(tested)}"
    found = tested[tested["q"] < SIGNIFICANT].sort_values("effect", ascending=False, kind="stable")
    if len(found):
        names = [f"{row.layer}:{row.channel}" for row in found.itertuples()]
        have = "has" if len(found) == 1 else "have"
        return (
            f"{len(found)} of {counted(len(tested), 'channel')} {have} a larger effect than random channels of the "
            f"same layer: {listed(names)} ({how})."
        )
    if (tested["note"].astype(str) != "").all():
        patients = span(tested["patients"].min(), tested["patients"].max())
        return f"With {patients} patients, no q can fall below {SIGNIFICANT:g}, so no channel can stand out."
    return f"No channel has a larger effect than random channels of the same layer ({how})."


def larger(table: pd.DataFrame) -> str:
    """What a mark of a figure means, and that there is none where nothing was tested; rows as of :func:`largest`."""
    tested = table[table["q"].notna()]
    if tested.empty:
        return "there are none, since nothing could be tested"
    return f"larger than random channels of the layer, {_corrected(tested)}"


def _corrected(tested: pd.DataFrame) -> str:
    tests = span(tested["tests"].min(), tested["tests"].max())
    noun = "test" if tested["tests"].max() == 1 else "tests"
    return f"q < {SIGNIFICANT:g}, corrected over {tests} {noun} of layers, conditions and classes"


def _than_chance(row: Any) -> str:
    if not np.isfinite([row["low"], row["high"]]).all():
        return "whether that is more than chance is not known"
    if row["low"] > 0:
        return "the order finds what matters before chance"
    return (
        "it finds what matters later than chance" if row["high"] < 0 else "it finds what matters no sooner than chance"
    )


def _value(row: Any, name: str) -> str:
    """A number with its interval, where there is one."""
    value, low, high = (float(row[key]) for key in (name, "low", "high"))
    if not np.isfinite([low, high]).all():
        return number(value)
    return f"{number(value)} ({' to '.join(interval(value, low, high, _error(row)))})"


def _error(row: Any) -> float:
    error = float(row["error"])
    return error if np.isfinite(error) else 0.0


def _because(own: pd.DataFrame) -> str:
    """The first note, as a reason."""
    notes: Sequence[str] = [str(note) for note in own["note"] if note]
    return f": {notes[0]}" if notes else ""
