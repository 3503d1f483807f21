"""Perturbations against their control region, and against the original computed again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from actstore.analysis import (
    AnalysisError,
    class_sensitivity,
    controls_table,
    noise_floor,
    noise_ratio,
    pooled_std,
)
from helpers import make_study, raise_if_dask_computes

TARGETS = ("RV", "MYO", "LV")


def controlled(study: xr.Dataset, targets: Sequence[str] = TARGETS) -> xr.Dataset:
    """``study`` of :func:`blank` with the coordinates of a store: controls and repeats behind the perturbations."""
    n = len(targets)
    names = [f"brightness({t}, 0.1)" for t in targets] + [f"brightness({t}, 0.1, control)" for t in reversed(targets)]
    strength = [np.nan, *[0.1] * 2 * n, np.nan, np.nan]
    return study.assign_coords(
        condition=["original", *names, "repeat", "repeat(batch=1)"],
        transform=("condition", ["original", *["brightness"] * 2 * n, "repeat", "repeat"]),
        strength=("condition", strength),
        region=("condition", ["", *["target"] * n, *["control"] * n, "", ""]),
    )


def blank(targets: Sequence[str] = TARGETS, **options: Any) -> xr.Dataset:
    """Perturbations and controls, in another order, that are draws of one distribution; and two repeats."""
    return make_study(targets=(*targets, *reversed(targets), "", ""), **options)


def null_study(seed: int, targets: Sequence[str] = TARGETS, **options: Any) -> xr.Dataset:
    return controlled(blank(targets, seed=seed, **options), targets)


def changed(study: xr.Dataset, channel: int, conditions: list[int], factor: float) -> xr.Dataset:
    """The MAD of one channel, as it lies in the network, ``factor``-fold in some conditions."""
    mad = study["mad"].copy(deep=True)
    mad.values[:, conditions, channel] *= factor
    return study.assign(mad=mad)


def chunked(array: xr.DataArray, **sizes: int) -> xr.DataArray:
    return array.copy(data=array.variable.chunk(sizes).data)


def test_what_answers_to_the_class_alone_is_found_and_what_answers_to_any_region_is_not() -> None:
    study = null_study(0)
    study = changed(study, 11, [3], 4)  # LV, not its control
    study = changed(study, 13, [3, 4], 40)  # LV and its control
    study = changed(study, 15, [4], 40)  # its control alone
    found = class_sensitivity(study["mad"])
    assert found["condition"].values.tolist() == [f"brightness({t}, 0.1)" for t in TARGETS]
    at = np.argwhere(found["sensitive"].values).tolist()
    assert at == [[2, 11]]
    assert found["effect_low"][2, 11] > 1
    assert found["effect_high"][2, 15] < -1
    assert (found["mad"][2, 13] > 20) & (found["control"][2, 13] > 20)
    table = controls_table(study["mad"])
    assert ",".join(table.columns) == (
        "layer,module,condition,target,channel,samples,patients,rescaled,mad,control,difference,effect,effect_low,"
        "effect_high,p,q,tests,sensitive,note"
    )
    assert len(table) == 24 * 3
    row = table[table["sensitive"]].iloc[0]
    assert (row["layer"], row["channel"], row["target"], row["patients"]) == ("L02", 3, "LV", 6)


def test_numbers_by_hand() -> None:
    study = null_study(1, layers={"L01": 2})
    found = class_sensitivity(study["mad"]).isel(condition=0, channel=1)
    perturbed, control = (study["mad"].values[:, c, 1] for c in (1, 6))
    both = ~np.isnan(perturbed) & ~np.isnan(control)
    patient = study["patient"].values[both]
    means = [[x[both][patient == p].mean() for p in np.unique(patient)] for x in (perturbed, control)]
    test = stats.ttest_rel(*means, alternative="greater")
    differences = np.subtract(*means)
    d = differences.mean() / differences.std(ddof=1)
    # The exact correction for 5 degrees of freedom is 0.8408 (Hedges 1981, table 1).
    np.testing.assert_allclose(found["effect"], 0.8408 * d, rtol=1e-4)
    np.testing.assert_allclose(found["p"], test.pvalue)
    np.testing.assert_allclose(found["mad"], np.mean(means[0]))
    np.testing.assert_allclose(found["control"], np.mean(means[1]))
    np.testing.assert_allclose(found["difference"], differences.mean())
    assert (found["samples"], found["patients"]) == (both.sum(), 6)
    for end, tail in (("effect_low", 0.025), ("effect_high", 0.975)):
        noncentral = found[end] / 0.8408 * np.sqrt(6)
        np.testing.assert_allclose(stats.nct.sf(test.statistic, 5, noncentral), tail, rtol=2e-3)


def test_q_is_over_every_channel_of_a_class() -> None:
    found = class_sensitivity(null_study(2)["mad"])
    np.testing.assert_allclose(found["q"], stats.false_discovery_control(found["p"].values, axis=1))
    assert (found["tests"] == found.sizes["channel"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("patients", [5, 12])
def test_a_null_study_finds_no_more_than_the_stated_rate(patients: int) -> None:
    many = [f"class {i}" for i in range(30)]
    found = [class_sensitivity(null_study(s, many, patients=patients)["mad"]) for s in range(6)]
    families = np.stack([f["sensitive"].any("channel").values for f in found])
    assert families.size == 180
    most = stats.binom.ppf(0.999, families.size, 0.05)
    assert families.sum() <= most
    # Independent of the correction: p itself, of one channel.
    assert (np.stack([f["p"][:, 7] for f in found]) < 0.05).sum() <= most


def test_slices_that_repeat_a_patient_add_no_evidence() -> None:
    """A channel loud in all slices of a single patient, each slice the same: one patient of six is no finding."""
    study = null_study(3, missing=0)
    mad = study["mad"].copy(deep=True)
    mad.values[study["patient"].values == "patient002", 3, 9] = 50
    found = class_sensitivity(mad)
    assert not found["sensitive"].any()
    slices = stats.ttest_rel(mad.values[:, 3, 9], mad.values[:, 4, 9], alternative="greater")
    assert slices.pvalue < 0.01


def test_the_interval_of_the_effect_covers_as_promised() -> None:
    rng = np.random.default_rng(0)
    covered, runs, true = 0, 400, 0.8
    for _ in range(runs // 20):
        study = null_study(0, patients=6, slices=1, layers={"L01": 20}, missing=0)
        mad = study["mad"].copy(deep=True)
        shift = rng.normal(true, 1, (6, 20)).repeat(2, axis=0)
        mad.values[:, 3] = mad.values[:, 4] + shift
        found = class_sensitivity(mad).isel(condition=2)
        covered += int(((found["effect_low"] <= true) & (true <= found["effect_high"])).sum())
    # The small-sample correction pulls the exact interval of d in a little.
    assert stats.binom.ppf(0.001, runs, 0.92) <= covered <= stats.binom.ppf(0.999, runs, 0.96)


def test_too_few_patients_say_so() -> None:
    found = class_sensitivity(null_study(0, patients=4)["mad"])
    assert set(found["note"].values.ravel().tolist()) == {"4 patients: too few for a test"}
    for name in ("effect", "effect_low", "effect_high", "p", "q"):
        assert np.isnan(found[name]).all()
    assert not np.isnan(found["difference"]).any()
    assert not found["sensitive"].any()


def test_silent_and_broken_channels() -> None:
    study = changed(null_study(0), 2, [1, 2, 3, 4, 5, 6], 0)
    study["mad"].values[:, 1:, 5][:9] = np.inf
    study["mad"].values[:, :, 6] = np.nan
    found = class_sensitivity(study["mad"])
    assert np.isnan(found["p"][:, [2, 6]]).all()
    assert (found["difference"][:, 2] == 0).all()
    assert (found["samples"][:, 6] == 0).all()
    assert np.isfinite(found["p"][:, 5]).all()
    assert (found["samples"][:, 5] < found["samples"][:, 4]).all()


def test_a_perturbation_without_control_is_left_out_and_strengths_pair_with_their_own() -> None:
    study = null_study(0)
    found = class_sensitivity(study["mad"].isel(condition=[0, 1, 3, 4]))
    assert found["target"].values.tolist() == ["LV"]
    two = study["mad"].isel(condition=[0, 3, 3, 4, 4])
    strength = np.array([np.nan, 0.1, 0.5, 0.5, 0.1])
    two = two.assign_coords(strength=("condition", strength)).copy(deep=True)
    two.values[:, 3] = 7
    pairs = class_sensitivity(two)
    assert (pairs["control"][1] == 7).all()
    assert not (pairs["control"][0] == 7).any()


def test_a_scale_changes_units_only() -> None:
    study = null_study(4)
    raw, scaled = class_sensitivity(study["mad"]), class_sensitivity(study["mad"], pooled_std(study))
    for name in ("effect", "effect_low", "effect_high", "p", "q"):
        np.testing.assert_allclose(scaled[name], raw[name])
    np.testing.assert_allclose(scaled["difference"], raw["difference"] / pooled_std(study))


def test_noise_floor_and_what_stands_out_of_it() -> None:
    study = null_study(0, missing=0.3)
    mad = study["mad"].copy(deep=True)
    mad.values[:, 7] *= 0
    mad.values[:, 8] *= 1e-3
    mad.values[:, 8, 0] *= 0
    mad.values[:, 3, 1] *= 0
    floor = noise_floor(mad)
    assert floor["condition"].values.tolist() == ["repeat", "repeat(batch=1)"]
    np.testing.assert_allclose(floor["mad"][1], np.nanmean(mad.values[:, 8], axis=0))
    np.testing.assert_array_equal(floor["largest"][1], np.nanmax(mad.values[:, 8], axis=0))
    assert (floor["mad"][0] == 0).all()
    np.testing.assert_array_equal(floor["samples"][1], study["applicable"][:, 8].sum())
    ratio = noise_ratio(mad)
    assert ratio["target"].values.tolist() == list(TARGETS)
    np.testing.assert_array_equal(ratio[:, 0], [np.inf] * 3)
    assert ratio[2, 1] == 0
    assert (ratio[:, 2:] > 300).all()
    mad.values[:, 3, 0] *= 0
    assert np.isnan(noise_ratio(mad)[2, 0])


def test_lazy_and_chunked_as_in_memory() -> None:
    study = changed(null_study(0), 11, [3], 4)
    lazy = chunked(study["mad"], sample=7, condition=2, channel=5)
    with raise_if_dask_computes():
        found = class_sensitivity(lazy, pooled_std(study)), noise_floor(lazy), noise_ratio(lazy)
    mad = study["mad"]
    expected = class_sensitivity(mad, pooled_std(study)), noise_floor(mad), noise_ratio(mad)
    for one, other in zip(found, expected, strict=True):
        xr.testing.assert_allclose(one.compute(scheduler="synchronous"), other, rtol=1e-12)


def test_one_layer_as_in_the_network() -> None:
    study = null_study(0)
    layer = study["mad"].isel(channel=study["layer"].values == "L02")
    found, expected = class_sensitivity(layer), class_sensitivity(study["mad"])
    np.testing.assert_allclose(found["p"], expected["p"][:, 8:])
    np.testing.assert_allclose(noise_floor(layer)["mad"], noise_floor(study["mad"])["mad"][:, 8:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: class_sensitivity(m.isel(condition=[0, 1, 2])),
            r"no perturbation has its control: capture with `\[controls\] region = true` in the spec",
        ),
        (lambda m: class_sensitivity(m.drop_vars("region")), r"no perturbation has its control: capture with"),
        (lambda m: class_sensitivity(m.drop_vars("strength")), r"no coordinate 'strength' along condition"),
        (lambda m: class_sensitivity(m, alpha=1), r"alpha = 1: give a rate between 0 and 1"),
        (lambda m: class_sensitivity(m.drop_vars("patient")), r"no coordinate 'patient' along sample"),
        (lambda m: class_sensitivity(m.isel(sample=0)), r"mad has no dimension 'sample', only"),
        (
            lambda m: noise_floor(m.isel(condition=[0, 1])),
            r"no condition repeats the original: capture with `\[controls\] noise = true` in the spec",
        ),
        (lambda m: noise_ratio(m.drop_vars("target")), r"no coordinate 'target' along condition"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        call(null_study(0, patients=5)["mad"])
