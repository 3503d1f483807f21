"""Resamples of patients: all of few patients against every ordered draw, random ones against SciPy and their error."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from actstore.analysis import (
    bootstrap_mean,
    by_strength,
    dice_change,
    frequency_certainty,
    half_loss,
    in_top,
    set_stability,
    shared_channels,
)
from actstore.analysis.resampling import MOST_ENUMERATED, patient_draws
from actstore.analysis.uncertainty import expanded
from helpers import lazy_study, make_study, plant, raise_if_dask_computes

#: Every ordered draw of 5 patients with replacement, and its probability.
ORDERED = list(itertools.product(range(5), repeat=5))
TAIL = (1 - expanded(0.95, 5)) / 2


def inverse(values: Any, level: float) -> float:
    """The smallest of equally likely ``values`` that a share ``level`` of them does not exceed."""
    ordered = np.sort(np.asarray(values, dtype=float))
    return float(ordered[np.flatnonzero(np.arange(1, len(ordered) + 1) / len(ordered) >= level)[0]])


def per_patient(values: NDArray[Any], patient: NDArray[Any]) -> NDArray[Any]:
    return np.stack([values[patient == name].sum(axis=0) for name in np.unique(patient)])


def top(study: xr.Dataset, k: int = 2) -> xr.DataArray:
    return in_top(study["mad"], k, applicable=study["applicable"])


@pytest.mark.parametrize("patients", [1, 2, 5])
def test_all_draws_of_few_patients_with_their_probability(patients: int) -> None:
    draws = patient_draws(patients, resamples=3, seed=9)
    counted = Counter(
        tuple(np.bincount(drawn, minlength=patients).tolist())
        for drawn in itertools.product(range(patients), repeat=patients)
    )
    assert draws.exact
    assert len(draws.weights) == len(counted)
    found = dict(zip(map(tuple, draws.weights.astype(int).tolist()), draws.probability.tolist(), strict=True))
    assert found == pytest.approx({key: n / patients**patients for key, n in counted.items()}, rel=1e-12)


def test_seven_patients_have_1716_draws_and_eight_are_drawn_at_random() -> None:
    most = patient_draws(MOST_ENUMERATED)
    assert most.weights.shape == (1716, 7)
    np.testing.assert_allclose(most.probability @ most.weights, 1, rtol=1e-12)
    drawn = patient_draws(MOST_ENUMERATED + 1, 500, seed=3)
    assert not drawn.exact
    assert drawn.weights.shape == (500, 8)
    assert (drawn.weights.sum(axis=1) == 8).all()
    np.testing.assert_allclose(drawn.probability, 1 / 500)


def test_an_interval_of_five_patients_is_that_of_every_ordered_draw() -> None:
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(5), [3, 5, 2, 4, 4])
    values = rng.exponential(size=(18, 3))
    array = xr.DataArray(values, dims=("sample", "cell"), coords={"patient": ("sample", patient.astype(str))})
    found = bootstrap_mean(array, resamples=7, seed=5)
    sums, sizes = per_patient(values, patient), np.bincount(patient)
    means = np.array([sums[list(d)].sum(axis=0) / sizes[list(d)].sum() for d in ORDERED])
    np.testing.assert_allclose(found["low"], [inverse(m, TAIL) for m in means.T], rtol=1e-12)
    np.testing.assert_allclose(found["high"], [inverse(m, 1 - TAIL) for m in means.T], rtol=1e-12)
    assert (found["error"] == 0).all()
    xr.testing.assert_identical(found, bootstrap_mean(array))


def test_certainty_and_stability_of_five_patients_are_those_of_every_ordered_draw() -> None:
    study = make_study(patients=5, slices=2, layers={"L01": 6})
    certain = frequency_certainty(top(study), 2, applicable=study["applicable"])
    stable = set_stability(top(study), [2], applicable=study["applicable"])
    counts = per_patient(top(study).values, study["patient"].values)

    def chosen(total: Any) -> set[int]:
        return {c for c in sorted(range(6), key=lambda c: (-total[c], c))[:2] if total[c] > 0}

    for condition in (1, 2, 3):
        sets = [chosen(counts[list(d), condition].sum(axis=0)) for d in ORDERED]
        selected = [sum(c in s for s in sets) / len(ORDERED) for c in range(6)]
        np.testing.assert_allclose(certain["selected"][condition], selected, rtol=1e-12)
        full = chosen(counts[:, condition].sum(axis=0))
        overlaps = [len(s & full) / len(s | full) for s in sets]
        here = stable.isel(layer=0, condition=condition, most=0)
        assert here["overlap"].item() == pytest.approx(np.mean(overlaps), rel=1e-12)
        assert here["low"].item() == pytest.approx(inverse(overlaps, 0.025))
        assert here["high"].item() == pytest.approx(inverse(overlaps, 0.975))


def test_half_loss_of_five_patients_is_that_of_every_ordered_draw() -> None:
    strengths = np.array([0.0, 0.5, 1.0])
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(5), 3)
    names = ["original", "brightness(LV, 0)", "brightness(LV, 0.5)"]
    values = np.stack([0.9 - 0.1 * rng.random(15), 0.1 * rng.random(15), 0.3 + 0.5 * rng.random(5)[patient]], axis=1)
    dice = xr.DataArray(
        values[..., None],
        dims=("sample", "condition", "class_name"),
        coords={
            "patient": ("sample", patient.astype(str)),
            "condition": names,
            "transform": ("condition", ["original", "brightness", "brightness"]),
            "target": ("condition", ["", "LV", "LV"]),
            "strength": ("condition", [np.nan, 0.0, 0.5]),
            "class_name": ["LV"],
        },
    )
    found = half_loss(by_strength(dice, "brightness", "LV")).isel(class_name=0)

    def crossing(drawn: Any) -> float:
        curve = values[np.concatenate([np.flatnonzero(patient == p) for p in drawn])].mean(axis=0)[[1, 2, 0]]
        level = curve[2] / 2
        if curve[1] <= level:
            return float(np.interp(level, curve[1:], strengths[1:]))
        return float(np.interp(level, curve[:2], strengths[:2]))

    crossings = [crossing(d) for d in ORDERED]
    assert found["half_below"].item() == pytest.approx(crossing(range(5)), rel=1e-9)
    assert found["half_below_low"].item() == pytest.approx(inverse(crossings, TAIL), rel=1e-9)
    assert found["half_below_high"].item() == pytest.approx(inverse(crossings, 1 - TAIL), rel=1e-9)
    assert found["half_below_error"].item() == 0
    assert np.isnan(found["half_above_error"].item())


def test_specific_share_of_five_patients_is_that_of_every_ordered_draw() -> None:
    study = make_study(patients=5, slices=3, layers={"L01": 7, "L02": 4}, targets=["RV", "LV", "LV"])
    study = plant(plant(study, "L01", 5, "LV"), "L02", 1, "RV")
    found = shared_channels(top(study), 2, applicable=study["applicable"])
    counts = per_patient(top(study).values, study["patient"].values)
    of_class = np.stack([counts[:, 1], counts[:, 2] + counts[:, 3]], axis=1)
    layers = {"L01": range(7), "L02": range(7, 11)}

    def chosen(total: Any) -> list[set[int]]:
        ranked = [[sorted(part, key=lambda c: (-row[c], c))[:2] for part in layers.values()] for row in total]
        return [{c for part in row for c in part if total[t, c] > 0} for t, row in enumerate(ranked)]

    full = chosen(of_class.sum(axis=0))
    again = np.zeros((2, 11))
    for drawn in ORDERED:
        sets = chosen(of_class[list(drawn)].sum(axis=0))
        for t, own in enumerate(sets):
            again[t, sorted(own - sets[1 - t])] += 1 / len(ORDERED)
    expected = np.full(11, np.nan)
    for t, own in enumerate(full):
        only = sorted(own - full[1 - t])
        expected[only] = again[t, only]
    assert np.isfinite(expected).sum() >= 2
    np.testing.assert_allclose(found["specific_share"], expected, rtol=1e-9)
    np.testing.assert_array_equal(np.isfinite(expected), found["specific"] != "")
    assert found["specific_share"].values[5] > 0.99


def test_specific_share_of_more_patients_is_drawn_for_all_classes_at_once() -> None:
    study = make_study(patients=12, slices=3, layers={"L01": 9}, targets=["RV", "LV"])
    lazy = lazy_study(study, {"sample": 7, "condition": 2, "channel": 5})
    with raise_if_dask_computes():
        unread = shared_channels(top(lazy), 3, applicable=lazy["applicable"], resamples=400, seed=2)
    found = shared_channels(top(study), 3, applicable=study["applicable"], resamples=400, seed=2)
    xr.testing.assert_allclose(unread.compute(scheduler="synchronous"), found, rtol=1e-12)
    counts = per_patient(top(study).values, study["patient"].values)[:, 1:]
    weights = np.random.default_rng(77).multinomial(12, np.full(12, 1 / 12), size=4000)
    key = 9 * np.tensordot(weights, counts, axes=1) + np.arange(9)[::-1]
    chosen = key >= np.sort(key, axis=-1)[..., -3, None]
    alone = (chosen & (chosen.sum(axis=1, keepdims=True) == 1)).mean(axis=0)
    for c in np.flatnonzero(found["specific"] != ""):
        own = ["RV", "LV"].index(str(found["specific"].values[c]))
        assert found["specific_share"].values[c] == pytest.approx(alone[own, c], abs=0.1)
    # Found again in its own class alone is less than found again in its own class.
    certain = frequency_certainty(top(study), 3, applicable=study["applicable"], resamples=400, seed=2)
    for c in np.flatnonzero(found["specific"] != ""):
        own = 1 + ["RV", "LV"].index(str(found["specific"].values[c]))
        assert found["specific_share"].values[c] <= certain["selected"].values[own, c] + 0.1
    few = make_study(patients=4, layers={"L01": 9})
    assert shared_channels(top(few), applicable=few["applicable"])["specific_share"].isnull().all()


def test_a_class_of_few_patients_has_no_specific_share() -> None:
    study = make_study(patients=8, layers={"L01": 9}, targets=["RV", "LV"])
    kept = study["patient"].isin(["patient001", "patient002", "patient003"]) | (study["target"] != "LV")
    study["applicable"] = study["applicable"] & kept.reset_coords(drop=True)
    found = shared_channels(top(study), 2, applicable=study["applicable"])
    own = found["specific"].values
    assert {"RV", "LV"} <= set(own)
    assert np.isnan(found["specific_share"].values[own == "LV"]).all()
    assert np.isfinite(found["specific_share"].values[own == "RV"]).all()


def skewed(patients: int, cells: int = 40) -> tuple[xr.DataArray, NDArray[Any]]:
    """Skewed values (sample, cell) of 6 samples a patient, and their means (patient, cell)."""
    rng = np.random.default_rng(patients)
    values = rng.exponential(size=(patients, 1, cells)) + rng.exponential(size=(patients, 6, cells))
    coords = {"patient": ("sample", np.repeat(np.arange(patients), 6).astype(str))}
    return xr.DataArray(values.reshape(-1, cells), dims=("sample", "cell"), coords=coords), values.mean(axis=1)


@pytest.mark.parametrize("patients", [8, 25])
def test_random_draws_agree_with_scipy(patients: int) -> None:
    values, means = skewed(patients, 20)
    found = bootstrap_mean(values)
    theirs = stats.bootstrap(
        (means,),
        np.mean,
        n_resamples=20_000,
        confidence_level=expanded(0.95, patients),
        method="percentile",
        axis=0,
        rng=np.random.default_rng(1),
    ).confidence_interval
    for ours, other in ((found["low"], theirs.low), (found["high"], theirs.high)):
        near = np.abs(ours.values - other) <= 1.1 * found["error"].values
        assert near.mean() >= 0.9


@pytest.mark.parametrize("patients", [8, 25])
def test_another_seed_moves_the_ends_by_about_their_error_at_most(patients: int) -> None:
    values, _ = skewed(patients)
    truth = bootstrap_mean(values, resamples=100_000, seed=1000)
    seeds = [bootstrap_mean(values, seed=seed) for seed in range(12)]
    for end in ("low", "high"):
        inside = [abs(one[end] - truth[end]) <= one["error"] for one in seeds]
        assert np.mean(inside) >= 0.9
        moved = [abs(a[end] - b[end]) <= a["error"] for a, b in itertools.pairwise(seeds)]
        assert np.mean(moved) >= 0.8
    # Not for nothing: about the ends' standard deviation over seeds, doubled.
    spread = np.maximum(*(np.std([one[end] for one in seeds], axis=0) for end in ("low", "high")))
    assert 1.2 < float(np.median(seeds[0]["error"] / spread)) < 4
    assert float((truth["error"] / seeds[0]["error"]).median()) < 0.3


def test_what_has_no_interval_has_no_error() -> None:
    four = make_study(patients=4)
    assert bootstrap_mean(four["mad"])["error"].isnull().all()
    eight = make_study(patients=8)
    assert np.isinf(bootstrap_mean(eight["mad"], resamples=100)["error"].isel(condition=1)).all()
    assert np.isfinite(bootstrap_mean(eight["mad"])["error"].isel(condition=1)).all()
    change = dice_change(eight["confusion"], applicable=eight["applicable"])
    for name in ("original_error", "perturbed_error", "change_error"):
        assert (change[name].isel(condition=1) > 0).all()


def test_quantiles_and_errors_by_hand() -> None:
    draws = patient_draws(8, 1000)
    values = np.random.default_rng(0).permutation(1000).astype(float)
    (low, high), errors = draws.quantiles(values, (0.1, 0.9))
    # 100 and 900 of 1000 draws do not exceed 99 and 899; two standard errors are 2 √(1000 · 0.1 · 0.9) = 18.97 draws.
    assert (low, high, *errors) == (99, 899, 19, 19)
    beyond = np.where(values > 890, np.inf, values)
    (low, high), errors = draws.quantiles(beyond, (0.1, 0.88))
    assert (low, high, *errors) == (99, 879, 19, np.inf)
    assert np.isnan(draws.quantiles(beyond, (0.95,))[1]).all()
    assert draws.quantiles(values, (0.001,))[1].tolist() == [np.inf]
    five = patient_draws(5)
    assert five.quantiles(np.where(five.weights[:, 0] > 0, 1.0, np.inf), (0.5, 0.9))[0].tolist() == [1, np.inf]
    # The first of 5 is left out of a resample with probability 0.8⁵ = 0.328.
    assert five.mean(five.weights[:, 0] == 0) == pytest.approx(0.8**5, rel=1e-12)
