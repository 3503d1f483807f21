"""MAD, MSE and moments against plain NumPy, lazily and however the input is laid out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.analysis import AnalysisError, difference, mad, mse, statistics
from actstore.measures import kernel
from helpers import make_activation, raise_if_dask_computes, tasks_of

ALL = ("mad", "mse", "mean", "std")


def naive(values: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The definitions, in float64."""
    space = tuple(range(3, values.ndim))
    exact = values.astype(np.float64)
    with np.errstate(all="ignore"):
        apart = exact - exact[:, :1]
        result = {
            "mad": np.abs(apart).mean(axis=space),
            "mse": (apart * apart).mean(axis=space),
            "mean": exact[:, 0].mean(axis=tuple(a - 1 for a in space)),
            "std": exact[:, 0].std(axis=tuple(a - 1 for a in space)),
        }
    return result


def assert_matches(found: xr.Dataset, values: NDArray[Any]) -> None:
    expected = naive(values)
    # mean and std cancel: what they may lose is measured against the size of the values.
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    size = float(finite.max()) if finite.size else 0.0
    for name in found.data_vars:
        np.testing.assert_allclose(
            found[name].values,
            expected[str(name)],
            rtol=1e-6,
            atol=1e-12 * size if name in ("mean", "std") else 0,
            err_msg=str(name),
        )


@st.composite
def activations(draw: st.DrawFn) -> tuple[NDArray[Any], dict[str, Any]]:
    space = draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 5)), *space)
    dtype = draw(st.sampled_from(["float32", "float16", "float64", "int8"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 1.0 if dtype in ("int8", "float16") else 10.0 ** draw(st.integers(-25, 25))
    values = (rng.normal(size=shape) * scale * (20 if dtype == "int8" else 1)).astype(dtype)
    if dtype != "int8":
        if draw(st.booleans()):
            values[rng.random(shape[:2]) < 0.3] = np.nan
        if draw(st.booleans()):
            values[rng.random(shape) < 0.05] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    if draw(st.booleans()):
        values[:, :, rng.random(shape[2]) < 0.5] = 0
    dims = ("sample", "condition", "channel", *("z", "y", "x")[-len(space) :])
    chunks = {dim: draw(st.integers(1, size)) for dim, size in zip(dims, shape, strict=True)}
    return values, chunks


@settings(max_examples=40, deadline=None)
@given(activations())
def test_chunked_equals_plain_numpy(case: tuple[NDArray[Any], dict[str, Any]]) -> None:
    values, chunks = case
    assert_matches(statistics(make_activation(values), ALL), values)
    with dask.config.set(scheduler="synchronous"):
        assert_matches(statistics(make_activation(values, chunks=chunks), ALL).compute(), values)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1024 + 7, 40_000], ids="pixels{}".format)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("scratch", [1, 5000, 1 << 20], ids="scratch{}".format)
def test_block_edges(size: int, dtype: str, scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SCRATCH_BYTES", scratch)
    values = np.random.default_rng(size).normal(3, 2, size=(2, 3, 5, size, 1)).astype(dtype)
    assert_matches(statistics(make_activation(values), ALL), values)


@pytest.mark.parametrize("layout", ["fortran", "channel last", "padded", "every other pixel"])
def test_memory_layouts(layout: str) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5, 6, 14)).astype(np.float32)
    if layout == "fortran":
        values = np.asfortranarray(values)
    elif layout == "channel last":
        values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 2, -1)), -1, 2)
    elif layout == "padded":
        values = np.pad(values, [(0, 0)] * 3 + [(0, 1), (0, 0)])[:, :, :, :-1]
    else:
        values = values[..., ::2]
    assert_matches(statistics(make_activation(values), ALL), values)


def test_input_is_not_changed_and_may_be_read_only() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 8, 8)).astype(np.float32)
    before = values.copy()
    values.flags.writeable = False
    statistics(make_activation(values), ALL)
    np.testing.assert_array_equal(values, before)


def test_original_is_zero_and_not_applicable_is_nan() -> None:
    values = np.ones((2, 3, 2, 4, 4), np.float32)
    values[0, 1] = np.nan
    found = mad(make_activation(values))
    np.testing.assert_array_equal(found, [[[0, 0], [np.nan, np.nan], [0, 0]], [[0, 0]] * 3])


def test_zero_maps_are_data() -> None:
    values = np.zeros((1, 2, 2, 4, 4), np.float32)
    values[0, 1, 1] = 2
    np.testing.assert_array_equal(mad(make_activation(values))[0, 1], [0, 2])
    np.testing.assert_array_equal(mse(make_activation(values))[0, 1], [0, 4])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_broken_activation_is_not_hidden(bad: float, dtype: str) -> None:
    values = np.ones((2, 3, 2, 40, 40), dtype)
    values[0, 1, 1, 39, 39] = bad
    values[1, 0, 0, 0, 0] = bad
    for found in (mad(make_activation(values)), mse(make_activation(values))):
        np.testing.assert_array_equal(found[0], [[0, 0], [0, abs(bad)], [0, 0]])
        np.testing.assert_array_equal(found[1], [[np.nan, 0], [abs(bad), 0], [abs(bad), 0]])


@pytest.mark.parametrize("size", [3e38, 1e25, 1e-25, 1e-44])
def test_beyond_what_float32_can_square_or_subtract(size: float) -> None:
    values = np.zeros((1, 2, 3, 8, 8), np.float32)
    values[0, 0, 0] = size
    values[0, 1, 0] = -size
    values[0, 1, 1, 0, 0] = size
    assert_matches(statistics(make_activation(values)), values)
    assert_matches(statistics(make_activation(values), ["mse"]), values)


def test_long_sums_stay_accurate() -> None:
    values = np.full((1, 2, 1, 1000, 1100), 0.1, np.float32)
    values[0, 0] = 0
    assert_matches(statistics(make_activation(values)), values)
    large = np.random.default_rng(0).normal(1e4, 1e-1, size=(1, 2, 1, 700, 700)).astype(np.float32)
    assert_matches(statistics(make_activation(large), ["std"]), large)


def test_lazy_with_tasks_proportional_to_chunks() -> None:
    def tasks(blocks: int) -> int:
        lazy = dask.array.zeros((blocks * 3, 4, 8, 16, 16), chunks=(3, 4, 4, 16, 16), dtype="float32")
        activation = make_activation(np.empty((blocks * 3, 4, 8, 0, 0), np.float32))
        activation = xr.DataArray(lazy, dims=activation.dims, coords=activation.coords)
        with raise_if_dask_computes():
            found = statistics(activation, ALL)
        assert found["mad"].chunks == ((3,) * blocks, (4,), (4, 4))
        return tasks_of(found) - tasks_of(activation)

    few, many = tasks(5), tasks(10)
    assert many == 2 * few
    assert few <= 5 * 2 * 16


def test_all_names_come_from_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def counting(chunk: NDArray[Any], names: tuple[str, ...]) -> tuple[NDArray[Any], ...]:
        passes.append(chunk.shape)
        return kernel.reduce_chunk(chunk, names)

    monkeypatch.setattr(difference, "reduce_chunk", counting)
    values = np.random.default_rng(0).normal(size=(6, 3, 4, 8, 8)).astype(np.float32)
    lazy = statistics(make_activation(values, chunks={"sample": 2}), ALL)
    assert passes == []
    with raise_if_dask_computes(max_computes=1):
        found = lazy.compute()
    assert passes == [(2, 4, 3, 8, 8)] * 3
    assert_matches(found, values)


def test_split_conditions_and_space_are_joined_lazily() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 8, 8)).astype(np.float32)
    activation = make_activation(values, chunks={"sample": 1, "condition": 1, "z": 2, "y": 3})
    with raise_if_dask_computes():
        found = statistics(activation)
    assert_matches(found.compute(scheduler="synchronous"), values)


def test_coordinates_and_dimensions() -> None:
    activation = make_activation(np.zeros((2, 3, 4, 5, 6), np.float32), chunks={})
    found = statistics(activation, ALL)
    assert found["mse"].dims == ("sample", "condition", "channel")
    assert found["std"].dims == ("sample", "channel")
    assert {v.dtype for v in found.data_vars.values()} == {np.dtype(np.float64)}
    for name in ("patient", "frame", "condition", "target", "strength", "layer", "module"):
        xr.testing.assert_identical(found[name].reset_coords(drop=True), activation[name].reset_coords(drop=True))
    assert mad(activation).name == "mad"
    assert mse(activation).name == "mse"
    assert mad(activation.transpose("x", "channel", "y", "condition", "sample")).dims == found["mad"].dims


def test_layers_without_space_and_selections_of_one() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(mad(make_activation(values)), np.abs(values - values[:, :1]), rtol=1e-6)
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    one = statistics(make_activation(values).isel(sample=1), ["mad", "mean"])
    assert one["mad"].dims == ("condition", "channel")
    assert one["mean"].dims == ("channel",)
    np.testing.assert_allclose(one["mad"], naive(values)["mad"][1], rtol=1e-6)
    assert statistics(make_activation(values[:0]), ALL)["mad"].shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (
            lambda a: a,
            ["msd"],
            r"unknown statistic 'msd': choose from mad, mse, mean_difference, cosine,",
        ),
        (lambda a: a, [], r"names = \[\]: give a list of statistics"),
        (lambda a: a, "mad", r"names = 'mad': give a list of statistics"),
        (lambda a: a.isel(condition=0), ["mad"], r"activation has no dimension 'condition', only"),
        (lambda a: a.isel(condition=[1, 2]), ["mad"], r"first condition is 'brightness\(RV, 0.1\)', not 'original'"),
        (lambda a: a.isel(condition=[]), ["mad"], r"first condition is 'missing'"),
        (lambda a: a.astype(complex), ["mad"], r"activation is complex128: only real numbers"),
    ],
    ids=["unknown", "none", "text", "no condition", "no original", "no conditions", "complex"],
)
def test_errors_name_the_mend(change: Any, names: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        statistics(change(make_activation(np.zeros((2, 3, 1, 2, 2), np.float32))), names)


def test_import_stays_light() -> None:
    code = (
        "import sys, actstore.analysis; "
        "print([m for m in ('torch', 'monai', 'distributed', 'holoviews', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", ["longdouble", ">f4", "bool", "uint64"])
def test_any_real_dtype(dtype: str) -> None:
    values = (np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6)) * 9).astype(dtype)
    assert_matches(statistics(make_activation(values), ALL), values)


@pytest.mark.parametrize("shape", [(2, 2, 0, 3), (0, 2, 2, 3), (2, 0, 2, 3), (2, 2, 2, 0)])
def test_nothing_reduces_to_nothing(shape: tuple[int, ...]) -> None:
    found = kernel.reduce_chunk(np.zeros(shape, np.float32), ALL)
    assert [values.shape for values in found] == [shape[:3]] * 2 + [shape[:2]] * 2
    assert all(np.isnan(values).all() for values in found)
