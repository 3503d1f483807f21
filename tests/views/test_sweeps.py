"""Curves of MAD over the strengths of a perturbation."""

from __future__ import annotations

import numpy as np

from actstore.views.figures.sweeps import DoseCurve, Sweep

SWEEP = Sweep("brightness", (1, 2, 3), ("a", "b", "c"), (0.1, 0.5, 2.0))


def test_an_infinite_mad_is_no_small_one() -> None:
    mad = np.array([[1.0, np.inf, 3.0], [2.0, np.inf, np.inf], [3.0, np.inf, np.inf], [np.nan, np.nan, np.inf]])
    curve = DoseCurve(SWEEP, mad)
    assert curve.samples == 4
    np.testing.assert_array_equal(curve.quartiles[:, 0], [1.5, 2, 2.5])
    assert np.isnan(curve.quartiles[:, 1]).all(), "infinite, not 0"
    assert np.isnan(curve.quartiles[1:, 2]).all(), "not the only finite one"
    assert curve.limits[1] == (0.0, 2.5 * 1.06)


def test_a_strength_without_a_sample_is_a_gap() -> None:
    curve = DoseCurve(SWEEP, np.array([[1.0, np.nan, 3.0]]))
    np.testing.assert_array_equal(curve.quartiles[1], [1, np.nan, 3])
    assert DoseCurve(SWEEP, np.full((2, 3), np.nan)).limits[1] == (0.0, 1.0)
