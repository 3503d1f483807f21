"""Counts pixels by their scores, in one compiled pass that releases the interpreter lock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.measures.bins import (
    BIN_WIDTH,
    BINS,
    CELLS,
    FIRST_EDGE,
    PROBABILITY_BINS,
    PROBABILITY_STEP,
    Activation,
    bins_of_cells,
)
from actstore.measures.compiled import compiled, inlined

#: A cell's count lies above its sum of probabilities in one integer of 64 bits, which holds this many pixels.
_SHIFT, _MOST = 46, 2**16
#: Pixels at a time, so that what they need stays in the cache (measured: 512 to 4096).
_BLOCK = 1024
#: exp(-80) is the smallest exponential, and the smallest sum of the others: beyond any edge, and no subnormal number.
_LOWEST = np.float32(-80)
_SMALLEST = np.float32(math.exp(-80))
_LN_2, _LOG2_E = np.float32(math.log(2)), np.float32(math.log2(math.e))
_FIRST, _PER_UNIT, _LAST = np.float32(FIRST_EDGE), np.float32(1 / BIN_WIDTH), np.float32(BINS - 1)
_BINS_OF_CELLS = bins_of_cells()
_STEPS = np.float32(1 / PROBABILITY_STEP)
_SHARES, _LAST_SHARE = np.float32(PROBABILITY_BINS), np.float32(PROBABILITY_BINS - 1)


def count_scores(
    logits: NDArray[np.floating[Any]],
    label: NDArray[np.uint8],
    member: NDArray[np.uint8],
    activation: Activation,
    histogram: NDArray[np.uint32],
    totals: NDArray[np.int64],
    classes: NDArray[np.uint8] | None = None,
    order: Sequence[int] = (),
) -> bool:
    """Add the pixels of one image to counts of their score, for every class; whether a logit is NaN.

    Logits, exponentials and logarithms are float32: a pixel whose logit lies within about 2e-6 of an edge may be
    counted on either side of it.

    Parameters
    ----------
    logits
        (class, …space) of what the network returned. With a NaN, counts and classes mean nothing.
    label
        (…space) class index of each pixel.
    member
        (class, 256): 1 where a class of ``logits`` is made of a class index, else 0.
    histogram
        (class, truth, bin) pixels, added to.
    totals
        (class, probability bin, total), in the order of `actstore.measures.bins.TOTALS`, with sums of p in multiples of
        `PROBABILITY_STEP`; added to.
    classes
        (…space) contiguous; filled with each pixel's class index, as `actstore.networks.heads.Head.classes` has it of
        float32.
    order
        The class index that each sigmoid writes to ``classes``, later ones over earlier ones.
    """
    channels = len(logits)
    scores = np.ascontiguousarray(logits, np.float32).reshape(channels, -1)
    labels = np.ascontiguousarray(label).reshape(-1)
    # Refuses what it cannot flatten without a copy.
    found = np.empty(len(labels), np.uint8) if classes is None else np.reshape(classes, -1, copy=False)
    written = np.array(order or [0] * channels, np.uint8)
    broken = False
    for first in range(0, len(labels), _MOST):
        packed = np.zeros(channels * 2 * CELLS, np.int64)
        some = slice(first, first + _MOST)
        if activation == "softmax":
            broken |= _of_softmax(scores[:, some], labels[some], member, packed, found[some])
        else:
            broken |= _of_sigmoid(scores[:, some], labels[some], member, packed, found[some], written)
        cells = packed.reshape(channels, 2, CELLS)
        add_cells(cells >> _SHIFT, cells & ((1 << _SHIFT) - 1), histogram, totals)
    return broken


def add_cells(
    counts: NDArray[np.int64], sums: NDArray[np.int64], histogram: NDArray[np.uint32], totals: NDArray[np.int64]
) -> None:
    """Add pixels and their sums of p (class, truth, cell) to ``histogram`` and ``totals``, as of `count_scores`."""
    _add_cells(counts, sums, *_BINS_OF_CELLS, histogram, totals)


@compiled
def _add_cells(
    counts: NDArray[np.int64],
    sums: NDArray[np.int64],
    of_bin: NDArray[np.intp],
    of_share: NDArray[np.intp],
    histogram: NDArray[np.uint32],
    totals: NDArray[np.int64],
) -> None:
    for c in range(counts.shape[0]):
        for truth in range(2):
            for cell in range(counts.shape[2]):
                count = counts[c, truth, cell]
                if count:
                    histogram[c, truth, of_bin[cell]] += np.uint32(count)
                    total = totals[c, of_share[cell]]
                    total[0] += count
                    total[1] += count * truth
                    total[2] += sums[c, truth, cell]


def _coefficients(function: Callable[[Any], Any], low: float, high: float, degree: int) -> tuple[np.float32, ...]:
    """The polynomial through a function's values at Chebyshev's nodes, highest power first."""
    fit = np.polynomial.Chebyshev.interpolate(function, degree, domain=[low, high])
    return tuple(np.float32(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef[::-1])


#: (2**x - 1) / x for x from -1 to 0, and log(1 + x) / x for x from 0 to 1, each to 1e-7.
_A5, _A4, _A3, _A2, _A1, _A0 = _coefficients(lambda x: np.expm1(x * math.log(2)) / np.where(x == 0, 1, x), -1, 0, 5)
_B8, _B7, _B6, _B5, _B4, _B3, _B2, _B1, _B0 = _coefficients(lambda x: np.log1p(x) / np.where(x == 0, 1, x), 0, 1, 8)


@inlined
def _power(x: np.float32) -> np.float32:
    """2**x of -1 < x <= 0, exactly 1 at 0."""
    return (((((_A5 * x + _A4) * x + _A3) * x + _A2) * x + _A1) * x + _A0) * x + np.float32(1)


@inlined
def _log(x: np.float32) -> np.float32:
    """log(1 + x) of 0 <= x < 1, exactly 0 at 0."""
    tail = (((_B8 * x + _B7) * x + _B6) * x + _B5) * x + _B4
    return ((((tail * x + _B3) * x + _B2) * x + _B1) * x + _B0) * x


@inlined
def _cell(logit: np.float32, p: np.float32) -> np.int32:
    """The sum of the numbers of both bins."""
    at = (logit - _FIRST) * _PER_UNIT
    at = at if at > np.float32(0) else np.float32(0)
    at = at if at < _LAST else _LAST
    share = p * _SHARES
    share = share if share < _LAST_SHARE else _LAST_SHARE
    return np.int32(at) + np.int32(share)


@compiled
def _of_softmax(
    logits: NDArray[np.float32],
    label: NDArray[np.uint8],
    member: NDArray[np.uint8],
    packed: NDArray[np.int64],
    found: NDArray[np.uint8],
) -> bool:
    """Add the pixels of ``logits`` (class, pixel) to ``packed``, some at a time, each step over all of them at once.

    Fills ``found`` with classes; whether there is a NaN.
    """
    classes, pixels = logits.shape
    below, power = np.empty((classes, _BLOCK), np.float32), np.empty((classes, _BLOCK), np.float32)
    cell, share = np.empty((classes, _BLOCK), np.int32), np.empty((classes, _BLOCK), np.int32)
    largest, others, scale = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    which, whole = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    work, bits = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.int32)
    as_bits, as_floats = work.view(np.int32), bits.view(np.float32)
    one = np.int64(1) << np.int64(_SHIFT)
    broken = False
    for first in range(0, pixels, _BLOCK):
        count = min(_BLOCK, pixels - first)
        labels, predicted = label[first : first + count], found[first : first + count]
        values = logits[0, first : first + count]
        for i in range(count):
            largest[i], which[i], others[i] = values[i], 0, 0
            broken |= values[i] != values[i]
        for c in range(1, classes):
            values, number = logits[c, first : first + count], np.int32(c)
            for i in range(count):
                larger = values[i] > largest[i]
                largest[i] = values[i] if larger else largest[i]
                which[i] = number if larger else which[i]
                broken |= values[i] != values[i]
        for c in range(classes):
            values, number, low, own = logits[c, first : first + count], np.int32(c), below[c], power[c]
            for i in range(count):
                apart = values[i] - largest[i]
                apart = apart if apart > _LOWEST else _LOWEST
                # Of infinities too, whose difference is none.
                apart = np.float32(0) if which[i] == number else apart
                low[i] = apart
                exponent = apart * _LOG2_E
                integer = np.int32(exponent)
                work[i] = _power(exponent - np.float32(integer))
                bits[i] = (integer + np.int32(127)) << np.int32(23)
            for i in range(count):
                own[i] = work[i] * as_floats[i]
                others[i] += np.float32(0) if which[i] == number else own[i]
        for i in range(count):
            predicted[i] = which[i]
            scale[i] = np.float32(1) / (np.float32(1) + others[i])
        for c in range(classes):
            number, low, own, cells, shares = np.int32(c), below[c], power[c], cell[c], share[c]
            of_class, base = member[c], np.int32(2 * c * CELLS)
            for i in range(count):
                # The largest is exp(0) = 1, so that nothing cancels.
                rest = others[i] if which[i] == number else np.float32(1) + (others[i] - own[i])
                work[i] = rest if rest > _SMALLEST else _SMALLEST
            for i in range(count):
                bits[i] = (as_bits[i] & np.int32(0x7FFFFF)) | np.int32(0x3F800000)
                whole[i] = (as_bits[i] >> np.int32(23)) - np.int32(127)
            for i in range(count):
                logit = low[i] - (_log(as_floats[i] - np.float32(1)) + np.float32(whole[i]) * _LN_2)
                p = own[i] * scale[i]
                shares[i] = np.int32(p * _STEPS + np.float32(0.5))
                cells[i] = base + _cell(logit, p)
            for i in range(count):
                cells[i] += np.int32(CELLS) * np.int32(of_class[labels[i]])
        # Class by class, each sum would wait for the one before it: most pixels of a class lie in few cells.
        for i in range(count):
            for c in range(classes):
                packed[cell[c, i]] += one + np.int64(share[c, i])
    return broken


@compiled
def _of_sigmoid(
    logits: NDArray[np.float32],
    label: NDArray[np.uint8],
    member: NDArray[np.uint8],
    packed: NDArray[np.int64],
    found: NDArray[np.uint8],
    written: NDArray[np.uint8],
) -> bool:
    """As `_of_softmax`, of classes by themselves."""
    classes, pixels = logits.shape
    cell, share = np.empty((classes, _BLOCK), np.int32), np.empty((classes, _BLOCK), np.int32)
    work, bits = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.int32)
    as_floats = bits.view(np.float32)
    one = np.int64(1) << np.int64(_SHIFT)
    broken = False
    for first in range(0, pixels, _BLOCK):
        count = min(_BLOCK, pixels - first)
        labels, predicted = label[first : first + count], found[first : first + count]
        for i in range(count):
            predicted[i] = 0
        for c in range(classes):
            values, cells, shares = logits[c, first : first + count], cell[c], share[c]
            of_class, base = member[c], np.int32(2 * c * CELLS)
            for i in range(count):
                broken |= values[i] != values[i]
                predicted[i] = written[c] if values[i] > np.float32(0) else predicted[i]
            for i in range(count):
                apart = -abs(values[i])
                apart = apart if apart > _LOWEST else _LOWEST
                exponent = apart * _LOG2_E
                integer = np.int32(exponent)
                work[i] = _power(exponent - np.float32(integer))
                bits[i] = (integer + np.int32(127)) << np.int32(23)
            for i in range(count):
                odds = work[i] * as_floats[i]
                p = (np.float32(1) if values[i] >= np.float32(0) else odds) / (np.float32(1) + odds)
                shares[i] = np.int32(p * _STEPS + np.float32(0.5))
                cells[i] = base + _cell(values[i], p)
            for i in range(count):
                cells[i] += np.int32(CELLS) * np.int32(of_class[labels[i]])
        for i in range(count):
            for c in range(classes):
                packed[cell[c, i]] += one + np.int64(share[c, i])
    return broken
