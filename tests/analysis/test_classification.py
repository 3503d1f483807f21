"""Parts classified right, their intervals, and what a perturbation makes of a class."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from actstore import analysis
from actstore.analysis.arrays import AnalysisError
from actstore.analysis.classification import true_classes
from actstore.analysis.uncertainty.proportions import proportion

NAMES = ["a", "b", "c"]


def confusion_of(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], patients: list[str] | None = None
) -> xr.DataArray:
    """Of labels (sample) and predictions (sample, condition), -1 where not applicable."""
    counts = np.zeros((*predicted.shape, len(NAMES), len(NAMES)), np.int64)
    for (s, c), p in np.ndenumerate(predicted):
        if p >= 0:
            counts[s, c, labels[s], p] = 1
    conditions = ["original", *(f"noise({NAMES[0]}, {c})" for c in range(1, predicted.shape[1]))]
    return xr.DataArray(
        counts,
        dims=("sample", "condition", "true_class", "predicted_class"),
        coords={
            "condition": conditions,
            "target": ("condition", ["", *[NAMES[0]] * (len(conditions) - 1)]),
            "true_class": NAMES,
            "predicted_class": NAMES,
            "patient": ("sample", patients or [f"p{i}" for i in range(len(labels))]),
        },
    )


def test_accuracy_of_all_and_of_each_class() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 60), rng.integers(0, 3, (60, 2))
    predicted[labels != 0, 1] = -1
    found = analysis.accuracy(confusion_of(labels, predicted))
    right = predicted[:, 0] == labels
    assert found["class_name"].values.tolist() == ["all", *NAMES]
    expected = [right.mean(), *(right[labels == k].mean() for k in range(3))]
    np.testing.assert_allclose(found["accuracy"].isel(condition=0), expected)
    assert found["samples"].isel(condition=1).values.tolist() == [(labels == 0).sum(), (labels == 0).sum(), 0, 0]
    assert np.isnan(found["accuracy"].isel(condition=1).values[2:]).all()


def test_each_image_a_patient_is_wilson_with_students_quantile() -> None:
    """Of very many, Student's quantile is the normal one."""
    right = np.arange(20_000) % 10 > 0
    values = xr.DataArray(
        right.astype(float), dims="sample", coords={"patient": ("sample", np.arange(len(right)).astype(str))}
    )
    found = proportion(values)
    low, high = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    np.testing.assert_allclose([found["low"], found["high"]], [low, high], rtol=2e-6)


@pytest.mark.parametrize(("patients", "each", "truth"), [(10, 1, 0.9), (30, 1, 0.95), (10, 5, 0.9), (20, 3, 0.5)])
def test_the_interval_covers(patients: int, each: int, truth: float) -> None:
    """Where images of one patient are right or wrong together, too."""
    rng = np.random.default_rng(1)
    shares = truth if each == 1 else rng.beta(truth * 2, (1 - truth) * 2, (patients, 400)).repeat(each, axis=0)
    values = (rng.random((patients * each, 400)) < shares).astype(float)
    patient = np.arange(patients).repeat(each).astype(str)
    found = proportion(xr.DataArray(values, dims=("sample", "study"), coords={"patient": ("sample", patient)}))
    covered = float(((found["low"] <= truth) & (found["high"] >= truth)).mean())
    assert covered > 0.9
    naive = proportion(
        xr.DataArray(
            values, dims=("sample", "study"), coords={"patient": ("sample", np.arange(len(values)).astype(str))}
        )
    )
    if each > 1:
        assert float((naive["high"] - naive["low"]).mean()) < float((found["high"] - found["low"]).mean())


def test_the_interval_covers_where_one_patient_has_most_images() -> None:
    rng = np.random.default_rng(2)
    sizes = np.array([300, *[1] * 20])
    shares = rng.beta(9 * 0.9, 9 * 0.1, (len(sizes), 200)).repeat(sizes, axis=0)
    values = (rng.random(shares.shape) < shares).astype(float)
    patient = np.arange(len(sizes)).repeat(sizes).astype(str)
    found = proportion(xr.DataArray(values, dims=("sample", "study"), coords={"patient": ("sample", patient)}))
    assert float(((found["low"] <= 0.9) & (found["high"] >= 0.9)).mean()) > 0.95


def test_all_right_has_an_interval_with_width() -> None:
    values = xr.DataArray(np.ones(12), dims="sample", coords={"patient": ("sample", [f"p{i // 2}" for i in range(12)])})
    found = proportion(values)
    assert float(found["high"]) == 1.0
    assert 0.4 < float(found["low"]) < 0.65, "six patients, not twelve images"
    few = proportion(values.isel(sample=slice(0, 8)))
    assert np.isnan(few["low"])
    assert "4 patients" in str(few["note"].values)


def test_cases_are_right_or_name_both_classes() -> None:
    labels = np.array([0, 0, 1])
    predicted = np.array([[0, 0], [0, 2], [1, -1]])
    found = analysis.class_cases(confusion_of(labels, predicted))
    assert found.values.tolist() == [["", "right"], ["", "a→c"], ["", ""]]
    np.testing.assert_array_equal(analysis.correct(confusion_of(labels, predicted)), [[1, 1], [1, 0], [1, np.nan]])


def test_pixels_of_several_classes_are_refused() -> None:
    counts = confusion_of(np.array([0, 1]), np.array([[0], [1]]))
    counts[0, 0, 1, 1] = 3
    with pytest.raises(AnalysisError, match="pixels of several classes"):
        true_classes(counts)
