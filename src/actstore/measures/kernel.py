"""Reduces a chunk of activations in one compiled pass that releases the interpreter lock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.measures.compiled import Floats, Run, compiled, inlined, run_of
from actstore.measures.names import ORIGINAL_STATISTICS, STATISTICS
from actstore.measures.similarity import similarities

Bits = NDArray[np.signedinteger]

#: Bytes to convert at a time if a chunk cannot be reduced in place.
SCRATCH_BYTES = 1024 * 1024
#: Number of values to sum in the working precision before adding to float64: the error of float32 sums is within 2e-7
#: up to 512 values, 1e-6 at 4096.
SEGMENT = 512
#: Sums outside this range may have lost float32 terms to overflow or underflow; they are repeated in float64.
SMALLEST, LARGEST = 1e-30, 1e30


def reduce_chunk(chunk: NDArray[Any], names: tuple[str, ...]) -> tuple[NDArray[np.float64], ...]:
    """Statistics ``names`` of ``chunk``, each float64.

    ``chunk`` is (sample, channel, condition, …space) with the original as condition 0, of any real dtype and memory
    layout. Each result is (sample, channel, condition), or (sample, channel) for
    :data:`actstore.measures.names.ORIGINAL_STATISTICS`. float32 and float64 are reduced in place if space is
    contiguous; otherwise this uses temporaries of about :data:`SCRATCH_BYTES`, or of one channel.
    """
    if not chunk.size:
        return tuple(np.full(chunk.shape[: 2 if name in ORIGINAL_STATISTICS else 3], np.nan) for name in names)
    found = np.empty((len(names), *chunk.shape[:3]))
    Reduction(chunk, names)(found)
    return tuple(
        values[:, :, 0] if name in ORIGINAL_STATISTICS else values for name, values in zip(names, found, strict=True)
    )


class Reduction:
    """Reduces the same memory repeatedly, with all preparation done once.

    ``chunk`` and ``names`` are as for :func:`reduce_chunk`; ``chunk`` must not be empty.
    """

    def __init__(self, chunk: NDArray[Any], names: tuple[str, ...]) -> None:
        self.names = names
        self._chunk = chunk
        samples, channels, conditions, *space = chunk.shape
        self._shape = (samples, channels, conditions, math.prod(space))
        self._space = tuple(space)
        self._rows = tuple(names.index(name) if name in names else -1 for name in STATISTICS)
        self._compiled = any(row >= 0 for row in self._rows)
        self._similarities = any(name not in STATISTICS for name in names)
        self._maps = _in_order(chunk, self._shape)
        in_place = chunk.size > 0 and self._maps is not None and self._maps.dtype != np.float16
        self._run = (self._maps, *_runs(self._maps)) if in_place and self._maps is not None else None

    def __call__(self, found: Floats) -> None:
        """Write statistics of the memory's current content to ``found``: float64 (name, sample, channel, condition).

        Statistics of the original only are NaN in other conditions.
        """
        if self._run is not None:
            self._reduce(*self._run, found)
        else:
            for s, k, maps in self._copies():
                self._reduce(maps, *_runs(maps), found[:, s, k])

    def _reduce(self, maps: Floats, run: Run, bits: Bits, found: Floats) -> None:
        if self._compiled:
            _reduce(*run, bits, self._rows, found)
        if self._similarities:
            row = self._rows[STATISTICS.index("mse")]
            mse = (lambda: found[row]) if row >= 0 else partial(_mse, run, bits)
            for name, values in similarities(maps, run, self._space, self.names, mse).items():
                if name in self.names:
                    found[self.names.index(name)] = values

    def _copies(self) -> Iterator[tuple[slice, slice, Floats]]:
        """Samples and channels with a converted copy of their maps (sample, channel, condition, pixel)."""
        samples, channels, conditions, size = self._shape
        work = np.dtype(np.float32 if np.result_type(self._chunk.dtype, np.float32) == np.float32 else np.float64)
        step = max(1, SCRATCH_BYTES // (conditions * size * work.itemsize))
        scratch = np.empty(min(step, channels) * conditions * size, work)
        for s in range(samples):
            for k in range(0, channels, step):
                part = self._chunk[s : s + 1, k : k + step]
                copy = scratch[: part.size].reshape(1, -1, conditions, size)
                if self._maps is not None:
                    half, shape, strides = run_of(self._maps[s : s + 1, k : k + step])
                    _widen(half.view(np.uint16), shape, strides, copy.view(np.uint32))
                else:
                    np.copyto(copy.reshape(part.shape), part)
                yield slice(s, s + 1), slice(k, k + step), copy


def _in_order(chunk: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    """View ``chunk`` as ``shape`` (sample, channel, condition, pixel) if it is floating with contiguous pixels."""
    if chunk.dtype not in (np.float16, np.float32, np.float64) or not chunk.dtype.isnative:
        return None
    try:
        maps: NDArray[Any] = np.reshape(chunk, shape, copy=False)
    except ValueError:
        return None
    *outer, inner = maps.strides
    fits = (
        (inner == maps.itemsize or shape[-1] == 1)
        and all(stride >= 0 and stride % maps.itemsize == 0 for stride in outer)
        and maps.flags.aligned
    )
    return maps if fits else None


def _runs(maps: Floats) -> tuple[Run, Bits]:
    """``maps`` as `run_of`, and the same values as integers."""
    run = run_of(maps)
    return run, run[0].view(np.int32 if maps.itemsize == 4 else np.int64)


def _mse(run: Run, bits: Bits) -> Floats:
    """Mean squared differences from condition 0: (sample, channel, condition)."""
    found: Floats = np.empty(run[1][:3])
    _reduce(*run, bits, (-1, 0, -1, -1, -1), found[None])
    return found


@compiled
def _reduce(
    values: Floats,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    bits: Bits,
    rows: tuple[int, ...],
    found: Floats,
) -> None:
    """Write statistics to ``found`` (row, sample, channel, condition), map by map while each is in the cache.

    ``bits`` is the memory of ``values`` as integers. ``rows`` holds the rows of "mad", "mse", "mean", "max" and "std",
    negative if not wanted.
    """
    samples, channels, conditions, size = shape
    sums = np.empty((2, conditions))
    one = np.empty(1, bits.dtype)
    for s in range(samples):
        for k in range(channels):
            first = s * strides[0] + k * strides[1]
            if rows[0] >= 0 or rows[1] >= 0:
                _differences(values, first, strides[2], size, sums)
            total, largest = _total_and_largest(values, bits, first, size)
            # A sum that is not finite means that a value is not, or an overflow.
            if not np.isfinite(total) and not np.isfinite(values[first : first + size]).all():
                sums[:, 0] = np.nan
            for row in range(2):
                if rows[row] >= 0:
                    for c in range(conditions):
                        found[rows[row], s, k, c] = sums[row, c]
            for c in range(conditions):
                start = first + c * strides[2]
                # A condition that does not apply is NaN throughout: nothing to add.
                if np.isnan(values[start]):
                    for row in range(2, 5):
                        if rows[row] >= 0:
                            found[rows[row], s, k, c] = np.nan
                    continue
                if c > 0 and (rows[2] >= 0 or rows[3] >= 0):
                    total, largest = _total_and_largest(values, bits, start, size)
                if rows[2] >= 0:
                    found[rows[2], s, k, c] = total / size
                if rows[3] >= 0:
                    broken = np.isnan(total) and np.isnan(values[start : start + size]).any()
                    one[0] = largest if largest >= 0 else _largest_negative(bits, start, size)
                    found[rows[3], s, k, c] = np.nan if broken else one.view(values.dtype)[0]
                if rows[4] >= 0:
                    found[rows[4], s, k, c] = _deviation(values, start, size, total / size) if c == 0 else np.nan


@inlined
def _differences(values: Floats, first: int, stride: int, size: int, sums: Floats) -> None:
    """Mean absolute and mean squared differences of a channel's maps from the original: ``sums`` (2, condition)."""
    sums[:] = 0
    for c in range(1, sums.shape[1]):
        if np.isnan(values[first + c * stride] - values[first]):
            sums[:, c] = np.nan
    for p in range(0, size, SEGMENT):
        count = min(SEGMENT, size - p)
        original = values[first + p : first + p + count]
        for c in range(1, sums.shape[1]):
            if np.isnan(sums[0, c]):
                continue
            start = first + c * stride + p
            other = values[start : start + count]
            absolute = values.dtype.type(0)
            squared = values.dtype.type(0)
            for i in range(count):
                difference = other[i] - original[i]
                absolute += abs(difference)
                squared += difference * difference
            sums[0, c] += absolute
            sums[1, c] += squared
    for c in range(1, sums.shape[1]):
        mad, mse = sums[0, c], sums[1, c]
        # The difference of two float32 is 0 only if they are equal. Comparisons with NaN are false.
        if mad != 0 and (min(mad, mse) < SMALLEST or max(mad, mse) > LARGEST):
            mad, mse = _exact(values, first, first + c * stride, size)
        sums[0, c] = mad / size
        sums[1, c] = mse / size


@inlined
def _exact(values: Floats, original: int, other: int, size: int) -> tuple[float, float]:
    """Sums of absolute and squared differences of two maps in float64."""
    absolute = 0.0
    squared = 0.0
    for i in range(size):
        difference = np.float64(values[other + i]) - np.float64(values[original + i])
        absolute += abs(difference)
        squared += difference * difference
    return absolute, squared


@inlined
def _total_and_largest(values: Floats, bits: Bits, start: int, size: int) -> tuple[float, int]:
    """Sum of a map in float64, and the bits of its largest value, negative if it has only negative values.

    Comparisons of integers vectorise; bits of positive numbers have the order of the numbers.
    """
    part = values[start : start + size]
    same = bits[start : start + size]
    total = 0.0
    largest: int = same[0]
    for i in range(size):
        total += part[i]
        largest = max(largest, same[i])
    return total, largest


@inlined
def _deviation(values: Floats, start: int, size: int, centre: float) -> float:
    """Standard deviation of a map in float64, divided by the number of pixels."""
    part = values[start : start + size]
    squares = 0.0
    for i in range(size):
        apart = part[i] - centre
        squares += apart * apart
    return math.sqrt(squares / size)


@inlined
def _largest_negative(bits: Bits, start: int, size: int) -> int:
    """Bits of the largest of negative values, whose bits have the reverse order of the numbers."""
    part = bits[start : start + size]
    largest: int = part[0]
    for i in range(size):
        largest = min(largest, part[i])
    return largest


@compiled
def _widen(
    half: NDArray[np.uint16], shape: tuple[int, ...], strides: tuple[int, ...], single: NDArray[np.uint32]
) -> None:
    """Convert bits of float16 maps to float32 (sample, channel, condition, pixel), far faster than NumPy's cast."""
    samples, channels, conditions, size = shape
    for s in range(samples):
        for k in range(channels):
            for c in range(conditions):
                start = s * strides[0] + k * strides[1] + c * strides[2]
                source = half[start : start + size]
                target = single[s, k, c]
                scaled = target.view(np.float32)
                for i in range(size):
                    target[i] = np.uint32(source[i] & 0x7FFF) << np.uint32(13)
                for i in range(size):
                    # Exponent biases are 15 and 127; this is exact, also for subnormal numbers.
                    scaled[i] *= np.float32(2.0**112)
                for i in range(size):
                    bits = np.uint32(source[i])
                    special = np.uint32(0x7F800000) if (bits & np.uint32(0x7C00)) == np.uint32(0x7C00) else np.uint32(0)
                    target[i] |= special | ((bits & np.uint32(0x8000)) << np.uint32(16))
