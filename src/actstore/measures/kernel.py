"""One compiled pass over a chunk of activations; the interpreter's lock is free meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.measures.compiled import Floats, Run, compiled, run_of
from actstore.measures.names import METRICS, ORIGINAL_STATISTICS
from actstore.measures.similarity import similarities

#: Bytes that are converted at once where a chunk's values cannot be reduced as they lie in memory.
SCRATCH_BYTES = 1024 * 1024
#: Values summed in the working precision before float64 takes over: float32 sums stay
#: within 2e-7 up to 512, 1e-6 at 4096.
SEGMENT = 512
#: Sums outside this range may have lost float32 terms to overflow or underflow, and are repeated in float64.
SMALLEST, LARGEST = 1e-30, 1e30


def reduce_chunk(chunk: NDArray[Any], names: tuple[str, ...]) -> tuple[Floats, ...]:
    """Statistics ``names`` of ``chunk``, each float64.

    ``chunk`` is (sample, channel, condition, …space) with the original as condition 0, of any real dtype and memory
    layout. Those of :data:`actstore.measures.names.METRICS` are (sample, channel, condition); "mean" and "std" of the
    original are (sample, channel).
    float32 and float64 are reduced where they lie if space is contiguous; otherwise temporaries of about
    :data:`SCRATCH_BYTES`, or of one channel, are used.
    """
    return Reduction(chunk, names)()


class Reduction:
    """Reduces memory that is filled again and again: what can be prepared once is."""

    def __init__(self, chunk: NDArray[Any], names: tuple[str, ...]) -> None:
        self.names = names
        self._chunk = chunk
        samples, channels, conditions, *space = chunk.shape
        self._shape = (samples, channels, conditions, math.prod(space))
        self._space = tuple(space)
        self._moments = any(name in ORIGINAL_STATISTICS for name in names)
        self._differences = any(name in ("mad", "mse", "psnr") for name in names)
        self._similarities = any(name in METRICS and name not in ("mad", "mse") for name in names)
        self._maps = _in_order(chunk, self._shape)
        in_place = chunk.size > 0 and self._maps is not None and self._maps.dtype != np.float16
        self._run = (self._maps, run_of(self._maps)) if in_place and self._maps is not None else None

    def __call__(self) -> tuple[Floats, ...]:
        """Statistics of what the memory holds now, in the order of ``names``, as `reduce_chunk`."""
        samples, channels, conditions, _ = self._shape
        filled = self._chunk.size > 0
        if filled and self._run is not None:
            found = self._reduce(*self._run)
        else:
            found = {name: np.full((samples, channels, conditions), np.nan) for name in METRICS}
            found |= {name: np.full((samples, channels), np.nan) for name in ORIGINAL_STATISTICS}
            for s, k, maps in self._copies() if filled else ():
                for name, values in self._reduce(maps, run_of(maps)).items():
                    found[name][s, k] = values
        return tuple(found[name] for name in self.names)

    def _reduce(self, maps: Floats, run: Run) -> dict[str, Floats]:
        samples, channels, conditions, _ = run[1]
        found: dict[str, Floats] = {}
        if self._differences:
            mad, mse = np.empty((samples, channels, conditions)), np.empty((samples, channels, conditions))
            _differences(*run, mad, mse)
            found |= {"mad": mad, "mse": mse}
        if self._moments:
            mean, std = np.empty((samples, channels)), np.empty((samples, channels))
            _moments(*run, mean, std)
            found |= {"mean": mean, "std": std}
        if self._similarities:
            found |= similarities(maps, run, self._space, self.names, found.get("mse"))
        return found

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
    """``chunk`` as ``shape`` (sample, channel, condition, pixel), if it is floating, pixels are contiguous, no copy."""
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


@compiled
def _differences(values: Floats, shape: tuple[int, ...], strides: tuple[int, ...], mad: Floats, mse: Floats) -> None:
    """Mean absolute and squared difference from condition 0: (sample, channel, condition), NaN for a broken map."""
    samples, channels, conditions, size = shape
    for s in range(samples):
        for k in range(channels):
            first = s * strides[0] + k * strides[1]
            magnitude = np.float64(0)
            mad[s, k] = 0
            mse[s, k] = 0
            for p in range(0, size, SEGMENT):
                count = min(SEGMENT, size - p)
                original = values[first + p : first + p + count]
                part = values.dtype.type(0)
                for i in range(count):
                    part += abs(original[i])
                magnitude += part
                for c in range(1, conditions):
                    start = first + c * strides[2] + p
                    other = values[start : start + count]
                    absolute = values.dtype.type(0)
                    squared = values.dtype.type(0)
                    for i in range(count):
                        difference = other[i] - original[i]
                        absolute += abs(difference)
                        squared += difference * difference
                    mad[s, k, c] += absolute
                    mse[s, k, c] += squared
            # A sum that is not finite tells of a value that is not, or of overflow.
            if not np.isfinite(magnitude) and not np.isfinite(values[first : first + size]).all():
                mad[s, k, 0] = np.nan
                mse[s, k, 0] = np.nan
            for c in range(1, conditions):
                # The difference of two float32 is 0 only where they are equal. Comparisons with NaN are false.
                if mad[s, k, c] != 0 and (
                    min(mad[s, k, c], mse[s, k, c]) < SMALLEST or max(mad[s, k, c], mse[s, k, c]) > LARGEST
                ):
                    mad[s, k, c], mse[s, k, c] = _exact(values, first, first + c * strides[2], size)
                mad[s, k, c] /= size
                mse[s, k, c] /= size


@compiled
def _exact(values: Floats, original: int, other: int, size: int) -> tuple[float, float]:
    """Sums of absolute and squared differences of two maps in float64."""
    absolute = 0.0
    squared = 0.0
    for i in range(size):
        difference = np.float64(values[other + i]) - np.float64(values[original + i])
        absolute += abs(difference)
        squared += difference * difference
    return absolute, squared


@compiled
def _moments(values: Floats, shape: tuple[int, ...], strides: tuple[int, ...], mean: Floats, std: Floats) -> None:
    """Mean and standard deviation (divided by the number of pixels) of condition 0 in float64: (sample, channel)."""
    samples, channels, _, size = shape
    for s in range(samples):
        for k in range(channels):
            start = s * strides[0] + k * strides[1]
            original = values[start : start + size]
            total = 0.0
            for i in range(size):
                total += original[i]
            centre = total / size
            squares = 0.0
            for i in range(size):
                apart = original[i] - centre
                squares += apart * apart
            mean[s, k] = centre
            std[s, k] = math.sqrt(squares / size)


@compiled
def _widen(
    half: NDArray[np.uint16], shape: tuple[int, ...], strides: tuple[int, ...], single: NDArray[np.uint32]
) -> None:
    """Bits of float16 maps as those of float32 (sample, channel, condition, pixel); NumPy's cast is slower by far."""
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
                    # Exponents are biased by 15 and by 127; this is exact, also for subnormal numbers.
                    scaled[i] *= np.float32(2.0**112)
                for i in range(size):
                    bits = np.uint32(source[i])
                    special = np.uint32(0x7F800000) if (bits & np.uint32(0x7C00)) == np.uint32(0x7C00) else np.uint32(0)
                    target[i] |= special | ((bits & np.uint32(0x8000)) << np.uint32(16))
