"""Where in a map a channel changes, and where a layer's grid lies on the input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import nn

import actstore
from actstore import analysis
from actstore.analysis import AnalysisError, regional_mad
from actstore.analysis.masks import around, averaged, averaged_within
from actstore.grid import grid_offsets
from actstore.models import build_model
from actstore.record import probe
from actstore.spec import load_spec
from helpers import CLASSES, make_activation, raise_if_dask_computes

SIZE = (24, 32)


def overlap(before: int, after: int, offset: float) -> NDArray[np.float64]:
    """How much of each input pixel lies in each layer pixel, (after, before), pixel by pixel."""
    stride = before / after
    weights = np.zeros((after, before))
    for i in range(after):
        low, high = i * stride + offset, (i + 1) * stride + offset
        for j in range(before):
            start = -np.inf if j == 0 else j
            stop = np.inf if j == before - 1 else j + 1
            weights[i, j] = max(0.0, min(high, stop) - max(low, start)) / stride
    return weights


@given(
    before=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    after=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    offset=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    seed=st.integers(0, 99),
)
def test_a_layer_pixel_holds_the_share_of_the_mask_that_it_covers(
    before: tuple[int, int], after: tuple[int, int], offset: tuple[float, float], seed: int
) -> None:
    mask = np.random.default_rng(seed).random(before) < 0.4
    expected = overlap(before[0], after[0], offset[0]) @ mask @ overlap(before[1], after[1], offset[1]).T
    np.testing.assert_allclose(averaged(mask, after, offset), expected, atol=1e-9)


@given(
    before=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    after=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    offset=st.tuples(st.floats(-4, 4), st.floats(-4, 4)),
    seed=st.integers(0, 99),
)
def test_averages_within_a_box_are_those_of_the_whole(
    before: tuple[int, int], after: tuple[int, int], offset: tuple[float, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    box = tuple(slice(a := int(rng.integers(n)), int(rng.integers(a + 1, n + 1))) for n in before)
    mask = np.zeros(before, bool)
    mask[box] = rng.random(mask[box].shape) < 0.5
    part, values = averaged_within([mask], box, after, offset)
    whole = np.zeros(after)
    whole[part] = values[0]
    np.testing.assert_allclose(whole, averaged(mask, after, offset), atol=1e-9)


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
    found = regional_mad(activation, label, class_names=CLASSES, rim=3.0, offset=[-0.5] * len(size))
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
    inside = averaged(label.values[0] == 3, (12, 16), (0, 0)) == 1
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
    with pytest.raises(AnalysisError, match=r"offset = \(1,\): give one number for each of y, x"):
        regional_mad(activation, label, class_names=CLASSES, offset=(1,))
    with pytest.raises(AnalysisError, match=r"target 'MYO' is no foreground class: class_names has RV, LV"):
        regional_mad(activation, label, class_names=("background", "RV", "LV"))
    with pytest.raises(AnalysisError, match=r"label has 2 samples, activation 3: select the same samples of both"):
        regional_mad(activation, label.isel(sample=[0, 1]), class_names=CLASSES)
    with pytest.raises(AnalysisError, match=r"label has no dimension 'x'"):
        regional_mad(activation, label.isel(x=0), class_names=CLASSES)


class Chain(nn.Module):
    """Three strided convolutions, then pooling instead."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.b = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.c = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.pool = nn.AvgPool2d(4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.pool(image)
        found: torch.Tensor = self.c(torch.relu(self.b(torch.relu(self.a(image)))))
        return found


def test_strided_convolutions_shift_the_grid_and_pooling_does_not() -> None:
    model = Chain().eval()
    layers = probe(model, (1, 128, 128), ["a", "b", "c", "pool"]).layers
    found = dict(zip([layer.module for layer in layers], grid_offsets(model, layers, (128, 128)), strict=True))
    for module, expected in (("pool", 0.0), ("a", -0.5), ("b", -1.5), ("c", -3.5)):
        np.testing.assert_allclose(found[module], [expected] * 2, atol=0.25, err_msg=module)


def test_the_grid_of_a_unet_is_back_in_place_at_its_end() -> None:
    model = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8, 16), strides=(2, 2)).eval()
    layers = probe(model, (1, 32, 64, 64), ["*.adn.N"]).layers
    before = [value.clone() for value in model.state_dict().values()]
    offsets = np.asarray(grid_offsets(model, layers, (32, 64, 64)))
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True)), "the network's own"
    strides = np.asarray([[n / m for n, m in zip((32, 64, 64), layer.space, strict=True)] for layer in layers])
    assert (np.abs(offsets) <= strides / 2 + 0.5).all()
    assert (offsets[strides[:, 0] == strides.max()] < -0.5).all()


def test_a_network_that_cannot_be_run_so_has_offsets_of_zero() -> None:
    class Picky(Chain):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if float(self.a.bias.abs().sum()) == 0:  # type: ignore[union-attr]
                raise RuntimeError("not with these weights")
            return super().forward(image)

    model = Picky().eval()
    layers = probe(model, (1, 32, 32), ["a"]).layers
    assert grid_offsets(model, layers, (32, 32)) == [(0.0, 0.0)]


def test_a_store_knows_the_grid_of_its_layers(tiny_store: Path, tiny_spec: Path) -> None:
    store = actstore.open(tiny_store)
    model = build_model(load_spec(tiny_spec))
    assert store.offsets == dict(
        zip(store.layers.index, grid_offsets(model, store.layout.layers, (64, 64)), strict=True)
    )
    assert any(offset != (0.0, 0.0) for offset in store.offsets.values())
    del store.attributes["grid"]
    assert set(store.offsets.values()) == {(0.0, 0.0)}, "a store of before"
