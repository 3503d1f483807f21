"""Where in a map a channel changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore import analysis
from actstore.analysis import AnalysisError, regional_mad
from actstore.analysis.masks import around, averaged, averaged_within
from actstore.geometry import Grid
from helpers import CLASSES, make_activation, raise_if_dask_computes

SIZE = (24, 32)


def overlap(before: int, after: int, step: float, begin: float) -> NDArray[np.float64]:
    """How much of each input pixel lies in each layer pixel, (after, before), pixel by pixel."""
    weights = np.zeros((after, before))
    for i in range(after):
        low, high = i * step + begin, (i + 1) * step + begin
        for j in range(before):
            start = -np.inf if j == 0 else j
            stop = np.inf if j == before - 1 else j + 1
            weights[i, j] = max(0.0, min(high, stop) - max(low, start)) / step
    return weights


@given(
    before=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    after=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    step=st.tuples(st.floats(0.3, 9), st.floats(0.3, 9)),
    start=st.tuples(st.floats(-4, 9), st.floats(-4, 9)),
    seed=st.integers(0, 99),
)
def test_a_layer_pixel_holds_the_share_of_the_mask_that_it_covers(
    before: tuple[int, int],
    after: tuple[int, int],
    step: tuple[float, float],
    start: tuple[float, float],
    seed: int,
) -> None:
    mask = np.random.default_rng(seed).random(before) < 0.4
    low = [begin + 0.5 - width / 2 for begin, width in zip(start, step, strict=True)]
    y, x = (overlap(*along) for along in zip(before, after, step, low, strict=True))
    found = averaged(mask, after, Grid(start, step, ("geometry",) * 2))
    np.testing.assert_allclose(found, y @ mask @ x.T, atol=1e-9)


@given(
    before=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    after=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    step=st.tuples(st.floats(0.3, 9), st.floats(0.3, 9)),
    start=st.tuples(st.floats(-4, 9), st.floats(-4, 9)),
    seed=st.integers(0, 99),
)
def test_averages_within_a_box_are_those_of_the_whole(
    before: tuple[int, int],
    after: tuple[int, int],
    step: tuple[float, float],
    start: tuple[float, float],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    box = tuple(slice(a := int(rng.integers(n)), int(rng.integers(a + 1, n + 1))) for n in before)
    mask = np.zeros(before, bool)
    mask[box] = rng.random(mask[box].shape) < 0.5
    grid = Grid(start, step, ("geometry",) * 2)
    part, values = averaged_within([mask], box, after, grid)
    whole = np.zeros(after)
    whole[part] = values[0]
    np.testing.assert_allclose(whole, averaged(mask, after, grid), atol=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.5, 0.8), (9.0, 1.4, 1.4)], ids=str)
def test_the_rim_is_what_lies_near(spacing: Sequence[float]) -> None:
    shape = (6, 14, 15)[-len(spacing) :]
    mask = np.zeros(shape, bool)
    mask[tuple(slice(n // 3, n // 2) for n in shape)] = True
    mask[(0,) * len(shape)] = True
    points = np.argwhere(mask) * spacing
    everywhere = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * spacing
    distance = np.sqrt(((everywhere[..., None, :] - points) ** 2).sum(-1)).min(-1)
    width = 3.1
    np.testing.assert_array_equal(around(mask, width, np.asarray(spacing)), (distance <= width) & ~mask)
    assert not around(np.zeros(shape, bool), width, np.asarray(spacing)).any()


def study(
    size: tuple[int, ...] = (12, 16), samples: int = 3, dtype: Any = np.float32, seed: int = 0
) -> tuple[xr.DataArray, xr.DataArray]:
    """Random activations at half the input's size, and labels in which the second sample lacks RV."""
    rng = np.random.default_rng(seed)
    activation = make_activation(rng.standard_normal((samples, 4, 2, *size)).astype(dtype))
    shape = tuple(2 * n for n in size)
    label = np.zeros((samples, *shape), np.uint8)
    for value, start in ((1, 2), (2, 8), (3, 12)):
        label[(slice(None), *(slice(start, start + 6) for _ in shape[-2:]))[-3:]] = value
        if len(shape) == 3:
            label[(slice(None), slice(None), *(slice(start, start + 6) for _ in shape[-2:]))] = value
    label[1][label[1] == 1] = 0
    activation.values[1, list(activation.target.values).index("RV")] = np.nan
    return activation, xr.DataArray(label, dims=("sample", *("z", "y", "x")[-len(size) :]), name="label")


@pytest.mark.parametrize("size", [(12, 16), (4, 12, 16)], ids=["2D", "3D"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_regions_make_up_the_whole_map(size: tuple[int, ...], dtype: Any) -> None:
    activation, label = study(size, dtype=dtype)
    grid = Grid.shifted(size, label.shape[1:], [-0.5] * len(size), "measured")
    found = regional_mad(activation, label, class_names=CLASSES, rim=3.0, grid=grid)
    mad = analysis.mad(activation)
    whole = sum(found[name] * found[f"{name}_area"] for name in ("inside", "rim", "outside"))
    tested = list(range(1, 4))
    np.testing.assert_allclose(whole.isel(condition=tested), mad.isel(condition=tested), rtol=1e-5)
    areas = sum(found[f"{name}_area"] for name in ("inside", "rim", "outside"))
    np.testing.assert_allclose(areas.values[:, tested], np.where(np.isnan(mad.values[:, tested, 0]), np.nan, 1.0))
    assert np.isnan(found["inside"].values[:, 0]).all(), "the original changes nothing"
    assert np.isnan(found["inside"].values[1, list(activation.target.values).index("RV")]).all(), "no RV there"
    assert found["stride"].values.tolist() == [2.0] * len(size)


def test_a_change_inside_is_found_inside() -> None:
    activation, label = study()
    activation.values[...] = 1.0
    c = list(activation.target.values).index("LV")
    inside = averaged(label.values[0] == 3, (12, 16), Grid.between_edges((12, 16), (24, 32))) == 1
    activation.values[0, c, 1][inside] += 2
    found = regional_mad(activation, label, class_names=CLASSES, rim=3.0).isel(sample=0, condition=c)
    np.testing.assert_allclose(found["inside"], [0, 2], atol=1e-12)
    np.testing.assert_allclose(found["rim"], 0, atol=1e-12)
    np.testing.assert_allclose(found["outside"], 0, atol=1e-12)


def test_the_rim_is_measured_in_millimetres() -> None:
    activation, label = study()
    wide = label.assign_coords({f"spacing_{d}": ("sample", [2.0, np.nan, 1.0]) for d in "yx"})
    found = regional_mad(activation, wide, class_names=CLASSES, rim=4.0)["rim_area"].sel(
        condition="brightness(LV, 0.1)"
    )
    pixels = [around(label.values[s] == 3, 4.0 / step, np.ones(2)).mean() for s, step in enumerate((2.0, 1.0, 1.0))]
    np.testing.assert_allclose(found, pixels)


def test_regions_are_lazy_and_do_not_depend_on_chunks() -> None:
    activation, label = study()
    expected = regional_mad(activation, label, class_names=CLASSES)
    chunks = {"sample": 2, "condition": 1, "channel": 1, "y": 5, "x": 7}
    lazy = activation.copy(data=activation.variable.chunk(chunks).data)
    with raise_if_dask_computes():
        found = regional_mad(lazy, label.chunk(sample=1, y=5), class_names=CLASSES)
    xr.testing.assert_allclose(found.compute(), expected)


def test_controls_and_repeats_have_no_regions() -> None:
    activation, label = study()
    control = activation.assign_coords(region=("condition", ["", "target", "control", "target"]))
    found = regional_mad(control, label, class_names=CLASSES)["outside"]
    assert np.isnan(found.values).all(axis=(0, 2)).tolist() == [True, False, True, False]


def test_bad_input_is_named() -> None:
    activation, label = study()
    with pytest.raises(AnalysisError, match=r"rim = 0: give a width in millimetres above 0"):
        regional_mad(activation, label, class_names=CLASSES, rim=0)
    with pytest.raises(AnalysisError, match=r"grid has 1 axes: give start and step of each of y, x"):
        regional_mad(activation, label, class_names=CLASSES, grid=Grid.between_edges((12,), (24,)))
    with pytest.raises(AnalysisError, match=r"target 'MYO' is no foreground class: class_names has RV, LV"):
        regional_mad(activation, label, class_names=("background", "RV", "LV"))
    with pytest.raises(AnalysisError, match=r"label has 2 samples, activation 3: select the same samples of both"):
        regional_mad(activation, label.isel(sample=[0, 1]), class_names=CLASSES)
    with pytest.raises(AnalysisError, match=r"label has no dimension 'x'"):
        regional_mad(activation, label.isel(x=0), class_names=CLASSES)
