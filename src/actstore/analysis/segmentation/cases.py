"""Named kinds of failure of one prediction, decided from its confusion counts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, is_original, require_dims
from actstore.analysis.evidence import perturbations
from actstore.analysis.members import Regions, members_of
from actstore.analysis.segmentation.counts import class_names, has_prediction
from actstore.analysis.segmentation.merging import merged_counts
from actstore.case_rules import CaseRules

#: The case of a sample and condition that has none: no class is perturbed, or the condition is not applicable.
NO_CASE = ""
EMPTY = "empty prediction"
EVERY_CLASS = "every class"
ERROR = "error"

#: The classes whose perturbed LV and RV have rules of their own.
HEART = ("RV", "MYO", "LV")

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


def cases(
    confusion: xr.DataArray,
    rules: CaseRules | None = None,
    *,
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
) -> xr.DataArray:
    """The case of every prediction: str (sample, condition), named "case"; lazy where ``confusion`` is.

    Parameters
    ----------
    confusion
        (sample, condition, true_class, predicted_class), pixel counts, background first, with the coordinate ``target``
        along condition.
    rules
        Thresholds; the published ones by default.
    applicable
        bool (sample, condition). Without it, a matrix of zeros counts as not applicable.
    regions
        names and indices of the classes that a target may be made of, as ``store.members`` lists them. Under a
        perturbation of a region, the classes in it count as one class of that name and all others as they are, so that
        a pixel that goes from one class of the region to another is right. By default every class but the background.

    Returns
    -------
    xarray.DataArray
        For the targets LV and RV of a network that also knows MYO, the rules made for them; for any other target T the
        first that holds of "empty prediction", "only T", "extreme T→x", "T→x" (x the other foreground class that most
        of T went to), "T + others" and "error". "" for the original, its repeats and controls, in which no class is
        perturbed and a right prediction is no failure, and where the condition is not applicable.

    Raises
    ------
    AnalysisError
        if a dimension, a class name or the coordinate ``target`` is missing, or a target is no foreground class.

    Examples
    --------
    >>> kinds = analysis.cases(store.confusion, applicable=store.applicable)
    >>> kinds.dims, kinds.name
    (('sample', 'condition'), 'case')
    """
    names = class_names(confusion)
    members = members_of(names, regions)
    require_dims(confusion, ["condition"])
    if "target" not in confusion.coords:
        raise AnalysisError("confusion has no coordinate 'target': assign the perturbed class of every condition")
    perturbed = np.zeros(confusion.sizes["condition"], dtype=bool)
    perturbed[perturbations(confusion)] = True
    perturbed &= ~is_original(confusion).values
    targets = [str(t) if p else "" for p, t in zip(perturbed, confusion.coords["target"].values, strict=True)]
    for target in targets:
        if target and target not in members:
            raise AnalysisError(f"target {target!r} is no foreground class: the confusion has {', '.join(members)}")
    valid = has_prediction(confusion) if applicable is None else applicable.reset_coords(drop=True)
    classes = ["true_class", "predicted_class"]
    every = {*names, *targets}
    width = max(len(EMPTY), 2 * max(map(len, every)) + len("extreme →"), *(len(n) + len(" + others") for n in every))
    labels: xr.DataArray = apply_lazily(
        _label,
        (confusion, ["condition", *classes]),
        (valid, ["condition"]),
        output_dims=[["condition"]],
        dtypes=[f"U{width}"],
        names=names,
        targets=targets,
        members=members,
        rules=rules or CaseRules(),
        width=width,
    )
    return labels.rename("case")


def _label(
    confusion: Counts,
    valid: Mask,
    names: list[str],
    targets: list[str],
    members: Mapping[str, tuple[int, ...]],
    rules: CaseRules,
    width: int,
) -> NDArray[np.str_]:
    labels = np.full(confusion.shape[:-2], NO_CASE, dtype=f"U{width}")
    for c, target in enumerate(targets):
        if not target:
            continue
        together, kept = merged_counts(confusion[..., c, :, :], members[target])
        known = [target if i in members[target] else names[i] for i in kept]
        counts = _Counts(together, known, target)
        if target == "LV" and set(HEART) <= set(known):
            found = _lv(counts, rules)
        elif target == "RV" and set(HEART) <= set(known):
            found = _rv(counts, rules)
        else:
            found = _general(counts, rules)
        labels[..., c] = np.where(valid[..., c], found, NO_CASE)
    return labels


class _Counts:
    """Pixel counts of one condition: P(c) predicted, G(c) true, C(a, b) true a and predicted b."""

    def __init__(self, confusion: Counts, names: list[str], target: str) -> None:
        self.confusion = confusion
        self.names = names
        self.target = target
        self.others = [n for n in names[1:] if n != target]

    def C(self, true: str, predicted: str) -> Counts:
        return self.confusion[..., self.names.index(true), self.names.index(predicted)]

    def P(self, *classes: str) -> Counts:
        index = [self.names.index(c) for c in classes]
        total: Counts = self.confusion[..., index].sum(axis=(-2, -1))
        return total

    def G(self, true: str) -> Counts:
        total: Counts = self.confusion[..., self.names.index(true), :].sum(axis=-1)
        return total

    def flow(self, predicted: str, share: float) -> Mask:
        """At least ``share`` of the true target is predicted as another class; never of a target without pixels."""
        return _reaches(self.C(self.target, predicted), share, self.G(self.target)) & (self.G(self.target) > 0)


def _lv(n: _Counts, rules: CaseRules) -> NDArray[np.str_]:
    lv, myo, rv = n.P("LV"), n.P("MYO"), n.P("RV")
    both = (lv > 0) & (myo > 0)
    mostly_lv = _reaches(n.C("LV", "MYO"), rules.lv_myo_share, myo)
    flow = n.flow("MYO", rules.lv_flow_share) & (rv < rules.lv_flow_rv_below)
    return _first(
        (n.P(*n.names[1:]) < rules.empty_below, EMPTY),
        ((lv > 0) & (n.P(*n.others) == 0), "only LV"),
        (both & (lv == n.C("LV", "LV")) & mostly_lv, "LV + MYO"),
        (both & (n.C("LV", "LV") > 0) & (n.C("LV", "MYO") > 0) & (n.C("LV", "RV") > 0), EVERY_CLASS),
        (both, ERROR),
        (
            n.flow("MYO", rules.extreme_share) & ~_reaches(rv, rules.lv_extreme_rv_share, n.G("LV")),
            "extreme LV→MYO",
        ),
        ((lv < rules.only_rv_lv_below) & (myo <= rules.only_rv_myo_up_to) & (rv > rules.only_rv_above), "only RV"),
        (flow & mostly_lv, "LV→MYO"),
    )


def _rv(n: _Counts, rules: CaseRules) -> NDArray[np.str_]:
    return _first(
        (n.P(*n.names[1:]) < rules.empty_below, EMPTY),
        ((n.P("RV") > 0) & (n.P(*n.others) == 0), "only RV"),
        (_still_found(n, rules), "RV + others"),
        (n.flow("MYO", rules.extreme_share), "extreme RV→MYO"),
        (n.flow("MYO", rules.rv_flow_share), "RV→MYO"),
        (n.flow("LV", rules.extreme_share), "extreme RV→LV"),
    )


def _general(n: _Counts, rules: CaseRules) -> NDArray[np.str_]:
    t = n.target
    flows = [n.C(t, x) for x in n.others]
    most = np.max(flows, axis=0) if flows else np.zeros_like(n.G(t))
    extreme = [
        ((flow == most) & n.flow(x, rules.extreme_share), f"extreme {t}→{x}")
        for x, flow in zip(n.others, flows, strict=True)
    ]
    some = [((flow == most) & n.flow(x, rules.flow_share), f"{t}→{x}") for x, flow in zip(n.others, flows, strict=True)]
    return _first(
        (n.P(*n.names[1:]) < rules.empty_below, EMPTY),
        ((n.P(t) > 0) & (n.P(*n.others) == 0), f"only {t}"),
        *extreme,
        *some,
        (_still_found(n, rules), f"{t} + others"),
    )


def _still_found(n: _Counts, rules: CaseRules) -> Mask:
    predicted = n.P(n.target)
    return (predicted >= rules.others_from) & _reaches(n.C(n.target, n.target), rules.others_share, predicted)


def _reaches(part: Counts, share: float, whole: Counts) -> Mask:
    """Whether part ≥ share · whole, as if ``share`` were the decimal number it is written as."""
    reached: Mask = part >= share * whole - 1e-9 * whole
    return reached


def _first(*rules: tuple[Mask, str]) -> NDArray[np.str_]:
    """The name of the first rule that holds, else "error"."""
    masks: Sequence[Mask] = [mask for mask, _ in rules]
    return np.select(masks, [name for _, name in rules], default=ERROR)
