"""Resamples of patients, their probabilities, and quantiles over them with a Monte-Carlo error."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import factorial, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.evidence import FEWEST_PATIENTS

Floats = NDArray[np.float64]

#: Draws where not all resamples are enumerated.
RESAMPLES = 2000
#: Patients up to which they are: 7 have C(13, 7) = 1716 resamples.
MOST_ENUMERATED = 7
#: Standard errors on either side of a quantile.
_ERRORS = 2.0
#: Rounding error that sums of probabilities may have.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Draws:
    """Resamples of patients: how often each patient is in them, and how likely they are.

    ``weights`` is (draw, patient), float64; ``ways`` (draw), float64 whole numbers, is in proportion to the probability
    of a draw. ``exact`` where these are all draws that there are; otherwise they are random, and equally likely.
    """

    weights: Floats
    ways: Floats
    exact: bool

    @property
    def probability(self) -> Floats:
        """The probability of each draw: (draw), sum 1."""
        probability: Floats = self.ways / self.ways.sum()
        return probability

    def sums(self, values: Floats) -> Floats:
        """Sums of ``values`` (patient, …) over the patients of each draw: (draw, …)."""
        sums: Floats = np.tensordot(self.weights, values, axes=1)
        return sums

    def mean(self, values: NDArray[Any]) -> Any:
        """Mean of ``values`` (draw, …), which is exactly 1 where all of them are."""
        return np.tensordot(self.ways, values, axes=1) / self.ways.sum()

    def quantiles(self, values: Floats, levels: tuple[float, ...]) -> tuple[Floats, Floats]:
        """Quantiles of ``values`` (…, draw) and their Monte-Carlo error: (level, …) each.

        A quantile is the smallest value that draws of a probability of ``level`` do not exceed (inverse of the
        distribution function). Its error is the distance to the values two standard errors of a binomial count further
        up and down in the order of the draws, the larger of both: inf where there are too few draws for it, 0 for
        ``exact`` ones, NaN where the quantile is infinite.
        """
        if self.exact:
            order = np.argsort(values, axis=-1, kind="stable")
            reached = self.ways[order].cumsum(axis=-1) / self.ways.sum()
            at = [(reached[..., :-1] < level - _ROUNDING).sum(axis=-1, keepdims=True) for level in levels]
            places = [np.take_along_axis(order, i, axis=-1) for i in at]
            found = np.stack([np.take_along_axis(values, place, axis=-1)[..., 0] for place in places])
            return found, np.where(np.isfinite(found), 0.0, np.nan)
        ordered, number = np.sort(values, axis=-1), values.shape[-1]
        found, errors = np.empty((2, len(levels), *values.shape[:-1]))
        for i, level in enumerate(levels):
            rank = max(int(np.ceil((level - _ROUNDING) * number)), 1) - 1
            spread = int(np.ceil(_ERRORS * np.sqrt(number * level * (1 - level))))
            found[i], errors[i] = ordered[..., rank], np.inf
            if spread <= rank < number - spread:
                near = ordered[..., [rank - spread, rank + spread]]
                with np.errstate(invalid="ignore"):
                    errors[i] = np.abs(near - found[i, ..., None]).max(axis=-1)
        return found, np.where(np.isfinite(found), errors, np.nan)


def patient_draws(patients: int, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
    """Resamples of ``patients``, as many as there are, with replacement.

    Up to :data:`MOST_ENUMERATED` patients all distinct resamples with their multinomial probability, whatever
    ``resamples`` and ``seed`` (Fisher & Hall, J. Stat. Plan. Inference 27 (1991), 157); beyond, ``resamples`` random
    ones.
    """
    if patients <= MOST_ENUMERATED:
        # As many stars as patients between bars: each row of gaps is how often each patient is drawn.
        last = 2 * patients - 1
        placed = list(combinations(range(last), patients - 1))
        bars = np.array(placed, dtype=np.intp).reshape(len(placed), patients - 1)
        edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, last)))
        weights = np.diff(edges, axis=1) - 1
        ways = [factorial(patients) // prod(map(factorial, row)) for row in weights.tolist()]
        return Draws(weights.astype(np.float64), np.array(ways, dtype=np.float64), exact=True)
    drawn = np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    return Draws(drawn.astype(np.float64), np.ones(resamples), exact=False)


def draws_of(present: NDArray[np.bool_], resamples: int = RESAMPLES, seed: int = 0) -> Draws | None:
    """:func:`patient_draws` of the patients that are ``present`` (patient), None of fewer than
    :data:`actstore.analysis.evidence.FEWEST_PATIENTS`.
    """
    patients = int(np.count_nonzero(present))
    return patient_draws(patients, resamples, seed) if patients >= FEWEST_PATIENTS else None
