"""Patients that differ: found where planted, at the stated rate where not, and the ranking without each of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actstore.analysis import (
    AnalysisError,
    channel_frequency,
    heterogeneity,
    heterogeneity_table,
    in_top,
    leave_one_out,
    leave_one_out_table,
    most_frequent,
    top_channels,
)
from helpers import lazy_study, make_study, plant, raise_if_dask_computes

LV = "brightness(LV, 0.1)"


def top(study: xr.Dataset, k: int = 3) -> xr.DataArray:
    return in_top(study["mad"], k, applicable=study["applicable"])


def make_member(counts: Any, sizes: Any, frames: Any = None) -> xr.DataArray:
    """Membership (sample, one condition, channel): ``counts`` (patient, volume[, channel]) on top, out of ``sizes``.

    ``frames`` (patient, volume), without them 1 and 12. A volume of size 0 is not there.
    """
    counts, sizes = np.asarray(counts), np.asarray(sizes)
    counts = counts[..., None] if counts.ndim == 2 else counts
    frames = np.broadcast_to([1, 12, 13, 14][: sizes.shape[1]], sizes.shape) if frames is None else np.asarray(frames)
    volumes = [(p, v) for p, v in np.ndindex(*sizes.shape) for _ in range(sizes[p, v])]
    places = [i for n in sizes.ravel() for i in range(n)]
    values = np.array([i < counts[p, v] for i, (p, v) in zip(places, volumes, strict=True)])
    coords = {
        "patient": ("sample", [f"p{p}" for p, _ in volumes]),
        "frame": ("sample", [frames[p, v] for p, v in volumes]),
        "condition": [LV],
        "target": ("condition", ["LV"]),
    }
    return xr.DataArray(values[:, None], dims=("sample", "condition", "channel"), coords=coords)


def everywhere(member: xr.DataArray) -> xr.DataArray:
    return xr.ones_like(member.isel(channel=0, drop=True))


def only_in(study: xr.Dataset, patient: str) -> xr.Dataset:
    """Channel 3 of L02 responds to LV in one patient, and in no other."""
    return plant(plant(study, "L02", 3, "LV", factor=1e-4), "L02", 3, "LV", [patient], factor=1e8)


def agreement(rates: Any) -> float:
    """Intraclass correlation of ``rates`` (patient, phase), NaN where there is no volume, pair by pair."""
    centred = rates - np.nanmean(rates, axis=0)
    pairs = [centred[p, v] * centred[p, w] for p in range(len(rates)) for v, w in itertools.permutations(range(2), 2)]
    return float(np.nanmean(pairs) / np.nanmean(centred**2))


def test_p_and_statistic_are_those_of_all_orders() -> None:
    counts = np.array([[4, 3], [0, 1], [2, 2], [3, 5], [1, 0]])
    sizes = np.array([[5, 6], [4, 4], [5, 3], [6, 6], [4, 7]])
    member = make_member(counts, sizes)
    found = heterogeneity(member, applicable=everywhere(member), resamples=9999)
    rates = counts / sizes
    # To order the second phase alone covers every way in which volumes can meet.
    every = [agreement(np.stack([rates[:, 0], rates[list(o), 1]], axis=1)) for o in itertools.permutations(range(5))]
    assert found["statistic"].item() == pytest.approx(agreement(rates), rel=1e-12)
    exact = np.mean(np.array(every) >= agreement(rates) - 1e-9)
    assert 1 / 120 < exact < 0.2
    assert found["p"].item() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 2e-4)


def test_p_where_patients_lack_a_phase_is_that_of_all_orders() -> None:
    sizes = np.array([[5, 6], [4, 4], [5, 3], [6, 6], [4, 7], [5, 0], [4, 0]])
    counts = np.array([[4, 5], [0, 0], [2, 2], [5, 6], [1, 0], [3, 0], [0, 0]])
    member = make_member(counts, sizes)
    found = heterogeneity(member, applicable=everywhere(member), resamples=9999)
    rates = np.divide(counts, sizes, out=np.full(sizes.shape, np.nan), where=sizes > 0)
    rest = [np.nan] * 2
    every = [
        agreement(np.stack([rates[list(first), 0], [*rates[:5, 1], *rest]], axis=1))
        for first in itertools.permutations(range(7))
    ]
    assert found["statistic"].item() == pytest.approx(agreement(rates), rel=1e-12)
    exact = np.mean(np.array(every) >= agreement(rates) - 1e-9)
    assert found["p"].item() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 2e-4)
    assert found["volumes"].item() == 12


def test_volumes_much_smaller_than_the_largest_are_not_in_the_test() -> None:
    sizes = np.array([[10, 9], [10, 10], [8, 9], [10, 3], [9, 10], [10, 10], [4, 10]])
    counts = np.array([[4, 5], [0, 1], [2, 2], [5, 3], [1, 0], [3, 2], [4, 9]])
    member = make_member(counts, sizes)
    found = heterogeneity(member, applicable=everywhere(member), resamples=99)
    assert found["volumes"].item() == 13
    rates = np.where(sizes > 3, counts / sizes, np.nan)
    assert found["statistic"].item() == pytest.approx(agreement(rates), rel=1e-12)
    assert found["count"].item() == counts.sum(), "counted all the same"


def test_a_phase_is_the_rank_of_the_frame() -> None:
    rng = np.random.default_rng(4)
    counts, sizes = rng.integers(0, 5, (8, 2)), np.full((8, 2), 6)
    plain = make_member(counts, sizes)
    other = make_member(counts, sizes, frames=[[1, 7 + p] for p in range(8)])
    expected = heterogeneity(plain, applicable=everywhere(plain), resamples=499)
    xr.testing.assert_identical(heterogeneity(other, applicable=everywhere(other), resamples=499), expected)
    # A shift of a whole phase is no difference between patients.
    shifted = make_member(counts + np.array([0, 2]), sizes)
    again = heterogeneity(shifted, applicable=everywhere(shifted), resamples=499)
    for name in ("statistic", "p"):
        np.testing.assert_allclose(again[name], expected[name])


def test_more_volumes_of_a_patient_are_all_compared() -> None:
    rng = np.random.default_rng(0)
    counts = np.clip(rng.integers(0, 4, (6, 4, 3)) + 3 * (np.arange(6) == 2)[:, None, None], 0, 6)
    member = make_member(counts, np.full((6, 4), 6))
    found = heterogeneity(member, applicable=everywhere(member), resamples=4999)
    rates = counts / 6 - (counts / 6).mean(axis=0)
    pairs = np.mean([rates[:, v] * rates[:, w] for v, w in itertools.combinations(range(4), 2)], axis=(0, 1))
    np.testing.assert_allclose(found["statistic"][0], pairs / (rates**2).mean(axis=(0, 1)))
    drawn = np.stack([[rates[rng.permutation(6), v] for v in range(4)] for _ in range(4999)])
    high = (drawn.sum(axis=1) ** 2).sum(axis=1) >= (rates.sum(axis=1) ** 2).sum(axis=0) - 1e-9
    np.testing.assert_allclose(found["p"][0], high.mean(axis=0), atol=0.03)
    assert found["highest"].values.tolist() == [["p2"] * 3]
    assert (found["p"] < 0.05).all()


def smooth(seed: int, patients: int = 12, effect: float = 0.0) -> xr.DataArray:
    """Membership of 12 channels in two volumes x 6 slices a patient: neighbouring slices alike, phases shifted."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(patients, 2, 6, 12))
    for s in range(1, 6):
        steps[:, :, s] = 0.97 * steps[:, :, s - 1] + np.sqrt(1 - 0.97**2) * steps[:, :, s]
    steps += rng.normal(size=(1, 2, 1, 12)) + effect * rng.normal(size=(patients, 1, 1, 12))
    score = steps.reshape(-1, 12)
    coords = {
        "patient": ("sample", np.repeat(np.arange(patients), 12).astype(str)),
        "frame": ("sample", np.tile(np.repeat([1, 9], 6), patients)),
        "condition": [LV],
        "target": ("condition", ["LV"]),
    }
    chosen = score >= np.sort(score, axis=1)[:, -3:-2]
    return xr.DataArray(chosen[:, None], dims=("sample", "condition", "channel"), coords=coords)


@pytest.mark.slow
def test_neither_smooth_slices_nor_a_shift_of_phases_counts() -> None:
    studies, alpha = 200, 0.05
    found = [heterogeneity(smooth(s), resamples=499) for s in range(studies)]
    false = sum(bool((f["q"] <= alpha).any()) for f in found)
    # Under the complete null, the false discovery rate is the rate of studies with any rejection.
    assert false <= stats.binom.ppf(0.999, studies, alpha)
    below = np.nanmean(np.where(np.isnan(p := np.array([f["p"][0] for f in found])), np.nan, p <= alpha))
    assert 0.02 < below < 0.06
    differ = heterogeneity(smooth(0, effect=3), resamples=999)
    assert (differ["q"] <= alpha).sum() > 3


def test_one_channel_of_many_can_be_rejected_by_default() -> None:
    rng = np.random.default_rng(0)
    counts = rng.binomial(8, 0.3, (9, 2, 800))
    counts[:, :, 17] = np.arange(9)[:, None]
    member = make_member(counts, np.full((9, 2), 8))
    found = heterogeneity(member, applicable=everywhere(member))
    assert np.flatnonzero(found["q"][0] <= 0.05).tolist() == [17]
    # 9999 permutations of 800 tests would leave it at 0.08.
    assert found["p"].values[0, 17] < 1 / 10_000
    assert found["statistic"].values[0, 17] == pytest.approx(1)


def test_the_patient_furthest_above_its_share_is_named() -> None:
    sizes = np.array([[10, 10]] * 5 + [[2, 2]])
    counts = np.stack([[[3, 2]] * 5 + [[2, 2]], [[5, 5], [9, 9], *[[5, 5]] * 3, [1, 1]]], axis=-1)
    member = make_member(counts, sizes)
    found = heterogeneity(member, applicable=everywhere(member), resamples=99)
    # By the residual that the size allows for: 4 of 4 stand out more than 5 of 20.
    assert found["highest"].values.tolist() == [["p5", "p1"]]
    assert found["share"].values.tolist() == [[4 / 29, 18 / 60]]
    rates = counts.sum(axis=0) / sizes.sum(axis=0)[:, None]
    deviation = (counts - sizes[..., None] * rates).sum(axis=1)
    variance = (sizes[..., None] * rates * (1 - rates) * (1 - sizes / sizes.sum(axis=0))[..., None]).sum(axis=1)
    assert (deviation / np.sqrt(variance)).argmax(axis=0).tolist() == [5, 1]
    always = make_member(sizes, sizes)
    alike = heterogeneity(always, applicable=everywhere(always), resamples=99)
    assert (alike["highest"].item(), np.isnan(alike["share"].item())) == ("", True)


def test_one_patient_alone_has_no_small_p_but_is_named() -> None:
    found = heterogeneity(top(only_in(make_study(patients=8), "patient003")), resamples=1999)
    here = found.isel(channel=(found["layer"] == "L02") & (found["channel"] == 3)).sel(condition=LV)
    assert here["highest"].item() == "patient003"
    assert here["share"].item() == 1
    # Its two volumes fall together again in 1 of 8 orders, at least.
    assert here["p"].item() > 0.09


def test_what_cannot_be_tested_says_so() -> None:
    study = make_study(patients=4)
    found = heterogeneity(top(study), applicable=study["applicable"])
    assert found["p"].isnull().all()
    assert found["q"].isnull().all()
    assert set(found["note"].values.ravel()) == {"4 patients: too few for a test"}
    assert (found["count"].isel(condition=1) > 0).all()
    assert found["statistic"].isel(condition=1).notnull().any()

    member = make_member([[[3, 6]], [[1, 6]], [[0, 6]], [[2, 6]], [[2, 6]]], [[6]] * 5)
    found = heterogeneity(member, applicable=everywhere(member))
    assert set(found["note"].values.ravel()) == {"one volume a patient: nothing shows whether patients differ"}
    assert found["tests"].item() == 0
    for name in ("statistic", "p", "q"):
        assert found[name].isnull().all()
    assert found["highest"].values.tolist() == [["p0", ""]]

    member = make_member([[3, 1], [1, 0], [0, 3], [2, 2], [2, 0]], [[6, 6], [6, 6], [6, 6], [6, 6], [6, 0]])
    found = heterogeneity(member, applicable=everywhere(member))
    assert found["note"].item() == "4 patients with two volumes: too few for a test"
    assert np.isnan(found["p"].item())
    assert found["statistic"].item() == pytest.approx(0.0, abs=1)


@pytest.mark.parametrize(
    ("sizes", "note"),
    [
        ([[10, 10]] * 4 + [[3, 3]] * 2, "4 patients with volumes large enough: too few for a test"),
        ([[10, 10]] * 4 + [[10, 3]] * 2, "4 patients with two volumes large enough: too few for a test"),
        ([[10, 3]] * 6, "one volume large enough a patient: nothing shows whether patients differ"),
    ],
)
def test_a_test_that_small_volumes_prevent_says_so(sizes: list[list[int]], note: str) -> None:
    member = make_member([[1 + p % 2, 1] for p in range(6)], sizes)
    found = heterogeneity(member, applicable=everywhere(member))
    assert found["note"].item() == note
    assert found["patients"].item() == 6


def test_a_channel_that_varies_in_one_phase_only_is_not_tested() -> None:
    counts = np.zeros((6, 2, 3), dtype=int)
    counts[:, 0, 0], counts[:, :, 1], counts[:, :, 2] = np.arange(6), 6, np.arange(6)[:, None]
    member = make_member(counts, np.full((6, 2), 6))
    found = heterogeneity(member, applicable=everywhere(member), resamples=99)
    assert found["p"].isnull().values.tolist() == [[True, True, False]]
    assert found["statistic"].isnull().values.tolist() == [[True, True, False]]
    assert found["tests"].item() == 1
    assert (found["note"] == "").all()


def test_patients_without_applicable_samples_do_not_count() -> None:
    member = make_member([[3, 1], [1, 2], [0, 0], [0, 1], [2, 2], [4, 4]], [[4, 4]] * 6)
    valid = everywhere(member)
    fewer = valid & (member["patient"] != "p5").values[:, None]
    found = heterogeneity(member, applicable=fewer, resamples=199)
    assert found["patients"].item() == 5
    assert found["samples"].item() == 40
    keep = (member["patient"] != "p5").values
    expected = heterogeneity(member.isel(sample=keep), applicable=valid.isel(sample=keep), resamples=199)
    xr.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_applicable_the_samples_with_any_member_count() -> None:
    study = make_study(layers={"L01": 8})
    guessed = heterogeneity(top(study), resamples=99)
    given = heterogeneity(top(study), applicable=study["applicable"], resamples=99)
    assert guessed["samples"].values[0] == 0
    xr.testing.assert_allclose(guessed.isel(condition=slice(1, None)), given.isel(condition=slice(1, None)), rtol=1e-12)


def test_lazy_chunked_and_repeated_results_are_the_same() -> None:
    study = only_in(make_study(), "patient003")
    lazy = lazy_study(study, {"sample": 7, "condition": 2, "channel": 5})
    with raise_if_dask_computes():
        tests = heterogeneity(top(lazy), applicable=lazy["applicable"], resamples=199)
        sets = leave_one_out(top(lazy), applicable=lazy["applicable"])
    plain = heterogeneity(top(study), applicable=study["applicable"], resamples=199)
    xr.testing.assert_allclose(tests.compute(scheduler="synchronous"), plain, rtol=1e-12)
    xr.testing.assert_identical(
        sets.compute(scheduler="synchronous"), leave_one_out(top(study), applicable=study["applicable"])
    )
    other = heterogeneity(top(study), applicable=study["applicable"], resamples=199, seed=1)
    assert not other["p"].equals(plain["p"])


def test_one_layer_or_condition_alone_has_the_same_p() -> None:
    study = make_study()
    member = top(study)
    found = heterogeneity(member, applicable=study["applicable"], resamples=199)
    sets = leave_one_out(member, applicable=study["applicable"])
    one = heterogeneity(member.isel(condition=[2]), applicable=study["applicable"].isel(condition=[2]), resamples=199)
    xr.testing.assert_allclose(one["p"], found["p"].isel(condition=[2]), rtol=1e-12)
    for layer in ("L01", "L02"):
        here = np.flatnonzero(member["layer"] == layer)
        alone = heterogeneity(member.isel(channel=here), applicable=study["applicable"], resamples=199)
        for name in ("count", "statistic", "p"):
            xr.testing.assert_allclose(alone[name], found[name].isel(channel=here), rtol=1e-12)
        xr.testing.assert_identical(
            leave_one_out(member.isel(channel=here), applicable=study["applicable"]), sets.isel(channel=here)
        )


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 7), st.integers(1, 4), st.integers(1, 8), st.integers(0, 999)
)
def test_leave_one_out_by_brute_force(patients: int, slices: int, channels: int, k: int, most: int, seed: int) -> None:
    study = make_study(patients, slices, {"L01": channels, "L02": 3}, seed=seed)
    member = top(study, k)
    found = leave_one_out(member, most, applicable=study["applicable"])
    names = np.unique(study["patient"])
    assert found["patient"].values.tolist() == names.tolist()
    for name, layer in itertools.product(["", *names], ["L01", "L02"]):
        part = study.isel(sample=np.flatnonzero(study["patient"] != name))
        here = np.flatnonzero(study["layer"] == layer)
        ranks = top_channels(part["mad"].isel(channel=here), k, applicable=part["applicable"])
        ranked = most_frequent(channel_frequency(ranks), most)["channel"].values
        chosen = found["without"].sel(patient=name) if name else found["all"]
        for c, expected in enumerate(ranked, start=1):
            assert set(np.flatnonzero(chosen.isel(channel=here)[c])) == {*expected.tolist()} - {-1}
        if name:
            rest = part["applicable"].sum("sample").values
            np.testing.assert_array_equal(found["samples"].sel(patient=name), rest)


def test_the_tables() -> None:
    study = only_in(make_study(patients=8), "patient003")
    table = heterogeneity_table(study["mad"], applicable=study["applicable"], resamples=199)
    assert ",".join(table.columns) == (
        "layer,module,condition,target,channel,count,samples,patients,volumes,statistic,p,q,tests,highest,share,note"
    )
    assert len(table) == 3 * (8 + 16)
    assert table["layer"].is_monotonic_increasing
    planted = table.set_index(["layer", "target", "channel"]).loc[("L02", "LV", 3)]
    assert (planted["highest"], planted["share"], planted["volumes"]) == ("patient003", 1, 16)
    assert (table["highest"] != "").all()
    integers = {table[name].dtype for name in ("channel", "count", "samples", "patients", "volumes", "tests")}
    assert integers == {np.dtype(np.int64)}
    numbers = table[~((table["layer"] == "L02") & (table["channel"] == 3))]
    assert not numbers.isna().any().any()

    table = leave_one_out_table(study["mad"], most=1, applicable=study["applicable"])
    assert ",".join(table.columns) == "layer,module,condition,target,patient,samples,shared,gained,lost"
    assert len(table) == 2 * 3 * 8
    member = top(study).isel(condition=3, channel=slice(8, None))
    counts = member.sum("sample").values
    without = member.isel(sample=np.flatnonzero(study["patient"] != "patient002")).sum("sample").values
    row = table.set_index(["layer", "target", "patient"]).loc[("L02", "LV", "patient002")]
    same = counts.argmax() == without.argmax()
    assert row["shared"] == int(same)
    assert (row["gained"], row["lost"]) == (("", "") if same else (str(without.argmax()), str(counts.argmax())))
    assert ((table["gained"] == "") == (table["shared"] == 1)).all()
    assert (table["gained"] != "").any()


def test_the_tables_are_lazy_and_leave_out_patients_without_a_sample() -> None:
    study = make_study()
    gone = (study["patient"] == "patient002") & (study["target"] == "LV")
    study["applicable"] = study["applicable"] & ~gone.reset_coords(drop=True)
    lazy = lazy_study(study, {"sample": 7, "channel": 5})
    for make in (heterogeneity_table, leave_one_out_table):
        with raise_if_dask_computes(max_computes=1):
            table = make(lazy["mad"], applicable=lazy["applicable"])
        pd.testing.assert_frame_equal(table, make(study["mad"], applicable=study["applicable"]))
    assert set(table[table["target"] == "LV"]["patient"]) == set(study["patient"].values) - {"patient002"}
    assert set(table[table["target"] == "RV"]["patient"]) == set(study["patient"].values)


def test_no_samples() -> None:
    study = make_study().isel(sample=slice(0))
    found = heterogeneity(top(study), applicable=study["applicable"])
    assert found["p"].isnull().all()
    assert (found["count"] == 0).all()
    sets = leave_one_out(top(study), applicable=study["applicable"])
    assert sets.sizes["patient"] == 0
    assert not sets["all"].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: heterogeneity(m, resamples=0), r"resamples = 0: give an integer of at least 1"),
        (lambda m: heterogeneity(m.drop_vars("frame")), r"no coordinate 'frame' along sample: assign it"),
        (lambda m: heterogeneity(m.drop_vars("patient")), r"no coordinate 'patient' along sample: assign it"),
        (lambda m: heterogeneity(m.isel(channel=0)), r"in_top has no dimension 'channel', only"),
        (lambda m: leave_one_out(m, 0), r"most = 0: give an integer of at least 1"),
        (lambda m: heterogeneity_table(m.drop_vars("target")), r"no coordinate 'target' along condition"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        call(top(make_study()))
