"""Counts of pixels by score: the compiled passes and a device's against plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actstore.measures.bins import BINS, CELLS, PROBABILITY_BINS, PROBABILITY_STEP, bins_of_cells, edges
from actstore.measures.device_scores import count_on_device
from actstore.measures.scores import add_cells, count_scores
from counted import near_an_edge, odds_of, plain

CLASSES = 4
#: More than one packed integer holds, and no multiple of a block.
PIXELS = 70_001


def drawn(activation: str, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Logits that leave no pixel near an edge of either kind, where rounding would decide; and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 6, (CLASSES, PIXELS)).astype(np.float32)
    clear = ~near_an_edge(odds_of(logits, activation)).any(0)
    return logits[:, clear], rng.integers(0, CLASSES, int(clear.sum())).astype(np.uint8)


def members(activation: str) -> NDArray[np.uint8]:
    """Of sigmoids, regions that overlap."""
    member = np.zeros((CLASSES, 256), np.uint8)
    for c in range(CLASSES):
        member[c, c if activation == "softmax" else slice(c, CLASSES)] = 1
    return member


def counted(logits: NDArray[Any], label: NDArray[np.uint8], activation: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    histogram = np.zeros((len(logits), 2, BINS), np.uint32)
    totals = np.zeros((len(logits), PROBABILITY_BINS, 3), np.int64)
    count_scores(logits, label, members(activation), activation, histogram, totals)
    return histogram, totals


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_counts_are_those_of_numpy(activation: str) -> None:
    logits, label = drawn(activation)
    assert len(label) > 2**16
    histogram, totals = counted(logits, label, activation)
    expected, shares = plain(odds_of(logits, activation), members(activation)[:, label])
    np.testing.assert_array_equal(histogram, expected)
    np.testing.assert_array_equal(totals[..., :2], shares[..., :2])
    np.testing.assert_allclose(totals[..., 2] * PROBABILITY_STEP, shares[..., 2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_device_counts_the_same(activation: Any) -> None:
    logits, label = drawn(activation, seed=1)
    logits, label = logits[:, :600].reshape(CLASSES, 2, 300), label[:600].reshape(2, 300)
    owned = np.arange(300) % 7 > 0
    given = np.where(owned, label.astype(np.int16), -1)
    member = members(activation)
    cells = count_on_device(
        torch.from_numpy(np.moveaxis(logits, 1, 0).copy()),
        torch.from_numpy(given),
        torch.from_numpy(member),
        activation,
    ).numpy()
    for image in range(2):
        expected = counted(np.ascontiguousarray(logits[:, image, owned]), label[image, owned], activation)
        histogram, totals = np.zeros_like(expected[0]), np.zeros_like(expected[1])
        add_cells(cells[image, 0], cells[image, 1], histogram, totals)
        np.testing.assert_array_equal(histogram, expected[0])
        np.testing.assert_array_equal(totals[..., :2], expected[1][..., :2])
        np.testing.assert_allclose(totals[..., 2], expected[1][..., 2], rtol=1e-5, atol=2e3)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("size", [1e3, 1e30, np.inf])
def test_the_outer_bins_are_open(activation: Any, size: float) -> None:
    logits = np.full((CLASSES, 5), -size, np.float32)
    logits[1] = size
    histogram, totals = counted(logits, np.ones(5, np.uint8), activation)
    assert histogram[1, 1, -1] == 5
    assert totals[1, -1].tolist() == [5, 5, round(5 / PROBABILITY_STEP)]
    assert histogram[[0, 2, 3]].sum((1, 2)).tolist() == [5, 5, 5]
    assert (histogram[[0, 2, 3]].sum(1)[:, 0] == 5).all()
    assert not totals[[0, 2, 3], :, 2].any()


def test_even_chances_lie_on_an_edge() -> None:
    histogram, totals = counted(np.zeros((2, 3), np.float32), np.array([0, 1, 1], np.uint8), "softmax")
    assert histogram[1, :, BINS // 2].tolist() == [1, 2]
    assert histogram.sum() == 6
    assert totals[0, PROBABILITY_BINS // 2, 0] == 3


def test_every_cell_lies_in_one_bin_of_each_kind() -> None:
    by_bin, by_share = bins_of_cells()
    odds = np.concatenate([edges()[1:] + 1e-9, edges()[1:] - 1e-9, np.linspace(-17, 17, 5000)])
    place = np.searchsorted(edges()[1:], odds, side="right")
    share = np.minimum((PROBABILITY_BINS / (1 + np.exp(-odds))).astype(int), PROBABILITY_BINS - 1)
    np.testing.assert_array_equal(by_bin[place + share], place)
    np.testing.assert_array_equal(by_share[place + share], share)
    assert by_bin[-1] == BINS - 1
    assert by_share[-1] == PROBABILITY_BINS - 1
    assert len(by_bin) == CELLS
