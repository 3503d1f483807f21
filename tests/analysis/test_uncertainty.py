"""Intervals over patients: what they cover, what they rest on, and how stable the most frequent channels are."""

from __future__ import annotations

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
    bootstrap_mean,
    certainty_table,
    channel_frame,
    channel_frequency,
    dice,
    dice_change,
    dice_mean_table,
    frequency_certainty,
    in_top,
    layer_mean,
    layers_table,
    leave_one_out,
    leave_one_out_table,
    most_frequent,
    paired_change,
    sensitivity_table,
    sensitivity_to_k,
    set_stability,
    stability_table,
    top_channels,
)
from actstore.analysis.uncertainty.bootstrap import expanded
from helpers import lazy_study, make_study, plant, raise_if_dask_computes

CHUNKS = {"sample": 7, "condition": 2, "channel": 5}


def top(study: xr.Dataset, k: int = 3) -> xr.DataArray:
    return in_top(study["mad"], k, applicable=study["applicable"])


def make_values(values: Any, patients: Any) -> xr.DataArray:
    """Values (sample, cell) of the named patients."""
    return xr.DataArray(values, dims=("sample", "cell"), coords={"patient": ("sample", list(map(str, patients)))})


def studies(kind: str, patients: int, number: int) -> tuple[xr.DataArray, float]:
    """``number`` studies side by side, of 6 to 12 samples a patient, patients differing; and their true mean."""
    rng = np.random.default_rng(patients)
    shape, most = (patients, 1, number), 12
    if kind == "normal":
        values, truth = rng.normal(size=shape) + rng.normal(size=(patients, most, number)), 0.0
    else:
        values, truth = rng.random((patients, most, number)) < rng.beta(2, 3, shape), 0.4
    there = np.arange(most)[:, None] < rng.integers(6, most + 1, (patients, 1, number))
    flat = np.where(there, values, np.nan).reshape(-1, number)
    return make_values(flat, np.repeat(np.arange(patients), most)), truth


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "least"), [(5, 0.90), (8, 0.92), (20, 0.93)])
@pytest.mark.parametrize("kind", ["normal", "membership"])
def test_intervals_cover_about_what_they_state(kind: str, patients: int, least: float) -> None:
    values, truth = studies(kind, patients, 2000)
    found = bootstrap_mean(values, confidence=0.95)
    covered = float(((found["low"] <= truth) & (truth <= found["high"])).mean())
    assert least < covered < 0.97
    narrower = bootstrap_mean(values, confidence=0.8)
    assert 0.75 < float(((narrower["low"] <= truth) & (truth <= narrower["high"])).mean()) < 0.83


def test_slices_of_a_patient_are_not_taken_for_independent() -> None:
    rng = np.random.default_rng(0)
    values = make_values(np.repeat(rng.normal(size=(10, 1)), 20, axis=0), np.repeat(np.arange(10), 20))
    found = bootstrap_mean(values)
    half = stats.sem(values.values[::20, 0]) * stats.t.ppf(0.975, 9)
    assert (found["high"] - found["low"]).item() == pytest.approx(2 * half, rel=0.2)
    once = bootstrap_mean(values.isel(sample=slice(None, None, 20)))
    np.testing.assert_allclose(once["low"], found["low"], rtol=1e-12)


def test_the_expansion_is_hesterbergs() -> None:
    # Student's interval of n values is mean ± t s / √n; percentiles see the standard deviation with divisor n.
    for n in (5, 12, 200):
        tail = (1 - expanded(0.95, n)) / 2
        z = -stats.norm.ppf(tail) * np.sqrt((n - 1) / n)
        assert z == pytest.approx(stats.t.ppf(0.975, n - 1))
    assert expanded(0.95, 100_000) == pytest.approx(0.95, abs=1e-5)


def test_the_mean_is_over_samples_and_counts_what_is_there() -> None:
    values = make_values(
        np.array([[1, np.nan], [2, np.nan], [6, 5], [np.nan, np.nan], [1, 1], [2, np.nan], [0, np.nan]]),
        ["a", "a", "b", "c", "d", "e", "f"],
    )
    found = bootstrap_mean(values)
    assert found["mean"].values.tolist() == [2.0, 3.0]
    assert found["samples"].values.tolist() == [6, 2]
    assert found["patients"].values.tolist() == [5, 2]
    assert found["note"].values.tolist() == ["", "2 patients: too few for an interval"]
    assert found["low"].isnull().values.tolist() == [False, True]
    assert float(found["low"][0]) <= 2 <= float(found["high"][0])
    assert found["samples"].dtype == found["patients"].dtype == np.int64


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_a_constant_has_an_interval_without_width(value: float) -> None:
    found = bootstrap_mean(make_values(np.full((12, 1), value), np.arange(12) % 6))
    np.testing.assert_allclose([found["low"], found["mean"], found["high"]], value, rtol=1e-12)


def test_infinite_values_have_a_mean_and_no_interval() -> None:
    values = np.ones((12, 2))
    values[3, 0] = np.inf
    found = bootstrap_mean(make_values(values, np.arange(12) % 6))
    assert found["mean"].values.tolist() == [np.inf, 1]
    assert found["low"].isnull().values.tolist() == [True, False]


def test_paired_change_uses_the_same_samples() -> None:
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(8), 6)
    level = rng.normal(size=8)[patient] + rng.normal(size=48)
    values = np.stack([level, level - 1 + 0.01 * rng.normal(size=48)], axis=1)
    values[:10, 1] = np.nan
    values[40, 0] = np.nan
    array = xr.DataArray(
        values,
        dims=("sample", "condition"),
        coords={"patient": ("sample", patient.astype(str)), "condition": ["original", "changed"]},
    )
    found = paired_change(array).sel(condition="changed")
    both = ~np.isnan(values).any(axis=1)
    assert found["samples"] == both.sum() == 37
    assert found["patients"] == 7
    assert float(found["original"]) == pytest.approx(values[both, 0].mean())
    assert float(found["change"]) == pytest.approx((values[both, 1] - values[both, 0]).mean())
    assert float(found["change"]) == pytest.approx(float(found["perturbed"] - found["original"]))
    width = {name: float(found[f"{name}_high"] - found[f"{name}_low"]) for name in ("original", "change")}
    assert width["change"] < 0.05 < width["original"]


def test_dice_change_is_over_samples_that_hold_the_class() -> None:
    study = make_study(patients=8)
    confusion = study["confusion"].copy()
    confusion.values[::3, :, 1, :] = 0
    found = dice_change(confusion, applicable=study["applicable"])
    values = dice(confusion, applicable=study["applicable"]).sel(class_name="RV").values
    here = study["applicable"].values[:, 2] & (np.arange(len(values)) % 3 > 0)
    chosen = found.sel(class_name="RV").isel(condition=2)
    assert chosen["samples"] == here.sum()
    assert float(chosen["original"]) == pytest.approx(values[here, 0].mean())
    assert float(chosen["perturbed"]) == pytest.approx(values[here, 2].mean())
    own = found.sel(class_name="LV").isel(condition=3)
    assert float(own["change_high"]) < -0.05
    unrelated = found.sel(class_name="LV").isel(condition=1)
    assert float(unrelated["change_low"]) < 0 < float(unrelated["change_high"])


def test_certainty_of_a_planted_and_of_null_channels() -> None:
    study = plant(make_study(patients=8), "L02", 3, "LV")
    found = frequency_certainty(top(study), 1, applicable=study["applicable"])
    counts = top(study).sum("sample")
    np.testing.assert_array_equal(found["count"], counts)
    np.testing.assert_allclose(found["frequency"], counts / found["samples"])
    np.testing.assert_array_equal(found["samples"].isel(channel=0), study["applicable"].sum("sample"))
    layer = found.isel(channel=np.flatnonzero(found["layer"] == "L02")).isel(condition=3)
    assert layer["selected"].values.tolist() == [0, 0, 0, 1, *[0] * 12]
    null = found.isel(channel=np.flatnonzero(found["layer"] == "L02")).isel(condition=1)
    assert float(null["selected"].sum()) == pytest.approx(1)
    assert float(null["selected"].max()) < 0.9
    everything = frequency_certainty(top(study), 99, applicable=study["applicable"])
    ever = (everything["count"] > 0).isel(condition=slice(1, None))
    assert (everything["selected"].isel(condition=slice(1, None)).where(ever, 1) > 0.5).all()


def test_stability_of_planted_and_of_null_sets() -> None:
    study = make_study(patients=10, layers={"L01": 12, "L02": 3})
    for channel in (2, 5, 7):
        study = plant(study, "L01", channel, "LV")
    found = set_stability(top(study), (3, 7), applicable=study["applicable"])
    assert found["overlap"].dims == ("layer", "condition", "most")
    planted = found.sel(layer="L01", most=3).isel(condition=3)
    assert [float(planted[name]) for name in ("low", "overlap", "high")] == [1, 1, 1]
    null = found.sel(layer="L01", most=3).isel(condition=1)
    assert 0 <= float(null["low"]) < float(null["overlap"]) < 0.9
    none = "no channel is ever among the top"
    assert found["note"].sel(layer="L01").values.tolist() == [[none] * 2, *[[""] * 2] * 3]
    assert found["note"].sel(layer="L02", most=7)[1] == "a set of 7 has room for all 3 channels"
    assert found["overlap"].isel(condition=0).isnull().all()
    assert found["module"].values.tolist() == ["net.L01.adn.N", "net.L02.adn.N"]
    assert found["patients"].values.tolist() == [10] * 4


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 9), st.integers(1, 10), st.integers(1, 10), st.integers(0, 99))
def test_sensitivity_by_brute_force(channels: int, k: int, most: int, seed: int) -> None:
    study = make_study(2, 3, {"L01": channels}, seed=seed)

    def chosen(k: int, most: int) -> list[set[int]]:
        ranks = top_channels(study["mad"], k, applicable=study["applicable"])
        return [{*row} - {-1} for row in most_frequent(channel_frequency(ranks), most)["channel"].values.tolist()]

    found = sensitivity_to_k(study["mad"], [k], [most], (2, 3), applicable=study["applicable"])
    assert found["overlap"].isel(condition=0).isnull().all()
    for c, (a, b) in enumerate(zip(chosen(k, most), chosen(2, 3), strict=True), start=1):
        value = float(found["overlap"].isel(layer=0, condition=c, k=0, most=0))
        if k >= channels > most or channels == 2:
            expected = np.nan if k >= channels > most else len(a & b) / len(a | b)
        else:
            expected = len(a & b) / len(a | b)
        assert value == pytest.approx(expected, nan_ok=True)


def test_sensitivity_marks_what_reaches_all_channels() -> None:
    study = make_study(layers={"L01": 4, "L02": 16})
    found = sensitivity_to_k(study["mad"], applicable=study["applicable"])
    assert dict(found["overlap"].sizes) == {"layer": 2, "condition": 4, "k": 4, "most": 4}
    assert (found["overlap"].sel(k=3, most=7).isel(condition=slice(1, None)) == 1).all()
    small = found.sel(layer="L01")
    assert small["note"].sel(k=5, most=3) == "the top 5 has room for all 4 channels"
    assert small["overlap"].sel(k=5, most=3).isnull().all()
    assert small["note"].sel(k=2, most=10) == "a set of 10 has room for all 4 channels"
    assert small["overlap"].sel(k=2, most=10).isel(condition=1) == 1
    assert set(found["note"].sel(layer="L02").values.ravel()) == {""}


def test_too_few_patients_say_so() -> None:
    study = make_study(patients=4)
    certainty = frequency_certainty(top(study), applicable=study["applicable"])
    stability = set_stability(top(study), applicable=study["applicable"])
    for found, numbers in ((certainty, ("low", "high", "selected")), (stability, ("overlap", "low", "high"))):
        assert set(found["note"].values.ravel()) == {"4 patients: too few for an interval"}
        assert all(found[name].isnull().all() for name in numbers)
    assert certainty["frequency"].notnull().all()
    change = dice_change(study["confusion"], applicable=study["applicable"])
    assert change["change_low"].isnull().all()
    assert change["change"].notnull().all()


@pytest.mark.slow
def test_lazy_and_chunked_results_are_the_same() -> None:
    study = make_study()
    lazy = lazy_study(study, CHUNKS)

    def answers(data: xr.Dataset) -> list[xr.Dataset]:
        valid = data["applicable"]
        return [
            bootstrap_mean(data["mad"], resamples=200),
            frequency_certainty(top(data), applicable=valid, resamples=200),
            set_stability(top(data), applicable=valid, resamples=200),
            sensitivity_to_k(data["mad"], applicable=valid),
            dice_change(data["confusion"], applicable=valid, resamples=200),
            layer_mean(data["mad"]).to_dataset(name="mean"),
        ]

    with raise_if_dask_computes():
        unread = answers(lazy)
    for late, plain, again in zip(unread, answers(study), answers(study), strict=True):
        xr.testing.assert_identical(plain, again)
        assert any(array.chunks for array in late.variables.values())
        xr.testing.assert_allclose(late.compute(scheduler="synchronous"), plain, rtol=1e-12)


def test_one_layer_alone_is_as_certain() -> None:
    study = make_study()
    member = top(study)
    whole = frequency_certainty(member, applicable=study["applicable"], resamples=200)
    sets = set_stability(member, applicable=study["applicable"], resamples=200)
    for i, layer in enumerate(("L01", "L02")):
        here = np.flatnonzero(member["layer"] == layer)
        alone = member.isel(channel=here)
        certain = frequency_certainty(alone, applicable=study["applicable"], resamples=200)
        xr.testing.assert_allclose(certain, whole.isel(channel=here), rtol=1e-12)
        xr.testing.assert_allclose(
            set_stability(alone, applicable=study["applicable"], resamples=200), sets.isel(layer=[i]), rtol=1e-12
        )


def test_tables_of_one_layer_are_rows_of_those_of_all() -> None:
    study = make_study()
    expected = {**tables(study), "leave-one-out": leave_one_out_table(study["mad"], applicable=study["applicable"])}
    here = np.flatnonzero(study["layer"] == "L02")
    alone = study.isel(channel=here).drop_vars(["layer", "module"]).assign_coords(layer="L02", module="net.L02.adn.N")
    found = {**tables(alone), "leave-one-out": leave_one_out_table(alone["mad"], applicable=alone["applicable"])}
    for name, table in found.items():
        rows = expected[name]
        rows = rows[rows["layer"] == "L02"].reset_index(drop=True) if "layer" in rows else rows
        pd.testing.assert_frame_equal(table, rows, rtol=1e-12)


def test_the_seed_decides() -> None:
    values = make_study(patients=8)["mad"]
    one, other = (bootstrap_mean(values, resamples=200, seed=seed) for seed in (0, 1))
    xr.testing.assert_identical(one["mean"], other["mean"])
    assert not one["low"].equals(other["low"])


def tables(data: xr.Dataset) -> dict[str, pd.DataFrame]:
    valid = data["applicable"]
    standardised = data["mad"] / data["std"]
    rank = data["mad"].mean("sample") / 10
    return {
        "certainty": certainty_table(data["mad"], applicable=valid, resamples=200),
        "stability": stability_table(data["mad"], applicable=valid, resamples=200),
        "sensitivity": sensitivity_table(data["mad"], applicable=valid),
        "layers": layers_table(data["mad"], standardised, rank, applicable=valid, resamples=200),
        "dice-mean": dice_mean_table(data["confusion"], applicable=valid, resamples=200),
    }


def test_the_tables() -> None:
    study = make_study()
    found = tables(study)
    assert {name: ",".join(table.columns) for name, table in found.items()} == {
        "certainty": "layer,module,condition,target,channel,count,samples,patients,frequency,low,high,error,"
        "selected,note",
        "stability": "layer,module,condition,target,k,most,samples,patients,overlap,low,high,note",
        "sensitivity": "layer,module,condition,target,k,most,samples,patients,overlap",
        "layers": "layer,module,condition,target,samples,patients,mad,low,high,error,standardised,mean_network_rank,"
        "note",
        "dice-mean": "class_name,condition,target,samples,patients,original,original_low,original_high,"
        "original_error,perturbed,perturbed_low,perturbed_high,perturbed_error,change,change_low,change_high,"
        "change_error,note",
    }
    rows = {"certainty": 3 * 24, "stability": 3 * 2 * 2, "sensitivity": 3 * 2 * 16, "layers": 3 * 2, "dice-mean": 9}
    assert {name: len(table) for name, table in found.items()} == rows
    for table in found.values():
        assert not table.isna().any().any()
        assert {table[name].dtype for name in ("samples", "patients")} == {np.dtype(np.int64)}
        assert "original" not in set(table["condition"])
    layers = found["layers"].set_index(["layer", "target"])
    here = np.flatnonzero(study["layer"] == "L02")
    chosen = study.isel(condition=2, channel=here, sample=np.flatnonzero(study["applicable"][:, 2]))
    row = layers.loc[("L02", "MYO")]
    assert row["mad"] == pytest.approx(float(chosen["mad"].mean()))
    assert row["standardised"] == pytest.approx(float((chosen["mad"] / chosen["std"]).mean()))
    assert row["samples"] == chosen.sizes["sample"]
    assert set(found["stability"]["most"]) == {3, 7}
    assert set(found["stability"]["k"]) == {3}
    certainty = found["certainty"].set_index(["layer", "target", "channel"])
    assert certainty.loc[("L02", "LV", 5), "count"] == top(study).values[:, 3, 8 + 5].sum()


@pytest.mark.slow
def test_the_tables_of_a_lazy_study() -> None:
    study = make_study()
    expected = tables(study)
    with raise_if_dask_computes(max_computes=len(expected)):
        found = tables(lazy_study(study, CHUNKS))
    for name, table in found.items():
        pd.testing.assert_frame_equal(table, expected[name], rtol=1e-12)


def test_a_frame_of_any_dims() -> None:
    data = xr.Dataset(
        {"x": (("most", "layer", "condition"), np.arange(12).reshape(2, 2, 3)), "note": "few"},
        coords={"layer": ["a", "b"], "k": 3, "target": ("condition", ["", "u", "v"]), "condition": ["o", "p", "q"]},
    )
    table = channel_frame(data, ["layer", "condition", "target", "most", "k", "x", "note"])
    assert table["x"].tolist() == [1, 7, 2, 8, 4, 10, 5, 11]
    assert table["most"].tolist() == [0, 1] * 4
    assert table["note"].tolist() == ["few"] * 8
    assert channel_frame(data, ["x"], keep=data["x"] > 9)["x"].tolist() == [10, 11]
    assert channel_frame(data, ["x", "layer"], conditions=np.array([0]))["x"].tolist() == [0, 6, 3, 9]
    assert channel_frame(data.isel(layer=0, condition=0, most=1), ["layer", "x"]).values.tolist() == [["a", 6]]
    with pytest.raises(AnalysisError, match=r"no variable or coordinate 'module' for the table, only x, note, layer"):
        channel_frame(data, ["module"])


def test_a_frame_lists_layers_one_after_another() -> None:
    study = make_study(layers={"L02": 2, "L01": 3})
    table = channel_frame(study[["mad"]].mean("sample"), ["layer", "condition", "channel", "mad"])
    assert table["layer"].tolist() == ["L02"] * 6 + ["L01"] * 9
    assert table["channel"].tolist() == [0, 1] * 3 + [0, 1, 2] * 3
    assert table["mad"].tolist()[6:9] == study["mad"].mean("sample").values[1, 2:].tolist()


def test_no_samples() -> None:
    study = make_study().isel(sample=slice(0))
    mean = bootstrap_mean(study["mad"])
    assert mean["mean"].isnull().all()
    assert (mean["samples"] == 0).all()
    found = frequency_certainty(top(study), applicable=study["applicable"])
    assert found["selected"].isnull().all()
    assert set_stability(top(study), applicable=study["applicable"])["overlap"].isnull().all()
    assert sensitivity_to_k(study["mad"], applicable=study["applicable"])["overlap"].isnull().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: bootstrap_mean(s["mad"], confidence=95), r"confidence = 95: give a level between 0 and 1"),
        (lambda s: bootstrap_mean(s["mad"], resamples=0), r"resamples = 0: give an integer of at least 1"),
        (lambda s: bootstrap_mean(s["mad"].drop_vars("patient")), r"no coordinate 'patient' along sample"),
        (lambda s: paired_change(s["mad"][:, 1:]), r"mad: 0 original conditions: keep exactly one"),
        (lambda s: frequency_certainty(top(s), 0), r"most = 0: give an integer of at least 1"),
        (lambda s: set_stability(top(s), [0]), r"most = 0: give an integer of at least 1"),
        (lambda s: sensitivity_to_k(s["mad"], [0]), r"k = 0: give an integer of at least 1"),
        (lambda s: leave_one_out(s["mad"][:, :, 0]), r"mad has no dimension 'channel', only"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        call(make_study())
