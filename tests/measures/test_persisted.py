"""The persisted statistics from the compiled kernel, on a device and lazily: each against plain NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actstore.analysis import statistics
from actstore.jobs.ring import Mirror
from actstore.measures.device import reduce_on_device
from actstore.measures.kernel import Reduction, reduce_chunk
from actstore.measures.names import MEASURES, ORIGINAL_STATISTICS, PER_CONDITION, STATISTICS
from actstore.store.layout import activation_layout
from helpers import make_activation


def by_numpy(values: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The definitions, of (sample, condition, channel, \\*space)."""
    space = tuple(range(3, values.ndim))
    exact = values.astype(np.float64)
    with np.errstate(all="ignore"):
        apart = exact - exact[:, :1]
        return {
            "mad": np.abs(apart).mean(space),
            "mse": (apart**2).mean(space),
            "mean": exact.mean(space),
            "max": exact.max(space),
            "std": exact[:, 0].std(tuple(axis - 1 for axis in space)),
        }


def by_kernel(values: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    with np.errstate(all="ignore"):
        found = reduce_chunk(values.swapaxes(1, 2), STATISTICS)
    return {name: v.swapaxes(1, 2) if v.ndim == 3 else v for name, v in zip(STATISTICS, found, strict=True)}


def on_device(values: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """As capture does it: from a mirror of the shard buffer."""
    samples, conditions, channels, *space = values.shape
    layout = activation_layout(
        "a", dtype=str(values.dtype), blocks=1, slots=samples, conditions=conditions, channels=channels,
        space=tuple(space), space_dims=("z", "y", "x")[-len(space) :],
    )  # fmt: skip
    view = Mirror(layout, samples, torch.device("cpu")).view(samples)
    view[...] = torch.from_numpy(values).reshape(view.shape)
    found = reduce_on_device(view).numpy().swapaxes(0, 1)
    return {name: v[:, 0] if name in ORIGINAL_STATISTICS else v for name, v in zip(STATISTICS, found, strict=True)}


def lazily(values: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    found = statistics(make_activation(values, chunks={"sample": 1}), STATISTICS).compute(scheduler="synchronous")
    return {str(name): array.values for name, array in found.items()}


@st.composite
def maps(draw: st.DrawFn) -> NDArray[Any]:
    """(sample, condition, channel, \\*space), some of them zero, broken, of one pixel or in few bits."""
    space = draw(st.sampled_from([(1, 1), (1, 7), (9, 8), (23, 29), (3, 4, 5)]))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4)), *space)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(draw(st.sampled_from([0, 3])), 1, shape).astype(np.float32)
    kind = draw(st.sampled_from(["float32", "float16", "bf16"]))
    if kind == "bf16":
        values = torch.from_numpy(values).bfloat16().float().numpy()
    elif kind == "float16":
        values = values.astype(np.float16)
    values[rng.random(shape[:3]) < draw(st.sampled_from([0, 0.4]))] = 0
    values[rng.random(shape[:3]) < draw(st.sampled_from([0, 0.3]))] *= -1
    for bad in draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=3)):
        values[rng.random(shape) < 0.05] = bad
    values[rng.random(shape[:2]) < draw(st.sampled_from([0, 0.3]))] = np.nan
    return values


@pytest.mark.parametrize("found_by", [by_kernel, on_device, pytest.param(lazily, marks=pytest.mark.slow)])
@given(values=maps())
@settings(max_examples=60, deadline=None)
def test_every_way_is_the_definition(found_by: Any, values: NDArray[Any]) -> None:
    found, wanted = found_by(values), by_numpy(values)
    assert set(found) == set(STATISTICS)
    for name, expected in wanted.items():
        assert found[name].dtype == np.float64
        if name == "max":
            np.testing.assert_array_equal(found[name], expected)
        else:
            np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("channels", "space"), [(3, (7, 5)), (4, (300, 301)), (2, (820, 830)), (2, (3, 4, 5))])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_device_and_the_kernel_agree_on_every_layout(channels: int, space: tuple[int, ...], dtype: str) -> None:
    values = np.random.default_rng(5).normal(2, 3, (2, 3, channels, *space)).astype(dtype)
    values[1, 2] = np.nan
    values[0, 0, 0].flat[0] = np.inf
    found = on_device(values)
    for name, expected in by_kernel(values).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-12, err_msg=name)


def test_infinities_that_cancel_are_no_nan_to_the_largest() -> None:
    values = np.zeros((1, 1, 3, 8, 8), np.float32)
    values[0, 0, 0, 0, :2] = np.inf, -np.inf
    values[0, 0, 1] = -np.inf
    values[0, 0, 2, 7, 7] = np.nan
    for found in (by_kernel(values), on_device(values), lazily(values)):
        np.testing.assert_array_equal(found["max"], [[[np.inf, -np.inf, np.nan]]])
        np.testing.assert_array_equal(found["mean"], [[[np.nan, -np.inf, np.nan]]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_alone_has_the_bits_that_it_has_among_all(dtype: str, name: str) -> None:
    values = (np.random.default_rng(1).normal(1, 20, (2, 3, 4, 31, 33))).astype(dtype)
    (alone,) = reduce_chunk(values, (name,))
    np.testing.assert_array_equal(alone, reduce_chunk(values, STATISTICS)[STATISTICS.index(name)])


def test_one_memory_is_reduced_again_and_again_into_any_view() -> None:
    memory = np.zeros((2, 3, 4, 5, 6), np.float32)
    reduce = Reduction(memory, STATISTICS)
    results = np.zeros((2, 7, 4, len(STATISTICS), 3))
    for seed in range(2):
        memory[...] = np.random.default_rng(seed).normal(size=memory.shape)
        reduce(results[:, 2].transpose(2, 0, 3, 1))
        for row, expected in enumerate(reduce_chunk(memory, PER_CONDITION)):
            np.testing.assert_array_equal(results[:, 2, :, row], expected.swapaxes(1, 2))
    assert not results[:, [0, 1, 3, 4, 5, 6]].any()
    assert np.isnan(results[:, 2, 1:, -1]).all(), "of the original alone"


def test_names() -> None:
    assert (*PER_CONDITION, *ORIGINAL_STATISTICS) == STATISTICS == ("mad", "mse", "mean", "max", "std")


DIGEST = """
import hashlib, sys
import numpy as np
from actstore.measures.kernel import reduce_chunk
from actstore.measures.names import MEASURES
chunk = np.random.default_rng(5).normal(1, 3, (2, 3, 3, 37, 41)).astype("float32")
for name, values in zip(MEASURES, reduce_chunk(chunk, MEASURES)):
    print(name, hashlib.sha256(values.tobytes()).hexdigest())
"""


@pytest.mark.process
def test_what_was_compiled_before_gives_the_same_bits(tmp_path: Path) -> None:
    """The first process compiles and fills the cache, the second loads machine code from it.

    Of one dtype: in this process the kernels come from the cache too, and the tests above compare those of each.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [
        subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert list(tmp_path.rglob("*.nbi")), "the cache is used"
    first, second = (run.stdout.splitlines() for run in runs)
    assert first == second
    assert len(first) == len(MEASURES)
