"""Tables: exact columns, a row for every applicable condition, values that match the arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from actstore.analysis import (
    AnalysisError,
    CaseRules,
    cases,
    cases_table,
    channel_frequency,
    dice,
    dice_table,
    frequency_table,
    mad_table,
    top_channels,
    top_channels_table,
)
from helpers import label_coords, make_confusion, raise_if_dask_computes

SAMPLES = 12
#: (sample, condition) that the fixtures leave out.
MISSING = ((0, 1), (0, 3), (7, 2))


def make_statistics(lazy: bool = False) -> dict[str, xr.Dataset]:
    rng = np.random.default_rng(0)
    found = {}
    for layer, channels in (("L02", 5), ("L01", 2)):
        mad = rng.random((SAMPLES, 4, channels))
        mad[:, 0] = 0
        for s, c in MISSING:
            mad[s, c] = np.nan
        dims = ("sample", "condition", "channel")
        data = xr.Dataset(
            {"mad": (dims, mad), "mse": (dims, mad**2)},
            coords=label_coords(SAMPLES, layer=layer, module=f"net.{layer}.adn.N"),
        )
        found[layer] = data.chunk({"sample": 4}) if lazy else data
    return found


def make_counts() -> xr.DataArray:
    matrices = np.random.default_rng(1).integers(0, 60, (SAMPLES, 4, 4, 4))
    for s, c in MISSING:
        matrices[s, c] = 0
    return make_confusion(matrices)


def row(table: pd.DataFrame, **where: Any) -> pd.Series:
    found = table[np.logical_and.reduce([table[k] == v for k, v in where.items()])]
    assert len(found) == 1
    return found.iloc[0]


def test_top_channels() -> None:
    statistics = make_statistics()
    table = top_channels_table(statistics, k=3)
    assert ",".join(table.columns) == (
        "layer,module,patient,frame,slice,condition,transform,target,strength,rank,channel,mad,mse"
    )
    assert len(table) == (SAMPLES * 3 - len(MISSING)) * (3 + 2)
    assert table["layer"].unique().tolist() == ["L02", "L01"]
    assert {table[name].dtype for name in ("frame", "slice", "rank", "channel")} == {np.dtype(np.int64)}
    assert not table.isna().any().any()
    top = top_channels(statistics["L02"]["mad"], 3)
    # Sample 7 is volume 2, the first frame of the second patient, slice 1.
    found = row(table, layer="L02", patient="patient002", frame=1, slice=1, target="LV", rank=2)
    assert (found["module"], found["condition"], found["transform"]) == (
        "net.L02.adn.N",
        "brightness(LV, 0.1)",
        "brightness",
    )
    assert found["strength"] == 0.1
    assert found["channel"] == top["channel"].values[7, 3, 1]
    assert found["mad"] == top["mad"].values[7, 3, 1]
    assert found["mse"] == statistics["L02"]["mse"].values[7, 3, found["channel"]]


def test_mad() -> None:
    statistics = make_statistics()
    table = mad_table(statistics)
    assert ",".join(table.columns) == (
        "layer,module,patient,frame,slice,condition,transform,target,strength,channel,mad,mse"
    )
    assert len(table) == (SAMPLES * 3 - len(MISSING)) * (5 + 2)
    assert set(table["target"]) == {"RV", "MYO", "LV"}
    found = row(table, layer="L01", patient="patient001", frame=12, slice=2, target="MYO", channel=1)
    assert found["mad"] == statistics["L01"]["mad"].values[5, 2, 1]
    assert found["mse"] == statistics["L01"]["mse"].values[5, 2, 1]


@pytest.mark.parametrize("make", [top_channels_table, mad_table, frequency_table])
def test_lazy_layers_are_computed_together(make: Any) -> None:
    with raise_if_dask_computes(max_computes=1):
        table = make(make_statistics(lazy=True))
    pd.testing.assert_frame_equal(table, make(make_statistics()))


@pytest.mark.parametrize("make", [top_channels_table, mad_table])
def test_broken_maps_of_an_applicable_condition_keep_their_rows_and_have_no_rank(make: Any) -> None:
    statistics = make_statistics()
    applicable = xr.DataArray(np.ones((4, SAMPLES), bool), dims=("condition", "sample"))
    table = make(statistics, applicable=applicable)
    rows = SAMPLES * 3 - (len(MISSING) if make is top_channels_table else 0)
    assert len(table.drop_duplicates(["patient", "frame", "slice", "condition"])) == rows
    assert table["mad"].isna().sum() == (0 if make is top_channels_table else len(MISSING) * 7)


def test_frequency_per_condition() -> None:
    statistics = make_statistics()
    table = frequency_table(statistics, k=2, most=4)
    assert ",".join(table.columns) == "layer,condition,target,channel,count,rank"
    frequency = channel_frequency(top_channels(statistics["L02"]["mad"], 2))
    for _, rows in table.groupby(["layer", "condition"]):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows["count"].is_monotonic_decreasing
    found = row(table, layer="L02", target="RV", rank=1)
    counts = frequency["count"].sel(condition="brightness(RV, 0.1)")
    assert found["count"] == counts.max()
    assert found["channel"] == counts.values.argmax()
    assert len(table[table["layer"] == "L01"]) == 3 * 2


def test_frequency_by_case_and_by_other_coordinates() -> None:
    statistics = make_statistics()
    case = cases(make_counts())
    table = frequency_table(statistics, by=case)
    assert ",".join(table.columns) == "layer,condition,target,case,channel,count,rank"
    frequency = channel_frequency(top_channels(statistics["L02"]["mad"]), case)
    for r in table[table["layer"] == "L02"].to_dict("records"):
        at = {"condition": r["condition"], "case": r["case"], "channel": r["channel"]}
        assert frequency["count"].sel(at) == r["count"] > 0
    assert table["count"].sum() == frequency_table(statistics)["count"].sum()
    table = frequency_table(statistics, by=["patient", "target", "frame"])
    assert ",".join(table.columns) == "layer,condition,target,patient,frame,channel,count,rank"
    pd.testing.assert_frame_equal(frequency_table(statistics, by="condition"), frequency_table(statistics))


def test_dice() -> None:
    confusion = make_counts()
    table = dice_table(confusion)
    assert ",".join(table.columns) == "patient,frame,slice,condition,target,class_name,dice"
    assert len(table) == (SAMPLES * 4 - len(MISSING)) * 3
    assert len(table[table["target"] == ""]) == SAMPLES * 3
    found = row(table, patient="patient001", frame=12, slice=0, condition="original", class_name="MYO")
    assert found["dice"] == dice(confusion).values[3, 0, 1]
    assert found["target"] == ""


def test_cases() -> None:
    confusion = make_counts()
    table = cases_table(confusion)
    assert ",".join(table.columns) == "patient,frame,slice,condition,target,case"
    assert len(table) == SAMPLES * 3 - len(MISSING)
    found = row(table, patient="patient001", frame=1, slice=2, target="LV")
    assert found["case"] == cases(confusion).values[2, 3]
    everything_empty = cases_table(confusion, CaseRules(empty_below=10**6))
    assert set(everything_empty["case"]) == {"empty prediction"}


def test_lazy_confusion_gives_the_same_tables() -> None:
    confusion = make_counts()
    chunked = confusion.chunk({"sample": 5})
    pd.testing.assert_frame_equal(dice_table(chunked), dice_table(confusion))
    pd.testing.assert_frame_equal(cases_table(chunked), cases_table(confusion))


@pytest.mark.parametrize("make", [top_channels_table, mad_table, frequency_table])
def test_no_layers_and_no_rows_keep_the_columns(make: Any) -> None:
    columns = list(make(make_statistics()).columns)
    assert list(make({}).columns) == columns
    nothing = make({k: v.isel(sample=slice(0)) for k, v in make_statistics().items()})
    assert list(nothing.columns) == columns
    assert len(nothing) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("mse"), r"statistics of L02 have no 'mse': ask statistics\(\) for mad, mse"),
        (lambda d: d.drop_vars("module"), r"statistics of L02 have no coordinate 'module'"),
        (lambda d: d.isel(sample=0), r"mad has no dimension 'sample'"),
        (lambda d: d.isel(sample=slice(1, None)), r"layers L02 and L01 differ along sample"),
        (lambda d: d.assign_coords(slice=d["slice"] + 1), r"layers L02 and L01 differ along sample"),
        (lambda d: d.isel(condition=[0, 2, 1, 3]), r"layers L02 and L01 differ along condition"),
        (lambda d: d.drop_vars("patient"), r"no coordinate 'patient' along sample: assign it with assign_coords"),
    ],
)
def test_errors_name_the_mend(change: Any, message: str) -> None:
    statistics = make_statistics()
    statistics["L02"] = change(statistics["L02"])
    with pytest.raises(AnalysisError, match=message):
        mad_table(statistics)
