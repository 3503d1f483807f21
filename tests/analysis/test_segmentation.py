"""Overlap measures on matrices small enough to count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from actstore.analysis import AnalysisError, dice, dice_over, jaccard, mean_dice
from helpers import CLASSES, make_confusion, raise_if_dask_computes


def matrix(**cells: int) -> list[list[int]]:
    """A confusion matrix by cells, for example ``LV_MYO=3``: three pixels of LV predicted as MYO."""
    values = [[0] * 4 for _ in CLASSES]
    for cell, count in {"background_background": 900, **cells}.items():
        true, predicted = cell.split("_")
        values[CLASSES.index(true)][CLASSES.index(predicted)] = count
    return values


NOTHING = np.zeros((4, 4), int).tolist()


def test_by_hand() -> None:
    confusion = make_confusion([[matrix(LV_LV=6, LV_MYO=2, background_LV=4), NOTHING]], targets=["LV"])
    found = dice(confusion)
    assert found.dims == ("sample", "condition", "class_name")
    assert found["class_name"].values.tolist() == ["RV", "MYO", "LV"]
    np.testing.assert_allclose(found[0, 0], [1, 0, 12 / 18])
    np.testing.assert_allclose(jaccard(confusion)[0, 0], [1, 0, 6 / 12])
    assert np.isnan(found[0, 1]).all()
    assert np.isnan(jaccard(confusion)[0, 1]).all()
    assert found.name == "dice"
    assert found.dtype == np.float64


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_masks_and_chunks(seed: int, samples: int, step: int, split: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, (samples, 1, 9)) * rng.integers(0, 2, (samples, 1, 1))
    predicted = rng.integers(0, 4, (samples, 2, 9))
    true = np.broadcast_to(true, predicted.shape)
    counts = np.zeros((samples, 2, 4, 4), int)
    for s, c, p in np.ndindex(predicted.shape):
        counts[s, c, true[s, c, p], predicted[s, c, p]] += 1
    confusion = make_confusion(counts, targets=["LV"])
    chunks = {"sample": min(step, samples), "true_class": split, "predicted_class": split}
    chunked = confusion.copy(data=confusion.variable.chunk(chunks).data)
    with raise_if_dask_computes():
        lazy = [dice(chunked), jaccard(chunked), mean_dice(chunked), mean_dice(chunked, over="all")]
    plain = [dice(confusion), jaccard(confusion), mean_dice(confusion), mean_dice(confusion, over="all")]
    for one, other in zip(lazy, plain, strict=True):
        # Chunks are summed one after another: a mean may differ in its last bit.
        xr.testing.assert_allclose(one.compute(scheduler="synchronous"), other, rtol=1e-12)
        assert (one.name, one.dims, list(one.coords)) == (other.name, other.dims, list(other.coords))
    for k in (1, 2, 3):
        a, b = true == k, predicted == k
        both, either, total = (a & b).sum(-1), (a | b).sum(-1), a.sum(-1) + b.sum(-1)
        np.testing.assert_allclose(plain[0][..., k - 1], np.where(total, 2 * both / np.maximum(total, 1), 1))
        np.testing.assert_allclose(plain[1][..., k - 1], np.where(total, both / np.maximum(either, 1), 1))


def test_mean_over_all_and_over_slices_with_the_class() -> None:
    found = matrix(LV_LV=4)
    missed = matrix(LV_background=4)
    absent = matrix()
    confusion = make_confusion([[found, missed], [found, found], [absent, NOTHING]], targets=["LV"])
    np.testing.assert_allclose(mean_dice(confusion, over="all").sel(class_name="LV"), [1, 0.5])
    np.testing.assert_allclose(mean_dice(confusion).sel(class_name="LV"), [1, 0.5])
    np.testing.assert_allclose(mean_dice(confusion, over="all").sel(class_name="RV"), [1, 1])
    assert np.isnan(mean_dice(confusion).sel(class_name="RV")).all()
    counted = dice_over(confusion).transpose("sample", "condition", "class_name")
    np.testing.assert_array_equal(counted.sel(class_name="LV"), [[1, 0], [1, 1], [np.nan, np.nan]])
    xr.testing.assert_equal(dice_over(confusion, over="all"), dice(confusion))
    assert mean_dice(confusion)["target"].values.tolist() == ["", "LV"]


def test_applicable_is_believed() -> None:
    confusion = make_confusion([[NOTHING, matrix(LV_LV=4)]], targets=["LV"])
    applicable = xr.DataArray([[True, False]], dims=("sample", "condition"))
    np.testing.assert_array_equal(dice(confusion, applicable=applicable)[0], [[1] * 3, [np.nan] * 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.isel(true_class=0), r"confusion has no dimension 'true_class'"),
        (lambda c: c.drop_vars("predicted_class"), r"confusion has no class names along 'predicted_class'"),
        (lambda c: c.isel(true_class=[1, 0, 2, 3]), r"confusion has true classes .* but predicted classes"),
    ],
)
def test_errors_name_the_mend(change: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        dice(change(make_confusion([[matrix(), matrix()]], targets=["LV"])))


def test_unknown_mean() -> None:
    with pytest.raises(AnalysisError, match=r"over = 'some': give 'present' or 'all'"):
        mean_dice(make_confusion([[matrix(), matrix()]], targets=["LV"]), over="some")  # type: ignore[arg-type]
