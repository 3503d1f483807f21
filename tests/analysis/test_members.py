"""Regions: overlap, rates, volumes, distances and cases of classes taken together, against plain NumPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from actstore import analysis
from actstore.analysis import AnalysisError
from actstore.analysis.evidence import targets_of
from helpers import label_coords, make_activation, make_confusion, raise_if_dask_computes

NAMES = ("background", "heart only", "left only", "LV")
REGIONS = {"heart": (1, 2, 3), "left": (2, 3), "LV": (3,)}
TARGETS = ("heart", "left", "LV")
SPACING = {f"spacing_{axis}": ("sample", [size] * 4) for axis, size in zip("zyx", (8.0, 1.5, 1.25), strict=True)}


@pytest.fixture
def maps() -> tuple[Any, Any]:
    """Labels (sample, y, x) and predictions (sample, condition, y, x); the last sample holds no class."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, 4, (4, 12, 10)).astype(np.uint8)
    label[3] = 0
    prediction = np.where(rng.random((4, 4, 12, 10)) < 0.6, label[:, None], rng.integers(0, 4, (4, 4, 12, 10)))
    return label, prediction.astype(np.uint8)


@pytest.fixture
def confusion(maps: tuple[Any, Any]) -> xr.DataArray:
    label, prediction = maps
    counts = np.zeros((4, 4, 4, 4), np.int64)
    for (s, c), _ in np.ndenumerate(counts[..., 0, 0]):
        np.add.at(counts[s, c], (label[s], prediction[s, c]), 1)
    return make_confusion(counts, TARGETS, NAMES).assign_coords(SPACING)


def masks(maps: tuple[Any, Any], region: str) -> tuple[Any, Any]:
    return tuple(np.isin(values, REGIONS[region]) for values in maps)


def test_measures_of_a_region_are_those_of_its_mask(maps: tuple[Any, Any], confusion: xr.DataArray) -> None:
    found = analysis.segmentation_metrics(confusion, regions=REGIONS)
    assert found["class_name"].values.tolist() == list(REGIONS)
    for region in REGIONS:
        true, predicted = masks(maps, region)
        true = np.broadcast_to(true[:, None], predicted.shape)
        b, t, p = ((m).sum(axis=(2, 3)) for m in (true & predicted, true, predicted))
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = {
                "dice": np.where(t + p == 0, 1, 2 * b / (t + p)),
                "jaccard": np.where(t + p == 0, 1, b / (t + p - b)),
                "sensitivity": b / t,
                "specificity": (~true & ~predicted).sum(axis=(2, 3)) / (~true).sum(axis=(2, 3)),
                "precision": b / p,
                "volume_difference": (p - t) * 8 * 1.5 * 1.25 / 1000,
                "relative_volume_difference": np.where(t == 0, np.nan, (p - t) / t),
            }
        for name, values in expected.items():
            np.testing.assert_allclose(found[name].sel(class_name=region), values, err_msg=f"{region} {name}")
        size = analysis.class_size(confusion, regions=REGIONS).sel(class_name=region)
        np.testing.assert_array_equal(size, t[:, 0])


def test_regions_of_one_class_are_that_class(confusion: xr.DataArray) -> None:
    single = {name: (i,) for i, name in enumerate(NAMES) if i}
    with raise_if_dask_computes():
        both = [analysis.segmentation_metrics(confusion.chunk(sample=2), regions=r) for r in (single, None)]
    xr.testing.assert_identical(*both)
    xr.testing.assert_identical(analysis.class_size(confusion, regions=single), analysis.class_size(confusion))
    xr.testing.assert_identical(analysis.dice_over(confusion, regions=single), analysis.dice_over(confusion))


def test_volumes_pool_before_regions_merge(maps: tuple[Any, Any], confusion: xr.DataArray) -> None:
    pooled = analysis.pooled(confusion, "patient", applicable=confusion[..., 0, 0] >= 0)
    true, predicted = masks(maps, "left")
    both = (true[:, None] & predicted).sum(axis=(0, 2, 3))
    whole = true.sum() + predicted.sum(axis=(0, 2, 3))
    np.testing.assert_allclose(analysis.dice(pooled, regions=REGIONS).sel(class_name="left")[0], 2 * both / whole)


def test_means_count_slices_that_hold_the_region(maps: tuple[Any, Any], confusion: xr.DataArray) -> None:
    confusion = confusion.copy()
    confusion[1, :, 3, 0] += confusion[1, :, 3].sum("predicted_class")
    confusion[1, :, 3, 1:] = 0
    confusion[1, :, 3] = 0  # a slice of the heart without LV
    kept = analysis.dice_over(confusion, regions=REGIONS).notnull().isel(condition=0)
    assert kept.sel(class_name="heart").values.tolist() == [True, True, True, False]
    assert kept.sel(class_name="LV").values.tolist() == [True, False, True, False]


def test_tables_name_the_regions(confusion: xr.DataArray) -> None:
    for table in (
        analysis.dice_table(confusion, regions=REGIONS),
        analysis.segmentation_table(confusion, regions=REGIONS),
        analysis.dice_mean_table(confusion, regions=REGIONS),
    ):
        assert list(dict.fromkeys(table["class_name"])) == list(REGIONS)
    own = analysis.dice_table(confusion, regions=REGIONS).query("target == class_name and target == 'left'")
    np.testing.assert_array_equal(own["dice"], analysis.dice(confusion, regions=REGIONS).values[:, 2, 1])


class TestMerged:
    def test_classes_of_a_region_count_as_one(self, confusion: xr.DataArray) -> None:
        with raise_if_dask_computes():
            lazy = analysis.merged(confusion.chunk(sample=2), {"left": (2, 3)})
        assert lazy["true_class"].values.tolist() == ["background", "heart only", "left"]
        assert lazy["predicted_class"].values.tolist() == ["background", "heart only", "left"]
        expected = np.add.reduceat(np.add.reduceat(confusion.values, [0, 1, 2], axis=2), [0, 1, 2], axis=3)
        np.testing.assert_array_equal(lazy, expected)
        assert lazy.dtype == confusion.dtype
        assert lazy.dims == confusion.dims
        xr.testing.assert_identical(
            analysis.dice(lazy).sel(class_name="left").compute(),
            analysis.dice(confusion, regions=REGIONS).sel(class_name="left"),
        )

    def test_a_region_stands_where_its_first_class_stood(self, confusion: xr.DataArray) -> None:
        found = analysis.merged(confusion, {"ends": (3, 1)})
        assert found["true_class"].values.tolist() == ["background", "ends", "left only"]
        assert int(found[0, 0, 1, 2]) == int(confusion[0, 0, [1, 3], 2].sum())

    def test_all_classes(self, confusion: xr.DataArray) -> None:
        found = analysis.merged(confusion, {"heart": (1, 2, 3)})
        np.testing.assert_array_equal(found[..., 1, 1], confusion[..., 1:, 1:].sum(["true_class", "predicted_class"]))
        np.testing.assert_array_equal(found.sum(["true_class", "predicted_class"]), 120)

    def test_overlapping_regions_are_refused(self, confusion: xr.DataArray) -> None:
        with pytest.raises(
            AnalysisError, match=r"regions 'heart' and 'left' share the class 'left only': merge one at"
        ):
            analysis.merged(confusion, {"heart": (1, 2), "left": (2, 3)})


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ({}, "regions is empty: name at least one class, or leave it out"),
        ({"heart": ()}, "region 'heart' = []: list one class or more, each once"),
        ({"heart": (1, 1)}, "region 'heart' = [1, 1]: list one class or more, each once"),
        ({"heart": (0, 1)}, "region 'heart' = [0, 1]: 0 is the background, foreground classes are 1 to 3"),
        ({"heart": (1, 4)}, "region 'heart' = [1, 4]: 4 is no class, foreground classes are 1 to 3"),
    ],
)
def test_impossible_regions(confusion: xr.DataArray, regions: dict[str, Any], words: str) -> None:
    for function in (analysis.dice, analysis.merged, analysis.class_size):
        with pytest.raises(AnalysisError, match=re.escape(words)):
            function(confusion, regions=regions)


class TestCases:
    def test_classes_of_the_target_are_one_class(self) -> None:
        counts = np.zeros((3, 4, 4, 4), np.int64)
        counts[..., 0, 0] = 500
        counts[0, :, 3, 2] = 100  # LV called left only: right for left and heart
        counts[1, :, 2, 1] = 100  # left only called heart only: wrong for left
        counts[2, :, 1, 1], counts[2, :, 3, 3] = 60, 40
        found = analysis.cases(make_confusion(counts, TARGETS, NAMES), regions=REGIONS)
        assert found.values[:, 0].tolist() == [""] * 3
        assert found.sel(condition="brightness(heart, 0.1)").values.tolist() == ["only heart"] * 3
        of_left = found.isel(condition=2).values.tolist()
        assert of_left == ["only left", "extreme left→heart only", "left + others"]
        assert found.isel(condition=3).values.tolist() == ["extreme LV→left only", "error", "LV + others"]

    def test_as_if_merged_first(self, confusion: xr.DataArray) -> None:
        found = analysis.cases(confusion, regions=REGIONS)
        for c, target in enumerate(TARGETS, start=1):
            only = confusion.isel(condition=[0, c])
            alone = analysis.cases(analysis.merged(only, {target: REGIONS[target]}))
            assert found.isel(condition=c).values.tolist() == alone.isel(condition=1).values.tolist()

    def test_rules_of_the_heart_hold_where_its_classes_are_known(self) -> None:
        counts = np.zeros((1, 2, 5, 5), np.int64)
        counts[..., 0, 0], counts[..., 3, 2], counts[..., 4, 2], counts[..., 2, 2] = 500, 60, 40, 50
        names = ["background", "RV", "MYO", "LV (3)", "LV (4)"]
        confusion = make_confusion(counts, ["LV"], names)
        found = analysis.cases(confusion, regions={"RV": (1,), "MYO": (2,), "LV": (3, 4)})
        assert found.values[0, 1] == "extreme LV→MYO"

    def test_a_target_must_be_listed(self, confusion: xr.DataArray) -> None:
        with pytest.raises(AnalysisError, match="target 'heart' is no foreground class: the confusion has left, LV"):
            analysis.cases(confusion, regions={"left": (2, 3), "LV": (3,)})


@pytest.mark.parametrize("by", ["slice", "volume"])
def test_surface_of_a_region_is_that_of_its_mask(maps: tuple[Any, Any], by: Any) -> None:
    label, prediction = maps
    coords = {**label_coords(4, TARGETS, per_volume=4), **SPACING}
    truth = xr.DataArray(label, dims=("sample", "y", "x"))
    seen = xr.DataArray(prediction, dims=("sample", "condition", "y", "x"), coords=coords)
    found = analysis.surface_distances(seen, truth, NAMES, by=by, regions=REGIONS)
    assert found["class_name"].values.tolist() == list(REGIONS)
    for region in REGIONS:
        true, predicted = (m.astype(np.uint8) for m in masks(maps, region))
        alone = analysis.surface_distances(
            seen.copy(data=predicted), truth.copy(data=true), ["background", region], by=by
        )
        xr.testing.assert_identical(found.sel(class_name=[region]), alone)
    table = analysis.surface_table(seen, truth, NAMES, regions=REGIONS, by=by)
    assert list(dict.fromkeys(table["class_name"])) == list(REGIONS)


def test_change_inside_a_region(maps: tuple[Any, Any]) -> None:
    label, _ = maps
    values = np.random.default_rng(0).random((4, 4, 2, 12, 10)).astype(np.float32)
    activation = make_activation(values, TARGETS)
    truth = xr.DataArray(label, dims=("sample", "y", "x"))
    found = analysis.regional_mad(activation, truth, class_names=NAMES, regions=REGIONS)
    change = np.abs(values.astype(np.float64) - values[:, :1])
    for c, region in enumerate(TARGETS, start=1):
        mask = np.isin(label, REGIONS[region])
        for s in range(3):
            np.testing.assert_allclose(found["inside"][s, c], change[s, c][:, mask[s]].mean(axis=1))
        assert np.isnan(found["inside"][3, c]).all()


def test_rescaling_leaves_a_region_out(maps: tuple[Any, Any]) -> None:
    label, _ = maps
    rng = np.random.default_rng(5)
    original = rng.random((4, 1, 12, 10)).astype(np.float32)
    values = np.repeat(original, 4, axis=1)
    for c, region in enumerate(TARGETS, start=1):
        inside = np.isin(label, REGIONS[region])
        values[:, c] = np.where(inside, rng.random(inside.shape), original[:, 0] * (1 + 0.25 * c))
    coords = {**label_coords(4, TARGETS), "region": ("condition", ["", *["target"] * 3])}
    image = xr.DataArray(values, dims=("sample", "condition", "y", "x"), coords=coords)
    truth = xr.DataArray(label, dims=("sample", "y", "x"))
    found = analysis.rescaling(image, truth, NAMES, REGIONS)
    np.testing.assert_allclose(found, np.tile([1, 1.25, 1.5, 1.75], (4, 1)), rtol=1e-5)


def test_targets_are_regions() -> None:
    array = xr.DataArray(np.zeros((1, 4)), dims=("sample", "condition"), coords=label_coords(1, TARGETS))
    assert targets_of(array, NAMES, REGIONS) == ((), (1, 2, 3), (2, 3), (3,))
    with pytest.raises(AnalysisError, match="target 'heart' is no foreground class: class_names has heart only, left"):
        targets_of(array, NAMES)
