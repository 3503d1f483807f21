"""Normalisation against plain formulas, padding and cropping against NumPy's."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from actstore.errors import DataError
from actstore.geometry import image_window
from actstore.inputs.preprocess import fit, normalize, scalings
from actstore.spec.toml_tables import Normalization

VOLUMES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.floats(-1000, 1000, width=32),
)


@pytest.fixture
def volume() -> NDArray[np.float32]:
    return np.random.default_rng(3).gamma(2.0, 90.0, (4, 9, 7)).astype(np.float32)


def test_minmax_slice_is_the_published_formula(volume: NDArray[np.float32]) -> None:
    result = normalize(volume, "minmax-slice")
    assert result.dtype == np.float32
    for s, got in zip(volume.astype(np.float64), result, strict=True):
        np.testing.assert_array_equal(got, ((s - s.min()) / (s.max() - s.min())).astype(np.float32))


def test_minmax_volume(volume: NDArray[np.float32]) -> None:
    v = volume.astype(np.float64)
    expected = ((v - v.min()) / (v.max() - v.min())).astype(np.float32)
    np.testing.assert_array_equal(normalize(volume, "minmax-volume"), expected)


def test_zscore(volume: NDArray[np.float32]) -> None:
    by_slice = normalize(volume, "zscore-slice").astype(np.float64)
    np.testing.assert_allclose(by_slice.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(by_slice.std(axis=(1, 2)), 1, atol=1e-6)
    whole = normalize(volume, "zscore-volume").astype(np.float64)
    np.testing.assert_allclose([whole.mean(), whole.std()], [0, 1], atol=1e-6)


@pytest.mark.parametrize("scope", ["slice", "volume"])
def test_percentile(volume: NDArray[np.float32], scope: str) -> None:
    volume[0, 0, 0] = 1e6
    parts = volume if scope == "slice" else [volume]
    expected = []
    for part in parts:
        low, high = np.percentile(part.astype(np.float64), [1, 99])
        expected.append(np.clip((part - low) / (high - low), 0, 1))
    method: Normalization = "percentile-slice" if scope == "slice" else "percentile-volume"
    np.testing.assert_allclose(normalize(volume, method), np.reshape(expected, volume.shape), atol=1e-6)


def test_none_only_casts(volume: NDArray[np.float32]) -> None:
    result = normalize(volume.astype(np.float64), "none")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, volume)


@pytest.mark.parametrize("method", [m for m in get_args(Normalization) if m.endswith("-slice")])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e30])
def test_constant_slice_gives_zeros(volume: NDArray[np.float32], method: Normalization, value: float) -> None:
    image = volume.astype(np.float64)
    image[1] = value
    result = normalize(image, method)
    assert not result[1].any()
    assert result[0].any()


def test_slice_that_clipping_makes_constant_gives_zeros() -> None:
    image = np.zeros((1, 20, 20))
    image[0, 3, 3] = 5
    assert not normalize(image, "percentile-slice").any()
    assert normalize(image, "minmax-slice").max() == 1


@pytest.mark.parametrize("method", ["none", "minmax-slice"])
def test_beyond_float32(method: Normalization) -> None:
    image = np.array([[[-1.7e308, 1.7e308, 0.0]]])
    with pytest.raises(DataError, match=r"from -1\.7e\+308 to 1\.7e\+308 leave the range of float32 under normalize"):
        normalize(image, method)


@given(VOLUMES, st.sampled_from(get_args(Normalization)))
def test_normalized_is_finite_new_and_ordered(image: NDArray[np.float32], method: Normalization) -> None:
    before = image.copy()
    result = normalize(image, method)
    np.testing.assert_array_equal(image, before)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    if method.startswith(("minmax", "percentile")):
        assert ((result >= 0) & (result <= 1)).all()
    for raw, scaled in zip(image, result, strict=True):
        assert (np.diff(scaled.ravel()[np.argsort(raw, axis=None)]) >= 0).all()


@settings(max_examples=200)
@given(
    hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=9), elements=st.integers(1, 99)),
    st.lists(st.integers(1, 12), min_size=2, max_size=3),
    st.sampled_from([0, -1]),
)
def test_fit_is_pad_or_crop(volume: NDArray[np.int16], size: list[int], fill: int) -> None:
    expected = volume
    for axis, target in enumerate(size, start=volume.ndim - len(size)):
        n = volume.shape[axis]
        if n < target:
            before = (target - n) // 2
            width = [(0, 0)] * volume.ndim
            width[axis] = (before, target - n - before)
            expected = np.pad(expected, width, constant_values=fill)
        else:
            before = (n - target) // 2
            expected = np.take(expected, np.arange(before, before + target), axis=axis)
    result = fit(volume, size, fill)
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == volume.dtype
    assert not np.shares_memory(result, volume)

    inside = np.zeros(result.shape, bool)
    inside[(slice(None),) * (volume.ndim - len(size)) + image_window(volume.shape, size)] = True
    np.testing.assert_array_equal(inside, result != fill)


def test_odd_remainders() -> None:
    assert image_window((216, 256), (256, 256)) == (slice(20, 236), slice(0, 256))
    assert image_window((3,), (6,)) == (slice(1, 4),)
    assert fit(np.arange(6)[np.newaxis], (1, 3)).tolist() == [[1, 2, 3]]


def test_size_with_more_axes_than_the_volume() -> None:
    with pytest.raises(ValueError, match=r"size \(8, 8, 8\) has more axes than the shape \(4, 4\)"):
        fit(np.zeros((4, 4)), (8, 8, 8))


@pytest.mark.parametrize("method", ["minmax-slice", "zscore-slice", "percentile-slice", "minmax-volume", "none"])
@pytest.mark.parametrize("axis", [1, 2])
def test_slices_may_lie_along_another_axis(method: Any, axis: int) -> None:
    values = np.random.default_rng(0).gamma(2.0, 50.0, (4, 5, 6))
    turned = np.moveaxis(values, 0, axis)
    found = scalings(turned, method, slices=axis)
    assert found == scalings(values, method)
    seen = normalize(turned, method, slices=axis)
    np.testing.assert_array_equal(np.moveaxis(seen, axis, 0), normalize(values, method))
    np.testing.assert_array_equal(seen, normalize(turned, method, found, slices=axis))
