"""Sentences on kinds of failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from actstore.analysis.segmentation.cases import EMPTY, ERROR, EVERY_CLASS, HEART
from actstore.case_rules import CaseRules
from actstore.units import counted, plural_of
from actstore.views.wording import listed, part


def usual(shares: pd.DataFrame, noun: str = "slice") -> str:
    """The most usual kind of failure under each perturbation, for the summary; equal ones together.

    ``shares`` has columns ``condition, case, samples``, every case of each condition.
    """
    found = []
    for condition, own in shares.groupby("condition", sort=False):
        most, whole = int(own["samples"].max()), int(own["samples"].sum())
        names = [f"“{case}”" for case in own.loc[own["samples"] == most, "case"]]
        each = " each" if len(names) > 1 else ""
        found.append(f"{listed(names, len(names))} under {condition} ({most} of {counted(whole, noun)}{each})")
    unnamed = f"“{ERROR}”"
    return f"The most usual outcome is {'; '.join(found)}.".replace(
        unnamed, f"{unnamed} (an unclassified failure: none of the named kinds)", 1
    )


def legend(
    shares: pd.DataFrame,
    rules: CaseRules,
    classes: Sequence[str],
    members: Mapping[str, Sequence[int]],
    noun: str = "slice",
) -> list[str]:
    """What each kind of failure that occurs means, a line a perturbed class: the rule that decides it.

    Parameters
    ----------
    shares
        columns ``target, case``.
    classes
        names of the exclusive classes, background first.
    members
        indices of the classes that each target is made of.
    """
    lines = [
        f"The confusion counts of its prediction alone decide the kind of failure of a perturbed {noun}. Rules are "
        "tried in order, and the first that holds names the kind."
    ]
    for target, own in shares.groupby("target", sort=False):
        occurring = set(own["case"])
        others = [name for i, name in enumerate(classes) if i and i not in members[str(target)]]
        known = [(name, text) for name, text in _rules(str(target), rules, others) if name in occurring]
        lines.append(f"{target} perturbed: {'; '.join(f'“{name}”: {text}' for name, text in known)}.")
    return lines


def bars(totals: pd.Series[int], patients: int, noun: str = "slice") -> str:
    """The caption of the bars of all kinds; ``totals`` are slices by condition."""
    counts = "; ".join(f"{name}: {counted(int(n), noun)}" for name, n in totals.items())
    return f"How many {plural_of(noun)} fall into each kind of failure. {counts}; {counted(patients, 'patient')}."


def gallery(case: str, condition: str, samples: int, whole: int, shown: int, lines: str, noun: str = "slice") -> str:
    """The caption of examples of one kind."""
    which = "all of them" if shown == samples else f"{shown} of them, from different patients as far as possible"
    return f"“{case}” under {condition}: {part(samples, whole, noun)}. Shown: {which}. {lines}."


def _rules(target: str, rules: CaseRules, others: Sequence[str]) -> list[tuple[str, str]]:
    """Name and meaning of each rule for a target, in the order in which they are tried."""
    heart = set(HEART) <= {target, *others}
    alone = (f"only {target}", f"{target} is predicted and no other class")
    some = (
        f"{target} + others",
        f"at least {counted(rules.others_from, 'pixel')} of {target} are predicted, and at least "
        f"{_exactly(rules.others_share)} of them are true {target}",
    )
    if heart and target == "LV":
        own = [alone, *_of_lv(rules)]
    elif heart and target == "RV":
        own = [
            alone,
            some,
            _flow("extreme RV→MYO", rules.extreme_share, "RV", "MYO"),
            _flow("RV→MYO", rules.rv_flow_share, "RV", "MYO"),
            _flow("extreme RV→LV", rules.extreme_share, "RV", "LV"),
        ]
    else:
        most = ", the class that most of it went to"
        own = [
            alone,
            *(_flow(f"extreme {target}→{x}", rules.extreme_share, target, x, most) for x in others),
            *(_flow(f"{target}→{x}", rules.flow_share, target, x, most) for x in others),
            some,
        ]
    empty = (EMPTY, f"fewer than {counted(rules.empty_below, 'pixel')} of all classes together are predicted")
    last = "no rule holds"
    if heart and target == "LV":
        last = "LV and MYO are both predicted, and neither of the rules for that holds; or no rule holds at all"
    return [empty, *own, (ERROR, last)]


def _exactly(share: float) -> str:
    return f"{share * 100:g} %"


def _flow(name: str, share: float, target: str, to: str, more: str = "") -> tuple[str, str]:
    return name, f"at least {_exactly(share)} of true {target} is predicted as {to}{more}"


def _of_lv(rules: CaseRules) -> list[tuple[str, str]]:
    mostly = f"at least {_exactly(rules.lv_myo_share)} of the predicted MYO is true LV"
    return [
        ("LV + MYO", f"LV and MYO are predicted, all of the predicted LV is true LV, and {mostly}"),
        (EVERY_CLASS, "LV and MYO are predicted, and true LV is predicted as LV, as MYO and as RV"),
        (
            "extreme LV→MYO",
            f"at least {_exactly(rules.extreme_share)} of true LV is predicted as MYO, and predicted RV is smaller "
            f"than {_exactly(rules.lv_extreme_rv_share)} of true LV",
        ),
        (
            "only RV",
            f"fewer than {counted(rules.only_rv_lv_below, 'pixel')} of LV, at most {rules.only_rv_myo_up_to} of MYO "
            f"and more than {rules.only_rv_above} of RV are predicted",
        ),
        (
            "LV→MYO",
            f"at least {_exactly(rules.lv_flow_share)} of true LV is predicted as MYO, {mostly}, and fewer than "
            f"{counted(rules.lv_flow_rv_below, 'pixel')} of RV are predicted",
        ),
    ]
