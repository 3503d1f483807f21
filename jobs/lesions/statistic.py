"""Whether images of square nets hold squares, and of Gaussian nets Gaussians: the criterion, fixed before the nets.

Two numbers an image, each averaged over a net's live channels of the fifth convolution, so that a net is one number:

- **match**: the largest correlation with a square, minus the largest with a Gaussian, over all positions and sizes;
- **axes**: how far gradients point along the axes rather than the diagonals, 1 for a square, 0 for a disc.

Square nets are expected above Gaussian nets in both. p is exact and one-sided, over all ways to call half of the nets
square.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from lesions.data import Kind, Lesion

Floats = NDArray[np.float64]

#: Sides of squares, and full widths at half maximum of Gaussians, in pixels: those of the lesions.
SIZES = tuple(range(8, 15))
#: Standard deviation from which on a window, or an image, is no longer uniform, in shares of the intensity range.
CONTRAST = 0.02
#: p from which on a difference counts, of two statistics (Bonferroni).
LEVEL = 0.05 / 2


def match(images: NDArray[np.floating]) -> Floats:
    """(image,): correlation with the square that fits best, minus that with the Gaussian that fits best.

    ``images`` (image, y, x) in [0, 1]. The sign does not count: a channel may look for a dark square.
    """
    return correlation(images, "square") - correlation(images, "gaussian")


def correlation(images: NDArray[np.floating], kind: Kind) -> Floats:
    """(image,) in [0, 1]: largest absolute correlation of a window with a template, over positions and sizes.

    A template lies in the middle of a window twice its size; both kinds have the same windows. Windows that are
    uniform have a correlation of 0.
    """
    values = np.asarray(images, np.float64)
    # Correlation does not change with the mean, rounding of variances does.
    values = values - values.mean((1, 2), keepdims=True)
    best = np.zeros(len(values))
    for size in SIZES:
        side = 2 * size
        if side > min(values.shape[1:]):
            continue
        template = Lesion(kind, (size, size), size, 1.0).profile((side, side)).astype(np.float64)
        template -= template.mean()
        template /= np.linalg.norm(template)
        products = _windows(values, template)
        ones = np.ones((side, side))
        spread = _windows(values**2, ones) - _windows(values, ones) ** 2 / side**2
        seen = spread > side**2 * CONTRAST**2
        found = np.where(seen, np.abs(products) / np.sqrt(np.where(seen, spread, 1)), 0)
        best = np.maximum(best, found.max((1, 2)))
    return best


def _windows(values: Floats, template: Floats) -> Floats:
    """Sums of products of a template with every window that lies inside the image."""
    return fftconvolve(values, template[None, ::-1, ::-1], mode="valid", axes=(1, 2))


def axes(images: NDArray[np.floating]) -> Floats:
    """(image,) in [-1, 1]: mean of cos 4θ over the gradients' directions θ, weighted by their squared length.

    1 if all gradients point along the axes, -1 if along the diagonals, 0 if evenly or in no direction.
    """
    values = np.asarray(images, np.float64)
    y = gaussian_filter(values, (0, 1, 1), order=(0, 1, 0), mode="nearest")
    x = gaussian_filter(values, (0, 1, 1), order=(0, 0, 1), mode="nearest")
    gradient = (x + 1j * y).reshape(len(values), -1)
    weight = (np.abs(gradient) ** 2).sum(1)
    # |g|² cos 4θ = Re g⁴ / |g|².
    length = np.maximum(np.abs(gradient) ** 2, 1e-30)
    turned = (gradient**4 / length).real.sum(1)
    return np.where(weight > 1e-20, turned / np.maximum(weight, 1e-20), 0.0)


def near_uniform(images: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(image,): images that show nothing."""
    spread = np.asarray(images, np.float64).std(tuple(range(1, images.ndim)))
    return np.asarray(spread < CONTRAST)


def permutation_p(square: Sequence[float], gaussian: Sequence[float]) -> float:
    """Share of all splits of the nets whose difference of means is at least as large as the one found.

    Five nets a kind that are fully apart: 1 / 252.
    """
    values = np.array([*square, *gaussian], np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a net has no number: none of its channels is live")
    splits = np.array(list(combinations(range(len(values)), len(square))))
    sums = values[splits].sum(1)
    # The first split is the one found; a sum in another order may round otherwise.
    return float(np.mean(sums >= sums[0] - 1e-12 * np.abs(values).sum()))


def auc(square: NDArray[np.floating], gaussian: NDArray[np.floating]) -> float:
    """Share of pairs in which the number of ``square`` is the larger one; ties count half."""
    above = square[:, None] > gaussian[None]
    return float(np.mean(above + 0.5 * (square[:, None] == gaussian[None])))
