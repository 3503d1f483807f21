"""Dose-response: curves over strengths, where half of the Dice is lost, slopes, thresholds, changes of case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from actstore.analysis import (
    AnalysisError,
    by_strength,
    case_changes,
    dice_curve,
    dose_cases_table,
    dose_channels_table,
    dose_half_table,
    dose_table,
    doses,
    half_loss,
    mad_response,
)
from helpers import label_coords, raise_if_dask_computes

#: In the order of a spec that lists them so; brightness changes nothing at 1.
STRENGTHS = (0.5, 0.0, 2.0, 1.5, 0.25)
PATIENTS = 6
SAMPLES = PATIENTS * 6


def coords(patients: int = PATIENTS, strengths: tuple[float, ...] = STRENGTHS) -> dict[str, Any]:
    """A sweep of LV, one strength of RV, and a control of LV."""
    found = label_coords(patients * 6, ("LV",) * len(strengths) + ("RV", "LV"))
    names = [*(f"brightness(LV, {s:g})" for s in strengths), "brightness(RV, 0.1)", "brightness(LV, 0, control)"]
    return found | {
        "condition": ["original", *names],
        "strength": ("condition", [np.nan, *strengths, 0.1, 0.0]),
        "region": ("condition", ["", *["target"] * (len(strengths) + 1), "control"]),
    }


def sweep(curve: NDArray[Any], name: str, dim: str, labels: Any, patients: int = PATIENTS) -> xr.DataArray:
    """(sample, condition, dim) from ``curve`` (condition of the sweep, dim), the same for every sample."""
    rest = np.full((2, curve.shape[1]), 0.3)
    values = np.broadcast_to(np.concatenate([curve, rest]), (patients * 6, len(curve) + 2, curve.shape[1])).copy()
    return xr.DataArray(values, dims=("sample", "condition", dim), coords=coords(patients) | {dim: labels}, name=name)


def planted_dice(patients: int = PATIENTS) -> xr.DataArray:
    """Of LV: 0.8 at 1, 0.7 at 0.5, 0.5 at 0.25, 0.2 at 0, above 0.6 and 0.5. Of RV: never lost."""
    lv, rv = [0.8, 0.7, 0.2, 0.5, 0.6, 0.5], [0.9] * 6
    return sweep(np.array([rv, lv]).T, "dice", "class_name", ["RV", "LV"], patients)


def noisy(dice: xr.DataArray, seed: int, spread: float = 0.05, patients: float = 0.05) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    count = dice.sizes["sample"] // 6
    own = rng.normal(0, patients, count).repeat(6)[:, None, None]
    return dice + own + rng.normal(0, spread, dice.shape)


def chunked(array: xr.DataArray, **sizes: int) -> xr.DataArray:
    return array.copy(data=array.variable.chunk(sizes).data)


def test_doses_are_those_with_three_strengths_beside_the_original() -> None:
    dice = planted_dice()
    assert doses(dice) == [("brightness", "LV", "", "")]
    assert doses(dice.isel(condition=[0, 1, 2, 6])) == []
    assert doses(dice.isel(condition=[0, 1, 2, 3])) == [("brightness", "LV", "", "")]
    one = dice.isel(condition=[0, 1, 2, 3]).assign_coords(strength=("condition", [np.nan, 0.5, 0.0, 1.0]))
    assert doses(one) == []
    assert doses(dice.assign_coords(transform=("condition", ["original", *["mine:dim"] * 7]))) == []
    source = np.array(["", "MYO", "MYO", "RV", "MYO", "RV", "MYO", "MYO"])
    fill = dice.assign_coords(
        transform=("condition", ["original", *["fill"] * 7]), perturbation_source=("condition", source)
    )
    assert doses(fill.assign_coords(strength=("condition", [np.nan, 0.5, 0.2, 1, 1, 0.5, 0.1, 0]))) == [
        ("fill", "LV", "MYO", "")
    ]


def test_by_strength_sorts_with_the_original_at_the_identity() -> None:
    curve = by_strength(planted_dice(), "brightness", "LV")
    assert curve.dims == ("sample", "strength", "class_name")
    assert curve["strength"].values.tolist() == [0, 0.25, 0.5, 1, 1.5, 2]
    np.testing.assert_array_equal(curve[0].sel(class_name="LV"), [0.2, 0.5, 0.7, 0.8, 0.6, 0.5])
    assert (curve["transform"], curve["target"], curve["identity"]) == ("brightness", "LV", 1)
    assert "condition" not in curve.coords
    assert curve["patient"].dims == ("sample",)


def test_the_original_stands_for_a_condition_that_changes_nothing() -> None:
    dice = planted_dice()
    strength = dice["strength"].values.copy()
    strength[4] = 1.0
    curve = by_strength(dice.assign_coords(strength=("condition", strength)), "brightness", "LV")
    assert curve["strength"].values.tolist() == [0, 0.25, 0.5, 1, 2]
    assert (curve.sel(strength=1, class_name="LV") == 0.8).all()


def test_samples_without_the_target_are_empty_at_every_strength() -> None:
    dice = planted_dice()
    dice[3, 1:] = np.nan
    curve = by_strength(dice, "brightness", "LV")
    assert np.isnan(curve[3]).all()
    assert not np.isnan(curve[4]).any()
    cases = xr.DataArray(np.full((SAMPLES, 8), "error"), dims=("sample", "condition"), coords=coords(), name="case")
    cases[:, 0] = ""
    cases[3] = ""
    found = by_strength(cases, "brightness", "LV")
    assert found.dtype.kind == "U"
    assert (found[3] == "").all()
    assert (found[4] == ["error"] * 3 + [""] + ["error"] * 2).all()
    counts = xr.ones_like(dice.isel(class_name=0), dtype=np.int64)
    counts[3, 1:] = 0
    assert by_strength(counts, "brightness", "LV")[3].values.tolist() == [0] * 6


def test_an_identity_of_ones_own() -> None:
    dice = planted_dice().assign_coords(transform=("condition", ["original", *["mine:dim"] * 7]))
    curve = by_strength(dice, "mine:dim", "LV", identity=3)
    assert curve["strength"].values.tolist() == [0, 0.25, 0.5, 1.5, 2, 3]


def test_half_loss_is_where_it_was_planted() -> None:
    curve = by_strength(planted_dice(), "brightness", "LV")
    half = half_loss(curve, resamples=50).sel(class_name="LV")
    # Half of 0.8 lies a third of the way from 0.5 at 0.25 to 0.2 at 0.
    np.testing.assert_allclose(half["half_below"], 0.25 - 0.25 / 3)
    np.testing.assert_allclose([half["half_below_low"], half["half_below_high"]], 0.25 - 0.25 / 3)
    assert half["baseline"] == pytest.approx(0.8)
    for name in ("half_above", "half_above_low", "half_above_high"):
        assert np.isnan(half[name])
    assert (half["samples"], half["patients"], half["note"]) == (SAMPLES, PATIENTS, "")


def test_the_first_crossing_counts() -> None:
    dice = planted_dice()
    dice.loc[{"class_name": "LV"}] = [[0.8, 0.2, 0.1, 0.5, 0.3, 0.7, 0.3, 0.3]] * SAMPLES
    curve = by_strength(dice, "brightness", "LV")
    half = half_loss(curve, resamples=50).sel(class_name="LV")
    np.testing.assert_allclose(half["half_below"], 1 - 0.5 * 0.4 / 0.6)
    np.testing.assert_allclose(half["half_above"], 1 + 0.5 * 0.4 / 0.5)


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_the_mean_does() -> None:
    truth, runs = 0.25 - 0.25 / 3, 150
    covered = 0
    for seed in range(runs):
        curve = by_strength(noisy(planted_dice(10), seed, 0.1, 0.0), "brightness", "LV")
        half = half_loss(curve.sel(class_name=["LV"]), resamples=400).isel(class_name=0)
        covered += bool(half["half_below_low"] <= truth <= half["half_below_high"])
    assert covered >= stats.binom.ppf(0.001, runs, 0.93)


def test_an_interval_that_runs_out_of_the_strengths_is_open_and_says_so() -> None:
    dice = planted_dice()
    dice.loc[{"class_name": "LV"}] = [[0.8, 0.7, 0.39, 0.5, 0.6, 0.5, 0.3, 0.3]] * SAMPLES
    dice = noisy(dice, 1, 0.0, 0.0)
    dice[:6, 2, 1] = 0.6
    half = half_loss(by_strength(dice, "brightness", "LV")).sel(class_name="LV")
    assert np.isnan(half["half_below"])
    dice[6:12, 2, 1] = 0.0
    half = half_loss(by_strength(dice, "brightness", "LV")).sel(class_name="LV")
    assert 0 < half["half_below"] < half["half_below_high"]
    assert np.isnan(half["half_below_low"])
    assert str(half["note"].values).startswith("open below: half is kept in ")


def test_too_few_patients_say_so() -> None:
    curve = by_strength(planted_dice(4), "brightness", "LV")
    half = half_loss(curve).sel(class_name="LV")
    assert half["note"] == "4 patients: too few for an interval"
    assert not np.isnan(half["half_below"])
    assert np.isnan(half["half_below_low"])
    assert set(dice_curve(curve)["note"].values.ravel().tolist()) == {"4 patients: too few for an interval"}
    mad = planted_mad(4)
    response = mad_response(by_strength(mad, "brightness", "LV"), scale_of(mad))
    assert set(response["note"].values.tolist()) == {"4 patients: too few for a response"}


def test_dice_curve_by_hand() -> None:
    dice = noisy(planted_dice(), 0)
    dice[:6, 1:] = np.nan
    curve = by_strength(dice, "brightness", "LV")
    found = dice_curve(curve, resamples=200)
    np.testing.assert_allclose(found["dice"], np.nanmean(curve.values, axis=0))
    assert (found["low"] < found["dice"]).all()
    assert (found["dice"] < found["high"]).all()
    assert (found["samples"] == 30).all()
    assert (found["patients"] == 5).all()


def planted_mad(patients: int = PATIENTS) -> xr.DataArray:
    """Channel 0: 2 a unit of distance below, 0.4 above. Channel 1: silent. Channel 2: only below 0.25, up to 0.75.

    0.75 is a mean of any number of samples exactly, whatever order they are summed in: thresholds may be met there.
    """
    distance = np.array([0, 0.5, 1, 1, 0.5, 0.75])
    above = np.array([0, 0, 0, 1, 1, 0])
    steep = distance * np.where(above, 0.4, 2)
    late = np.array([0, 0, 0.75, 0, 0, 0])
    mad = sweep(np.stack([steep, 0 * steep, late], axis=1), "mad", "channel", [0, 1, 2], patients)
    return mad.assign_coords(layer="L01", module="net.L01")


def scale_of(mad: xr.DataArray) -> xr.DataArray:
    return xr.DataArray([2.0, 1.0, 4.0], dims="channel", coords={"channel": mad["channel"]})


def test_slopes_and_thresholds_are_where_they_were_planted() -> None:
    mad = planted_mad()
    response = mad_response(by_strength(mad, "brightness", "LV"), scale_of(mad))
    np.testing.assert_allclose(response["slope_below"], [2, 0, 0.75 / (0.25 + 0.5625 + 1)])
    np.testing.assert_allclose(response["slope_above"], [0.4, 0, 0], atol=1e-15)
    # Channel 0 reaches 0.1 · 2 at 0.1 below and 0.5 above; channel 2 0.1 · 4 at 8 of 15 parts from 0.25 to 0.
    np.testing.assert_allclose(response["threshold_below"], [0.1, np.nan, 0.75 + 0.25 * 8 / 15])
    np.testing.assert_allclose(response["threshold_above"], [0.5, np.nan, np.nan])
    np.testing.assert_allclose(response["mad"].sel(strength=0), [2, 0, 0.75])
    np.testing.assert_allclose(response["standardised"].sel(strength=0), [1, 0, 0.1875])
    assert (response["samples"] == SAMPLES).all()
    higher = mad_response(by_strength(mad, "brightness", "LV"), scale_of(mad), threshold=0.1875)
    np.testing.assert_allclose(higher["threshold_below"], [0.1875, np.nan, 1])


def test_the_slope_is_that_of_least_squares_through_the_identity() -> None:
    rng = np.random.default_rng(0)
    mad = planted_mad()
    mad.values[:, 1:] += rng.random((SAMPLES, 7, 3))
    curve = by_strength(mad, "brightness", "LV")
    response = mad_response(curve, scale_of(mad))
    mean = curve.mean("sample")
    for side, at in (("below", [2, 1, 0]), ("above", [4, 5])):
        distance = abs(curve["strength"].values[at] - 1)
        expected = (distance[:, None] * mean.values[at]).sum(axis=0) / (distance**2).sum()
        np.testing.assert_allclose(response[f"slope_{side}"], expected)


def test_a_transform_that_only_goes_up() -> None:
    mad = planted_mad()
    mad = mad.assign_coords(transform=("condition", ["original", *["noise"] * 7]))
    mad = mad.assign_coords(strength=mad["strength"].fillna(0).where(mad["strength"] != 0, 3.0))
    response = mad_response(by_strength(mad, "noise", "LV"), scale_of(mad))
    assert np.isnan(response["slope_below"]).all()
    assert np.isnan(response["threshold_below"]).all()
    assert not np.isnan(response["slope_above"]).any()


def labelled(rows: list[list[str]]) -> xr.DataArray:
    values = np.array([[*row, "error", "error"] for row in rows])
    return xr.DataArray(values, dims=("sample", "condition"), coords=coords(1), name="case")


def test_case_changes_walk_outwards() -> None:
    # Strengths 1 (original), 0.5, 0, 2, 1.5, 0.25.
    kept = ["", "LV + others", "LV + others", "LV + others", "LV + others", "LV + others"]
    lost = ["", "LV + others", "only RV", "error", "LV + others", "only RV"]
    none = [""] * 6
    cases = labelled([kept, lost, none, none, none, none])
    cases[2:, 1:6] = ""
    changes = case_changes(by_strength(cases, "brightness", "LV"))
    assert changes["changed"].sum("strength").values.tolist() == [0, 2, 0, 0, 0, 0]
    np.testing.assert_array_equal(changes["previous_strength"], [0.25, 0.5, 1, np.nan, 1, 1.5])
    table = dose_cases_table(cases)
    assert ",".join(table.columns) == (
        "patient,frame,slice,transform,target,strength,case,previous_strength,previous_case"
    )
    rows = table[["slice", "strength", "case", "previous_strength", "previous_case"]].values.tolist()
    assert rows == [
        [1, 0.25, "only RV", 0.5, "LV + others"],
        [1, 2.0, "error", 1.5, "LV + others"],
    ]


def test_tables() -> None:
    dice, mad = planted_dice(), planted_mad()
    curve = dose_table(dice, resamples=50)
    assert ",".join(curve.columns) == "transform,target,class_name,strength,samples,patients,dice,low,high,error,note"
    assert len(curve) == 12
    assert curve[curve["class_name"] == "LV"]["dice"].round(6).tolist() == [0.2, 0.5, 0.7, 0.8, 0.6, 0.5]
    half = dose_half_table(dice, resamples=50)
    assert ",".join(half.columns) == (
        "transform,target,class_name,samples,patients,baseline,half_below,half_below_low,half_below_high,"
        "half_below_error,half_above,half_above_low,half_above_high,half_above_error,note"
    )
    assert half["class_name"].tolist() == ["RV", "LV"]
    channels = dose_channels_table(mad, scale_of(mad))
    assert ",".join(channels.columns) == (
        "layer,module,channel,transform,target,samples,patients,slope_below,slope_above,"
        "threshold_below,threshold_above,note"
    )
    assert channels["channel"].tolist() == [0, 1, 2]


def test_a_source_is_named_with_the_transform() -> None:
    dice = planted_dice().assign_coords(
        transform=("condition", ["original", *["fill"] * 7]),
        perturbation_source=("condition", ["", *["MYO"] * 7]),
    )
    assert set(dose_table(dice, resamples=50)["transform"]) == {"fill, source=MYO"}


def test_lazy_and_chunked_as_in_memory() -> None:
    dice, mad = noisy(planted_dice(), 0), planted_mad()
    cases = labelled([["", *["error"] * 5]] * 6)
    lazy = chunked(dice, sample=5, condition=2, class_name=1), chunked(mad, sample=5, condition=3, channel=2)

    def results(dice: xr.DataArray, mad: xr.DataArray, cases: xr.DataArray) -> list[xr.Dataset]:
        curve = by_strength(dice, "brightness", "LV")
        return [
            dice_curve(curve, resamples=50),
            half_loss(curve, resamples=50),
            mad_response(by_strength(mad, "brightness", "LV"), scale_of(mad)),
            case_changes(by_strength(cases, "brightness", "LV")),
        ]

    with raise_if_dask_computes():
        found = results(*lazy, chunked(cases, sample=2, condition=3))
    for one, other in zip(found, results(dice, mad, cases), strict=True):
        xr.testing.assert_allclose(one.compute(scheduler="synchronous"), other, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda d: by_strength(d, "brightness", "MYO"),
            r"no condition brightness\(MYO\) that changes something: there are brightness\(LV\), brightness\(RV\)",
        ),
        (
            lambda d: by_strength(d, "dim", "LV"),
            r"at which strength 'dim' changes nothing is not known: give identity=",
        ),
        (lambda d: by_strength(d[:, 1:], "brightness", "LV"), r"no original among the conditions: a curve starts"),
        (lambda d: by_strength(d.drop_vars("strength"), "brightness", "LV"), r"no coordinate 'strength' along"),
        (lambda d: by_strength(d[:, 0], "brightness", "LV"), r"dice has no dimension 'condition', only"),
        (lambda d: half_loss(d), r"dice has no dimension 'strength' with an identity: use by_strength"),
        (lambda d: dice_curve(d), r"dice has no dimension 'strength' with an identity: use by_strength"),
        (lambda d: half_loss(by_strength(d, "brightness", "LV"), resamples=0), r"resamples = 0: give an integer"),
        (lambda d: half_loss(by_strength(d, "brightness", "LV"), confidence=2), r"confidence = 2: give a level"),
        (
            lambda d: mad_response(by_strength(d, "brightness", "LV").rename(class_name="channel"), d, threshold=0),
            r"threshold = 0: give standard deviations above 0",
        ),
        (
            lambda d: dose_table(d[:, :3]),
            r"no transform and target has 3 strengths that change something: give `strengths` of `\[\[perturb\]\]`",
        ),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        call(planted_dice())
