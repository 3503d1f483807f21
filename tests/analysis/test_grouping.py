"""Counts by group and the choice of the highest, against plain NumPy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actstore import analysis
from actstore.analysis.channels.ranking import NO_CHANNEL, chosen, highest
from actstore.analysis.grouping import any_by, count_by, sum_by


@given(st.integers(0, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_flags_are_counted_by_group(cells: int, groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    flags, group = rng.random((cells, 3, 5)) < 0.4, rng.integers(-1, groups, cells)
    expected = np.array([flags[group == one].sum(axis=0) for one in range(groups)])
    found = count_by(flags, group, groups)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        count_by(flags[:, ::2].transpose(0, 2, 1), group, groups), expected[:, ::2].swapaxes(1, 2)
    )
    np.testing.assert_array_equal(any_by(flags, group), expected[: group.max(initial=-1) + 1] > 0)


def test_sums_and_counts_of_no_sample_are_empty() -> None:
    nobody = np.zeros(0, dtype=np.intp)
    assert count_by(np.zeros((0, 4), dtype=bool), nobody).shape == (0, 4)
    assert sum_by(np.zeros((0, 4)), nobody).shape == (0, 4)


@given(st.integers(0, 20), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_highest_are_those_of_a_stable_sort(rows: int, channels: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([np.nan, -np.inf, -1.0, -0.0, 0.0, 1.0, 2.0, np.inf], (rows, channels))
    found = highest(values, n)
    for row, channel in zip(values, found, strict=True):
        numbers = np.flatnonzero(~np.isnan(row))
        expected = numbers[np.argsort(-row[numbers], kind="stable")][:n]
        assert channel.tolist() == expected.tolist() + [NO_CHANNEL] * (n - len(expected))
    member = (found[..., None] == np.arange(channels)).any(axis=1)
    np.testing.assert_array_equal(chosen(found, channels), member)


def test_every_public_name_is_found_and_listed() -> None:
    assert dir(analysis) == sorted(analysis.__all__) == list(analysis.__all__)
    assert all(callable(getattr(analysis, name)) for name in analysis.__all__)
    with pytest.raises(AttributeError, match=r"module 'actstore\.analysis' has no attribute 'nothing'"):
        _ = analysis.nothing


def test_a_worker_loads_only_what_it_needs() -> None:
    code = (
        "import sys, actstore.analysis.maps.equality, actstore.tables.catalogue;"
        "print(sorted({'xarray', 'pandas', 'dask', 'numba', 'scipy', 'actstore.store'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
