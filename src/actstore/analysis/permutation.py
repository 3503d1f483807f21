"""p-values of counts per patient: what chance makes of them when samples or whole volumes change patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.sets import Counts, per_patient

Floats = NDArray[np.float64]

#: Numbers in each array of a batch of permutations: 4 MiB.
_BATCH = 2**19


@dataclass(frozen=True)
class Spread:
    """Counts (unit, …, channel) out of sizes (unit, …), and the patient that owns each unit.

    A unit is a patient, whose samples are exchanged one by one; or, if ``whole``, what is exchanged in one piece.
    """

    counts: Counts
    sizes: Counts
    owner: NDArray[np.intp]
    whole: bool

    def of(self, condition: int, channels: NDArray[np.intp] | None = None, without: int | None = None) -> Spread:
        """One condition, units that have samples in it, and patients numbered anew."""
        sizes = self.sizes[:, condition]
        keep = (sizes > 0) & (self.owner != without)
        counts = self.counts[keep, condition]
        owner = np.unique(self.owner[keep], return_inverse=True)[1]
        return Spread(counts if channels is None else counts[:, channels], sizes[keep], owner, self.whole)


def p_values(spread: Spread, resamples: int, seed: int) -> Floats:
    """p of each channel's chi-square (channel): (1 + as extreme) / (1 + resamples); NaN where it cannot be tested."""
    counts, sizes = per_patient(spread.counts, spread.owner), per_patient(spread.sizes, spread.owner)
    count, samples = counts.sum(axis=0), sizes.sum()
    tested = np.flatnonzero((count > 0) & (count < samples))
    p = np.full(counts.shape[1], np.nan)
    if not len(tested) or len(sizes) < 2:
        return p
    # Members and non-members have the same chi-square, so that the smaller of the two is drawn.
    fewer = np.where(2 * count > samples, sizes[:, None] - counts, counts)[:, tested]
    # Counts that are equally uneven may differ in the last digits.
    observed = (fewer**2 / sizes[:, None]).sum(axis=0) * (1 - 1e-9)
    if spread.whole:
        units = np.where(2 * count > samples, spread.sizes[:, None] - spread.counts, spread.counts)[:, tested]
        extreme = _whole_extremes(units, spread, observed, resamples, seed)
    else:
        totals, which = np.unique(fewer.sum(axis=0), return_inverse=True)
        null = np.sort(_null(sizes, totals, resamples, seed), axis=0)
        below = [np.searchsorted(null[:, i], least, side="left") for i, least in zip(which, observed, strict=True)]
        extreme = resamples - np.array(below)
    p[tested] = (1 + extreme) / (1 + resamples)
    return p


def _whole_extremes(units: Counts, spread: Spread, observed: Floats, resamples: int, seed: int) -> Counts:
    """How many permutations of whole units over patients are as uneven as ``observed`` (channel)."""
    rng = np.random.default_rng(seed)
    order = np.argsort(spread.owner, kind="stable")
    starts = np.searchsorted(spread.owner[order], np.arange(spread.owner.max() + 1))
    extreme = np.zeros(units.shape[1], dtype=np.int64)
    batch = max(1, _BATCH // units.size)
    for first in range(0, resamples, batch):
        rows = min(batch, resamples - first)
        drawn = rng.permuted(np.tile(np.arange(len(units)), (rows, 1)), axis=1)
        counts = np.add.reduceat(units[drawn], starts, axis=1)
        sizes = np.add.reduceat(spread.sizes[drawn], starts, axis=1)
        extreme += ((counts**2 / sizes[..., None]).sum(axis=1) >= observed).sum(axis=0)
    return extreme


def _null(sizes: Counts, totals: Counts, resamples: int, seed: int) -> Floats:
    """Σ count² / size over patients for random permutations: (resample, total), rising with chi-square for each total.

    The first m of permuted samples are m drawn at random without replacement, for every m at once: one permutation
    serves all totals, and a channel's p does not depend on which others are tested with it.
    """
    rng = np.random.default_rng(seed)
    samples, last = int(sizes.sum()), int(totals[-1])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    found = np.empty((resamples, len(totals)))
    batch = max(1, _BATCH // samples)
    for first in range(0, resamples, batch):
        rows = min(batch, resamples - first)
        drawn = rng.permuted(np.tile(labels, (rows, 1)), axis=1)[:, :last]
        order = np.argsort(drawn, axis=1, kind="stable")
        grouped = np.take_along_axis(drawn, order, axis=1)
        begins = np.diff(grouped, axis=1, prepend=-1) != 0
        place = np.arange(last)
        before = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
        # One more of a patient that has c adds (c + 1)² - c².
        added = np.empty((rows, last))
        np.put_along_axis(added, order, (2 * before + 1) / sizes[grouped], axis=1)
        found[first : first + rows] = added.cumsum(axis=1)[:, totals - 1]
    return found
