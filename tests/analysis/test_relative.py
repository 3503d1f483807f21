"""MAD relative to what a channel does on the original, and its rank in the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actstore.analysis import AnalysisError, network_rank, pooled_std, standardised, statistics
from helpers import make_activation, make_study, raise_if_dask_computes

NAMES = ["mad", "mean", "std"]


def chunked(study: xr.Dataset, **sizes: int) -> xr.Dataset:
    return study.map(lambda v: v.copy(data=v.variable.chunk({d: sizes[d] for d in sizes if d in v.dims}).data))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
def test_pooled_std_is_that_of_all_positions_of_all_samples(seed: int, samples: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(rng.normal(size=(samples, 1, channels, 1, 1)), 2, (samples, 3, channels, 5, 4))
    reduced = statistics(make_activation(values), NAMES)
    expected = values[:, 0].std(axis=(0, 2, 3))
    np.testing.assert_allclose(pooled_std(reduced), expected, rtol=1e-6)
    mad = np.abs(values - values[:, :1]).mean(axis=(3, 4))
    found = standardised(reduced)
    assert found.dims == ("sample", "condition", "channel")
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, mad / expected, rtol=1e-5)


def test_a_channel_that_varies_between_samples_only_has_that_spread() -> None:
    dims = ("sample", "channel")
    reduced = xr.Dataset({"mean": (dims, [[0, -3, -3], [0, 3, 3]]), "std": (dims, [[1, 0, 1], [1, 0, 1]])})
    np.testing.assert_allclose(pooled_std(reduced), [1, 3, np.sqrt(10)])


def test_of_means_with_conditions_that_of_the_original_counts() -> None:
    reduced = statistics(make_activation(np.random.default_rng(0).normal(size=(4, 3, 5, 6, 6))), NAMES)
    shift = xr.DataArray([0.0, 100.0, 200.0], dims="condition")
    several = reduced.assign(mean=reduced["mean"] + xr.zeros_like(reduced["mad"]) + shift)
    assert set(several["mean"].dims) == {"sample", "condition", "channel"}
    xr.testing.assert_identical(pooled_std(several), pooled_std(reduced))
    xr.testing.assert_identical(standardised(several), standardised(reduced))
    with pytest.raises(AnalysisError, match="the first condition is"):
        pooled_std(several.isel(condition=slice(1, None)))


def test_silent_channels_and_broken_maps() -> None:
    dims = ("sample", "channel")
    mad = np.array([[[0, 0, 0, 0], [0, 2, 3, np.nan]], [[0, 0, 0, 0], [0, 4, 3, 6]]], dtype=float)
    reduced = xr.Dataset(
        {
            "mad": (("sample", "condition", "channel"), mad),
            "mean": (dims, [[1, 1, 5, 0], [1, 1, np.inf, 0]]),
            "std": (dims, [[0, 0, 2, 3], [0, 0, np.nan, 3]]),
        }
    )
    np.testing.assert_array_equal(pooled_std(reduced), [0, 0, 2, 3])
    found = standardised(chunked(reduced, sample=1)).compute(scheduler="synchronous")
    np.testing.assert_array_equal(found[0, 1], [np.nan, np.inf, 1.5, np.nan])
    np.testing.assert_array_equal(found[1], [[np.nan, np.nan, 0, 0], [np.nan, np.inf, 1.5, 2]])
    gone = reduced.assign(std=reduced["std"] * np.nan)
    assert np.isnan(pooled_std(chunked(gone, sample=1)).compute(scheduler="synchronous")).all()


def test_ranks_by_brute_force() -> None:
    study = make_study(layers={"L01": 5, "L02": 7}, seed=3)
    rank = network_rank(study["mad"])
    assert rank.dims == ("condition", "channel")
    assert np.isnan(rank[0]).all()
    for c in (1, 2, 3):
        mean = np.nanmean(study["mad"].values[:, c], axis=0)
        np.testing.assert_allclose(rank[c], [(mean < m).sum() / 11 for m in mean])
    assert (rank["layer"] == study["layer"]).all()


def test_ranks_of_ties_of_missing_and_of_one_channel() -> None:
    mad = xr.DataArray(
        [[[0] * 4, [5, 1, 5, np.nan], [np.nan] * 4, [2] * 4]], dims=("sample", "condition", "channel"), name="mad"
    )
    expected = [[np.nan] * 4, [0.75, 0, 0.75, np.nan], [np.nan] * 4, [0.5] * 4]
    np.testing.assert_array_equal(network_rank(mad), expected)
    np.testing.assert_array_equal(network_rank(mad[..., :1])[:, 0], [np.nan, 0.5, np.nan, 0.5])


@pytest.mark.slow
def test_a_null_network_has_uniform_ranks() -> None:
    ranks = np.concatenate([network_rank(make_study(seed=s)["mad"])[1:, 5] for s in range(60)])
    assert stats.kstest(ranks, "uniform").pvalue > 0.01


def test_lazy_and_chunked_as_in_memory() -> None:
    study = make_study()
    lazy = chunked(study, sample=7, condition=2, channel=5)
    with raise_if_dask_computes():
        found = [pooled_std(lazy), standardised(lazy), network_rank(lazy["mad"])]
    for array, expected in zip(
        found, [pooled_std(study), standardised(study), network_rank(study["mad"])], strict=True
    ):
        xr.testing.assert_allclose(array.compute(scheduler="synchronous"), expected, rtol=1e-13)


def test_one_layer_has_the_scale_that_it_has_in_the_network() -> None:
    study = make_study(layers={"L01": 5, "L02": 7})
    layer = study.isel(channel=study["layer"].values == "L02")
    np.testing.assert_allclose(pooled_std(layer), pooled_std(study)[5:])
    np.testing.assert_allclose(standardised(layer), standardised(study)[..., 5:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: pooled_std(s.drop_vars("std")), r"statistics have no 'std': ask statistics\(\) for mad, mean, std"),
        (lambda s: standardised(s.drop_vars("mad")), r"statistics have no 'mad': ask statistics\(\)"),
        (lambda s: pooled_std(s[["mean", "std"]].isel(sample=0)), r"array has no dimension 'sample', only"),
        (lambda s: network_rank(s["mad"].isel(channel=0)), r"mad has no dimension 'channel', only"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        call(make_study(patients=2))
