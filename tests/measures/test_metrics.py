"""Cosine, PSNR, SSIM and signed difference against NumPy and scikit-image, and ranking by any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import actstore
from actstore import analysis
from actstore.analysis import AnalysisError, in_top, stack_layers, statistics, top_channels
from actstore.errors import StoreError
from actstore.jobs.capture import capture
from actstore.measures.names import MEASURES, METRICS, STATISTICS, UNCHANGED
from actstore.spec.spec import load_spec
from conftest import WriteSpec
from helpers import make_activation, raise_if_dask_computes, tasks_of

pytestmark = pytest.mark.slow

NEW = ("mean_difference", "cosine", "psnr", "ssim")


def scaled(values: NDArray[Any]) -> NDArray[np.floating]:
    """Min-max in the precision that a map is reduced in; a constant map becomes 0."""
    single = np.result_type(values.dtype, np.float32) == np.float32
    exact = values.astype(np.float32 if single else np.float64)
    span = exact.max() - exact.min()
    return (exact - exact.min()) / (span or exact.dtype.type(1))


def by_definition(a: NDArray[Any], b: NDArray[Any]) -> dict[str, float]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return dict.fromkeys(NEW, np.nan)
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    cosine = float((x * y).sum() / lengths) if lengths else float(not x.any() and not y.any())
    with np.errstate(divide="ignore"):
        psnr = np.inf if (x == y).all() else peak_signal_noise_ratio(x, y, data_range=x.max() - x.min())
    ssim = structural_similarity(scaled(a), scaled(b), data_range=1) if min(a.shape) >= 7 else np.nan
    return {"mean_difference": float((y - x).mean()), "cosine": cosine, "psnr": float(psnr), "ssim": float(ssim)}


def expected(values: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    found = {name: np.empty(values.shape[:3]) for name in NEW}
    for s, c, k in np.ndindex(values.shape[:3]):
        for name, value in by_definition(values[s, 0, k], values[s, c, k]).items():
            found[name][s, c, k] = value
    return found


def assert_matches(found: xr.Dataset, values: NDArray[Any], wanted: dict[str, NDArray[np.float64]]) -> None:
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    size = float(finite.max()) if finite.size else 0.0
    tolerance = {"mean_difference": 1e-12 * size, "cosine": 1e-12, "psnr": 1e-5, "ssim": 1e-9}
    for name in NEW:
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name].values, wanted[name], rtol=0, atol=tolerance[name], err_msg=name)


@st.composite
def activations(draw: st.DrawFn) -> tuple[NDArray[Any], dict[str, Any]]:
    space = draw(st.sampled_from([(7, 7), (7, 30), (40, 9), (6, 20), (1, 1), (7, 7, 7), (9, 8, 13), (5, 8, 8)]))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 2)), *space)
    dtype = draw(st.sampled_from(["float32", "float16", "float64", "int8"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 1.0 if dtype in ("int8", "float16") else 10.0 ** draw(st.integers(-15, 15))
    values = rng.normal(draw(st.sampled_from([0.0, 5.0])), 1, size=shape)
    values[:, 1:] = values[:, :1] + draw(st.sampled_from([0.0, 0.01, 1.0])) * values[:, 1:]
    values = (values * scale * (10 if dtype == "int8" else 1)).astype(dtype)
    if draw(st.booleans()):
        values[rng.random(shape[:3]) < 0.3] = draw(st.sampled_from([0, 3]))
    if dtype != "int8" and draw(st.booleans()):
        values[rng.random(shape[:2]) < 0.3] = np.nan
    dims = ("sample", "condition", "channel", *("z", "y", "x")[-len(space) :])
    return values, {dim: draw(st.integers(1, size)) for dim, size in zip(dims, shape, strict=True)}


@settings(max_examples=40, deadline=None)
@given(activations())
def test_chunked_equals_scikit_image_and_numpy(case: tuple[NDArray[Any], dict[str, Any]]) -> None:
    values, chunks = case
    wanted = expected(values)
    assert_matches(statistics(make_activation(values), NEW), values, wanted)
    with raise_if_dask_computes():
        lazy = statistics(make_activation(values, chunks=chunks), MEASURES)
    assert_matches(lazy.compute(scheduler="synchronous"), values, wanted)


@pytest.mark.parametrize("space", [(7, 7), (32, 32), (256, 256), (11, 12, 13)], ids=str)
def test_ssim_of_float32_is_taken_in_float32(space: tuple[int, ...]) -> None:
    """As scikit-image does; for maps that are small nearly everywhere that can be seen."""
    rng = np.random.default_rng(0)
    values = rng.gamma(0.1, size=(1, 2, 3, *space)).astype(np.float32)
    values[:, 1] = values[:, 0] + 0.2 * values[:, 1]
    single = analysis.ssim(make_activation(values))
    np.testing.assert_allclose(single, expected(values)["ssim"], rtol=0, atol=1e-12)
    double = analysis.ssim(make_activation(values.astype(np.float64)))
    np.testing.assert_allclose(single, double, atol=2e-5)


def test_by_hand() -> None:
    a = np.zeros((10, 10), np.float32)
    a[2:5, 2:5] = 4
    maps = [a, a, a + 1, -a, 3 * a, np.zeros_like(a), np.full_like(a, np.nan), np.full_like(a, np.inf)]
    found = statistics(make_activation(np.stack(maps)[None, :, None]), NEW).isel(sample=0, channel=0)
    np.testing.assert_allclose(found["mean_difference"], [0, 0, 1, -0.72, 0.72, -0.36, np.nan, np.inf], rtol=1e-6)
    between = (144 + 36) / np.sqrt(144 * (144 + 72 + 100))
    np.testing.assert_allclose(found["cosine"], [1, 1, between, -1, 1, 0, np.nan, np.nan], rtol=1e-12)
    decibels = [np.inf, np.inf, 10 * np.log10(16), 10 * np.log10(16 / 5.76), 10 * np.log10(16 / 5.76)]
    np.testing.assert_allclose(found["psnr"], [*decibels, 10 * np.log10(16 / 1.44), np.nan, -np.inf], rtol=1e-6)
    ssim = found["ssim"].values
    np.testing.assert_allclose(ssim[[0, 1, 2, 4]], 1, rtol=1e-12)
    assert ssim[3] < 0.2
    assert 0 < ssim[5] < 0.2
    assert np.isnan(ssim[6:]).all()


def test_constant_maps() -> None:
    flat, pattern = np.full((8, 8), 2.0), np.random.default_rng(0).normal(size=(8, 8))
    values = np.stack([np.stack([flat, flat, flat]), np.stack([flat, flat + 1, pattern])]).astype(np.float32)
    found = statistics(make_activation(values[None]), NEW).isel(sample=0, condition=1)
    np.testing.assert_array_equal(found["psnr"], [np.inf, -np.inf, -np.inf])
    np.testing.assert_allclose(found["ssim"][:2], 1)
    assert found["ssim"][2] < 0.1
    nothing = statistics(make_activation(np.zeros((1, 2, 1, 8, 8), np.float32)), NEW).isel(sample=0, condition=1)
    assert [float(nothing[name][0]) for name in NEW] == [0, 1, np.inf, 1]


def test_a_broken_original_breaks_every_metric() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 2, 9, 9)).astype(np.float32)
    values[0, 0, 0, 3, 3] = np.nan
    values[1, 0, 1, 3, 3] = -np.inf
    found = statistics(make_activation(values), NEW)
    for name in ("cosine", "psnr", "ssim"):
        assert np.isnan(found[name].values[[0, 1], :, [0, 1]]).all(), name
        assert not np.isnan(found[name].values[[0, 1], :, [1, 0]]).any(), name
    assert np.isnan(found["mean_difference"][:, 0].values).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("size", [1e-200, 1e-100, 1.0, 1e100, 1e200])
def test_cosine_and_ssim_do_not_depend_on_the_scale(size: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 2, 3, 9, 9))
    exact = expected(values)
    values[:, 1, 0] *= size
    values[:, :, 1] *= size
    found = statistics(make_activation(values), ["cosine", "ssim"])
    for name in ("cosine", "ssim"):
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-9, err_msg=name)


def test_large_offsets_do_not_hide_structure() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 2, 1, 40, 40))
    exact = expected(values)["ssim"]
    found = analysis.ssim(make_activation(values + 1e6))
    np.testing.assert_allclose(found, exact, atol=1e-8)


@pytest.mark.parametrize("layout", ["fortran", "channel last", "padded", "every other pixel", ">f4", "longdouble"])
def test_memory_layouts_and_dtypes(layout: str) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4, 5, 8, 16)).astype(np.float32)
    if layout == "fortran":
        values = np.asfortranarray(values)
    elif layout == "channel last":
        values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 2, -1)), -1, 2)
    elif layout == "padded":
        values = np.pad(values, [(0, 0)] * 3 + [(0, 1), (0, 0)])[:, :, :, :-1]
    elif layout == "every other pixel":
        values = values[..., ::2]
    else:
        values = values.astype(layout)
    assert_matches(statistics(make_activation(values), NEW), values, expected(values))


def test_layers_without_space() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    found = statistics(make_activation(values), NEW)
    np.testing.assert_allclose(found["mean_difference"], values - values[:, :1], rtol=1e-6)
    np.testing.assert_allclose(found["cosine"], np.sign(values * values[:, :1]))
    assert np.isnan(found["ssim"]).all()
    one = statistics(make_activation(np.zeros((2, 3, 4, 8, 8))).isel(sample=1), NEW)
    assert one["ssim"].dims == ("condition", "channel")


@pytest.mark.parametrize("name", NEW)
def test_shortcuts(name: str) -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 8, 8)).astype(np.float32)
    shortcut = getattr(analysis, {"cosine": "cosine_similarity"}.get(name, name))
    with raise_if_dask_computes():
        found = shortcut(make_activation(values, chunks={"sample": 1}))
    assert found.name == name
    expected = statistics(make_activation(values), NEW)[name]
    xr.testing.assert_allclose(found.compute(scheduler="synchronous"), expected, rtol=1e-12)


def test_tasks_are_proportional_to_chunks() -> None:
    def tasks(samples: int) -> int:
        lazy = dask.array.zeros((samples, 4, 8, 16, 16), chunks=(1, 4, 8, 16, 16), dtype="float32")
        return tasks_of(statistics(xr.DataArray(lazy, dims=("sample", "condition", "channel", "y", "x")), MEASURES))

    assert tasks(20) == 2 * tasks(10)


SCORES = [[[0] * 5, [3.0, -9.0, np.nan, 1.0, -9.0]]]


@pytest.mark.parametrize(
    ("name", "order", "channels"),
    [
        ("mad", None, [0, 3, 1, 4, -1]),
        ("anything", None, [0, 3, 1, 4, -1]),
        ("ssim", None, [1, 4, 0, -1, -1]),
        ("psnr", None, [1, 4, 3, 0, -1]),
        ("cosine", None, [1, 4, 0, -1, -1]),
        ("mean_difference", None, [1, 4, 0, 3, -1]),
        ("mean_difference", "largest", [0, 3, 1, 4, -1]),
        ("mad", "smallest", [1, 4, 3, 0, -1]),
        ("mad", "magnitude", [1, 4, 0, 3, -1]),
    ],
)
def test_ranking_is_by_most_change(name: str, order: Any, channels: list[int]) -> None:
    score = xr.DataArray(SCORES, dims=("sample", "condition", "channel"), name=name)
    for array in (score, score.chunk({"channel": 2})):
        with raise_if_dask_computes():
            top = top_channels(array, 5, order=order)
            members = in_top(array, 2, order=order)
        assert top["channel"][0, 1].values.tolist() == channels
        expected = np.where(np.array(channels) < 0, np.nan, np.array(SCORES)[0, 1, channels])
        np.testing.assert_array_equal(top[name][0, 1], expected)
        assert np.flatnonzero(members[0, 1]).tolist() == sorted(channels[:2])
        assert not members[0, 0].any()


def test_the_least_like_are_found_in_every_layer() -> None:
    values = np.random.default_rng(0).normal(size=(2, 2, 3, 9, 9))
    values[:, 1] = values[:, 0]
    values[:, 1, 1] *= -1
    layers = {"L01": make_activation(values), "L02": make_activation(values, layer="L02")}
    network = stack_layers({name: statistics(array, tuple(METRICS)) for name, array in layers.items()})
    for name in METRICS:
        assert np.flatnonzero(in_top(network[name], 3)[0, 1]).tolist() == [1, 4], name


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(9, 8), (24, 23), (20, 20), (8, 9, 7)]),
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
    st.integers(0, 999),
)
def test_equal_maps_have_no_change_by_any_metric(shape: tuple[int, ...], dtype: str, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = (rng.normal(size=(1, 1, 3, *shape)) * scale).astype(dtype)
    maps[:, :, 1] = maps[0, 0, 1].flat[0]
    maps[:, :, 2] = np.maximum(maps[:, :, 2], 0)
    found = statistics(make_activation(np.repeat(maps, 3, axis=1)), tuple(METRICS))
    for name, unchanged in UNCHANGED.items():
        assert (found[name].values == unchanged).all(), name
        assert not in_top(found[name], 3).any(), name


def test_an_unknown_order() -> None:
    with pytest.raises(AnalysisError, match=r"order = 'least': give 'largest', 'smallest', 'magnitude', or None"):
        top_channels(xr.DataArray(SCORES, dims=("sample", "condition", "channel")), order="least")  # type: ignore


def test_a_store_reads_what_is_persisted_and_reduces_the_rest(
    tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actstore.store import lazy

    store = actstore.open(tiny_store)
    assert store.reduced
    asked = []
    reduce = lazy.statistics

    def noting(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return reduce(*arguments)

    monkeypatch.setattr(lazy, "statistics", noting)
    with raise_if_dask_computes():
        mixed = store.statistics("L02", ["ssim", "mad", "mean", "psnr"])
        store.statistics("L02")
        every = store.statistics("L02", MEASURES, persisted=False)
    assert asked == [("ssim", "psnr"), MEASURES]
    assert list(mixed) == ["ssim", "mad", "mean", "psnr"]
    lazily = statistics(store["L02"], MEASURES)
    for name in MEASURES:
        xr.testing.assert_allclose(every[name].compute(), lazily[name].compute(), rtol=1e-12)
    for name in ("ssim", "psnr"):
        xr.testing.assert_allclose(mixed[name].compute(), lazily[name].compute(), rtol=1e-12)
    np.testing.assert_allclose(mixed["mad"], lazily["mad"], rtol=1e-12)
    assert store.statistics("L02", ["std"])["std"].dims == ("sample", "channel")
    with pytest.raises(
        StoreError, match="ssim is not persisted, only mad, mse, mean, max, std: leave out persisted=True"
    ):
        store.statistics("L02", ["mad", "ssim"], persisted=True)
    with pytest.raises(
        StoreError, match="unknown statistic 'msd': choose from mad, mse, mean_difference, cosine, psnr"
    ):
        store.statistics("L02", ["msd"])


@pytest.mark.parametrize("persisted", [None, False])
def test_statistics_of_all_layers_at_once_are_those_of_each(tiny_store: Path, persisted: bool | None) -> None:
    store = actstore.open(tiny_store)
    names = ["ssim", "mad", "std", "mean"]
    found = store.compute_statistics(names, persisted=persisted)
    assert list(found) == list(store.layers.index)
    for layer, layer_statistics in found.items():
        assert not any(layer_statistics[name].chunks for name in names), "in memory"
        xr.testing.assert_identical(layer_statistics, store.statistics(layer, names, persisted=persisted).compute())


def test_layers_that_were_not_kept_have_their_persisted_statistics_only(write_spec: WriteSpec, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, store={"path": "run.zarr", "keep": ["down.1"]})
    store = actstore.open(capture(load_spec(spec), cluster="inline", device="cpu").store)
    gone = next(layer.name for layer in store.layout.layers if not layer.kept)
    assert set(store.statistics("L01", ["ssim", "mad"]).compute()) == {"ssim", "mad"}
    assert set(store.statistics(gone).compute()) == set(STATISTICS)
    message = (
        rf"the tensors of {gone} .* store.keep = \['down.1'\]: ssim is taken from them, ask for mad, mse, mean, max,"
    )
    with pytest.raises(StoreError, match=message):
        store.statistics(gone, ["mad", "ssim"])
    with pytest.raises(StoreError, match=f"the tensors of {gone}"):
        store.statistics(gone, ["mad"], persisted=False)
    assert set(store.compute_statistics()[gone]) == set(STATISTICS)
    with pytest.raises(StoreError, match=f"the tensors of {gone}"):
        store.compute_statistics(["mad"], persisted=False)
