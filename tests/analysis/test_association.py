"""MAD and the loss of Dice within volumes: planted, confounded, at a floor of Dice, and under the null."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from actstore.analysis import (
    AnalysisError,
    association,
    association_table,
    beside_frequency,
    class_size,
    dice,
    in_top,
)
from actstore.analysis.patients.association import _LONGEST_NOTE, _note
from actstore.analysis.patients.dice_floors import Floats, Floors, find_floors
from actstore.analysis.uncertainty.sign_flips import RESAMPLES, sign_flip_p
from helpers import make_study, raise_if_dask_computes

TARGETS = ("RV", "MYO", "LV")


def dice_of(study: xr.Dataset) -> xr.DataArray:
    return dice(study["confusion"], applicable=study["applicable"])


def loss_of(study: xr.Dataset, target: str) -> np.ndarray[Any, Any]:
    overlap = dice_of(study).sel(class_name=target).values
    return overlap[:, 0] - overlap[:, 1 + TARGETS.index(target)]


def with_mad(study: xr.Dataset, channel: int, condition: int, values: np.ndarray[Any, Any]) -> xr.Dataset:
    """``values`` (sample) as the MAD of one channel, as it lies in the network, where applicable."""
    mad = study["mad"].copy(deep=True)
    there = ~np.isnan(mad.values[:, condition, channel])
    mad.values[there, condition, channel] = values[there]
    return study.assign(mad=mad)


def chunked(array: xr.DataArray, **sizes: int) -> xr.DataArray:
    return array.copy(data=array.variable.chunk({d: n for d, n in sizes.items() if d in array.dims}).data)


def z_by_hand(
    first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], study: xr.Dataset
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """z and the sum of n - 3 of each patient, and the number of samples, from SciPy volume by volume."""
    patient, frame = study["patient"].values, study["frame"].values
    used, z, weight, samples = np.isfinite(first) & np.isfinite(second), [], [], 0
    for name in np.unique(patient):
        own, counts = [], []
        for one in np.unique(frame[patient == name]):
            at = used & (patient == name) & (frame == one)
            if at.sum() >= 4:
                own.append(np.arctanh(stats.spearmanr(first[at], second[at]).statistic))
                counts.append(at.sum() - 3)
                samples += int(at.sum())
        z.append(np.average(own, weights=counts))
        weight.append(sum(counts))
    return np.array(z), np.array(weight), samples


def flips_by_hand(z: np.ndarray[Any, Any]) -> float:
    means = [np.dot(signs, z) for signs in itertools.product((1, -1), repeat=len(z))]
    return float(np.mean(np.abs(means) >= abs(z.sum()) - 1e-12))


def studies(
    score: np.ndarray[Any, Any], loss: np.ndarray[Any, Any], patients: int
) -> tuple[xr.DataArray, xr.DataArray]:
    """Studies, each a condition, of ``score`` (sample, study, channel) and ``loss`` (sample, study)."""
    samples, number = loss.shape
    original = np.random.default_rng(99).normal(size=(samples, 1))
    kinds = ["original", *(f"study{i}" for i in range(number))]
    coords = {
        "patient": ("sample", np.arange(patients).repeat(samples // patients).astype(str)),
        "frame": ("sample", np.tile(np.arange(2).repeat(samples // patients // 2), patients)),
        "condition": kinds,
        "transform": ("condition", kinds),
        "target": ("condition", ["", *["LV"] * number]),
    }
    both = np.concatenate([original, original - loss], axis=1)[..., None]
    overlap = xr.DataArray(both, dims=("sample", "condition", "class_name"), coords={**coords, "class_name": ["LV"]})
    values = np.concatenate([np.zeros((samples, 1, score.shape[-1])), score], axis=1)
    return xr.DataArray(values, dims=("sample", "condition", "channel"), coords=coords), overlap


def drifting(rng: np.random.Generator, patients: int, *shape: int, by: float) -> np.ndarray[Any, Any]:
    """Two volumes of ten slices a patient, each an autoregressive walk of coefficient ``by``: (sample, *shape)."""
    steps = rng.normal(size=(10, patients * 2, *shape))
    for i in range(1, 10):
        steps[i] = by * steps[i - 1] + np.sqrt(1 - by**2) * steps[i]
    return np.moveaxis(steps, 0, 1).reshape(-1, *shape)


def test_a_channel_that_goes_with_the_loss_is_found_and_alone() -> None:
    study = make_study(patients=12, slices=7, seed=2, missing=0.05)
    loss = loss_of(study, "LV")
    noise = np.random.default_rng(0).normal(0, np.nanstd(loss) / 4, len(loss))
    study = with_mad(study, 11, 3, loss + noise)
    found = association(study["mad"], dice_of(study))
    assert np.argwhere(found["q"].values < 0.05).tolist() == [[2, 11]]
    cell = found.isel(condition=2, channel=11)
    assert 0.7 < cell["low"] < cell["correlation"] < cell["high"] <= 1
    assert (cell["class_name"], cell["patients"], cell["left_out"], cell["note"]) == ("LV", 12, 0, "")
    assert cell["samples"] == study["applicable"][:, 3].sum()
    assert cell["p"] == 2 / 2**12


def test_numbers_by_hand() -> None:
    study = make_study(seed=2, slices=8, layers={"L01": 2}, missing=0.3)
    sizes = class_size(study["confusion"])
    found = association(study["mad"], dice_of(study), size=sizes).isel(condition=1)
    loss, mad = loss_of(study, "MYO"), study["mad"].values[:, 2, 1]
    cell, (z, weight, samples) = found.isel(channel=1), z_by_hand(mad, loss, study)
    known, seen = np.sqrt((1.06 / weight).sum()) / 6, np.std(z, ddof=1) / np.sqrt(6)
    half = max(stats.t.ppf(0.975, 5) * seen, stats.norm.ppf(0.975) * known)
    np.testing.assert_allclose(cell["correlation"], np.tanh(np.mean(z)))
    np.testing.assert_allclose([cell["low"], cell["high"]], np.tanh(np.mean(z) + np.array([-half, half])))
    np.testing.assert_allclose(cell["p"], flips_by_hand(z))
    assert (cell["samples"], cell["patients"], cell["left_out"]) == (samples, 6, 0)
    assert len(set(weight)) > 1
    true = study["confusion"].values[:, 0, 2].sum(axis=-1).astype(float)
    np.testing.assert_array_equal(sizes.sel(class_name="MYO"), true)
    true[np.isnan(loss)] = np.nan
    np.testing.assert_allclose(cell["size_correlation"], np.tanh(z_by_hand(mad, true, study)[0].mean()))
    np.testing.assert_allclose(found["size_baseline"], np.tanh(z_by_hand(true, loss, study)[0].mean()))


def test_size_is_of_the_same_volumes_and_samples() -> None:
    study = make_study(6, 6, {"L01": 3}, ("LV",), missing=0, seed=5)
    mad, loss = study["mad"].copy(deep=True), loss_of_lv(study)
    first = (study["patient"] == "patient001").values & (study["frame"] == 1).values
    mad.values[first, 1, 0] = 1
    mad.values[np.flatnonzero(first)[:1], 1, 1] = np.nan
    size = class_size(study["confusion"])
    true = size.sel(class_name="LV").values.astype(float)
    found = association(mad, dice_of(study), size=size).isel(condition=0)
    for channel, dropped in enumerate((first, np.isnan(mad.values[:, 1, 1]), np.zeros_like(first))):
        values = np.where(dropped, np.nan, mad.values[:, 1, channel])
        expected = np.tanh(z_by_hand(values, true, study)[0].mean())
        np.testing.assert_allclose(found["size_correlation"][channel], expected)
    np.testing.assert_allclose(found["size_baseline"], np.tanh(z_by_hand(true, loss, study)[0].mean()))
    bare = association(mad, dice_of(study)).isel(condition=0)
    assert np.isnan(bare["size_correlation"]).all()
    assert np.isnan(bare["size_baseline"])
    constant = association(mad, dice_of(study), size=size * 0 + 7).isel(condition=0)
    assert np.isnan(constant["size_correlation"]).all()
    assert np.isnan(constant["size_baseline"])
    np.testing.assert_array_equal(constant["p"], bare["p"])


def loss_of_lv(study: xr.Dataset) -> np.ndarray[Any, Any]:
    overlap = dice_of(study).sel(class_name="LV").values
    return overlap[:, 0] - overlap[:, 1]


def test_a_patient_without_frames_is_one_volume() -> None:
    study = make_study(6, 5, {"L01": 2}, ("LV",), missing=0)
    found = association(study["mad"].drop_vars("frame"), dice_of(study)).isel(condition=0)
    one = study.assign_coords(frame=("sample", np.ones(60, dtype=int)))
    z, _, samples = z_by_hand(study["mad"].values[:, 1, 1], loss_of_lv(study), one)
    np.testing.assert_allclose(found["correlation"][1], np.tanh(z.mean()))
    assert found["samples"][1] == samples == 60
    apart = association(study["mad"], dice_of(study)).isel(condition=0)
    assert abs(apart["correlation"][1] - found["correlation"][1]) > 1e-3


def test_patients_that_differ_in_both_are_no_association() -> None:
    """A channel louder in patients whose Dice suffers more, and independent of it within each."""
    study = make_study(patients=10, slices=5, seed=3)
    overlap = dice_of(study)
    severity = np.linspace(0, 0.6, 10).repeat(10)
    overlap.values[:, 3, 2] -= severity
    study = with_mad(study, 11, 3, study["mad"].values[:, 3, 11] + 20 * severity)
    there = study["applicable"].values[:, 3]
    pooled = stats.spearmanr(study["mad"].values[there, 3, 11], (overlap[:, 0, 2] - overlap[:, 3, 2]).values[there])
    assert pooled.pvalue < 1e-10
    found = association(study["mad"], overlap)
    assert found["p"][2, 11] > 0.05
    assert not (found["q"] < 0.05).any()


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "slices"), [(6, 5), (12, 4)])
def test_a_null_study_finds_no_more_than_the_stated_rate(patients: int, slices: int) -> None:
    runs = 60
    false, below = 0, []
    for seed in range(runs):
        study = make_study(patients, slices, {"L01": 16}, seed=seed, missing=0.1 if slices > 4 else 0.0)
        found = association(study["mad"], dice_of(study))
        false += bool((found["q"] < 0.05).any())
        below.append(found["p"].values < 0.05)
    assert false <= stats.binom.ppf(0.999, runs, 3 * 0.05)
    assert np.mean(below) <= stats.binom.ppf(0.999, np.size(below), 0.05) / np.size(below)
    assert np.mean(below) > 0.015


@pytest.mark.slow
@pytest.mark.parametrize("by", [0.9, 0.97])
def test_slices_that_drift_are_no_association(by: float) -> None:
    """Neighbouring slices nearly alike: z lies near ±1, which Student's t takes for more certain than it is."""
    patients, number, channels = 14, 120, 50
    rng = np.random.default_rng(1)
    score, loss = drifting(rng, patients, number, channels, by=by), drifting(rng, patients, number, by=by)
    found = association(*studies(score, loss, patients))
    p, n = found["p"].values, number * channels
    for level in (0.05, 0.01, 0.001):
        assert (p < level).sum() <= stats.binom.ppf(0.9999, n, level)
    assert (p < 0.05).sum() >= stats.binom.ppf(0.0001, n, 0.04)
    assert (found["q"] < 0.05).any("channel").sum() <= stats.binom.ppf(0.999, number, 0.05)


def test_a_shift_between_volumes_is_no_association() -> None:
    """Score and loss both higher in one of a patient's two volumes, and independent within each."""
    patients, number, channels = 12, 40, 25
    rng = np.random.default_rng(2)
    shift = np.tile(np.arange(2.0).repeat(10), patients)
    score = rng.normal(size=(patients * 20, number, channels)) + 1.5 * shift[:, None, None]
    loss = rng.normal(size=(patients * 20, number)) + 1.5 * shift[:, None]
    mad, overlap = studies(score, loss, patients)
    p = association(mad, overlap)["p"].values
    assert (p < 0.05).sum() <= stats.binom.ppf(0.9999, number * channels, 0.05)
    together = association(mad.drop_vars("frame"), overlap)["p"].values
    assert np.mean(together < 0.05) > 0.5


def test_five_patients_that_agree_reach_the_p_that_the_note_names() -> None:
    study = make_study(5, 4, {"L01": 3}, ("LV",), missing=0)
    overlap = dice_of(study)
    overlap.values[:, 0, 2] = np.tile([0.6, 0.7, 0.8, 0.9], 10)
    overlap.values[:, 1, 2] = np.tile([0.5, 0.4, 0.3, 0.2], 10)
    study = with_mad(study, 0, 1, np.tile([1.0, 3, 2, 4], 10))
    study = with_mad(study, 1, 1, np.tile([2.0, 4, 1, 3], 10))
    found = association(study["mad"], overlap).isel(condition=0)
    np.testing.assert_allclose(found["correlation"][:2], [0.8, 0.0], atol=1e-12)
    assert found["p"][:2].values.tolist() == [2 / 2**5, 1]
    assert set(found["note"].values.tolist()) == {"5 patients: p cannot fall below 0.06"}
    assert found["low"][0] > 0, "the interval describes"


def test_perfect_order_stays_finite() -> None:
    study = make_study(6, 5, {"L01": 2}, ("LV",), missing=0)
    study = with_mad(study, 0, 1, np.argsort(np.argsort(dice_of(study).values[:, 1, 2])).astype(float))
    overlap = dice_of(study)
    overlap.values[:, 0, 2] = np.random.default_rng(0).uniform(0.8, 0.9, 60)
    overlap.values[:, 1, 2] = overlap.values[:, 0, 2] - study["mad"].values[:, 1, 0] / 100
    found = association(study["mad"], overlap).isel(condition=0, channel=0)
    np.testing.assert_allclose(found["correlation"], 1 - 6 / 120)
    assert (found["p"], found["note"]) == (2 / 2**6, "")


def test_patients_that_cannot_tell_are_left_out_and_counted() -> None:
    study = make_study(10, 5, {"L01": 4}, ("LV",), missing=0, seed=4)
    mad, overlap = study["mad"].copy(deep=True), dice_of(study)
    patient = study["patient"].values
    own = [np.flatnonzero(patient == name) for name in np.unique(patient)]
    mad.values[[*own[0][:2], *own[0][5:7]], 1] = np.nan
    mad.values[own[1], 1, 0] = 3
    mad.values[own[2][:2], 1, 1] = np.inf
    mad.values[own[3], 1] = np.nan
    mad.values[own[4][[0, 1, 5, 6]], 1, 2] = np.nan
    mad.values[np.concatenate(own[4:9]), 1, 3] = 3
    found = association(mad, overlap).isel(condition=0)
    few = "1 of 9 patients with fewer than 4 slices in each volume"
    assert found["patients"].values.tolist() == [7, 8, 7, 3]
    assert found["left_out"].values.tolist() == [2, 1, 2, 6]
    assert found["samples"].values.tolist() == [70, 75, 70, 30]
    assert found["note"].values.tolist() == [
        f"{few}; 1 of 9 patients without variation of score or loss",
        few,
        "2 of 9 patients with fewer than 4 slices in each volume",
        f"3 patients: too few for a test; {few}; 5 of 9 patients without variation of score or loss",
    ]
    assert np.isnan(found[["p", "low", "high"]].isel(channel=3).to_array()).all()
    assert not np.isnan(found["correlation"]).any()
    assert found["tests"] == 3
    values = np.where(patient == "patient002", np.nan, mad.values[:, 1, 0])
    there = np.isin(patient, [f"patient{i:03d}" for i in (3, 5, 6, 7, 8, 9, 10)])
    z, _, _ = z_by_hand(values[there], loss_of_lv(study)[there], study.isel(sample=there))
    np.testing.assert_allclose(found["p"][0], flips_by_hand(z))


def test_few_patients_keep_their_number_and_have_no_test() -> None:
    study = make_study(4, 5, {"L01": 2}, ("LV",), missing=0)
    found = association(study["mad"], dice_of(study)).isel(condition=0)
    assert set(found["note"].values.tolist()) == {"4 patients: too few for a test"}
    assert not np.isnan(found["correlation"]).any()
    assert np.isnan(found["p"]).all()


BEFORE, AFTER = 0, 1
TEN, SIX = range(10), range(6)
#: Condition, patients, their samples, Dice.
Held = tuple[int, range, range, float]


def at_floor(patients: int, held: list[Held], without: int = 0) -> xr.Dataset:
    """Associations of two strengths, of which Dice of the first is ``held``, ``without`` the first patients."""
    study = make_study(patients, 5, {"L01": 3}, ("LV", "LV"), missing=0, seed=6)
    overlap, size = dice_of(study), class_size(study["confusion"])
    for condition, who, what, value in held:
        overlap.values[[p * 10 + s for p in who for s in what], condition, 2] = value
    keep = slice(without * 10, None)
    return association(study["mad"][keep], overlap[keep], size=size[keep])


@pytest.mark.parametrize(
    ("held", "note"),
    [
        ([(AFTER, TEN, TEN, 0)], "perturbed Dice of LV is 0 in 100 of 100 slices: no association"),
        ([(AFTER, SIX, SIX, 0)], "perturbed Dice of LV is 0 in most slices of 6 of 10 patients: no association"),
        ([(BEFORE, TEN, TEN, 1)], "original Dice of LV is 1 in 100 of 100 slices: no association"),
        ([(BEFORE, TEN, TEN, 0.8)], "original Dice of LV is constant in 10 of 10 patients: no association"),
        (
            [(AFTER, range(4), SIX, 0), (BEFORE, range(4, 8), TEN, 0.8)],
            "perturbed or original Dice of LV is 0 or constant in most slices of 8 of 10 patients: no association",
        ),
        (
            [(AFTER, TEN, range(3), 0), (AFTER, TEN, range(3, 6), 1)],
            "perturbed Dice of LV is 0 or 1 in 60 of 100 slices: no association",
        ),
    ],
)
def test_a_condition_at_a_floor_has_no_association(held: list[Held], note: str) -> None:
    found = at_floor(10, held).isel(condition=0)
    assert set(found["note"].values.tolist()) == {note}
    for name in ("correlation", "low", "high", "p", "q", "size_correlation", "size_baseline"):
        assert np.isnan(found[name]).all(), name
    assert (found["patients"] == 0).all()
    assert (found["samples"] == 0).all()
    assert (found["left_out"] == 10).all()


def test_a_condition_at_a_floor_is_not_corrected_for() -> None:
    found, free = at_floor(10, [(AFTER, TEN, TEN, 0)]), at_floor(10, [])
    assert found["tests"].values.tolist() == [3, 3]
    assert free["tests"].values.tolist() == [6, 6]
    np.testing.assert_array_equal(found["p"][1], free["p"][1])
    np.testing.assert_allclose(found["q"][1], stats.false_discovery_control(free["p"].values[1]))


@pytest.mark.parametrize(
    ("patients", "held", "note"),
    [
        (
            10,
            [(AFTER, range(2), TEN, 0)],
            "2 of 10 patients left out: perturbed Dice of LV is 0 in 20 of their 20 slices",
        ),
        (
            10,
            [(AFTER, range(5), SIX, 0)],
            "5 of 10 patients left out: perturbed Dice of LV is 0 in 30 of their 50 slices; "
            "5 patients: p cannot fall below 0.06",
        ),
        (10, [(AFTER, TEN, range(5), 0)], ""),
        (10, [(BEFORE, range(1), TEN, 0.7)], "1 of 10 patients left out: original Dice of LV is constant in each"),
        (
            7,
            [(AFTER, range(1), TEN, 0), (BEFORE, range(1, 2), TEN, 1)],
            "2 of 7 patients left out: perturbed or original Dice of LV is 0 or 1 in most slices of each; "
            "5 patients: p cannot fall below 0.06",
        ),
    ],
)
def test_patients_at_a_floor_are_left_out(patients: int, held: list[Held], note: str) -> None:
    gone = len({p for _, who, what, _ in held for p in who if len(what) > 5})
    found, rest = at_floor(patients, held).isel(condition=0), at_floor(patients, held, gone).isel(condition=0)
    assert set(found["note"].values.tolist()) == {note}
    assert (found["patients"] == patients - gone).all()
    assert (found["left_out"] == gone).all()
    assert not np.isnan(found["p"]).any()
    for name in ("correlation", "low", "high", "p", "samples", "size_correlation", "size_baseline"):
        np.testing.assert_allclose(found[name], rest[name], err_msg=name)


def test_too_few_patients_above_a_floor_is_no_association() -> None:
    found = at_floor(6, [(AFTER, range(2), TEN, 0)]).isel(condition=0)
    text = "perturbed Dice of LV is 0 in most slices of 2 of 6 patients: 4 left, no association"
    assert set(found["note"].values.tolist()) == {text}
    assert np.isnan(found["correlation"]).all()


def test_a_floor_is_of_samples_that_can_be_used() -> None:
    patient = np.arange(6).repeat(4)
    after = np.tile([0.0, 0, 0, 0.5], 6)
    before, usable = np.random.default_rng(0).uniform(0.5, 0.9, 24), np.tile([True, False, False, True], 6)
    found = find_floors(before, after, usable, patient, 6, name="LV", noun="slice")
    assert (found.text, found.refused) == ("", False)
    found = find_floors(before, after, ~usable, patient, 7, name="LV", noun="slice")
    assert found.text == "perturbed Dice of LV is 0 in 12 of 12 slices: no association"
    assert found.there.tolist() == [True] * 6 + [False]
    single = find_floors(before[:6], after[3:4].repeat(6), usable[:1].repeat(6), np.arange(6), 6, name="LV", noun="s")
    assert single.text == "", "one sample is not constant"


def near_floor(ratio: float, patients: int = 6) -> tuple[Floats, Floats]:
    """Original and perturbed Dice of 10 samples a patient, whose standard deviations have this ``ratio``."""
    rng = np.random.default_rng(2)
    both = rng.normal(size=(2, patients, 10))
    both = (both - both.mean(axis=-1, keepdims=True)) / both.std(axis=-1, keepdims=True)
    return (0.6 + 0.1 * both[0]).ravel(), (0.3 + ratio * 0.1 * both[1]).ravel()


def test_what_hardly_varies_beside_the_original_is_a_floor() -> None:
    patient, usable = np.arange(6).repeat(10), np.ones(60, bool)

    def found(before: Floats, after: Floats) -> Floors:
        return find_floors(before, after, usable, patient, 6, name="LV", noun="slice")

    original, perturbed = near_floor(0.24)
    refused = found(original, perturbed)
    assert refused.refused
    assert refused.text == "perturbed Dice of LV is nearly constant in 6 of 6 patients: no association"
    assert found(perturbed, original).text == "", "an original that hardly varies is no floor"
    assert found(*near_floor(0.26)).text == ""
    mixed = np.where(patient == 0, perturbed, near_floor(2)[1])
    one = found(original, mixed)
    assert not one.refused
    assert one.at_floor.tolist() == [True] + [False] * 5
    assert one.text == "1 of 6 patients left out: perturbed Dice of LV is nearly constant in each"
    mixed[10:20] = 0.2
    mixed[20:27] = 0
    text = "perturbed Dice of LV is 0 or constant or nearly constant in most slices of 3 of 6 patients: 3 left, "
    assert found(original, mixed).text == f"{text}no association"


def test_half_of_the_slices_at_0_and_the_others_near_it_are_no_association() -> None:
    """Loss is the original Dice in effect, which goes with the size of the class, as the score does."""
    study = make_study(10, 5, {"L01": 3}, ("LV", "LV"), missing=0, seed=6)
    overlap, size, rng = dice_of(study), class_size(study["confusion"]), np.random.default_rng(3)
    samples = overlap.sizes["sample"]
    overlap.values[:, 0, 2] = rng.uniform(0.3, 0.95, samples)
    overlap.values[:, 1, 2] = np.where(np.arange(samples) % 2, rng.uniform(0.01, 0.05, samples), 0)
    found = association(study["mad"], overlap, size=size).isel(condition=0)
    note = "perturbed Dice of LV is nearly constant in 10 of 10 patients: no association"
    assert set(found["note"].values.tolist()) == {note}
    assert np.isnan(found["p"]).all()


def test_one_sample_a_volume_is_refused_in_words() -> None:
    study = make_study(6, 1, {"L01": 2}, ("LV",), missing=0)
    found = association(study["mad"], dice_of(study)).isel(condition=0)
    note = "0 patients: too few for a test; 6 of 6 patients with fewer than 4 samples in each volume"
    assert set(found["note"].values.tolist()) == {note}
    assert np.isnan(found["correlation"]).all()
    assert (found["left_out"] == 6).all()


def test_a_condition_that_applies_nowhere() -> None:
    study = make_study(6, 5, {"L01": 2}, missing=0)
    mad, overlap = study["mad"].copy(deep=True), dice_of(study)
    mad.values[:, 2], overlap.values[:, 2] = np.nan, np.nan
    found = association(mad, overlap, size=class_size(study["confusion"])).isel(condition=1)
    assert set(found["note"].values.tolist()) == {"0 patients: too few for a test"}
    assert np.isnan(found["correlation"]).all()
    assert np.isnan(found["size_baseline"])
    assert found["tests"] == 0


def test_no_note_is_longer_than_its_place() -> None:
    every = np.arange(3000).repeat(4)
    before, after = np.random.default_rng(0).uniform(0.5, 0.9, (2, len(every)))
    after[every < 1000] = np.tile([0, 1, 0, 1], 1000)
    before[(every >= 1000) & (every < 1400)] = 0.7
    after[(every >= 1400) & (every < 1450)] = 0.1 + 0.001 * after[(every >= 1400) & (every < 1450)]
    floors = find_floors(before, after, np.ones(len(every), bool), every, 3000, name="", noun="sample")
    assert not floors.refused
    assert "0 or 1 or constant or nearly constant" in floors.text
    for patients in (1, 5):
        longest = _note(patients, 1234, 1234, there=3000, floor=floors.text, noun="sample")
        assert longest.count("; ") == 3
        assert len(longest) <= _LONGEST_NOTE


def test_signs_of_more_patients_than_can_be_enumerated() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, size=(40, 24))
    values[:, 20:] = np.nan
    exact = np.array([_share_by_halves(row[:20]) for row in values])
    p = sign_flip_p(values)
    assert np.abs(p - exact).max() < 5 * np.sqrt(0.25 / RESAMPLES)
    assert (np.abs(p - exact) <= 5 * np.sqrt(exact * (1 - exact) / RESAMPLES) + 2 / RESAMPLES).all()
    np.testing.assert_array_equal(sign_flip_p(values[7:9]), p[7:9])
    assert sign_flip_p(np.full((1, 40), 2.0))[0] == 1 / (1 + RESAMPLES)


def _share_by_halves(z: np.ndarray[Any, Any]) -> float:
    """The exact p of up to 20 values: every sum of one half beside every sum of the other, sorted."""
    half = len(z) // 2
    left, right = (np.array(list(itertools.product((1, -1), repeat=len(part)))) @ part for part in (z[:half], z[half:]))
    right.sort()
    least = abs(z.sum()) - 1e-9
    above = len(right) - np.searchsorted(right, least - left, side="left")
    return float(2 * above.sum() / (len(left) * len(right)))


def test_p_does_not_hang_on_rounding_or_order() -> None:
    z = np.arctanh(np.array([0.1, 0.3, 0.2, -0.1, 0.3, 0.7, -0.2, 0.1]))
    rng = np.random.default_rng(4)
    rows = np.stack([z[rng.permutation(8)] * rng.choice([-1, 1]) * 10.0**k for k in range(-8, 9) for _ in range(20)])
    assert set(sign_flip_p(rows).tolist()) == {flips_by_hand(z)}
    padded = np.concatenate([rows, np.full((len(rows), 30), np.nan)], axis=1)
    np.testing.assert_array_equal(sign_flip_p(padded), sign_flip_p(rows))
    assert np.isnan(sign_flip_p(np.full((2, 3), np.nan))).all()
    assert sign_flip_p(np.zeros((1, 6))).tolist() == [1.0]


def test_beside_frequency_ranks_within_the_layer() -> None:
    study = make_study(patients=8, seed=1)
    loss = loss_of(study, "LV")
    study = with_mad(study, 11, 3, loss / 100)
    study["mad"].values[:, 3, 20] *= 100
    member = in_top(study["mad"], 3)
    sizes = class_size(study["confusion"])
    table = association_table(study["mad"], dice_of(study), member, size=sizes)
    assert ",".join(table.columns) == (
        "layer,module,condition,target,class_name,channel,samples,patients,left_out,correlation,low,high,p,q,tests,"
        "size_correlation,size_baseline,frequency,frequency_rank,association_rank,note"
    )
    assert table.groupby("condition")["size_baseline"].nunique().tolist() == [1, 1, 1]
    assert table["size_correlation"].notna().all()
    bare = association_table(study["mad"], dice_of(study), member)
    assert bare[["size_correlation", "size_baseline"]].isna().all(axis=None)
    assert bare["p"].tolist() == table["p"].tolist()
    lv = table[(table["target"] == "LV") & (table["layer"] == "L02")].set_index("channel")
    assert lv.loc[3, ["association_rank", "frequency_rank", "frequency"]].tolist() == [
        1,
        pytest.approx(np.nan, nan_ok=True),
        0,
    ]
    assert lv.loc[12, ["frequency_rank", "frequency"]].tolist() == [1, 1]
    assert sorted(lv["association_rank"]) == list(range(1, 17))
    assert sorted(lv["frequency_rank"].dropna()) == list(range(1, int((lv["frequency"] > 0).sum()) + 1))
    expected = lv[lv["frequency"] > 0].reset_index().sort_values("frequency", ascending=False, kind="stable")
    assert lv["frequency_rank"].dropna().sort_values().index.tolist() == expected["channel"].tolist()


def test_a_channel_without_a_number_has_no_rank() -> None:
    study = make_study(layers={"L01": 4})
    study["mad"].values[:, 1:, 2] = 0
    found = beside_frequency(association(study["mad"], dice_of(study)), in_top(study["mad"], 2))
    assert np.isnan(found["association_rank"][:, 2]).all()
    assert sorted(found["association_rank"][0, [0, 1, 3]].values) == [1, 2, 3]


def test_controls_and_repeats_are_no_perturbations() -> None:
    study = make_study()
    mad = study["mad"].assign_coords(region=("condition", ["", "target", "target", "control"]))
    assert association(mad, dice_of(study))["class_name"].values.tolist() == ["RV", "MYO"]


@pytest.mark.parametrize("in_memory", [(), ("mad",), ("dice", "size")])
def test_lazy_and_chunked_as_in_memory(in_memory: tuple[str, ...]) -> None:
    study = make_study(12)
    study["mad"].values[:20, 2, 3] = 1
    overlap, member, size = dice_of(study), in_top(study["mad"], 3), class_size(study["confusion"])
    overlap.values[:20, 3, 2] = 0
    sizes = {"sample": 7, "condition": 2, "channel": 5, "class_name": 2}
    arrays = {"mad": study["mad"], "dice": overlap, "size": size}
    lazy = {n: a if n in in_memory else chunked(a, **sizes) for n, a in arrays.items()}
    counts = chunked(study["confusion"], **sizes)
    with raise_if_dask_computes():
        found = beside_frequency(association(lazy["mad"], lazy["dice"], size=lazy["size"]), in_top(lazy["mad"], 3))
        true = class_size(counts)
    expected = beside_frequency(association(study["mad"], overlap, size=size), member)
    assert len(set(expected["note"].values.ravel().tolist())) > 2
    xr.testing.assert_allclose(found.compute(scheduler="synchronous"), expected, rtol=1e-12)
    xr.testing.assert_equal(true.compute(scheduler="synchronous"), size)


def test_one_layer_as_in_the_network() -> None:
    study = make_study()
    layer = study["mad"].isel(channel=study["layer"].values == "L02")
    found, expected = (association(mad, dice_of(study)) for mad in (layer, study["mad"]))
    np.testing.assert_allclose(found["p"], expected["p"][:, 8:])
    alone = beside_frequency(found, in_top(layer, 3))
    whole = beside_frequency(expected, in_top(study["mad"], 3))
    np.testing.assert_array_equal(alone["association_rank"], whole["association_rank"][:, 8:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: association(m, d[:5]), r"dice has 5 of sample, the score 60: select the same of both"),
        (lambda m, d: association(m[:, 1:], d[:, 1:]), r"no original among the conditions: a loss is against its"),
        (lambda m, d: association(m, d[..., :2]), r"no Dice of the target 'LV', only of RV, MYO"),
        (lambda m, d: association(m[:, :1], d[:, :1]), r"no condition perturbs a class: select at least one"),
        (lambda m, d: association(m, d, confidence=0), r"confidence = 0: give a level between 0 and 1"),
        (lambda m, d: association(m.isel(channel=0), d), r"mad has no dimension 'channel', only"),
        (lambda m, d: association(m, d, size=d[:, 0, :2]), r"no size of the target 'LV', only of RV, MYO"),
        (lambda m, d: association(m, d, size=d[:5, 0]), r"size has 5 of sample, the score 60: select the same of both"),
        (lambda m, d: association(m, d, size=d[:, 0, 0]), r"dice has no dimension 'class_name'"),
        (
            lambda m, d: class_size(make_study()["confusion"][:, 1:]),
            r"no original among the conditions: it has the true",
        ),
        (lambda m, d: association(m.drop_vars("patient"), d), r"no coordinate 'patient' along sample"),
        (
            lambda m, d: beside_frequency(association(m, d), in_top(m[..., :8])),
            r"member has 8 of channel, the association 24: take both of the same layers and conditions",
        ),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    study = make_study()
    with pytest.raises(AnalysisError, match=message):
        call(study["mad"], dice_of(study))
