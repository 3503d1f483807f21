"""Every case rule and both sides of every threshold, on matrices that can be checked by hand."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actstore.analysis import AnalysisError, CaseRules, cases
from actstore.analysis.segmentation.cases import _reaches
from actstore.errors import SpecError
from helpers import CLASSES, make_confusion, raise_if_dask_computes


def case_of(target: str, cells: dict[str, int], classes: tuple[str, ...] = CLASSES) -> str:
    """The case of one matrix given by cells, for example ``{"LV_MYO": 3}``: three pixels of LV predicted as MYO."""
    values = np.zeros((len(classes), len(classes)), int)
    for cell, count in {"background_background": 900, **cells}.items():
        true, predicted = cell.split("_")
        values[classes.index(true), classes.index(predicted)] = count
    confusion = make_confusion([[values, values]], targets=[target], classes=classes)
    found = cases(confusion)
    assert found.values[0, 0] == ""
    return str(found.values[0, 1])


LV_CASES = [
    ("1 below 35", {"LV_LV": 34}, "empty prediction"),
    ("1 from 35", {"LV_LV": 35}, "only LV"),
    ("1 nothing", {"LV_background": 500}, "empty prediction"),
    ("1 sums every class", {"LV_LV": 12, "RV_RV": 12, "MYO_MYO": 11}, "error"),
    ("2 anywhere", {"background_LV": 100}, "only LV"),
    ("2 not with MYO", {"LV_LV": 100, "LV_MYO": 1}, "LV + MYO"),
    ("2 not with RV", {"LV_LV": 100, "LV_RV": 1}, "error"),
    ("3 share 0.7", {"LV_LV": 50, "LV_MYO": 70, "MYO_MYO": 30}, "LV + MYO"),
    ("3 below share 0.7", {"LV_LV": 50, "LV_MYO": 69, "MYO_MYO": 31}, "error"),
    ("3 LV outside LV", {"LV_LV": 50, "LV_MYO": 70, "background_LV": 1}, "error"),
    ("3 LV + MYO wins over every class", {"LV_LV": 50, "LV_MYO": 70, "LV_RV": 9}, "LV + MYO"),
    ("3 every class", {"LV_LV": 50, "LV_MYO": 70, "background_LV": 1, "LV_RV": 1}, "every class"),
    ("3 every class needs RV in LV", {"LV_LV": 50, "LV_MYO": 70, "background_LV": 1, "RV_RV": 1}, "error"),
    ("3 every class needs LV in LV", {"MYO_LV": 50, "LV_MYO": 70, "LV_RV": 1}, "error"),
    ("3 every class needs MYO in LV", {"LV_LV": 50, "MYO_MYO": 70, "LV_RV": 1}, "error"),
    ("3 before 4", {"LV_LV": 1, "LV_MYO": 500, "background_LV": 1}, "error"),
    ("4 half", {"LV_MYO": 50, "LV_background": 50}, "extreme LV→MYO"),
    ("4 below half", {"LV_MYO": 49, "LV_background": 51}, "LV→MYO"),
    ("4 RV below half of LV", {"LV_MYO": 50, "LV_background": 50, "RV_RV": 49}, "extreme LV→MYO"),
    ("4 RV at half of LV", {"LV_MYO": 50, "LV_background": 50, "RV_RV": 50}, "LV→MYO"),
    ("5 RV above 100", {"RV_RV": 101}, "only RV"),
    ("5 RV at 100", {"RV_RV": 100}, "error"),
    ("5 LV below 10", {"RV_RV": 101, "LV_LV": 9}, "only RV"),
    ("5 LV at 10", {"RV_RV": 101, "LV_LV": 10}, "error"),
    ("5 MYO at 20", {"RV_RV": 101, "MYO_MYO": 20}, "only RV"),
    ("5 MYO at 21", {"RV_RV": 101, "MYO_MYO": 21}, "error"),
    ("5 before 6", {"RV_RV": 101, "LV_MYO": 20, "LV_background": 80}, "only RV"),
    ("6 share 0.1", {"LV_MYO": 40, "LV_background": 360}, "LV→MYO"),
    ("6 below share 0.1", {"LV_MYO": 40, "LV_background": 361}, "error"),
    ("6 share 0.7", {"LV_MYO": 42, "MYO_MYO": 18, "LV_background": 100}, "LV→MYO"),
    ("6 below share 0.7", {"LV_MYO": 41, "MYO_MYO": 18, "LV_background": 100}, "error"),
    ("6 RV below 200", {"LV_MYO": 40, "LV_background": 100, "RV_RV": 199}, "LV→MYO"),
    ("6 RV at 200", {"LV_MYO": 40, "LV_background": 100, "RV_RV": 200}, "error"),
    ("7", {"MYO_MYO": 100}, "error"),
]
RV_CASES = [
    ("1 below 35", {"RV_RV": 34}, "empty prediction"),
    ("1 from 35", {"RV_RV": 35}, "only RV"),
    ("2 anywhere", {"background_RV": 100}, "only RV"),
    ("2 not with MYO", {"background_RV": 100, "MYO_MYO": 1}, "error"),
    ("3 10 pixels", {"RV_RV": 10, "MYO_MYO": 50}, "RV + others"),
    ("3 9 pixels", {"RV_RV": 9, "MYO_MYO": 50}, "error"),
    ("3 share 0.3", {"RV_RV": 30, "background_RV": 70, "LV_LV": 50}, "RV + others"),
    ("3 below share 0.3", {"RV_RV": 29, "background_RV": 71, "LV_LV": 50}, "error"),
    ("3 before 4", {"RV_RV": 30, "RV_MYO": 70}, "RV + others"),
    ("4 half", {"RV_MYO": 50, "RV_background": 50}, "extreme RV→MYO"),
    ("4 below half", {"RV_MYO": 49, "RV_background": 51}, "RV→MYO"),
    ("4 before 6", {"RV_MYO": 50, "RV_LV": 50}, "extreme RV→MYO"),
    ("5 share 0.04", {"RV_MYO": 4, "RV_background": 96, "MYO_MYO": 50}, "RV→MYO"),
    ("5 below share 0.04", {"RV_MYO": 3, "RV_background": 97, "MYO_MYO": 50}, "error"),
    ("5 before 6", {"RV_MYO": 4, "RV_LV": 96}, "RV→MYO"),
    ("6 half", {"RV_LV": 50, "RV_background": 50}, "extreme RV→LV"),
    ("6 below half", {"RV_LV": 49, "RV_background": 51}, "error"),
    ("7", {"LV_LV": 100}, "error"),
]
MYO_CASES = [
    ("empty", {"MYO_MYO": 34}, "empty prediction"),
    ("only", {"MYO_MYO": 35}, "only MYO"),
    ("extreme RV", {"MYO_RV": 50, "MYO_LV": 10, "MYO_MYO": 40}, "extreme MYO→RV"),
    ("extreme LV", {"MYO_LV": 50, "MYO_RV": 10, "MYO_MYO": 40}, "extreme MYO→LV"),
    ("below extreme", {"MYO_LV": 49, "MYO_RV": 10, "MYO_MYO": 41}, "MYO→LV"),
    ("tie goes to the lower label", {"MYO_LV": 50, "MYO_RV": 50}, "extreme MYO→RV"),
    ("flow 0.1", {"MYO_LV": 10, "MYO_RV": 9, "MYO_MYO": 81}, "MYO→LV"),
    ("below flow 0.1", {"MYO_LV": 9, "MYO_RV": 9, "MYO_MYO": 82}, "MYO + others"),
    ("others 10 pixels", {"MYO_MYO": 10, "LV_LV": 100}, "MYO + others"),
    ("others 9 pixels", {"MYO_MYO": 9, "LV_LV": 100}, "error"),
    ("others share 0.3", {"MYO_MYO": 30, "background_MYO": 70, "LV_LV": 9}, "MYO + others"),
    ("others below share 0.3", {"MYO_MYO": 29, "background_MYO": 71, "LV_LV": 9}, "error"),
    ("error", {"LV_LV": 100, "MYO_background": 100}, "error"),
]


@pytest.mark.parametrize(
    ("target", "cells", "expected"),
    [
        pytest.param(target, cells, expected, id=f"{target} {name}")
        for target, table in (("LV", LV_CASES), ("RV", RV_CASES), ("MYO", MYO_CASES))
        for name, cells, expected in table
    ],
)
def test_rule(target: str, cells: dict[str, int], expected: str) -> None:
    assert case_of(target, cells) == expected


def test_heart_rules_need_the_three_heart_classes() -> None:
    cells = {"LV_LV": 50, "LV_RV": 100}
    assert case_of("LV", cells) == "error"
    assert case_of("LV", cells, ("background", "RV", "LV")) == "extreme LV→RV"
    assert case_of("liver", {"liver_liver": 100}, ("background", "liver")) == "only liver"
    assert case_of("liver", {"liver_liver": 10}, ("background", "liver")) == "empty prediction"


def test_more_classes_beside_the_heart() -> None:
    classes = (*CLASSES, "aorta")
    assert case_of("LV", {"LV_LV": 100}, classes) == "only LV"
    assert case_of("LV", {"LV_LV": 100, "aorta_aorta": 1}, classes) == "error"
    assert case_of("aorta", {"aorta_LV": 100}, classes) == "extreme aorta→LV"


def test_a_target_without_true_pixels_flows_nowhere() -> None:
    for target in ("LV", "RV", "MYO"):
        others = {f"{c}_{c}": 50 for c in CLASSES[1:] if c != target}
        assert case_of(target, others) == "error"


@pytest.mark.parametrize("field", [f.name for f in fields(CaseRules)])
def test_every_threshold_counts(field: str) -> None:
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 120, size=(4000, 4, 4, 4)) * (rng.random((4000, 4, 4, 4)) < 0.35)
    confusion = make_confusion(matrices)
    value = getattr(CaseRules(), field)
    change: dict[str, Any] = {field: value / 4 if isinstance(value, float) else value * 4}
    other = replace(CaseRules(), **change)
    assert (cases(confusion) != cases(confusion, other)).any()


def test_original_and_not_applicable_have_no_case() -> None:
    matrices = np.full((2, 4, 4, 4), 100)
    matrices[1, 2] = 0
    found = cases(make_confusion(matrices))
    assert found.dims == ("sample", "condition")
    assert found.name == "case"
    np.testing.assert_array_equal(found != "", [[False, True, True, True], [False, True, False, True]])
    applicable = xr.DataArray([[True, False, True, True]] * 2, dims=("sample", "condition"))
    found = cases(make_confusion(matrices), applicable=applicable)
    np.testing.assert_array_equal(found != "", [[False, False, True, True]] * 2)
    assert found.values[1, 2] == "empty prediction"


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_chunked_equals_one_by_one(seed: int, samples: int, step: int, split: int) -> None:
    rng = np.random.default_rng(seed)
    matrices = rng.integers(0, 120, (samples, 4, 4, 4)) * (rng.random((samples, 4, 4, 4)) < 0.4)
    matrices[rng.random((samples, 4)) < 0.2] = 0
    confusion = make_confusion(matrices)
    chunks = {"sample": min(step, samples), "condition": split, "true_class": split, "predicted_class": split}
    chunked = confusion.copy(data=confusion.variable.chunk(chunks).data)
    with raise_if_dask_computes():
        lazy = cases(chunked)
    assert lazy.chunks is not None
    plain = cases(confusion)
    xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), plain)
    for s in range(samples):
        np.testing.assert_array_equal(cases(confusion[[s]])[0], plain[s])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100), st.integers(0, 10**6), st.integers(-2, 2))
def test_shares_are_compared_as_written(percent: int, whole: int, offset: int) -> None:
    share = Fraction(percent, 100)
    part = max(0, int(share * whole) + offset)
    found = _reaches(np.array(part), percent / 100, np.array(whole))
    assert bool(found) == (part >= share * whole)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"empty_below": -1}, r"cases.empty_below = -1: give a number of pixels"),
        ({"empty_below": 2.5}, r"cases.empty_below = 2.5: give a number of pixels"),
        ({"extreme_share": 1.5}, r"cases.extreme_share = 1.5: give a share from 0 to 1"),
        ({"flow_share": float("nan")}, r"cases.flow_share = nan: give a share"),
        ({"flow_share": True}, r"cases.flow_share = True: give a share"),
    ],
)
def test_rules_are_validated(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        CaseRules(**values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.drop_vars("target"), r"confusion has no coordinate 'target'"),
        (lambda c: c.isel(condition=1), r"confusion has no dimension 'condition'"),
        (lambda c: c.assign_coords(target=("condition", ["", "liver"])), r"target 'liver' is no foreground class"),
        (lambda c: c.drop_vars("true_class"), r"confusion has no class names along 'true_class'"),
    ],
)
def test_errors_name_the_mend(change: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        cases(change(make_confusion(np.ones((1, 2, 4, 4)), targets=["LV"])))
