"""Similarity of two maps: cosine, PSNR, SSIM and signed difference, compiled as :mod:`actstore.measures.kernel`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from actstore.measures.compiled import Floats, Run, as_written, compiled, run_of

#: Side of the uniform window, and constants for a data range of 1: Wang et al., IEEE TIP 13 (2004), 600, section III.C;
#: the window is the default of scikit-image's ``structural_similarity``.
WINDOW = 7
C1 = 0.01**2
C2 = 0.03**2
#: Squared lengths outside this range are recomputed from maps scaled to a largest value of 1.
SHORTEST, LONGEST = 1e-140, 1e140


def similarities(
    maps: Floats, run: Run, space: tuple[int, ...], names: tuple[str, ...], mse: Callable[[], Floats]
) -> dict[str, Floats]:
    """The "mean_difference", "cosine", "psnr" and "ssim" among ``names``: float64 (sample, channel, condition).

    ``maps`` is (sample, channel, condition, pixel) in float32 or float64 with condition 0 as the original, ``run`` is
    `run_of` the maps, ``space`` their shape, and ``mse`` returns the errors for "psnr".
    """
    found: dict[str, Floats] = {}
    if "mean_difference" in names or "cosine" in names:
        found["mean_difference"], found["cosine"] = _products_of(maps, run)
    if "psnr" in names or "ssim" in names:
        low, high = maps.min(axis=-1), maps.max(axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):
            span = high - low
        if "psnr" in names:
            found["psnr"] = _psnr(span[..., :1].astype(np.float64), mse())
        if "ssim" in names:
            found["ssim"] = _ssim_of(run, space, low, span)
    return found


def _products_of(maps: Floats, run: Run) -> tuple[Floats, Floats]:
    shape = maps.shape[:3]
    change, product, square = np.empty(shape), np.empty(shape), np.empty(shape)
    _products(*run, change, product, square)
    if maps.dtype == np.float64 and ((square < SHORTEST) | (square > LONGEST)).any():
        peak = np.abs(maps).max(axis=-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            scaled = maps / np.where(peak > 0, peak, 1)
        _products(*run_of(scaled), np.empty(shape), product, square)
    size = maps.shape[-1]
    length = np.sqrt(square[..., :1] * square)
    with np.errstate(invalid="ignore"):
        cosine = np.clip(product / np.where(length == 0, 1, length), -1, 1)
    empty = (square[..., :1] == 0) & (square == 0)
    return change / size, np.where(empty, 1.0, cosine)


def _psnr(span: Floats, mse: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 20 * np.log10(span) - 10 * np.log10(mse)
    return np.where((mse == 0) & np.isfinite(span), np.inf, found)


def _ssim_of(run: Run, space: tuple[int, ...], low: Floats, span: Floats) -> Floats:
    ssim = np.full(low.shape, np.nan)
    if len(space) not in (2, 3) or min(space) < WINDOW:
        return ssim
    # A constant map becomes 0 everywhere; a map that is not finite has no range.
    divisor = np.where(span == 0, 1, span)
    divisor[~np.isfinite(span)] = np.nan
    depth, height, width = (1, *space)[-3:]
    _ssim(*run, (depth, height, width), low, divisor, ssim)
    ssim[..., 0] = np.where(np.isfinite(span[..., 0]), 1.0, np.nan)
    return ssim


@compiled
def _products(
    values: Floats, shape: tuple[int, ...], strides: tuple[int, ...], change: Floats, product: Floats, square: Floats
) -> None:
    """Sums in float64 of b - a, a·b and b·b, where a is condition 0: (sample, channel, condition)."""
    samples, channels, conditions, size = shape
    for s in range(samples):
        for k in range(channels):
            first = s * strides[0] + k * strides[1]
            original = values[first : first + size]
            for c in range(conditions):
                start = first + c * strides[2]
                other = values[start : start + size]
                difference = 0.0
                both = 0.0
                own = 0.0
                for i in range(size):
                    a = np.float64(original[i])
                    b = np.float64(other[i])
                    difference += b - a
                    both += a * b
                    own += b * b
                change[s, k, c] = difference
                product[s, k, c] = both
                square[s, k, c] = own


@compiled
def _ssim(
    values: Floats,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    space: tuple[int, int, int],
    low: Floats,
    span: Floats,
    ssim: Floats,
) -> None:
    """Mean structural similarity to condition 0 over windows inside the map: (sample, channel, condition).

    ``space`` is (1, y, x) or (z, y, x). Sums of a, a·a and, for every other condition, b, b·b and a·b slide along y,
    for volumes first along z. As in scikit-image, means are rounded to the maps' precision after each axis, and the
    rest is computed in it. Variances are small differences of these means, so that float32 changes the result by up to
    1e-5.
    """
    samples, channels, conditions, size = shape
    depth, height, width = space
    flat = depth == 1
    step = width if flat else height * width
    rows = 3 * conditions - 1
    ring = np.empty((conditions, WINDOW, step), values.dtype)
    fresh = np.empty((2, step), values.dtype)
    sums = np.empty((rows, step))
    means = np.empty((rows, step))
    sums_of_rows = np.empty((rows, 1 if flat else width))
    means_of_rows = np.empty((rows, 1 if flat else width))
    across = np.empty((6, width - WINDOW + 1), values.dtype)
    count = (1 if flat else depth - WINDOW + 1) * (height - WINDOW + 1) * (width - WINDOW + 1)
    for s in range(samples):
        for k in range(channels):
            first = s * strides[0] + k * strides[1]
            if not np.isfinite(span[s, k, 0]):
                continue
            # Here and below written out: compiling `np.where`, and copies of slices, takes longer than all the rest.
            for c in range(conditions):
                ssim[s, k, c] = 0.0 if np.isfinite(span[s, k, c]) else np.nan
            ring[:] = 0
            sums[:] = 0
            for position in range(height if flat else depth):
                _slide(values, first, strides[2], position, low[s, k], span[s, k], ring, fresh, sums)
                if position < WINDOW - 1:
                    continue
                _average(sums, ssim[s, k], values, means)
                if flat:
                    _compare(means, across, ssim[s, k], WINDOW**2)
                    continue
                sums_of_rows[:] = 0
                for row in range(height):
                    _slide_rows(means, row, sums_of_rows)
                    if row >= WINDOW - 1:
                        _average(sums_of_rows, ssim[s, k], values, means_of_rows)
                        _compare(means_of_rows, across, ssim[s, k], WINDOW**3)
            for c in range(1, conditions):
                ssim[s, k, c] /= count
                # Of equal maps it is 1, and not a sum of rounded ones: a channel that did not change has no rank.
                start = first + c * strides[2]
                i = 0
                while i < size and values[first + i] == values[start + i]:
                    i += 1
                if i == size:
                    ssim[s, k, c] = 1.0


@as_written
def _slide(
    values: Floats,
    first: int,
    stride: int,
    position: int,
    low: Floats,
    span: Floats,
    ring: Floats,
    fresh: Floats,
    sums: Floats,
) -> None:
    """Advance the window of ``sums`` to the row, or plane, at ``position`` of every condition's scaled map.

    ``ring`` holds the rows inside the window; the entering row replaces the leaving one.
    """
    step = sums.shape[1]
    a = fresh[0]
    gone = ring[0, position % WINDOW]
    for c in range(len(low)):
        if not np.isfinite(span[c]):
            continue
        start = first + c * stride + position * step
        new = values[start : start + step]
        b = fresh[min(c, 1)]
        for i in range(step):
            b[i] = (new[i] - low[c]) / span[c]
        old = ring[c, position % WINDOW]
        total = sums[max(3 * c - 1, 0)]
        squares = sums[max(3 * c, 1)]
        for i in range(step):
            total[i] += np.float64(b[i]) - np.float64(old[i])
        for i in range(step):
            squares[i] += np.float64(b[i] * b[i]) - np.float64(old[i] * old[i])
        if c > 0:
            products = sums[3 * c + 1]
            for i in range(step):
                products[i] += np.float64(a[i] * b[i]) - np.float64(gone[i] * old[i])
            for i in range(step):
                old[i] = b[i]
    for i in range(step):
        gone[i] = a[i]


@as_written
def _slide_rows(planes: Floats, row: int, sums: Floats) -> None:
    """Advance the window of ``sums`` to ``row`` of every plane."""
    width = sums.shape[1]
    for q in range(len(sums)):
        total = sums[q]
        new = planes[q, row * width : (row + 1) * width]
        for i in range(width):
            total[i] += new[i]
        if row >= WINDOW:
            old = planes[q, (row - WINDOW) * width : (row - WINDOW + 1) * width]
            for i in range(width):
                total[i] -= old[i]


@as_written
def _average(sums: Floats, ssim: Floats, values: Floats, means: Floats) -> None:
    """Means over the window, for conditions that have a map, rounded to the precision of ``values``."""
    kind = values.dtype.type
    for q in range(len(sums)):
        if q < 2 or not np.isnan(ssim[(q + 1) // 3]):
            total = sums[q]
            mean = means[q]
            for i in range(len(total)):
                mean[i] = np.float64(kind(total[i] * (1 / WINDOW)))


@as_written
def _compare(means: Floats, across: Floats, ssim: Floats, size: int) -> None:
    """Sum the similarity of all windows along x, given their ``means`` over the other axes."""
    kind = across.dtype.type
    one, two = kind(C1), kind(C2)
    sample = kind(size / (size - 1))
    twice = kind(2)
    a, aa, b, bb, ab, similar = across[0], across[1], across[2], across[3], across[4], across[5]
    _across(means[0], a)
    _across(means[1], aa)
    for c in range(1, len(ssim)):
        if np.isnan(ssim[c]):
            continue
        _across(means[3 * c - 1], b)
        _across(means[3 * c], bb)
        _across(means[3 * c + 1], ab)
        for i in range(len(a)):
            square = a[i] * a[i]
            other = b[i] * b[i]
            product = a[i] * b[i]
            above = (twice * a[i] * b[i] + one) * (twice * (sample * (ab[i] - product)) + two)
            below = (square + other + one) * (sample * (aa[i] - square) + sample * (bb[i] - other) + two)
            similar[i] = above / below
        ssim[c] += _sum(similar)


@as_written
def _across(row: Floats, target: Floats) -> None:
    """Means of :data:`WINDOW` neighbours of ``row``. Uses slices, since possibly negative indices do not vectorise."""
    r1, r2, r3, r4, r5, r6 = row[1:], row[2:], row[3:], row[4:], row[5:], row[6:]
    for i in range(len(r6)):
        target[i] = (row[i] + r1[i] + r2[i] + r3[i] + r4[i] + r5[i] + r6[i]) * (1 / WINDOW)


@compiled
def _sum(row: Floats) -> float:
    total = 0.0
    for i in range(len(row)):
        total += row[i]
    return total
