"""MAD and the loss of Dice within patients: planted, confounded between patients, and under the null."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from actstore.analysis import AnalysisError, association, association_table, beside_frequency, dice, in_top
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


def test_a_channel_that_goes_with_the_loss_is_found_and_alone() -> None:
    study = make_study(patients=8, seed=1)
    loss = loss_of(study, "LV")
    noise = np.random.default_rng(0).normal(0, np.nanstd(loss) / 4, len(loss))
    study = with_mad(study, 11, 3, loss + noise)
    found = association(study["mad"], dice_of(study))
    assert np.argwhere(found["q"].values < 0.05).tolist() == [[2, 11]]
    cell = found.isel(condition=2, channel=11)
    assert 0.7 < cell["low"] < cell["correlation"] < cell["high"] <= 1
    assert (cell["class_name"], cell["patients"], cell["note"]) == ("LV", 8, "")
    assert cell["samples"] == study["applicable"][:, 3].sum()


def test_numbers_by_hand() -> None:
    study = make_study(seed=2, layers={"L01": 2})
    found = association(study["mad"], dice_of(study)).isel(condition=1, channel=1)
    loss, mad, patient = loss_of(study, "MYO"), study["mad"].values[:, 2, 1], study["patient"].values
    z, n = [], []
    for name in np.unique(patient):
        own = (patient == name) & ~np.isnan(mad)
        z.append(np.arctanh(stats.spearmanr(mad[own], loss[own]).statistic))
        n.append(own.sum())
    known = np.sqrt(sum(1.06 / (m - 3) for m in n)) / 6
    seen = np.std(z, ddof=1) / np.sqrt(6)
    half = max(stats.t.ppf(0.975, 5) * seen, stats.norm.ppf(0.975) * known)
    np.testing.assert_allclose(found["correlation"], np.tanh(np.mean(z)))
    np.testing.assert_allclose([found["low"], found["high"]], np.tanh(np.mean(z) + np.array([-half, half])))
    by_t, by_normal = stats.ttest_1samp(z, 0).pvalue, 2 * stats.norm.sf(abs(np.mean(z)) / known)
    np.testing.assert_allclose(found["p"], max(by_t, by_normal))
    assert found["samples"] == sum(n)


def test_patients_that_differ_in_both_are_no_association() -> None:
    """A channel louder in patients whose Dice suffers more, and independent of it within each."""
    study = make_study(patients=10, seed=3)
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


@pytest.mark.parametrize(("patients", "slices"), [(5, 2), (6, 5), (16, 3)])
def test_a_null_study_finds_no_more_than_the_stated_rate(patients: int, slices: int) -> None:
    runs = 80
    false = 0
    for seed in range(runs):
        study = make_study(patients, slices, {"L01": 16}, seed=seed, missing=0.1 if slices > 2 else 0.0)
        false += bool((association(study["mad"], dice_of(study))["q"] < 0.05).any())
    assert false <= stats.binom.ppf(0.999, runs, 0.05)


def test_slices_that_drift_are_no_association() -> None:
    """MAD and loss each run up or down along the slices of a patient, independently: the normal test would fall."""
    rng, runs, cells, fallen = np.random.default_rng(0), 40, [], []
    for seed in range(runs):
        study = make_study(8, 6, {"L01": 4}, ("LV",), seed=seed, missing=0)
        run = np.tile(np.arange(12.0), 8)
        overlap = dice_of(study)
        overlap.values[:, 1, 2] += run * rng.choice([-1, 1], 8).repeat(12)
        mad = study["mad"].copy(deep=True)
        mad.values[:, 1] += (run * rng.choice([-9, 9], (4, 8)).repeat(12, axis=1)).T
        found = association(mad, overlap)
        cells.append(found["p"].values.ravel())
        fallen.append(2 * stats.norm.sf(np.abs(np.arctanh(found["correlation"])) / np.sqrt(1.06 / 9 / 8)).ravel())
    assert np.mean(np.array(cells) < 0.01) <= stats.binom.ppf(0.999, runs * 4, 0.01) / (runs * 4)
    assert np.mean(np.array(fallen) < 0.01) > 0.3


def test_few_slices_that_agree_by_chance_are_no_certainty() -> None:
    """Five patients of four slices with the same rank correlation: Student's t alone would be infinite."""
    study = make_study(5, 2, {"L01": 3}, ("LV",), missing=0)
    overlap = dice_of(study)
    overlap.values[:, 0, 2] = np.tile([0.1, 0.2, 0.3, 0.4], 5)
    overlap.values[:, 1, 2] = 0
    study = with_mad(study, 0, 1, np.tile([1.0, 3, 2, 4], 5))
    study = with_mad(study, 1, 1, np.tile([2.0, 4, 1, 3], 5))
    found = association(study["mad"], overlap).isel(condition=0)
    np.testing.assert_allclose(found["correlation"][:2], [0.8, 0.0], atol=1e-12)
    assert 0.01 < found["p"][0] < 0.05
    assert found["p"][1] == 1
    assert found["low"][0] > 0


def test_perfect_order_stays_finite() -> None:
    study = make_study(6, 5, {"L01": 2}, ("LV",), missing=0)
    study = with_mad(study, 0, 1, np.argsort(np.argsort(dice_of(study).values[:, 1, 2])).astype(float))
    overlap = dice_of(study)
    overlap.values[:, 0, 2] = 1
    overlap.values[:, 1, 2] = 1 - study["mad"].values[:, 1, 0] / 100
    found = association(study["mad"], overlap).isel(condition=0, channel=0)
    np.testing.assert_allclose(found["correlation"], 1 - 6 / 990)
    assert 0 < found["p"] < 1e-6


def test_patients_that_cannot_tell_are_left_out_and_counted() -> None:
    study = make_study(7, 3, {"L01": 3}, ("LV",), missing=0)
    mad, overlap = study["mad"].copy(deep=True), dice_of(study)
    patient = study["patient"].values
    mad.values[np.flatnonzero(patient == "patient001")[:3], 1] = np.nan
    overlap.values[patient == "patient002", :, 2] = 1
    mad.values[patient == "patient003", 1, 0] = 3
    mad.values[np.flatnonzero(patient == "patient004")[:2], 1, 1] = np.inf
    mad.values[patient == "patient005", 1] = np.nan
    found = association(mad, overlap).isel(condition=0)
    assert found["patients"].values.tolist() == [3, 4, 4]
    assert found["left_out"].values.tolist() == [3, 2, 2]
    assert found["samples"].values.tolist() == [18, 22, 24]
    assert found["note"].values.tolist() == ["3 patients: too few for a test", *["4 patients: too few for a test"] * 2]
    assert np.isnan(found["p"]).all()
    assert np.isnan(found["low"]).all()
    assert not np.isnan(found["correlation"]).any()


def test_beside_frequency_ranks_within_the_layer() -> None:
    study = make_study(patients=8, seed=1)
    loss = loss_of(study, "LV")
    study = with_mad(study, 11, 3, loss / 100)
    study["mad"].values[:, 3, 20] *= 100
    member = in_top(study["mad"], 3)
    table = association_table(study["mad"], dice_of(study), member)
    assert ",".join(table.columns) == (
        "layer,module,condition,target,class_name,channel,samples,patients,correlation,low,high,p,q,tests,"
        "frequency,frequency_rank,association_rank,note"
    )
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


def test_lazy_and_chunked_as_in_memory() -> None:
    study = make_study()
    overlap, member = dice_of(study), in_top(study["mad"], 3)
    sizes = {"sample": 7, "condition": 2, "channel": 5, "class_name": 2}
    lazy = chunked(study["mad"], **sizes), chunked(overlap, **sizes)
    with raise_if_dask_computes():
        found = beside_frequency(association(*lazy), in_top(lazy[0], 3))
    expected = beside_frequency(association(study["mad"], overlap), member)
    xr.testing.assert_allclose(found.compute(scheduler="synchronous"), expected, rtol=1e-12)


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
