"""Bins of scores: which there are, and the cells that both kinds of them are unions of.

The score of a class is its logit, log(p / (1 - p)): of a sigmoid what the network returned, of a softmax what remains
of a class's logit without the logarithm of the other classes' sum of exponentials. Counts of pixels, samples and
patients add up.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: How logits become probabilities: of exclusive classes together, or of each by itself.
Activation = Literal["softmax", "sigmoid"]

#: Bins of a histogram of logits, each `BIN_WIDTH` wide from `FIRST_EDGE` on, its lower edge included; the first and the
#: last are open-ended. Their edges are exact in float32, and p = 0.5 is one.
BINS = 1024
BIN_WIDTH = 1 / 32
FIRST_EDGE = -BINS * BIN_WIDTH / 2
#: Bins of equal width in p, in which probabilities are summed: 10 or 15 of equal width are unions of these. Bin i holds
#: ``i <= p * PROBABILITY_BINS < i + 1``, the last one p = 1 too.
PROBABILITY_BINS = 30
#: What is kept of each: pixels, those of them that are of the class, and the sum of their p.
TOTALS = ("pixels", "true", "probability")
#: The sum of p is one of whole multiples of this, so that no order of summation and no device changes it.
PROBABILITY_STEP = 2.0**-30

#: Cells of the two kinds of bins together: both numbers rise with the score, so that their sum names both.
CELLS = BINS + PROBABILITY_BINS - 1


def edges() -> NDArray[np.float64]:
    """The lower edge of each bin of a histogram, a logit: (bin) float64, the first -inf."""
    lower = FIRST_EDGE + BIN_WIDTH * np.arange(BINS, dtype=np.float64)
    lower[0] = -np.inf
    return lower


def probability_edges() -> NDArray[np.float64]:
    """The lower edge of each bin of equal width, a probability: (probability_bin) float64."""
    return np.arange(PROBABILITY_BINS, dtype=np.float64) / PROBABILITY_BINS


def bins_of_cells() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The bin of a histogram, and the one of equal width in p, that each cell lies in: (cell) each.

    p = 0.5 is an edge of both, so that the cell between them stays empty, but for a pixel that rounding puts there.
    """
    inner = probability_edges()[1:]
    shares, bins = np.log(inner / (1 - inner)), edges()[1:]
    by_bin = np.arange(1, BINS) + np.searchsorted(shares, bins, side="right")
    by_share = np.arange(1, PROBABILITY_BINS) + np.searchsorted(bins, shares, side="right")
    cells = np.arange(CELLS)
    return np.searchsorted(by_bin, cells, side="right"), np.searchsorted(by_share, cells, side="right")
