"""Thresholds of the rules that name kinds of failure."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from actstore.errors import SpecError


@dataclass(frozen=True)
class CaseRules:
    """Thresholds of the case rules: pixels, or shares of a pixel count.

    The defaults are those of Güler, “Visualization of neuronal activations under class-specific perturbations”,
    University of Bonn, 2025, for short-axis cardiac MRI at its native in-plane resolution. "From" is inclusive, "up to"
    inclusive, "below" and "above" exclusive.

    Examples
    --------
    >>> rules = analysis.CaseRules(empty_below=20)
    >>> kinds = analysis.cases(store.confusion, rules, applicable=store.applicable)
    >>> rules.empty_below, kinds.dims
    (20, ('sample', 'condition'))
    """

    #: "empty prediction": foreground pixels predicted, below.
    empty_below: int = 35
    #: "extreme T→x": share of the true target predicted as x, from.
    extreme_share: float = 0.5
    #: "LV + MYO" and "LV→MYO": share of the predicted MYO that is true LV, from.
    lv_myo_share: float = 0.7
    #: "extreme LV→MYO": predicted RV as a share of the true LV, below.
    lv_extreme_rv_share: float = 0.5
    #: "only RV" of a perturbed LV: predicted LV, below; MYO, up to; RV, above.
    only_rv_lv_below: int = 10
    only_rv_myo_up_to: int = 20
    only_rv_above: int = 100
    #: "LV→MYO": share of the true LV predicted as MYO, from; predicted RV, below.
    lv_flow_share: float = 0.1
    lv_flow_rv_below: int = 200
    #: "T + others": predicted T, from; share of it that is true T, from.
    others_from: int = 10
    others_share: float = 0.3
    #: "RV→MYO": share of the true RV predicted as MYO, from.
    rv_flow_share: float = 0.04
    #: "T→x" of any other class: share of the true T predicted as x, from.
    flow_share: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            share = field.name.endswith("share")
            kinds = (int, float) if share else (int,)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= (1 if share else math.inf):
                wanted = "a share from 0 to 1" if share else "a number of pixels, an integer of at least 0"
                raise SpecError(f"cases.{field.name} = {value!r}: give {wanted}")
