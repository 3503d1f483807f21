"""Families of tests, and the correction within each."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from actstore.analysis.evidence import corrected, families
from actstore.analysis.support import adjusted, noted


def p_of(conditions: list[tuple[str, str, float]], channels: int = 30) -> xr.DataArray:
    """p-values (condition, channel) of conditions of (transform, target, strength), one of them missing."""
    p = np.random.default_rng(0).uniform(size=(len(conditions), channels)) ** 3
    p[0, 0] = np.nan
    transform, target, strength = zip(*conditions, strict=True)
    return xr.DataArray(
        p,
        dims=("condition", "channel"),
        coords={
            "transform": ("condition", list(transform)),
            "target": ("condition", list(target)),
            "strength": ("condition", list(strength)),
        },
    )


SWEEP = [("brightness", "LV", 0.1), ("brightness", "RV", 0.1), ("brightness", "LV", 0.5), ("blur", "LV", 2.0)]


def test_strengths_of_one_transform_and_class_are_one_family() -> None:
    number = families(p_of(SWEEP))
    assert [number.tolist().index(n) for n in number] == [0, 1, 0, 3]


def test_conditions_without_names_are_one_family() -> None:
    assert families(xr.DataArray(np.zeros((3, 2)), dims=("condition", "channel"))).tolist() == [0, 0, 0]


def test_each_family_is_corrected_by_itself() -> None:
    p = p_of(SWEEP)
    found = adjusted(p)
    both = p.values[[0, 2]]
    expected = stats.false_discovery_control(both[~np.isnan(both)])
    np.testing.assert_allclose(found["q"].values[[0, 2]][~np.isnan(both)], expected)
    np.testing.assert_allclose(found["q"].values[3], stats.false_discovery_control(p.values[3]))
    assert np.isnan(found["q"].values[0, 0])
    assert found["tests"].values.tolist() == [59, 30, 59, 30]


def test_another_class_changes_no_q() -> None:
    alone = adjusted(p_of(SWEEP[:1]))
    beside = adjusted(p_of(SWEEP[:2]))
    np.testing.assert_array_equal(alone["q"].values[0], beside["q"].values[0])


def test_a_family_without_a_test() -> None:
    q, tests = corrected(np.full((2, 3), np.nan), np.array([0, 0]))
    assert np.isnan(q).all()
    assert tests.tolist() == [0, 0]


def test_the_correction_is_lazy_and_chunked_alike() -> None:
    p = p_of(SWEEP)
    lazy = adjusted(p.chunk(condition=1, channel=7))
    np.testing.assert_array_equal(lazy["q"].values, adjusted(p)["q"].transpose(*lazy["q"].dims).values)


def test_notes_are_whole_in_every_chunk() -> None:
    patients = xr.DataArray([1, 3, 12], dims="condition").chunk(condition=1)
    assert noted(patients, "test").values.tolist() == [
        "1 patient: too few for a test",
        "3 patients: too few for a test",
        "",
    ]
