"""Channels shared between classes, and the order within a case against that over all samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from actstore.analysis import (
    AnalysisError,
    channel_frequency,
    comparison_table,
    general_and_specific,
    general_specific_table,
    in_top,
    most_frequent,
    shared_channels,
    top_channels,
)
from helpers import make_study, plant, raise_if_dask_computes

TARGETS = ("RV", "MYO", "LV")


def planted() -> xr.Dataset:
    """L02: channels 3 and 9 answer to LV, 3 also to RV, 12 to MYO."""
    study = make_study(seed=5)
    for channel, target in ((3, "LV"), (9, "LV"), (3, "RV"), (12, "MYO")):
        study = plant(study, "L02", channel, target)
    return study


def with_cases(study: xr.Dataset, seed: int = 0) -> xr.DataArray:
    """A case for every sample and perturbation, but none where it is not applicable; "rare" in the first patient."""
    drawn = np.array(["error", "only LV"])[np.random.default_rng(seed).integers(0, 2, study["applicable"].shape)]
    drawn = np.where((study["patient"].values == "patient001")[:, None], "rare", drawn)
    drawn[:, 0] = ""
    return study["applicable"].copy(data=np.where(study["applicable"].values, drawn, "")).rename("case")


def chunked(array: xr.DataArray, **sizes: int) -> xr.DataArray:
    return array.copy(data=array.variable.chunk(sizes).data)


def test_planted_channels_are_shared_or_of_one_class() -> None:
    member = in_top(planted()["mad"], 1)
    table = comparison_table(member, most=2)
    assert ",".join(table.columns) == "layer,module,channel,targets,number,specific,specific_share"
    assert table["specific_share"].between(0, 1).tolist() == (table["specific"] != "").tolist()
    table = table.set_index(["layer", "channel"])
    assert table.loc[("L02", 3), ["targets", "number", "specific"]].tolist() == ["RV, LV", 2, ""]
    assert table.loc[("L02", 12), ["targets", "number", "specific"]].tolist() == ["MYO", 1, "MYO"]
    assert (table["number"] > 0).all()
    assert table.loc["L01"]["number"].sum() == 6
    shared = shared_channels(member, most=2)
    planted_l02 = shared.isel(channel=shared["layer"].values == "L02")
    assert planted_l02["selected"].sel(target="LV").values[[3, 9]].tolist() == [True, True]
    assert planted_l02["specific"].values[9] in ("LV", "")
    np.testing.assert_array_equal(shared["samples"], study_samples(planted()))
    np.testing.assert_array_equal(shared["patients"], [6, 6, 6])


def study_samples(study: xr.Dataset) -> list[int]:
    return study["applicable"].sum("sample").values[1:].tolist()


@pytest.mark.parametrize("most", [1, 3, 7, 99])
def test_selection_is_that_of_most_frequent(most: int) -> None:
    study = make_study(layers={"L01": 6}, seed=2)
    member, top = in_top(study["mad"], 2), top_channels(study["mad"], 2)
    ranked = most_frequent(channel_frequency(top), most)["channel"].values
    shared = shared_channels(member, most)
    for target, channels in zip(TARGETS, ranked, strict=True):
        found = np.flatnonzero(shared["selected"].sel(target=target))
        assert found.tolist() == sorted(channels[channels >= 0].tolist())


def test_conditions_of_a_target_are_counted_together() -> None:
    study = make_study(targets=("LV", "RV", "LV"), layers={"L01": 5})
    member = in_top(study["mad"], 2)
    shared = shared_channels(member)
    assert shared["target"].values.tolist() == ["LV", "RV"]
    np.testing.assert_array_equal(shared["count"][0], member[:, [1, 3]].sum(["sample", "condition"]))
    assert shared["samples"][0] == study["applicable"][:, [1, 3]].any("condition").sum()


def test_general_and_specific_by_brute_force() -> None:
    study = make_study(seed=4)
    member, cases = in_top(study["mad"], 3), with_cases(study)
    compared = general_and_specific(member, cases, most=4)
    assert compared["correlation"].dims == ("layer", "condition", "case")
    assert compared["case"].values.tolist() == ["error", "only LV", "rare"]
    assert compared["module"].values.tolist() == ["net.L01.adn.N", "net.L02.adn.N"]
    for i, layer in enumerate(("L01", "L02")):
        values = member.values[..., study["layer"].values == layer]
        for c in range(3):
            general = values[:, c + 1].sum(axis=0)
            for j, case in enumerate(compared["case"].values):
                within = values[cases.values[:, c + 1] == case, c + 1]
                cell = compared.isel(layer=i, condition=c, case=j)
                expected = stats.spearmanr(general, within.sum(axis=0)).statistic
                np.testing.assert_allclose(cell["correlation"], expected)
                top = [np.argsort(-count, kind="stable")[:4] for count in (general, within.sum(axis=0))]
                top = [set(t[count[t] > 0].tolist()) for t, count in zip(top, (general, within.sum(0)), strict=True)]
                assert cell["gained"] == ", ".join(map(str, sorted(top[1] - top[0])))
                assert cell["lost"] == ", ".join(map(str, sorted(top[0] - top[1])))
                assert cell["samples"] == len(within)
    assert (compared["patients"].sel(case="rare") == 1).all()
    assert set(compared["note"].sel(case="rare").values.tolist()) == {"1 patient: too few for a comparison"}
    assert not compared["note"].sel(case="error").values.any()


def test_a_channel_that_answers_in_one_case_alone_is_gained_there() -> None:
    study = make_study(seed=1)
    cases = with_cases(study)
    where = (cases == "only LV").reset_coords(drop=True) & (study["layer"] == "L02") & (study["channel"] == 11)
    mad = study["mad"].where(~where.reset_coords(drop=True), 1000).transpose(*study["mad"].dims)
    table = general_specific_table(in_top(mad, 1), cases, most=1)
    assert ",".join(table.columns) == (
        "layer,module,condition,target,case,samples,patients,correlation,gained,lost,note"
    )
    found = table[(table["layer"] == "L02") & (table["case"] == "error")]
    assert found["lost"].tolist() == ["11"] * 3
    assert table[(table["layer"] == "L02") & (table["case"] == "only LV")]["gained"].tolist() == [""] * 3
    assert (table["samples"] > 0).all()


def test_a_case_without_samples_has_neither_a_number_nor_a_row() -> None:
    study = make_study(layers={"L01": 5})
    cases = with_cases(study)
    values = cases.values.copy()
    values[:, 1][values[:, 1] == "rare"] = "error"
    cases = cases.copy(data=values)
    compared = general_and_specific(in_top(study["mad"], 2), cases, most=3)
    cell = compared.isel(layer=0, condition=0).sel(case="rare")
    assert np.isnan(cell["correlation"])
    assert (cell["samples"], cell["gained"], cell["lost"]) == (0, "", "")
    assert len(general_specific_table(in_top(study["mad"], 2), cases, most=3)) == 8


def test_controls_count_for_no_class() -> None:
    study = planted()
    region = np.array(["", "target", "target", "control"])
    member = in_top(study["mad"].assign_coords(region=("condition", region)), 1)
    assert shared_channels(member)["target"].values.tolist() == ["RV", "MYO"]


def test_lazy_and_chunked_as_in_memory() -> None:
    study = planted()
    cases, member = with_cases(study), in_top(study["mad"], 3)
    lazy = in_top(chunked(study["mad"], sample=7, condition=2, channel=5), 3)
    with raise_if_dask_computes():
        found = shared_channels(lazy, 4), general_and_specific(lazy, cases, 4)
    expected = shared_channels(member, 4), general_and_specific(member, cases, 4)
    for one, other in zip(found, expected, strict=True):
        xr.testing.assert_allclose(one.compute(scheduler="synchronous"), other, rtol=1e-12)


def test_one_layer_as_in_the_network() -> None:
    study = planted()
    member, cases = in_top(study["mad"], 3), with_cases(study)
    layer = member.isel(channel=study["layer"].values == "L02")
    alone = layer.drop_vars(["layer", "module"]).assign_coords(layer="L02", module="net.L02.adn.N")
    for part in (layer, alone):
        found = general_and_specific(part, cases)
        assert found["layer"].values.tolist() == ["L02"]
        assert found["module"].values.tolist() == ["net.L02.adn.N"]
        expected = general_and_specific(member, cases)
        np.testing.assert_array_equal(found["note"], expected["note"])
        np.testing.assert_allclose(found["correlation"], expected["correlation"].sel(layer=["L02"]), rtol=1e-12)
        for name in ("gained", "lost"):
            np.testing.assert_array_equal(found[name], expected[name].sel(layer=["L02"], drop=True))
        shared = shared_channels(part)["targets"].values
        np.testing.assert_array_equal(shared, shared_channels(member)["targets"][study["layer"].values == "L02"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, c: shared_channels(m, 0), r"most = 0: give an integer of at least 1"),
        (lambda m, c: general_and_specific(m, c, 0), r"most = 0: give an integer of at least 1"),
        (lambda m, c: shared_channels(m.astype(int)), r"member is int64, not bool: give the result of in_top"),
        (lambda m, c: shared_channels(m.isel(channel=0)), r"in_top has no dimension 'channel', only"),
        (lambda m, c: shared_channels(m.isel(condition=[0])), r"no condition perturbs a class: select at least one"),
        (lambda m, c: shared_channels(m.drop_vars("target")), r"no coordinate 'target' along condition"),
        (lambda m, c: shared_channels(m.drop_vars("patient")), r"no coordinate 'patient' along sample"),
        (lambda m, c: general_and_specific(m, c[:3]), r"cases have 3 along sample, member has 60: select the same"),
        (lambda m, c: general_and_specific(m, c.where(False, "")), r"cases are all '': no sample has a kind of"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    study = make_study()
    with pytest.raises(AnalysisError, match=message):
        call(in_top(study["mad"], 2), with_cases(study))
