"""Statuses of optima and their comparison with the data, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.optima import STATUSES, above_data, best_seed, channel_status, share_above
from helpers import lazy_study, raise_if_dask_computes

SIZE, OTHER = (16, 12), (24, 24)
LIVE, DEAD, CONSTANT, BOUNDED = range(len(STATUSES))


def made_up(channels: int = 40, seeds: int = 3, *, chunk: int | None = None, seed: int = 0) -> xr.Dataset:
    """Random statuses and values of two layers; some values are equal to the maximum of the data, some are unknown."""
    rng = np.random.default_rng(seed)
    status = rng.integers(0, len(STATUSES), (channels, seeds)).astype(np.uint8)
    final = rng.integers(0, 4, (channels, seeds)).astype(np.float32)
    final[np.isin(status, (DEAD, CONSTANT))] = 0
    final[0, 0] = np.nan
    most = rng.integers(0, 4, channels).astype(np.float32)
    most[rng.random(channels) < 0.2] = np.nan
    found = xr.Dataset(
        {
            "status": (("layer_channel", "seed"), status),
            "final": (("layer_channel", "seed"), final),
            "data_max": ("layer_channel", most),
        },
        coords={
            "layer": ("layer_channel", np.where(np.arange(channels) % 3 == 0, "L02", "L01")),
            "channel": ("layer_channel", np.arange(channels)),
            "seed": np.arange(seeds) + 5,
        },
    )
    return found if chunk is None else lazy_study(found, {"layer_channel": chunk})


def expected_best(group: xr.Dataset) -> list[int]:
    found = []
    for status, final in zip(group["status"].values, group["final"].values, strict=True):
        best = -1
        for k, (code, value) in enumerate(zip(status, final, strict=True)):
            usable = code in (LIVE, BOUNDED) and not math.isnan(value)
            if usable and (best < 0 or value > final[best]):
                best = k
        found.append(best)
    return found


def expected_above(group: xr.Dataset, size: tuple[int, ...]) -> np.ndarray[Any, Any]:
    found = np.full(group["final"].shape, np.nan)
    for c, k in np.ndindex(*found.shape):
        status, final, most = (group[name].values for name in ("status", "final", "data_max"))
        usable = status[c, k] == LIVE or (status[c, k] == BOUNDED and size == SIZE)
        if usable and not math.isnan(final[c, k]) and not math.isnan(most[c]):
            found[c, k] = final[c, k] > most[c]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_best_seed_is_the_highest_of_live_and_bounded_images(seed: int) -> None:
    group = made_up(seed=seed)
    best = best_seed(group)
    assert best.dtype == np.int64
    assert best.values.tolist() == expected_best(group)
    status = [int(row[max(k, 0)]) for row, k in zip(group["status"].values, expected_best(group), strict=True)]
    assert channel_status(group).values.tolist() == status


@pytest.mark.parametrize("size", [SIZE, OTHER])
def test_above_is_strictly_above_and_nan_where_it_is_no_comparison(size: tuple[int, int]) -> None:
    group = made_up()
    above = above_data(group, size=size, input_size=SIZE)
    np.testing.assert_array_equal(above.values, expected_above(group, size))
    bounded = group["status"].values == BOUNDED
    assert np.isnan(above.values[bounded]).all() == (size == OTHER)
    known = ~np.isnan(above.values)
    assert {*above.values[known].tolist()} == {0.0, 1.0}
    assert (above.values[(group["final"] == group["data_max"]).values & known] == 0).all()


@pytest.mark.parametrize("size", [SIZE, OTHER])
def test_shares_count_the_best_image_of_each_channel(size: tuple[int, int]) -> None:
    group = made_up()
    shares = share_above(group, size=size, input_size=SIZE)
    assert shares["layer"].values.tolist() == ["L02", "L01"]
    above, best = expected_above(group, size), expected_best(group)
    for layer in ("L02", "L01"):
        own = [c for c in range(len(best)) if group["layer"].values[c] == layer]
        found = shares.sel(layer=layer)
        values = [above[c, best[c]] for c in own if best[c] >= 0]
        compared = [value for value in values if not math.isnan(value)]
        assert int(found["channels"]) == len(own)
        for code, name in enumerate(STATUSES):
            statuses = [group["status"].values[c, max(best[c], 0)] for c in own]
            assert int(found[name]) == statuses.count(code), name
        assert int(found["compared"]) == len(compared)
        assert int(found["above"]) == sum(compared)
        assert float(found["share"]) == sum(compared) / len(compared)


def test_without_a_comparison_there_is_no_share() -> None:
    group = made_up().assign(data_max=("layer_channel", np.full(40, np.nan, np.float32)))
    shares = share_above(group, size=SIZE, input_size=SIZE)
    assert not shares["compared"].any()
    assert not shares["above"].any()
    assert shares["share"].isnull().all()


def test_chunks_are_computed_by_who_asks() -> None:
    whole, lazy = made_up(), made_up(chunk=7)
    with raise_if_dask_computes():
        best = best_seed(lazy)
        above = above_data(lazy, size=SIZE, input_size=SIZE)
        shares = share_above(lazy, size=SIZE, input_size=SIZE)
    np.testing.assert_array_equal(best, best_seed(whole))
    np.testing.assert_array_equal(above, above_data(whole, size=SIZE, input_size=SIZE))
    xr.testing.assert_equal(shares.compute(), share_above(whole, size=SIZE, input_size=SIZE))


def test_what_cannot_be_compared_is_named() -> None:
    group = made_up()
    with pytest.raises(AnalysisError, match=r"images of 8 × 16 × 12 and inputs of 16 × 12 have different axes"):
        above_data(group, size=(8, 16, 12), input_size=SIZE)
    with pytest.raises(AnalysisError, match="no dimension 'seed'"):
        best_seed(group.isel(seed=0))
    with pytest.raises(AnalysisError, match="no coordinate 'layer': assign it"):
        share_above(group.drop_vars("layer"), size=SIZE, input_size=SIZE)
    with pytest.raises(AnalysisError, match="no channel: none is committed yet"):
        share_above(group.isel(layer_channel=[]), size=SIZE, input_size=SIZE)
