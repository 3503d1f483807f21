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


def make_member(values: Any, sizes: Any) -> xr.DataArray:
    """Membership (sample, one condition, channel) with ``sizes`` samples of each patient."""
    patient = [f"p{i}" for i, n in enumerate(sizes) for _ in range(n)]
    coords = {"patient": ("sample", patient), "condition": [LV], "target": ("condition", ["LV"])}
    return xr.DataArray(np.asarray(values, bool)[:, None], dims=("sample", "condition", "channel"), coords=coords)


def spread(counts: Any, sizes: Any) -> xr.DataArray:
    """One channel that is on top ``counts`` times in the samples of each patient."""
    return make_member([[i < c] for c, n in zip(counts, sizes, strict=True) for i in range(n)], sizes)


def everywhere(member: xr.DataArray) -> xr.DataArray:
    return xr.ones_like(member.isel(channel=0, drop=True))


def only_in(study: xr.Dataset, patient: str) -> xr.Dataset:
    """Channel 3 of L02 responds to LV in one patient, and in no other."""
    return plant(plant(study, "L02", 3, "LV", factor=1e-4), "L02", 3, "LV", [patient], factor=1e8)


def test_a_channel_of_one_patient_is_found_and_named() -> None:
    false = []
    for seed in range(30):
        study = only_in(make_study(patients=8, layers={"L01": 8, "L02": 12}, missing=0.1, seed=seed), "patient003")
        found = heterogeneity(top(study), applicable=study["applicable"], resamples=1999)
        planted = ((found["layer"] == "L02") & (found["channel"] == 3) & (found["target"] == "LV")).transpose(
            *found["q"].dims
        )
        (own,) = np.argwhere(planted.values)
        here = found.isel(condition=own[0], channel=own[1])
        assert here["explained_by"] == "patient003"
        assert here["share"] == 1
        assert here["q"] <= 0.05
        samples = study["applicable"].sel(condition=LV) & (study["patient"] == "patient003")
        assert here["count"] == samples.sum()
        found_all = int((found["q"] <= 0.05).sum())
        false.append((found_all - 1) / found_all)
    # Of those found, the false ones are 0.05 at most on average over studies.
    assert np.mean(false) <= 0.05 + 3 * np.std(false) / np.sqrt(len(false))
    assert np.median(false) == 0


def test_a_channel_common_to_all_but_more_in_one_patient_is_named() -> None:
    sizes = [10] * 8
    found = heterogeneity(spread([3, 2, 10, 3, 4, 2, 3, 3], sizes), applicable=everywhere(spread([0] * 8, sizes)))
    assert found["explained_by"].item() == "p2"
    assert found["share"].item() == 10 / 30


@pytest.mark.parametrize(
    "counts", [[10, 10, 10, 1, 0, 0, 0, 0], [10, 10, 10, 10, 10, 10, 10, 0]], ids=["three patients", "not in one"]
)
def test_unevenness_that_no_single_patient_adds_is_nobodys(counts: list[int]) -> None:
    member = spread(counts, [10] * 8)
    found = heterogeneity(member, applicable=everywhere(member))
    assert found["q"].item() <= 0.05
    assert found["explained_by"].item() == ""
    assert np.isnan(found["share"].item())


def test_one_channel_of_many_can_be_rejected_by_default() -> None:
    rng = np.random.default_rng(0)
    sizes, channels = [8] * 6, 800
    members = rng.random((48, channels)) < 0.3
    members[:, 17] = np.arange(48) < 8
    found = heterogeneity(make_member(members, sizes), applicable=everywhere(make_member(members, sizes)))
    assert np.flatnonzero(found["q"][0] <= 0.05).tolist() == [17]
    assert found["explained_by"].values[0, 17] == "p0"
    # 9999 permutations of 800 tests would leave it at 0.08.
    assert found["p"].values[0, 17] < 1 / 10_000


def test_nothing_is_found_in_null_studies_at_more_than_the_stated_rate() -> None:
    studies, alpha = 200, 0.05
    false, tests = 0, []
    for seed in range(studies):
        study = make_study(patients=6, slices=4, layers={"L01": 12}, targets=["LV"], seed=seed)
        found = heterogeneity(top(study), applicable=study["applicable"], resamples=399, seed=seed, alpha=alpha)
        false += bool((found["q"] <= alpha).any())
        tests.append(found["p"].isel(condition=slice(1, None)).values)
    # Under the complete null, the false discovery rate is the rate of studies with any rejection.
    assert false <= stats.binom.ppf(0.999, studies, alpha)
    below = (np.array(tests) <= alpha).mean()
    assert 0.03 < below < 0.06


@pytest.mark.parametrize("counts", [[3, 1, 0, 0, 0], [2, 1, 1, 0, 1], [3, 3, 3, 3, 0], [0, 4, 0, 1, 3]])
def test_p_is_the_exact_one(counts: list[int]) -> None:
    sizes = [3, 4, 3, 3, 5]
    member = spread(counts, sizes)
    found = heterogeneity(member, applicable=everywhere(member), resamples=9999)
    table = [counts, [n - c for n, c in zip(sizes, counts, strict=True)]]
    chi = stats.chi2_contingency(table, correction=False).statistic
    assert found["statistic"].item() == pytest.approx(chi, rel=1e-12)
    ways = [c for c in itertools.product(*(range(n + 1) for n in sizes)) if sum(c) == sum(counts)]
    chance = stats.multivariate_hypergeom.pmf(np.array(ways), sizes, sum(counts))
    assert chance.sum() == pytest.approx(1)
    uneven = [
        stats.chi2_contingency([w, [n - c for n, c in zip(sizes, w, strict=True)]], correction=False) for w in ways
    ]
    exact = chance[[u.statistic >= chi - 1e-9 for u in uneven]].sum()
    assert found["p"].item() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 2e-4)
    assert found["p"].item() >= 1 / 10_000


def runs(seed: int, patient_effect: float = 0.0) -> xr.DataArray:
    """Membership of 12 channels in 12 patients x 2 volumes x 6 slices, in which neighbouring slices are alike."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(24, 6, 12))
    for s in range(1, 6):
        steps[:, s] = 0.9 * steps[:, s - 1] + np.sqrt(1 - 0.9**2) * steps[:, s]
    steps += patient_effect * np.repeat(rng.normal(size=(12, 1, 12)), 2, axis=0)
    score = steps.reshape(144, 12)
    member = make_member(score >= np.sort(score, axis=1)[:, -3:-2], [12] * 12)
    return member.assign_coords(frame=("sample", np.tile(np.repeat([1, 12], 6), 12)))


def test_runs_of_slices_are_told_from_patients_by_whole_volumes() -> None:
    studies, alpha = 80, 0.05
    false = [bool((heterogeneity(runs(s), by="frame", resamples=499)["q"] <= alpha).any()) for s in range(studies)]
    assert sum(false) <= stats.binom.ppf(0.999, studies, alpha)
    # Slices taken for exchangeable: what the docstring warns of.
    assert all((heterogeneity(runs(s), resamples=499)["q"] <= alpha).any() for s in range(5))
    differ = heterogeneity(runs(0, patient_effect=3), by="frame", resamples=999)
    assert (differ["q"] <= alpha).sum() > 3


def test_p_of_whole_volumes_is_the_exact_one() -> None:
    counts, sizes = np.array([4, 3, 0, 1, 1, 0, 0, 1, 2, 1]), np.array([4, 4, 3, 5, 4, 4, 2, 4, 4, 3])
    members = [[i < c] for c, n in zip(counts, sizes, strict=True) for i in range(n)]
    member = make_member(members, sizes[::2] + sizes[1::2])
    member = member.assign_coords(frame=("sample", np.repeat(np.tile([1, 12], 5), sizes)))
    found = heterogeneity(member, applicable=everywhere(member), by="frame", resamples=4999)

    def uneven(order: Any) -> Any:
        pairs = np.asarray(order).reshape(-1, 5, 2)
        return (counts[pairs].sum(axis=-1) ** 2 / sizes[pairs].sum(axis=-1)).sum(axis=-1)

    # Orders within a pair, and of the pairs, change nothing: the first volume of each pair is the lowest left.
    def pairings(left: tuple[int, ...]) -> Any:
        if not left:
            yield ()
        for other in left[1:]:
            for rest in pairings(tuple(v for v in left[1:] if v != other)):
                yield (left[0], other, *rest)

    every = uneven(list(pairings(tuple(range(10)))))
    assert len(every) == 9 * 7 * 5 * 3
    exact = (every >= uneven(range(10)) - 1e-9).mean()
    assert found["p"].item() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4999) + 4e-4)


def test_what_cannot_be_tested_says_so() -> None:
    study = make_study(patients=4)
    found = heterogeneity(top(study), applicable=study["applicable"])
    assert found["p"].isnull().all()
    assert found["q"].isnull().all()
    assert set(found["note"].values.ravel()) == {"4 patients: too few for a test"}
    assert (found["count"].isel(condition=1) > 0).all()
    assert found["statistic"].isel(condition=1).notnull().all()
    constant = make_member([[True, False]] * 50, [10] * 5)
    found = heterogeneity(constant, applicable=everywhere(constant))
    assert found["p"].isnull().all()
    assert found["statistic"].isnull().all()
    assert found["count"].values.tolist() == [[50, 0]]
    assert (found["note"] == "").all()


def test_patients_without_applicable_samples_do_not_count() -> None:
    member = spread([3, 1, 0, 0, 2, 0], [4] * 6)
    valid = everywhere(member)
    fewer = valid & (member["patient"] != "p5").values[:, None]
    found = heterogeneity(member, applicable=fewer)
    assert found["patients"].item() == 5
    assert found["samples"].item() == 20
    keep = (member["patient"] != "p5").values
    expected = heterogeneity(member.isel(sample=keep), applicable=valid.isel(sample=keep))
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
        whole = heterogeneity(top(lazy), applicable=lazy["applicable"], by="frame", resamples=199)
        sets = leave_one_out(top(lazy), applicable=lazy["applicable"])
    xr.testing.assert_allclose(
        whole.compute(scheduler="synchronous"),
        heterogeneity(top(study), applicable=study["applicable"], by="frame", resamples=199),
        rtol=1e-12,
    )
    plain = heterogeneity(top(study), applicable=study["applicable"], resamples=199)
    xr.testing.assert_allclose(tests.compute(scheduler="synchronous"), plain, rtol=1e-12)
    xr.testing.assert_identical(
        sets.compute(scheduler="synchronous"), leave_one_out(top(study), applicable=study["applicable"])
    )
    other = heterogeneity(top(study), applicable=study["applicable"], resamples=199, seed=1)
    assert not other["p"].equals(plain["p"])


def test_one_layer_alone_has_the_same_p() -> None:
    study = make_study()
    member = top(study)
    found = heterogeneity(member, applicable=study["applicable"], resamples=199)
    sets = leave_one_out(member, applicable=study["applicable"])
    for layer in ("L01", "L02"):
        here = np.flatnonzero(member["layer"] == layer)
        alone = heterogeneity(member.isel(channel=here), applicable=study["applicable"], resamples=199)
        for name in ("count", "statistic", "p"):
            xr.testing.assert_allclose(alone[name], found[name].isel(channel=here), rtol=1e-12)
        xr.testing.assert_identical(
            leave_one_out(member.isel(channel=here), applicable=study["applicable"]), sets.isel(channel=here)
        )


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
    table = heterogeneity_table(study["mad"], applicable=study["applicable"], resamples=1999)
    assert ",".join(table.columns) == (
        "layer,module,condition,target,channel,count,samples,patients,statistic,p,q,tests,p_volumes,q_volumes,"
        "explained_by,share,note"
    )
    assert len(table) == 3 * (8 + 16)
    assert table["layer"].is_monotonic_increasing
    found = table[table["explained_by"] != ""]
    assert found[["layer", "target", "channel", "explained_by"]].values.tolist() == [["L02", "LV", 3, "patient003"]]
    assert {table[name].dtype for name in ("channel", "count", "samples", "patients")} == {np.dtype(np.int64)}
    assert not table.drop(columns=["share"]).isna().any().any()

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
        (lambda m: heterogeneity(m, alpha=1.5), r"alpha = 1.5: give a level between 0 and 1"),
        (lambda m: heterogeneity(m, resamples=0), r"resamples = 0: give an integer of at least 1"),
        (lambda m: heterogeneity(m, by="age"), r"by = 'age' is no coordinate along sample: use one such as 'frame'"),
        (lambda m: heterogeneity(m.drop_vars("patient")), r"no coordinate 'patient' along sample: assign it"),
        (lambda m: heterogeneity(m.isel(channel=0)), r"in_top has no dimension 'channel', only"),
        (lambda m: leave_one_out(m, 0), r"most = 0: give an integer of at least 1"),
        (lambda m: heterogeneity_table(m.drop_vars("target")), r"no coordinate 'target' along condition"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        call(top(make_study()))
