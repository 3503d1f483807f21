"""Areas and rates over all thresholds, from positives and negatives in bins of rising score: NumPy in, NumPy out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.grouping import Floats


def from_above(counts: NDArray[np.number]) -> Floats:
    """How many lie in a bin or one above it: (…, bin) float64."""
    found: Floats = np.flip(np.cumsum(np.flip(counts, -1), axis=-1, dtype=np.float64), -1)
    return found


def area(positives: NDArray[np.number], negatives: NDArray[np.number]) -> tuple[Floats, Floats]:
    """The area under the ROC curve of counts (…, bin), and how far ties within bins may have moved it: (…) each.

    The area is the share of pairs of a positive and a negative in which the positive scores higher; pairs within a bin
    count half, so that the true area lies within half of their share. NaN without either kind.
    """
    p, n = positives.astype(np.float64), negatives.astype(np.float64)
    pairs = p.sum(-1) * n.sum(-1)
    below = np.cumsum(n, axis=-1) - n
    with np.errstate(invalid="ignore", divide="ignore"):
        tied = (p * n).sum(-1) / 2 / pairs
        return (p * below).sum(-1) / pairs + tied, tied


def average_precision(
    positives: NDArray[np.number], negatives: NDArray[np.number], *, exact: bool
) -> tuple[Floats, Floats]:
    """Average precision of counts (…, bin), and how far ties within bins may have moved it: (…) each.

    The mean over positives of the precision at the threshold of their score. ``exact`` bins hold one score each, and
    their ties are ties: the precision at the end of the bin, as in scikit-learn. In other bins the order is unknown:
    positives and negatives are taken to be mixed evenly, so that precision is integrated over the bin; the bound is the
    distance to the value with all of each bin's negatives before its positives, or behind them, whichever is larger.
    NaN without positives.
    """
    p, n = np.flip(positives, -1).astype(np.float64), np.flip(negatives, -1).astype(np.float64)
    true, total = np.cumsum(p, axis=-1) - p, np.cumsum(p + n, axis=-1) - p - n
    size, every = p + n, p.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        if exact:
            found = np.where(p > 0, p * (true + p) / (total + size), 0.0).sum(-1) / every
            return found, np.where(every > 0, 0.0, np.nan)
        mixed = np.where(p > 0, _integral(true, total, p, size), 0.0).sum(-1) / every
        best = np.where(p > 0, _harmonic(true, total, p), 0.0).sum(-1) / every
        worst = np.where(p > 0, _harmonic(true, total + n, p), 0.0).sum(-1) / every
    return mixed, np.fmax(best - mixed, mixed - worst)


def _integral(true: Floats, total: Floats, p: Floats, size: Floats) -> Floats:
    """Sum of the precision at each of ``p`` positives spread evenly over ``size`` places, after ``true`` of ``total``.

    Half a place is where a positive lies on average: ∫ (t + ½ + p u) / (T + ½ + s u) p du for u from 0 to 1.
    """
    share = p / size
    start, before = true + 0.5, total + 0.5
    found: Floats = p * (share + (start - before * share) / size * np.log1p(size / before))
    return found


def _harmonic(true: Floats, total: Floats, p: Floats) -> Floats:
    """Sum of (true + i) / (total + i) for i from 1 to ``p``."""
    from scipy.special import digamma

    found: Floats = p - (total - true) * (digamma(total + p + 1) - digamma(total + 1))
    return found


def f1(positives: NDArray[np.number], negatives: NDArray[np.number]) -> Floats:
    """F1 of calling positive what lies in a bin or above it, 2 TP / (2 TP + FP + FN): (…, bin); NaN without positives.

    That is 2 · precision · recall / (precision + recall), the harmonic mean of the two.
    """
    true, called = from_above(positives), from_above(positives) + from_above(negatives)
    every = np.asarray(positives, np.float64).sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(every > 0, 2 * true / (called + every), np.nan)
