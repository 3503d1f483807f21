"""p-values of means over patients by flipping signs: no distribution is assumed, only that both signs are as likely."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Patients up to which every pattern of signs is tried.
MOST_EXACT = 16
#: Random patterns above that.
RESAMPLES = 99_999

#: Sums that differ by less than this share of all absolute values are equal: they differ by rounding alone.
_TOLERANCE = 1e-9
#: Patterns and tests in one matrix product: 8 MiB of sums.
_PATTERNS, _TESTS = 2048, 512


def smallest_p(patients: int) -> float:
    """The smallest p of :func:`sign_flip_p` with as many patients."""
    return 2.0 ** (1 - patients) if patients <= MOST_EXACT else 1 / (1 + RESAMPLES)


def sign_flip_p(values: Floats, seed: int = 0) -> Floats:
    """Two-sided p of the mean of each row of ``values`` (test, patient), NaN where a patient is left out.

    Under the null hypothesis, each patient's value is as likely to be positive as negative, given its size. p is the
    share of the 2^P patterns of signs that give a mean at least as far from 0 as the observed one (Fisher, The Design
    of Experiments, 1935, §21); above :data:`MOST_EXACT` patients it is (1 + as extreme) / (1 + n) of n =
    :data:`RESAMPLES` random patterns (Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), 39), the same for
    all tests. NaN without patients.
    """
    used = ~np.isnan(values)
    number = used.sum(axis=-1)
    p = np.full(len(values), np.nan)
    order = np.argsort(~used, axis=-1, kind="stable")
    packed = np.take_along_axis(np.where(used, values, 0.0), order, axis=-1)
    for patients in np.unique(number[(number > 0) & (number <= MOST_EXACT)]).tolist():
        own = number == patients
        p[own] = _extremes(packed[own, :patients], _every_pattern(patients)) / 2 ** (patients - 1)
    if (many := number > MOST_EXACT).any():
        # A patient that is left out has the value 0, which no sign changes.
        left = np.where(used, values, 0.0)[many]
        p[many] = (1 + _extremes(left, _random_patterns(values.shape[-1], seed))) / (1 + RESAMPLES)
    return p


def whole_sign_p(values: NDArray[np.integer]) -> float:
    """As :func:`sign_flip_p` of one test, of whole numbers (patient,): exact for any number of patients.

    The distribution of the sum over all patterns is built patient by patient. Where all values are -1, 0 or 1, this is
    McNemar's exact test (Psychometrika 12 (1947), 153). 1 where all are 0.
    """
    sizes = np.abs(values[values != 0]).astype(int)
    total = int(sizes.sum())
    share = np.zeros(2 * total + 1)
    share[total] = 1.0
    for size in sizes.tolist():
        share = (np.roll(share, size) + np.roll(share, -size)) / 2
    far = np.abs(np.arange(-total, total + 1)) >= abs(int(values.sum()))
    return float(min(1.0, share[far].sum()))


def _extremes(values: Floats, patterns: Iterator[Floats]) -> NDArray[np.int64]:
    """How many patterns of signs give a sum of ``values`` (test, patient) at least as far from 0 as their own."""
    limit = np.abs(values.sum(axis=-1)) - _TOLERANCE * np.abs(values).sum(axis=-1)
    extreme = np.zeros(len(values), dtype=np.int64)
    for signs in patterns:
        for first in range(0, len(values), _TESTS):
            part = slice(first, first + _TESTS)
            sums = signs @ values[part].T
            extreme[part] += (np.abs(sums, out=sums) >= limit[part]).sum(axis=0)
    return extreme


def _every_pattern(patients: int) -> Iterator[Floats]:
    """Patterns of signs (pattern, patient) in batches; the first patient keeps its sign, since opposites are equal."""
    for first in range(0, 2 ** (patients - 1), _PATTERNS):
        number = np.arange(first, min(first + _PATTERNS, 2 ** (patients - 1)))
        yield _signs(number[:, None] >> np.arange(patients)[::-1] & 1)


def _random_patterns(patients: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    for first in range(0, RESAMPLES, _PATTERNS):
        yield _signs(rng.integers(0, 2, (min(_PATTERNS, RESAMPLES - first), patients), dtype=np.int8))


def _signs(bits: NDArray[np.integer]) -> Floats:
    return 1.0 - 2.0 * bits.astype(np.float64)
