"""Rates and volumes of segmentations, slices pooled to volumes and patients, and where in the heart a slice lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore import analysis
from actstore.analysis import (
    AnalysisError,
    dice,
    pooled,
    precision,
    relative_volume_difference,
    segmentation_metrics,
    segmentation_table,
    sensitivity,
    slice_position,
    specificity,
    thirds,
    volume_difference,
)
from actstore.tables.of_segmentation import METRIC_NAMES, SEGMENTATION_COLUMNS
from helpers import chunked, make_confusion, raise_if_dask_computes

SPACING = {"spacing_z": 10.0, "spacing_y": 1.5, "spacing_x": 2.0}


def with_spacing(confusion: xr.DataArray, **spacing: Any) -> xr.DataArray:
    sizes = {name: np.broadcast_to(value, confusion.sizes["sample"]) for name, value in {**SPACING, **spacing}.items()}
    return confusion.assign_coords({name: ("sample", values) for name, values in sizes.items()})


def counts_of(true: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.int64]:
    """(sample, pixel) and (sample, condition, pixel) class numbers as (sample, condition, 4, 4) counts."""
    counts = np.zeros((*predicted.shape[:2], 4, 4), np.int64)
    for s, c, p in np.ndindex(predicted.shape):
        counts[s, c, true[s, p], predicted[s, c, p]] += 1
    return counts


def test_rates_and_volumes_by_hand() -> None:
    #                bg  RV MYO LV
    matrix = [[80, 0, 2, 3], [0, 0, 0, 0], [1, 0, 4, 0], [2, 0, 0, 8]]
    confusion = with_spacing(make_confusion([[matrix, np.zeros((4, 4))]], targets=["LV"]))
    found = segmentation_metrics(confusion).isel(sample=0)
    np.testing.assert_allclose(found["sensitivity"][0], [np.nan, 4 / 5, 8 / 10])
    np.testing.assert_allclose(found["specificity"][0], [1, 93 / 95, 87 / 90])
    np.testing.assert_allclose(found["precision"][0], [np.nan, 4 / 6, 8 / 11])
    np.testing.assert_allclose(found["volume_difference"][0], [0, 0.03, 0.03])
    np.testing.assert_allclose(found["relative_volume_difference"][0], [np.nan, 1 / 5, 1 / 10])
    np.testing.assert_allclose(found["dice"][0], [1, 8 / 11, 16 / 21])
    assert found["volume_difference"].attrs == {"units": "ml"}
    for name in METRIC_NAMES:
        assert np.isnan(found[name][1]).all(), "not applicable"
        assert found[name].dtype == np.float64


def test_empty_masks() -> None:
    nothing, missed, invented, full = np.zeros((4, 4, 4), int)
    nothing[0, 0] = missed[0, 0] = invented[0, 0] = 90
    missed[3, 0], invented[0, 3], full[3, 3] = 10, 10, 100
    confusion = with_spacing(make_confusion(np.stack([nothing, missed, invented, full])[:, None], targets=[]))
    found = segmentation_metrics(confusion).sel(class_name="LV").isel(condition=0)
    nan = np.nan
    np.testing.assert_array_equal(found["dice"], [1, 0, 0, 1])
    np.testing.assert_array_equal(found["sensitivity"], [nan, 0, nan, 1])
    np.testing.assert_array_equal(found["precision"], [nan, nan, 0, 1])
    np.testing.assert_array_equal(found["specificity"], [1, 1, 0.9, nan])
    np.testing.assert_array_equal(found["relative_volume_difference"], [nan, -1, nan, 0])
    np.testing.assert_allclose(found["volume_difference"], [0, -0.3, 0.3, 0])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 5))
def test_pooled_is_counting_all_slices_at_once(seed: int, samples: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, (samples, 12)) * rng.integers(0, 2, (samples, 1))
    predicted = rng.integers(0, 4, (samples, 3, 12))
    applicable = rng.random((samples, 3)) < 0.6
    applicable[:, 0] = True
    counts = counts_of(true, predicted) * applicable[..., None, None]
    confusion = with_spacing(make_confusion(counts, targets=["LV", "RV"]))
    mask = xr.DataArray(applicable, dims=("sample", "condition"))
    parts = chunked(confusion, {"sample": min(step, samples), "condition": 1})
    for by in (("patient", "frame"), "patient", ["group", "frame"]):
        with raise_if_dask_computes():
            lazy = segmentation_metrics(pooled(parts, by, applicable=mask.chunk({"sample": 1})))
        found = pooled(confusion, by, applicable=mask)
        xr.testing.assert_identical(pooled(confusion, by), found)
        xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), segmentation_metrics(found))
        names = [by] if isinstance(by, str) else list(by)
        keys = list(zip(*(confusion[name].values for name in names), strict=True))
        groups = list(dict.fromkeys(keys))
        assert list(zip(*(found[name].values for name in names), strict=True)) == groups
        for g, group in enumerate(groups):
            inside = [i for i, key in enumerate(keys) if key == group]
            assert found["samples"][g] == len(inside)
            for c in range(3):
                filled = np.stack([predicted[i, c if applicable[i, c] else 0] for i in inside])
                whole = counts_of(true[inside].reshape(1, -1), filled.reshape(1, 1, -1))[0, 0]
                if not applicable[inside, c].any():
                    whole = np.zeros((4, 4))
                np.testing.assert_array_equal(found[g, c], whole)


def test_pooled_keeps_what_its_slices_share() -> None:
    confusion = with_spacing(
        make_confusion(np.ones((7, 2, 4, 4)), targets=["LV"]), spacing_z=[5] * 3 + [6, 6, np.nan, 7]
    )
    volumes = pooled(confusion)
    assert volumes["frame"].values.tolist() == [1, 12, 1]
    assert volumes["samples"].values.tolist() == [3, 3, 1]
    assert {"patient", "frame", "block", "group", "spacing_y", "target"} <= set(volumes.coords)
    assert "slice" not in volumes.coords
    np.testing.assert_array_equal(volumes["spacing_z"], [5, np.nan, 7], "the second one's slices differ")
    same = with_spacing(
        make_confusion(np.ones((6, 2, 4, 4)), targets=["LV"]), spacing_z=[5, 5, 5, np.nan, np.nan, np.nan]
    )
    np.testing.assert_array_equal(pooled(same)["spacing_z"], [5, np.nan])
    np.testing.assert_array_equal(dice(pooled(same))[0, 0], dice(same)[0, 0])


def heart(sizes: list[int], slices: list[int] | None = None) -> xr.DataArray:
    """One volume with so many labelled pixels a slice."""
    counts = np.zeros((len(sizes), 2, 4, 4), int)
    counts[:, :, 0, 0] = 900
    counts[:, 0, 3, 1] = sizes
    confusion = make_confusion(counts, targets=["LV"])
    number = list(range(len(sizes))) if slices is None else slices
    same = {"patient": ("sample", ["a"] * len(sizes)), "frame": ("sample", [1] * len(sizes))}
    return confusion.assign_coords(slice=("sample", number), **same)


@pytest.mark.parametrize(
    ("sizes", "position", "third"),
    [
        ([9, 8, 7, 5, 3, 2, 1], [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1], "basal basal mid mid mid apical apical"),
        ([0, 2, 5, 9, 0], [np.nan, 1, 0.5, 0, np.nan], " apical mid basal "),
        ([1, 2, 3, 4], [1, 2 / 3, 1 / 3, 0], "apical mid mid basal"),
        ([4, 9, 4], [0, 0.5, 1], "basal mid apical"),
        ([0, 7, 0], [np.nan, 0, np.nan], " basal "),
        ([5, 0, 3], [0, np.nan, 1], "basal  apical"),
        ([0, 0], [np.nan, np.nan], " "),
    ],
    ids=str,
)
def test_position_and_thirds(sizes: list[int], position: list[float], third: str) -> None:
    found = slice_position(heart(sizes))
    np.testing.assert_allclose(found, position, rtol=1e-15)
    assert thirds(found).values.tolist() == third.split(" ")
    shuffled = np.random.default_rng(0).permutation(len(sizes))
    np.testing.assert_allclose(slice_position(heart(sizes).isel(sample=shuffled)), np.array(position)[shuffled])


def test_positions_of_several_volumes_lazily() -> None:
    parts = [heart([9, 5, 1]), heart([1, 5, 9]).assign_coords(frame=("sample", [2] * 3))]
    confusion = xr.concat(parts, "sample")
    with raise_if_dask_computes():
        position = slice_position(chunked(confusion, {"sample": 2}))
        lazy = thirds(position)
    assert lazy.compute(scheduler="synchronous").values.tolist() == ["basal", "mid", "apical", "apical", "mid", "basal"]
    assert lazy.name == "third"
    xr.testing.assert_identical(position.compute(scheduler="synchronous"), slice_position(confusion))
    assert position["patient"].dims == ("sample",)


def test_table_of_slices_volumes_and_patients() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, (8, 3, 4, 4))
    counts[2, 1] = 0
    counts[3:6, 2] = 0
    confusion = with_spacing(make_confusion(counts, targets=["LV", "RV"]))
    with raise_if_dask_computes(max_computes=1):
        table = segmentation_table(chunked(confusion, {"sample": 3}))
    assert tuple(table.columns) == SEGMENTATION_COLUMNS
    assert len(table) == (8 * 3 - 4) * 3
    assert table.groupby("condition").size().to_dict() == {
        "original": 24,
        "brightness(LV, 0.1)": 21,
        "brightness(RV, 0.1)": 15,
    }
    metrics = segmentation_metrics(confusion)
    row = table[(table["slice"] == 1) & (table["frame"] == 12) & (table["condition"] == "brightness(LV, 0.1)")].iloc[2]
    assert row["class_name"] == "LV"
    for name in METRIC_NAMES:
        assert row[name] == float(metrics[name][4, 1, 2])
    assert row["position"] == float(slice_position(confusion)[4])
    volumes = segmentation_table(pooled(confusion))
    assert list(volumes.columns) == [n for n in SEGMENTATION_COLUMNS if n not in ("slice", "position")]
    assert len(volumes) == (3 + 3 + 2) * 3
    patients = segmentation_table(pooled(confusion, "patient"))
    assert list(patients.columns) == [n for n in SEGMENTATION_COLUMNS if n not in ("slice", "position", "frame")]
    assert len(patients) == 2 * 3 * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: volume_difference(c.drop_vars("spacing_z")), r"no coordinate 'spacing_z' along sample: assign the"),
        (lambda c: pooled(c, "age"), r"by = 'age' is no coordinate along sample: use one of .*patient"),
        (lambda c: pooled(c, []), r"by = \[\]: name coordinates along sample"),
        (lambda c: pooled(c.isel(condition=[1])), r"the first condition is 'brightness\(RV, 0.1\)', not 'original'"),
        (lambda c: pooled(c.isel(sample=0)), r"confusion has no dimension 'sample'"),
        (lambda c: slice_position(c.drop_vars("slice")), r"by = 'slice' is no coordinate along sample"),
        (lambda c: slice_position(c.isel(sample=[0, 0])), r"two samples have one patient, frame and slice: select"),
        (lambda c: segmentation_table(c.drop_vars("frame")), r"no coordinate 'frame' along sample: assign it"),
        (lambda c: sensitivity(c.isel(true_class=0)), r"confusion has no dimension 'true_class'"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    confusion = with_spacing(make_confusion(np.ones((4, 2, 4, 4)), targets=["RV"]))
    with pytest.raises(AnalysisError, match=message):
        call(confusion)


@pytest.mark.parametrize("measure", [sensitivity, specificity, precision, relative_volume_difference])
def test_applicable_is_believed(measure: Any) -> None:
    confusion = make_confusion(np.ones((1, 2, 4, 4)), targets=["RV"])
    applicable = xr.DataArray([[True, False]], dims=("sample", "condition"))
    found = measure(confusion, applicable=applicable)
    assert found.name == measure.__name__
    assert found.isnull().values.tolist() == [[[False] * 3, [True] * 3]]
    assert measure.__name__ in analysis.__all__
