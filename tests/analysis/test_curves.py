"""Curves, areas and calibration against scikit-learn and plain NumPy on every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.calibration import calibration_curve

from actstore import analysis
from actstore.analysis import AnalysisError
from actstore.analysis.curves import ranked
from actstore.analysis.uncertainty.bootstrap import interval
from actstore.analysis.uncertainty.resamples import patient_draws
from actstore.measures.bins import BINS, PROBABILITY_BINS, TOTALS, edges

PATIENTS = 6
PIXELS = 3000


@pytest.fixture(scope="module")
def pixels() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-odds and truth of every pixel: (patient, pixel); some beyond the outer edges."""
    rng = np.random.default_rng(5)
    truth = rng.random((PATIENTS, PIXELS)) < 0.08
    return rng.normal(-6 + 7 * truth, 5), truth


def histogram_of(odds: NDArray[np.float64], truth: NDArray[np.bool_]) -> xr.DataArray:
    """(patient, condition, class_name, truth, bin) of (patient, pixel)."""
    counts = np.zeros((len(odds), 1, 1, 2, BINS), np.int64)
    place = np.searchsorted(edges()[1:], odds, side="right")
    np.add.at(counts, (np.arange(len(odds))[:, None], 0, 0, truth.astype(int), place), 1)
    return xr.DataArray(
        counts,
        dims=("patient", "condition", "class_name", "truth", "bin"),
        coords={"condition": ["original"], "class_name": ["LV"], "bin": edges()},
        name="histogram",
    )


def totals_of(odds: NDArray[np.float64], truth: NDArray[np.bool_]) -> xr.DataArray:
    p = 1 / (1 + np.exp(-odds))
    totals = np.zeros((len(odds), 1, 1, PROBABILITY_BINS, 3))
    place = np.minimum((p * PROBABILITY_BINS).astype(int), PROBABILITY_BINS - 1)
    np.add.at(
        totals, (np.arange(len(odds))[:, None], 0, 0, place), np.stack([np.ones_like(p), truth.astype(float), p], -1)
    )
    dims = ("patient", "condition", "class_name", "probability_bin", "total")
    coords = {"condition": ["original"], "class_name": ["LV"], "total": list(TOTALS)}
    return xr.DataArray(totals, dims=dims, coords=coords, name="calibration")


def scores_of(odds: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[xr.DataArray, xr.DataArray]:
    """The same pixels as whole samples: (sample, condition, class_name), truth (sample)."""
    patient = np.repeat([f"p{i}" for i in range(len(odds))], odds.shape[1])
    score = xr.DataArray(
        odds.reshape(-1, 1, 1),
        dims=("sample", "condition", "class_name"),
        coords={"condition": ["original"], "class_name": ["LV"], "patient": ("sample", patient)},
    )
    return score, xr.DataArray(truth.reshape(-1), dims="sample")


def ece_of(odds: NDArray[np.float64], truth: NDArray[np.bool_], bins: int) -> float:
    p = 1 / (1 + np.exp(-odds))
    place = np.minimum((p * bins).astype(int), bins - 1)
    number = np.bincount(place.ravel(), minlength=bins)
    off = np.bincount(place.ravel(), (p - truth).ravel(), minlength=bins)
    return float(np.abs(off).sum() / number.sum())


class TestPixels:
    def test_areas_are_within_their_bounds(self, pixels: Any) -> None:
        for part in (slice(None), slice(0, 1)):
            odds, truth = pixels[0][part], pixels[1][part]
            counts = histogram_of(odds, truth)
            found = analysis.auc(counts).squeeze()
            expected = metrics.roc_auc_score(truth.ravel(), odds.ravel())
            assert abs(found["auc"] - expected) <= found["bound"] < 2e-3
            precise = analysis.average_precision(counts).squeeze()
            expected = metrics.average_precision_score(truth.ravel(), odds.ravel())
            assert abs(precise["average_precision"] - expected) <= min(4e-4, float(precise["bound"]))

    def test_rates_are_those_at_the_edges(self, pixels: Any) -> None:
        odds, truth = pixels
        found = analysis.roc(histogram_of(odds, truth)).squeeze()
        both = analysis.precision_recall(histogram_of(odds, truth)).squeeze()
        assert found["threshold"][0] == np.inf
        assert found["threshold"][-1] == -np.inf
        for point in (0, 300, 512, 700, BINS):
            called = odds >= float(found["threshold"][point])
            true, false = (called & truth).sum(), (called & ~truth).sum()
            assert found["true_positive_rate"][point] == true / truth.sum()
            assert found["false_positive_rate"][point] == false / (~truth).sum()
            assert both["precision"][point] == (true / (true + false) if true + false else 1)
            np.testing.assert_allclose(both["f1"][point], metrics.f1_score(truth.ravel(), called.ravel()), rtol=1e-12)

    @pytest.mark.parametrize("bins", [10, 15, 30])
    def test_calibration_is_that_of_every_pixel(self, pixels: Any, bins: int) -> None:
        odds, truth = pixels
        found = analysis.expected_calibration_error(totals_of(odds, truth), bins).squeeze()
        np.testing.assert_allclose(found, ece_of(odds, truth, bins), rtol=1e-10)
        if bins == 10:
            shares = analysis.calibration(totals_of(odds, truth), bins).squeeze()
            frequency, confidence = calibration_curve(truth.ravel(), 1 / (1 + np.exp(-odds.ravel())), n_bins=bins)
            np.testing.assert_allclose(shares["frequency"], frequency, rtol=1e-10)
            np.testing.assert_allclose(shares["confidence"], confidence, rtol=1e-10)

    def test_other_bins_are_refused(self, pixels: Any) -> None:
        with pytest.raises(AnalysisError, match=r"bins = 20: give a divisor of 30: 1, 2, 3, 5, 6, 10, 15, 30"):
            analysis.calibration(totals_of(*pixels), 20)

    def test_counts_of_patients_add_up(self, pixels: Any) -> None:
        counts = histogram_of(*pixels)
        whole, parts = analysis.auc(counts), counts.isel(patient=[0, 2])
        assert whole.equals(analysis.auc(counts.sum("patient")))
        assert analysis.auc(parts).equals(analysis.auc(histogram_of(pixels[0][[0, 2]], pixels[1][[0, 2]])))

    def test_intervals_draw_patients(self, pixels: Any) -> None:
        odds, truth = pixels
        counts = histogram_of(odds, truth).assign_coords(patient=[f"p{i}" for i in range(PATIENTS)])
        found = analysis.pixel_summary(counts, totals_of(odds, truth)).squeeze()
        drawn = patient_draws(PATIENTS)
        values = []
        for weight in drawn.weights:
            several = np.repeat(np.arange(PATIENTS), weight.astype(int))
            values.append(float(analysis.auc(histogram_of(odds[several], truth[several]))["auc"].squeeze()))
        low, high, _ = interval(np.array(values), drawn, 0.95)
        np.testing.assert_allclose([found["auc_low"], found["auc_high"]], [low, high], rtol=1e-12)
        assert found["auc_low"] < found["auc"] < found["auc_high"]
        assert found["auc_error"] == 0
        half = odds >= 0
        np.testing.assert_allclose(found["f1"], metrics.f1_score(truth.ravel(), half.ravel()), rtol=1e-12)
        best = odds >= np.log(found["threshold"].item() / (1 - found["threshold"].item())) - 1e-9
        np.testing.assert_allclose(found["f1_best"], metrics.f1_score(truth.ravel(), best.ravel()), rtol=1e-12)

    def test_few_patients_have_a_note_instead(self, pixels: Any) -> None:
        found = analysis.pixel_summary(
            histogram_of(pixels[0][:3], pixels[1][:3]), totals_of(pixels[0][:3], pixels[1][:3])
        ).squeeze()
        assert np.isnan(found["auc_low"])
        assert "3 patients: too few" in str(found["note"].item())

    def test_without_positives_there_is_no_curve(self, pixels: Any) -> None:
        odds, none = pixels[0], np.zeros_like(pixels[1])
        found = analysis.pixel_summary(histogram_of(odds, none), totals_of(odds, none)).squeeze()
        assert np.isnan([found[name] for name in ("auc", "auc_low", "average_precision", "f1", "threshold")]).all()
        assert found["ece"] == pytest.approx(ece_of(odds, none, 15), rel=1e-10)


class TestScores:
    def test_areas_are_exact(self, pixels: Any) -> None:
        odds, truth = pixels
        odds = np.round(odds, 1)  # ties
        counts = analysis.score_counts(*scores_of(odds, truth))
        assert analysis.auc(counts)["bound"].item() == analysis.average_precision(counts)["bound"].item() == 0
        expected = metrics.roc_auc_score(truth.ravel(), odds.ravel())
        np.testing.assert_allclose(analysis.auc(counts)["auc"].squeeze(), expected, rtol=1e-12)
        expected = metrics.average_precision_score(truth.ravel(), odds.ravel())
        np.testing.assert_allclose(
            analysis.average_precision(counts)["average_precision"].squeeze(), expected, rtol=1e-12
        )

    def test_rates_are_those_of_each_score(self, pixels: Any) -> None:
        odds, truth = np.round(pixels[0][:1], 1), pixels[1][:1]
        found = analysis.roc(analysis.score_counts(*scores_of(odds, truth))).squeeze()
        false, true, threshold = metrics.roc_curve(truth.ravel(), odds.ravel(), drop_intermediate=False)
        own = found["threshold"].notnull().values
        np.testing.assert_allclose(found["threshold"].values[own], threshold)
        np.testing.assert_allclose(found["false_positive_rate"].values[own], false)
        np.testing.assert_allclose(found["true_positive_rate"].values[own], true)

    def test_a_summary_is_that_of_each_draw(self, pixels: Any) -> None:
        odds, truth = np.round(pixels[0][:5, :200], 1), pixels[1][:5, :200]
        found = analysis.score_summary(*scores_of(odds, truth)).squeeze()
        counts = analysis.score_counts(*scores_of(odds, truth))
        assert found["auc"] == analysis.auc(counts)["auc"].squeeze()
        np.testing.assert_allclose(found["ece"], ece_of(odds, truth, 15), rtol=1e-10)
        binned = analysis.pixel_summary(histogram_of(odds, truth), totals_of(odds, truth)).squeeze()
        drawn = patient_draws(5)
        for name, score in (("auc", metrics.roc_auc_score), ("average_precision", metrics.average_precision_score)):
            weights = [np.repeat(weight, odds.shape[1]) for weight in drawn.weights]
            values = [score(truth.ravel(), odds.ravel(), sample_weight=weight) for weight in weights]
            low, high, _ = interval(np.array(values), drawn, 0.95)
            np.testing.assert_allclose([found[f"{name}_low"], found[f"{name}_high"]], [low, high], rtol=1e-10)
        for name in ("ece_low", "ece_high", "f1", "count", "positives", "patients"):
            np.testing.assert_allclose(found[name], binned[name], rtol=1e-10)

    def test_log_odds_are_of_a_softmax(self) -> None:
        logits = xr.DataArray(np.random.default_rng(2).normal(0, 3, (5, 3)), dims=("sample", "class_name"))
        p = np.exp(logits) / np.exp(logits).sum("class_name")
        np.testing.assert_allclose(analysis.log_odds(logits, "softmax"), np.log(p / (1 - p)), rtol=1e-9)
        assert analysis.log_odds(logits, "sigmoid").equals(logits)


def test_mixed_bins_lie_between_the_extremes() -> None:
    positives, negatives = np.array([3, 0, 5, 1]), np.array([4, 2, 0, 7])
    mixed, bound = ranked.average_precision(positives, negatives, exact=False)

    def of(first: int) -> float:
        truth = np.concatenate(
            [
                np.repeat([first, 1 - first], [p, n][:: 1 if first else -1])
                for p, n in zip(positives[::-1], negatives[::-1], strict=True)
            ]
        )
        return float(metrics.average_precision_score(truth, -np.arange(len(truth))))

    assert of(0) < mixed < of(1)
    assert bound == pytest.approx(max(of(1) - mixed, mixed - of(0)), rel=1e-12)


def test_infinite_logits_rank_as_they_are_predicted() -> None:
    inf = np.inf
    logits = xr.DataArray([[inf, 0.0, inf], [-inf] * 3, [1.0, -inf, 1.0]], dims=("sample", "class_name"))
    odds = analysis.log_odds(logits, "softmax").values
    np.testing.assert_array_equal(odds, [[inf, -inf, -inf], [inf, -inf, -inf], [0, -inf, 0]])
