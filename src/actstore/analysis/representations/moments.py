"""Moments of points of several spaces, summed in one stream, and the similarity of these spaces from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: The unbiased estimator divides by n - 3.
FEWEST_SAMPLES = 4
#: Points at a time, so that what they need stays in the cache.
_BLOCK = 512
#: A space is constant but for rounding where HSIC with itself is this small a part of the squared sum of squares, or
#: where points are this close to each other, relative to their size.
_CONSTANT, CLOSE = 1e-13, 1e-12


class Moments:
    """Sums over points of the spaces ``groups``, ranges along one axis of features, that HSIC is made of.

    With k the squared norm of a point in each space, taken from a first estimate of the mean: the sums of x, x x', k,
    k x' and k k'. They are all products of the columns (x, k, 1), so that one symmetric product holds them. Shifting
    the points changes no result, since the estimator is of differences between points; it only keeps rounding small.
    """

    def __init__(self, groups: Sequence[slice], *, norms: bool = True) -> None:
        self.groups = tuple(groups)
        self._features = max((group.stop for group in self.groups), default=0)
        #: HSIC needs the sums that k is in, a covariance does not.
        self._squared = self.groups if norms else ()
        self.number = 0
        self.shift: Floats | None = None
        columns = self._features + len(self._squared) + 1
        #: Of the columns (x, k, 1); the lower triangle stays 0.
        self._products = np.zeros((columns, columns), order="F")

    def add(self, points: Floats) -> None:
        """Add ``points`` (sample, feature), all finite."""
        from scipy.linalg.blas import dsyrk

        if not len(points):
            return
        if self.shift is None:
            self.shift = points.mean(axis=0)
        self.number += len(points)
        features = self._features
        block = np.empty((min(_BLOCK, len(points)), len(self._products)))
        block[:, -1] = 1.0
        for start in range(0, len(points), _BLOCK):
            part = points[start : start + _BLOCK]
            columns = block[: len(part)]
            np.subtract(part, self.shift, out=columns[:, :features])
            for i, group in enumerate(self._squared):
                x = columns[:, group]
                np.einsum("ij,ij->i", x, x, out=columns[:, features + i])
            self._products = dsyrk(1.0, columns.T, beta=1.0, c=self._products, overwrite_c=True)

    @property
    def sum(self) -> Floats:
        """Of x: (feature)."""
        return self._products[: self._features, -1]

    @property
    def products(self) -> Floats:
        """Sum of x x': (feature, feature)."""
        return _symmetric(self._products[: self._features, : self._features])

    @property
    def mean(self) -> Floats:
        """Of each feature, NaN without a point."""
        if self.shift is None:
            return np.full(self._features, np.nan)
        mean: Floats = self.shift + self.sum / self.number
        return mean

    @property
    def scatter(self) -> Floats:
        """Sum of (x - mean)(x - mean)': (feature, feature)."""
        scatter: Floats = self.products - np.outer(self.sum, self.sum) / max(self.number, 1)
        return scatter

    def hsic(self) -> Floats:
        """HSIC of every two spaces with linear kernels, by the unbiased estimator: (space, space); NaN below 4 points.

        HSIC_1 of Song et al., J. Mach. Learn. Res. 13 (2012), 1393, eq. 5: with K~ = X X' and L~ = Y Y' without their
        diagonals, [tr(K~ L~) + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2/(n-2) 1'K~L~1] / (n(n-3)). Of sums over points,
        tr(K~ L~) = |X'Y|² - Σ k l, 1'K~1 = |Σ x|² - Σ k, and 1'K~L~1 = Σ (x'Σx - k)(y'Σy - l).
        """
        n = self.number
        if n < FEWEST_SAMPLES:
            return np.full((len(self.groups),) * 2, np.nan)
        features, products = self._features, self.products
        norms, norm_by_feature = self._products[features:-1, -1], self._products[:features, features:-1].T
        norm_products = _symmetric(self._products[features:-1, features:-1])
        total = np.array([self.sum[g] @ self.sum[g] for g in self.groups]) - norms
        found = np.empty((len(self.groups),) * 2)
        for i, a in enumerate(self.groups):
            for j, b in enumerate(self.groups[: i + 1]):
                own = products[a, b]
                trace = np.vdot(own, own) - norm_products[i, j]
                crossed = self.sum[a] @ own @ self.sum[b] + norm_products[i, j]
                crossed -= norm_by_feature[j, a] @ self.sum[a] + norm_by_feature[i, b] @ self.sum[b]
                value = trace + total[i] * total[j] / ((n - 1) * (n - 2)) - 2 / (n - 2) * crossed
                found[i, j] = found[j, i] = value / (n * (n - 3))
        shift = np.zeros_like(self.sum) if self.shift is None else self.shift
        size = np.array([shift[g] @ shift[g] for g in self.groups])
        constant = (np.diag(found) <= _CONSTANT * norms**2 / (n * (n - 3))) | (norms <= n * CLOSE**2 * size)
        found[constant] = found[:, constant] = 0.0
        return found

    def cka(self) -> Floats:
        """CKA of every two spaces: (space, space), NaN of a space in which all points are one."""
        return normalised(self.hsic())


def _symmetric(upper: Floats) -> Floats:
    """The matrix whose upper triangle is that of ``upper``."""
    found: Floats = np.triu(upper) + np.triu(upper, 1).T
    return found


def normalised(hsic: Floats) -> Floats:
    """HSIC (…, space, space) divided by the root of each two spaces' own: CKA, NaN where one of them is 0.

    Kornblith et al., ICML 2019 (arXiv:1905.00414), eq. 4.
    """
    own = np.diagonal(hsic, axis1=-2, axis2=-1)
    scale = np.sqrt(np.where(own > 0, own, np.nan))
    found: Floats = hsic / (scale[..., :, None] * scale[..., None, :])
    return found


def centred(gram: Floats) -> Floats:
    """``gram`` (n, n) U-centred: the mean product of two such matrices off the diagonal is the unbiased HSIC.

    Székely & Rizzo, Ann. Stat. 42 (2014), 2382, definition 2; their inner product over n(n-3) is Song's HSIC_1.
    """
    n = len(gram)
    off = gram - np.diag(np.diag(gram))
    rows = off.sum(axis=0) / (n - 2)
    found: Floats = off - rows[:, None] - rows[None, :] + off.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(found, 0.0)
    return found


def gram_hsic(grams: Sequence[Floats]) -> Floats:
    """HSIC of every two Gram matrices (n, n) by the unbiased estimator: (gram, gram); NaN below 4 points."""
    n = len(grams[0])
    if n < FEWEST_SAMPLES:
        return np.full((len(grams),) * 2, np.nan)
    flat = np.stack([centred(gram).ravel() for gram in grams])
    found: Floats = flat @ flat.T / (n * (n - 3))
    trace = np.array([np.trace(gram) for gram in grams])
    squares = trace - np.array([gram.sum() / n for gram in grams])
    constant = (np.diag(found) <= _CONSTANT * squares**2 / (n * (n - 3))) | (squares <= 1e-14 * trace)
    found[constant] = found[:, constant] = 0.0
    return found
