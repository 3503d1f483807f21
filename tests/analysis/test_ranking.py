"""Top channels and their frequency, counted by hand, by brute force and lazily."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import xarray as xr
from dask.base import compute
from hypothesis import given, settings
from hypothesis import strategies as st

from actstore.analysis import AnalysisError, channel_frequency, in_top, most_frequent, top_channels
from actstore.measures.names import METRICS, UNCHANGED
from helpers import label_coords, raise_if_dask_computes, tasks_of


def make_score(values: Any, chunks: dict[str, int] | None = None) -> xr.DataArray:
    values = np.asarray(values, dtype=np.float64)
    targets = [("RV", "MYO", "LV")[i % 3] for i in range(values.shape[1] - 1)]
    coords = label_coords(len(values), targets, layer="L01", module="net.adn.N")
    score = xr.DataArray(values, dims=("sample", "condition", "channel"), coords=coords, name="mad")
    return score if chunks is None else score.copy(data=score.variable.chunk(chunks).data)


@st.composite
def scores(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], dict[str, int]]:
    shape = (draw(st.integers(1, 14)), draw(st.integers(2, 5)), draw(st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(0, draw(st.integers(1, 40)), size=shape).astype(np.float64)
    values[:, 0] = 0
    values[:, 1:][rng.random((shape[0], shape[1] - 1)) < 0.2] = np.nan
    if draw(st.booleans()):
        values[rng.random(shape) < 0.1] = draw(st.sampled_from([np.nan, np.inf]))
    chunks = {d: draw(st.integers(1, n)) for d, n in zip(("sample", "condition", "channel"), shape, strict=True)}
    return values, chunks


def ranked(score: np.ndarray[Any, Any], k: int, metric: str = "mad") -> list[int]:
    """The ``k`` channels that changed most, as the definition says it, and -1 for those that are not there."""
    loudness = {"largest": lambda v: -v, "smallest": lambda v: v, "magnitude": lambda v: -abs(v)}[METRICS[metric]]
    changed = [i for i, v in enumerate(score.tolist()) if not np.isnan(v) and v != UNCHANGED[metric]]
    order = sorted(changed, key=lambda i: (loudness(score[i]), i))[:k]
    return order + [-1] * (min(k, len(score)) - len(order))


@settings(max_examples=25, deadline=None)
@given(scores(), st.integers(1, 8))
def test_top_channels_by_brute_force(case: tuple[np.ndarray[Any, Any], dict[str, int]], k: int) -> None:
    values, chunks = case
    with raise_if_dask_computes():
        lazy = top_channels(make_score(values, chunks), k)
    top = lazy.compute(scheduler="synchronous")
    xr.testing.assert_identical(top, top_channels(make_score(values), k))
    assert top["channel"].dims == ("sample", "condition", "rank")
    assert top["channel"].dtype == np.int64
    assert top["applicable"].dtype == bool
    for s, c in np.ndindex(values.shape[:2]):
        score = values[s, c]
        applies = c > 0 and not np.isnan(score).all()
        order = ranked(score, k) if applies else [-1] * min(k, len(score))
        assert top["channel"].values[s, c].tolist() == order
        assert top["applicable"].values[s, c] == applies
        expected = [np.nan if i < 0 else score[i] for i in order]
        np.testing.assert_array_equal(top["mad"].values[s, c], expected)


@settings(max_examples=60, deadline=None)
@given(
    metric=st.sampled_from(sorted(METRICS)),
    score=st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, math.inf, -math.inf, math.nan]), min_size=1),
    k=st.integers(1, 12),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_what_did_not_change_has_no_rank_by_any_metric(metric: str, score: list[float], k: int, dtype: Any) -> None:
    values = np.array(score, dtype)
    array = xr.DataArray(np.stack([values, values])[None], dims=("sample", "condition", "channel"), name=metric)
    applicable = xr.DataArray([[True, True]], dims=("sample", "condition"))
    order = ranked(values, k, metric)
    top = top_channels(array, k, applicable=applicable)
    assert top["channel"].values[0, 1].tolist() == order
    member = in_top(array, k, applicable=applicable).values[0, 1]
    assert np.flatnonzero(member).tolist() == sorted(i for i in order if i >= 0)
    frequency = channel_frequency(top)
    assert frequency["count"].values[0].tolist() == member.astype(int).tolist()
    assert frequency["n"].values.tolist() == [1], "a sample in which nothing changed is counted"
    listed = most_frequent(frequency, 99)["channel"].values[0]
    assert listed[listed >= 0].tolist() == np.flatnonzero(member).tolist()


def test_a_smallest_score_of_unknown_name_leaves_out_no_number() -> None:
    top = top_channels(make_score([[[0] * 3, [1, 0, np.nan]]]).rename("dice"), k=3, order="smallest")
    np.testing.assert_array_equal(top["channel"][0, 1], [1, 0, -1])


def test_ties_rank_by_lower_channel_and_neither_0_nor_nan_ranks() -> None:
    top = top_channels(make_score([[[0] * 5, [1, 2, 2, np.nan, np.inf], [0, 0, 3, 0, 0]]]), k=5)
    np.testing.assert_array_equal(top["channel"][0, 1], [4, 1, 2, 0, -1])
    np.testing.assert_array_equal(top["channel"][0, 2], [2, -1, -1, -1, -1])
    np.testing.assert_array_equal(top["mad"][0, 2], [3, *[np.nan] * 4])
    np.testing.assert_array_equal(top["channel"][0, 0], [-1] * 5)


def test_samples_without_a_change_are_counted() -> None:
    values = np.zeros((4, 2, 3))
    values[1, 1, 2] = 1
    values[3, 1] = np.nan
    frequency = channel_frequency(top_channels(make_score(values), k=2))
    np.testing.assert_array_equal(frequency["count"], [[0, 0, 1]])
    np.testing.assert_array_equal(frequency["n"], [3])


def test_k_beyond_the_channels_gives_all() -> None:
    top = top_channels(make_score(np.ones((2, 2, 4))), k=9)
    assert top.sizes["rank"] == 4
    np.testing.assert_array_equal(top["rank"], [1, 2, 3, 4])


def test_applicable_overrides_the_guess() -> None:
    score = make_score([[[0, 0], [np.nan, np.nan], [1, 2]]])
    np.testing.assert_array_equal(top_channels(score)["channel"][0, 1], [-1, -1])
    applicable = xr.DataArray([[True, True, False]], dims=("sample", "condition"), coords={"phase": 1})
    top = top_channels(score, applicable=applicable)
    np.testing.assert_array_equal(top["channel"][0], [[-1] * 2] * 3)
    np.testing.assert_array_equal(top["applicable"][0], [False, True, False])
    assert np.isnan(top["mad"][0, 2]).all()


def test_a_score_without_coordinates_or_name() -> None:
    top = top_channels(xr.DataArray(np.eye(3)[None], dims=("sample", "condition", "channel")), k=1)
    np.testing.assert_array_equal(top["channel"][0, :, 0], [-1, 1, 2])
    assert "score" in top
    frequency = channel_frequency(top)
    np.testing.assert_array_equal(frequency["condition"], [1, 2])
    np.testing.assert_array_equal(frequency["count"], [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(channel_frequency(top.isel(condition=2))["count"], [0, 0, 1])


def brute_force(top: xr.Dataset, *keys: str) -> tuple[Counter[Any], Counter[Any]]:
    count: Counter[Any] = Counter()
    n: Counter[Any] = Counter()
    channels = top["channel"].values
    labels = [
        top[key].broadcast_like(top["channel"].isel(rank=0)).transpose("sample", "condition").values for key in keys
    ]
    for s, c in np.ndindex(channels.shape[:2]):
        if top["applicable"].values[s, c]:
            group = tuple(values[s, c] for values in labels)
            n[group] += 1
            count.update((*group, channel) for channel in channels[s, c].tolist() if channel >= 0)
    return count, n


@pytest.mark.parametrize(
    ("by", "dims"),
    [
        (None, ["condition"]),
        ("condition", ["condition"]),
        ("case", ["case", "condition"]),
        ("patient", ["patient", "condition"]),
        (["patient", "case"], ["patient", "case", "condition"]),
        (["condition", "group"], ["condition", "group"]),
        ("target", ["target"]),
        (["target", "frame"], ["target", "frame"]),
        ("strength", ["strength"]),
        ("layer", ["layer", "condition"]),
    ],
    ids=str,
)
@settings(max_examples=5, deadline=None)
@given(case=scores(), data=st.data())
def test_frequency_by_brute_force(by: Any, dims: list[str], case: Any, data: st.DataObject) -> None:
    values, chunks = case
    labels = np.array(["error", "only LV", "LV→MYO"])
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))

    def with_case(top: xr.Dataset) -> xr.Dataset:
        valid = top["applicable"].values
        return top.assign_coords(case=(("sample", "condition"), np.where(valid, chosen, "")))

    chosen = labels[rng.integers(0, 3, values.shape[:2])]
    plain = with_case(top_channels(make_score(values), 2))
    lazy = top_channels(make_score(values, chunks), 2).assign_coords(case=plain["case"])
    with raise_if_dask_computes():
        lazy_frequency = channel_frequency(lazy, by)
    frequency = channel_frequency(plain, by)
    xr.testing.assert_identical(lazy_frequency.compute(scheduler="synchronous"), frequency)
    assert frequency["count"].dims == (*dims, "channel")
    assert frequency["n"].dims == tuple(dims)
    assert frequency["count"].dtype == np.int64
    count, n = brute_force(plain, *dims)
    assert int(frequency["count"].sum()) == sum(count.values())
    assert frequency["n"].sum() == sum(n.values())
    for group, expected in n.items():
        at = tuple(frequency[dim].values.tolist().index(label) for dim, label in zip(dims, group, strict=True))
        assert frequency["n"].values[at] == expected
        assert frequency["count"].values[at].tolist() == [count[(*group, i)] for i in range(values.shape[2])]


def test_frequency_takes_arrays_and_keeps_labels_of_conditions() -> None:
    top = top_channels(make_score(np.arange(24.0).reshape(2, 3, 4)), k=1)
    case = xr.DataArray(
        [["", "error", "only LV"], ["", "only LV", ""]],
        dims=("sample", "condition"),
        name="case",
        coords={"layer": "x"},
    )
    frequency = channel_frequency(top, case)
    assert frequency["case"].values.tolist() == ["error", "only LV"]
    assert frequency["target"].values.tolist() == ["RV", "MYO"]
    np.testing.assert_array_equal(frequency["count"].sel(channel=3), [[1, 0], [1, 1]])
    np.testing.assert_array_equal(frequency["n"], [[1, 0], [1, 1]])
    xr.testing.assert_identical(channel_frequency(top, "condition"), channel_frequency(top))


def test_most_frequent_breaks_ties_and_lists_no_absent_channel() -> None:
    values = np.zeros((4, 2, 6))
    for s, first in enumerate([4, 1, 4, 2]):
        values[s, 1, first] = 1
    top = top_channels(make_score(values), k=1)
    with raise_if_dask_computes():
        lazy = channel_frequency(top.chunk({"sample": 2}), most=5)
    for found in (most_frequent(channel_frequency(top), n=5), lazy.compute(scheduler="synchronous")):
        np.testing.assert_array_equal(found["channel"][0], [4, 1, 2, -1, -1])
        np.testing.assert_array_equal(found["count"][0], [2, 1, 1, 0, 0])
        np.testing.assert_array_equal(found["rank"], [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(found["n"], [4])
    assert most_frequent(channel_frequency(top), n=99).sizes["rank"] == 6


def test_graph_grows_with_chunks_only() -> None:
    def tasks(blocks: int) -> int:
        score = make_score(np.ones((blocks * 2, 4, 8)), {"sample": 2})
        return tasks_of(channel_frequency(top_channels(score)))

    assert tasks(20) - tasks(10) == tasks(30) - tasks(20) <= 10 * 8


def test_no_samples() -> None:
    top = top_channels(make_score(np.ones((0, 3, 4))))
    frequency = channel_frequency(top, "patient")
    assert dict(frequency.sizes) == {"patient": 0, "condition": 2, "channel": 4}
    assert most_frequent(channel_frequency(top))["channel"].values.tolist() == [[-1] * 4] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: top_channels(s, 0), r"k = 0: give an integer of at least 1"),
        (lambda s, t: top_channels(s, True), r"k = True: give an integer"),
        (lambda s, t: top_channels(s.isel(channel=0)), r"mad has no dimension 'channel', only"),
        (lambda s, t: most_frequent(channel_frequency(t), 0), r"n = 0: give an integer"),
        (lambda s, t: channel_frequency(t, "case"), r"by = 'case' is no coordinate of the ranks: pass by=cases\(conf"),
        (lambda s, t: channel_frequency(t, "age"), r"by = 'age' is no coordinate of the ranks: use one of .*patient"),
        (lambda s, t: channel_frequency(t, ["frame", "frame"]), r"by = \['frame', 'frame', 'condition'\]: name each"),
        (lambda s, t: channel_frequency(t, t["patient"][:1]), r"by = 'patient' has sample of size 1, the ranks have"),
        (lambda s, t: channel_frequency(t, xr.DataArray([1])), r"an array in by has no name"),
        (lambda s, t: channel_frequency(xr.Dataset()), r"top has no channel ranks: give the result of top_channels"),
    ],
)
def test_errors_name_the_mend(call: Any, message: str) -> None:
    score = make_score(np.ones((2, 2, 3)))
    with pytest.raises(AnalysisError, match=message):
        call(score, top_channels(score))


def test_ranks_of_a_lazy_score_compute_once() -> None:
    score = make_score(np.ones((4, 2, 3)), {"sample": 2})
    lazy = top_channels(score)
    with raise_if_dask_computes(max_computes=1):
        top, frequency = compute(lazy, channel_frequency(lazy))  # type: ignore[no-untyped-call]
    assert frequency["count"].sum() == (top["channel"] >= 0).sum()
