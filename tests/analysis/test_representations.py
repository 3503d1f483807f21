"""Points of layers against plain NumPy: similarity, neighbours, principal components, trust in a picture."""

from __future__ import annotations

from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist, pdist

import actstore
from actstore import analysis
from actstore.analysis.arrays import AnalysisError
from actstore.analysis.representations import projection as projections
from actstore.analysis.representations import stream
from actstore.analysis.representations.moments import Moments
from actstore.errors import MissingError
from actstore.store.store import Store

Floats = NDArray[np.float64]


def points(values: Floats, layers: dict[str, int] | None = None, patients: int | None = None) -> xr.DataArray:
    """(sample, feature), of ``patients`` with as many samples each as there are."""
    widths = layers or {"L01": values.shape[1]}
    names = np.repeat(list(widths), list(widths.values()))
    patient = [f"patient{i * (patients or len(values)) // len(values):03d}" for i in range(len(values))]
    return xr.DataArray(
        values, dims=("sample", "feature"), coords={"layer": ("feature", names), "patient": ("sample", patient)}
    )


def gram(values: Floats) -> xr.DataArray:
    return analysis.map_gram(xr.DataArray(values[:, :, None], dims=("sample", "channel", "x")))


def plain_hsic(k: Floats, m: Floats) -> float:
    """Song et al. 2012, eq. 5, word for word."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    first = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (first - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def plain_cka(x: Floats, y: Floats) -> float:
    k, m = x @ x.T, y @ y.T
    return plain_hsic(k, m) / np.sqrt(plain_hsic(k, k) * plain_hsic(m, m))


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return actstore.open(tiny_store)


class TestEmbedding:
    def test_is_what_is_persisted_and_computes_nothing_else(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from actstore.store import lazy

        monkeypatch.setattr(lazy, "statistics", lambda *_: pytest.fail("tensors are computed"))
        with dask.config.set(scheduler=lambda *_, **__: pytest.fail("an embedding is computed")):
            both = analysis.embedding(store, pool="mean+max")
            every = analysis.embedding(store, "L02", condition=None)
        assert both.dims == ("sample", "feature")
        assert every.dims == ("sample", "condition", "feature")
        first = store.layers["channels"].iloc[0]
        assert both["pool"].values[: 2 * first].tolist() == ["mean"] * first + ["max"] * first
        original = store["L01"].isel(condition=0)
        np.testing.assert_allclose(both[:, :first], original.mean(("y", "x")), rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(both[:, first : 2 * first], original.max(("y", "x")))
        np.testing.assert_array_equal(every, store.statistics("L02")["mean"])

    def test_pixels_are_averages_of_blocks(self) -> None:
        image = xr.DataArray(np.arange(2 * 6 * 5, dtype=np.float32).reshape(2, 6, 5), dims=("sample", "y", "x"))
        np.testing.assert_array_equal(analysis.pixels(image, most=30), image.values.reshape(2, 30))
        found = analysis.pixels(image, most=9)
        assert found.shape == (2, 9)
        assert float(found[1, 0]) == image.values[1, :2, :2].mean()
        assert float(found[1, 8]) == image.values[1, 4:, 4:].mean()

    def test_refusals(self, store: Store) -> None:
        with pytest.raises(AnalysisError, match=r"pool = 'min': choose mean, max, mean\+max"):
            analysis.embedding(store, pool="min")  # type: ignore[arg-type]
        with pytest.raises(AnalysisError, match=r"no layer 'L99': there are L01 … "):
            analysis.embedding(store, ["L99"])
        with pytest.raises(AnalysisError, match=r"condition = 'dark': there are original, "):
            analysis.embedding(store, condition="dark")


class TestSimilarity:
    @pytest.mark.parametrize("shift", [0.0, 1e3])
    def test_streamed_is_of_the_gram_form(self, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "PART_BYTES", 8 * 17 * 10)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(45, 9))
        y = np.concatenate([x[:, :4] ** 2 + 0.3 * rng.normal(size=(45, 4)), rng.normal(size=(45, 4))], axis=1)
        values = np.concatenate([x, y], axis=1)
        found = analysis.similarity(points(values + shift, {"L01": 9, "L02": 8}), resamples=0)
        np.testing.assert_allclose(found["cka"], [[1, plain_cka(x, y)], [plain_cka(x, y), 1]], atol=1e-12)
        np.testing.assert_allclose(analysis.gram_cka({"x": gram(x + shift), "y": gram(y)}), found["cka"], atol=1e-12)
        distances = stats.spearmanr(pdist(x), pdist(y)).statistic
        np.testing.assert_allclose(found["rsa"], [[1, distances], [distances, 1]], atol=1e-12)

    def test_rotation_scale_and_shift_change_nothing(self) -> None:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(60, 6))
        rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        assert analysis.cka(points(x), points(7 * x @ rotation + 3)) == pytest.approx(1, abs=1e-12)
        y = x + rng.normal(size=x.shape)
        assert analysis.cka(points(7 * x @ rotation + 3), points(y)) == pytest.approx(plain_cka(x, y), abs=1e-12)

    def test_independent_data_are_not_alike(self) -> None:
        """On average: one draw of 50 samples varies by 0.029, of 1225 pairs. The biased estimator gives 0.95."""
        rng = np.random.default_rng(2)
        found = []
        for _ in range(40):
            x, y = rng.normal(size=(2, 50, 1024))
            found.append(float(analysis.gram_cka({"x": gram(x), "y": gram(y)})[0, 1]))
        assert abs(np.mean(found)) < 0.02
        assert max(map(abs, found)) < 0.12
        assert analysis.cka(points(x), points(y)) == pytest.approx(found[-1], abs=1e-12)

    def test_a_constant_layer_is_like_nothing_and_few_samples_say_nothing(self) -> None:
        rng = np.random.default_rng(3)
        x = rng.normal(size=(30, 3))
        for constant in (np.zeros((30, 2)), np.full((30, 2), 0.1) + np.spacing(0.1) * rng.integers(0, 2, (30, 2))):
            found = analysis.similarity(points(np.concatenate([x, constant], 1), {"L01": 3, "L02": 2}, 6), resamples=9)
            assert np.isnan(found["cka"].values).tolist() == [[False, True], [True, True]]
            assert np.isnan(analysis.gram_cka({"a": gram(constant)})).all()
        assert np.isnan(analysis.cka(points(x[:3]), points(x[:3])))

    def test_samples_without_numbers_are_left_out(self) -> None:
        rng = np.random.default_rng(4)
        values = rng.normal(size=(40, 5))
        holed = values.copy()
        holed[[3, 20], [0, 4]] = np.nan
        keep = np.isfinite(holed).all(axis=1)
        assert str(analysis.similarity(points(values[:10], patients=5), resamples=9)["note"].values) == (
            "10 samples: CKA varies by 0.15 by chance alone"
        )
        found = analysis.similarity(points(holed, {"L01": 2, "L02": 3}, 8), resamples=0)
        assert int(found["samples"]) == 38
        assert float(found["cka"][0, 1]) == pytest.approx(plain_cka(values[keep, :2], values[keep, 2:]), abs=1e-12)

    def test_p_is_flat_where_patients_are_independent(self) -> None:
        """Slices of a patient are alike, so that a permutation of slices would find similarity everywhere."""
        rng = np.random.default_rng(5)
        p = []
        for _ in range(200):
            means = rng.normal(size=(8, 6))
            slices = np.repeat(means, 5, axis=0) + 0.1 * rng.normal(size=(40, 6))
            found = analysis.similarity(points(slices, {"L01": 3, "L02": 3}, 8), resamples=99, seed=1)
            p.append(float(found["p"][0, 1]))
        assert stats.kstest(p, "uniform").pvalue > 0.01
        assert np.mean(np.array(p) <= 0.05) < 0.1

    def test_p_is_low_where_layers_agree_and_missing_for_few_patients(self) -> None:
        x = np.random.default_rng(6).normal(size=(30, 3))
        both = np.concatenate([x, x], axis=1)
        found = analysis.similarity(points(both, {"L01": 3, "L02": 3}, 10), resamples=199)
        assert float(found["p"][0, 1]) < 0.01
        assert float(found["q"][0, 1]) == float(found["p"][0, 1])
        assert int(found["tests"]) == 1
        few = analysis.similarity(points(both, {"L01": 3, "L02": 3}, 4), resamples=199)
        assert np.isnan(few["p"]).all()
        assert str(few["note"].values) == "4 patients: too few for a test"

    def test_of_conditions_over_the_samples_they_apply_to(self) -> None:
        rng = np.random.default_rng(7)
        original = rng.normal(size=(30, 5))
        changed = original + rng.normal(size=(30, 5))
        changed[::3] = np.nan
        both = xr.concat([points(side, {"L01": 2, "L02": 3}, 6) for side in (original, changed)], "condition")
        found = analysis.condition_similarity(both.assign_coords(condition=["original", "dark"]))
        used = np.isfinite(changed[:, 0])
        assert found["samples"].values.tolist() == [30, 20]
        np.testing.assert_allclose(found["cka"][0], 1, atol=1e-12)
        for i, where in enumerate([slice(0, 2), slice(2, 5)]):
            x, y = original[used, where], changed[used, where]
            assert float(found["cka"][1, i]) == pytest.approx(plain_cka(x, y), abs=1e-12)
            assert float(found["rsa"][1, i]) == pytest.approx(stats.spearmanr(pdist(x), pdist(y)).statistic)

    def test_other_networks_compare_across(self) -> None:
        rng = np.random.default_rng(8)
        x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 4))
        one = points(x, {"L01": 2, "L02": 3}, 8)
        lazy = one.chunk({"sample": 15})
        found = analysis.similarity(lazy, points(y, {"L01": 4}, 8), resamples=19)
        assert found["cka"].shape == (2, 1)
        assert float(found["cka"][1, 0]) == pytest.approx(plain_cka(x[:, 2:], y), abs=1e-12)
        with pytest.raises(AnalysisError, match="the spaces have 40 and 39 samples"):
            analysis.similarity(one, points(y[:39]))


class TestNeighbours:
    def test_are_those_of_brute_force_on_every_layer(self, store: Store) -> None:
        patient = store.samples["patient"].to_numpy()
        for layer in store.layers.index:
            found = analysis.neighbours(analysis.embedding(store, layer), 3)
            values = analysis.embedding(store, layer).values
            distance = cdist(values, values)
            distance[patient[:, None] == patient] = np.inf
            expected = np.lexsort((np.broadcast_to(np.arange(len(values)), distance.shape), distance), axis=1)[:, :3]
            np.testing.assert_allclose(found["distance"], np.take_along_axis(distance, expected, 1), rtol=1e-12)
            np.testing.assert_array_equal(found["neighbour"], expected)

    def test_equal_distances_missing_numbers_and_too_few(self) -> None:
        values = np.array([[0.0], [1.0], [1.0], [np.nan], [5.0]])
        found = analysis.neighbours(points(values), 4)
        assert found["neighbour"].values.tolist() == [
            [1, 2, 4, -1], [2, 0, 4, -1], [1, 0, 4, -1], [-1, -1, -1, -1], [1, 2, 0, -1],
        ]  # fmt: skip
        assert np.isnan(found["distance"].values[3]).all()
        same = analysis.neighbours(points(values, patients=1), 1, same_patient=True)
        assert same["neighbour"].values[:, 0].tolist() == [1, 2, 1, -1, 1]
        with pytest.raises(AnalysisError, match="all samples are of patient000: give samples of two patients"):
            analysis.neighbours(points(values, patients=1))


class TestProjection:
    def test_pca_is_that_of_svd(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "PART_BYTES", 8 * 7 * 11)
        rng = np.random.default_rng(9)
        values = rng.normal(size=(50, 7)) @ np.diag([9, 5, 3, 2, 1, 0.5, 0.1]) + 100
        found = analysis.pca(points(values).chunk({"sample": 9}), 7)
        assert isinstance(found["score"].data, da.Array)
        u, s, v = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
        sign = np.sign((found["axis"].values * v).sum(axis=1))
        np.testing.assert_allclose(found["axis"], v * sign[:, None], atol=1e-9)
        np.testing.assert_allclose(found["score"], u * s * sign, atol=1e-8)
        np.testing.assert_allclose(found["variance"], s**2 / 49, rtol=1e-9)
        assert float(found["share"].sum()) == pytest.approx(1)

    def test_conditions_share_one_picture(self) -> None:
        rng = np.random.default_rng(10)
        values = rng.normal(size=(20, 2, 4))
        values[::2, 1] = np.nan
        both = xr.DataArray(values, dims=("sample", "condition", "feature"))
        found = analysis.projection(both)
        assert np.isnan(found["x"].values[::2, 1]).all()
        assert int(found["points"]) == int(found["judged"]) == 30
        flat = values.reshape(-1, 4)[np.isfinite(values.reshape(-1, 4)).all(axis=1)]
        assert float(found["share"]) == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(flat.T)))[-2:].sum()
                                                      / np.trace(np.cov(flat.T)))  # fmt: skip

    def test_trust_is_that_of_scikit_learn(self) -> None:
        from sklearn.manifold import trustworthiness

        rng = np.random.default_rng(11)
        values, plane = rng.normal(size=(60, 8)), rng.normal(size=(60, 2))
        named = xr.DataArray(plane, dims=("sample", "axis"))
        for shown in (named, xr.DataArray(values[:, :2], dims=("sample", "axis"))):
            expected = trustworthiness(values, shown.values, n_neighbors=10)
            assert analysis.trustworthiness(points(values), shown) == pytest.approx(expected, abs=1e-12)

    def test_tsne_keeps_groups_apart_and_refuses_a_perplexity(self) -> None:
        rng = np.random.default_rng(12)
        values = np.concatenate([rng.normal(size=(20, 5)), 30 + rng.normal(size=(20, 5))])
        found = analysis.projection(points(values), "tsne", perplexity=5)
        plane = np.stack([found["x"], found["y"]], axis=1)
        near = np.argsort(cdist(plane, plane), axis=1)[:, 1:4] >= 20
        assert (near == (np.arange(40) >= 20)[:, None]).all()
        assert float(found["trustworthiness"]) > 0.8
        with pytest.raises(AnalysisError, match="perplexity = 14 of 40 points: give at most 13, a third of the points"):
            analysis.projection(points(values), "tsne", perplexity=14)

    def test_tsne_of_one_dimension(self) -> None:
        values = np.random.default_rng(3).normal(size=(30, 1))
        found = analysis.projection(points(values), "tsne", perplexity=5)
        assert np.isfinite(np.stack([found["x"], found["y"]])).all()
        assert float(found["trustworthiness"]) > 0.9

    def test_many_points_take_another_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(projections, "EXACT_POINTS", 30)
        monkeypatch.setitem(__import__("sys").modules, "openTSNE", None)
        values = np.random.default_rng(13).normal(size=(40, 3))
        with pytest.raises(MissingError, match=r"t-SNE of 40 points, more than 30 needs openTSNE, .*actstore\[tsne\]"):
            analysis.projection(points(values), "tsne", perplexity=5)


def test_moments_of_nothing() -> None:
    moments = Moments([slice(0, 2)])
    moments.add(np.zeros((0, 2)))
    assert np.isnan(moments.cka()).all()
