"""Counts of pixels by score in plain NumPy, float64 throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.measures.bins import BIN_WIDTH, BINS, PROBABILITY_BINS, edges
from actstore.store.store import Store

Floats = NDArray[np.float64]


def odds_of(logits: NDArray[np.floating[Any]], activation: str) -> Floats:
    """Log-odds (class, pixel) of logits."""
    wide = logits.astype(np.float64)
    if activation == "sigmoid":
        return wide
    return np.stack([wide[c] - np.logaddexp.reduce(np.delete(wide, c, 0)) for c in range(len(wide))])


def plain(odds: Floats, truth: NDArray[np.integer[Any]]) -> tuple[Floats, Floats]:
    """Histogram (class, truth, bin) and totals (class, probability bin, total) of log-odds and truth (class, pixel)."""
    p = 1 / (1 + np.exp(-odds))
    histogram = np.zeros((len(odds), 2, BINS))
    totals = np.zeros((len(odds), PROBABILITY_BINS, 3))
    for c, row in enumerate(odds):
        np.add.at(histogram[c], (truth[c], np.searchsorted(edges()[1:], row, side="right")), 1)
        share = np.minimum((p[c] * PROBABILITY_BINS).astype(int), PROBABILITY_BINS - 1)
        np.add.at(totals[c], share, np.stack([np.ones_like(row), truth[c], p[c]], -1))
    return histogram, totals


def near_an_edge(odds: Floats) -> NDArray[np.bool_]:
    """Which log-odds lie so close to an edge of either kind that rounding may decide."""
    shares = PROBABILITY_BINS / (1 + np.exp(-odds))
    near: NDArray[np.bool_] = np.abs(odds / BIN_WIDTH - np.round(odds / BIN_WIDTH)) < 1e-3
    return near | ((np.abs(shares - np.round(shares)) < 1e-4) & (np.round(shares) % PROBABILITY_BINS > 0))


def owned(store: Store, sample: int) -> tuple[slice, ...]:
    """The voxels that a sample owns, in its patch."""
    axes = "zyx"[-len(store.layout.space) :]
    row = store.patches.iloc[sample]
    return tuple(
        slice(int(row[f"owned_start_{a}"] - row[f"origin_{a}"]), int(row[f"owned_stop_{a}"] - row[f"origin_{a}"]))
        for a in axes
    )


def expect_counts(
    histogram: NDArray[Any],
    totals: NDArray[Any],
    logits: NDArray[np.floating[Any]],
    label: NDArray[np.uint8],
    members: Sequence[Sequence[int]],
    activation: str,
) -> None:
    """The counts are those of ``logits`` (class, …) and ``label`` (…), but for pixels that rounding may move."""
    odds = odds_of(logits.reshape(len(logits), -1), activation)
    truth = np.stack([np.isin(label.ravel(), indices) for indices in members]).astype(int)
    expected, shares = plain(odds, truth)
    near = near_an_edge(odds).sum(1)
    assert (histogram.sum(2) == expected.sum(2)).all()
    assert (np.abs(histogram - expected).sum((1, 2)) <= 2 * near).all()
    assert (np.abs(totals - shares)[..., :2].sum((1, 2)) <= 4 * near).all()
    np.testing.assert_allclose(totals[..., 2].sum(1), shares[..., 2].sum(1), rtol=1e-5)
