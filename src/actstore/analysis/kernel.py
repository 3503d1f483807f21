"""One pass over a chunk of activations, in blocks that stay in a core's cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

Floats = NDArray[np.floating]

#: Bytes of differences worked on at once. Of 64 KiB to 4 MiB on three layer shapes: smaller blocks pay for Python (half
#: the speed at 128 KiB), 2 MiB and more gain at most a fifth and depend on a large shared cache.
SCRATCH_BYTES = 1024 * 1024
#: Values summed in the working precision before float64 takes over: float32 sums stay
#: within 2e-7 up to 512, 1e-6 at 4096.
SEGMENT = 512
#: Sums outside this range may have lost float32 terms to overflow or underflow, and are repeated in float64.
SAFE_RANGE = (1e-30, 1e30)


def reduce_chunk(chunk: Floats, names: tuple[str, ...]) -> tuple[Floats, ...]:
    """Statistics ``names`` of ``chunk``, each float64.

    ``chunk`` is (sample, channel, condition, …space) with the original as condition 0, of any real dtype and memory
    layout. "mad" and "mse" are (sample, channel, condition); "mean" and "std" of the original are (sample, channel).
    Temporaries take about :data:`SCRATCH_BYTES`, plus a copy of one sample where space is not contiguous.
    """
    samples, channels, conditions, *space = chunk.shape
    size = int(np.prod(space))
    results: dict[str, Floats] = {
        name: np.zeros((samples, channels, conditions) if name in ("mad", "mse") else (samples, channels))
        for name in ("mad", "mse", "mean", "std")
        if name in names
    }
    work = np.result_type(chunk.dtype, np.float32)
    differences = _Differences(work, SCRATCH_BYTES) if "mad" in names or "mse" in names else None
    moments = _Moments(SCRATCH_BYTES) if "mean" in names or "std" in names else None
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for s in range(samples):
            maps = chunk[s].reshape(channels, conditions, size)
            if differences:
                differences.reduce(maps, {n: r[s] for n, r in results.items() if n in ("mad", "mse")})
            if moments:
                moments.reduce(maps[:, 0], {n: r[s] for n, r in results.items() if n in ("mean", "std")})
    return tuple(results[name] for name in names)


def _pieces(channels: int, size: int, values: int) -> Iterator[tuple[slice, slice]]:
    """Cover (channel, pixel) by pieces of about ``values`` values: several whole maps, or a part of one."""
    if size <= values:
        step = max(1, values // max(size, 1))
        for k in range(0, channels, step):
            yield slice(k, min(k + step, channels)), slice(0, size)
        return
    step = max(SEGMENT, values - values % SEGMENT)
    for k in range(channels):
        for p in range(0, size, step):
            yield slice(k, k + 1), slice(p, min(p + step, size))


class _Differences:
    """Mean absolute and mean squared difference of every condition from condition 0."""

    def __init__(self, work: DTypeLike, scratch_bytes: int) -> None:
        self.work = np.dtype(work)
        self.bytes = scratch_bytes
        self.scratch = np.empty(0, self.work)
        self.base = np.empty(0, self.work)
        self.ones = np.ones(SEGMENT, self.work)

    def reduce(self, maps: Floats, out: dict[str, Floats]) -> None:
        """Reduce one sample: ``maps`` (channel, condition, pixel) into ``out``, each (channel, condition)."""
        channels, conditions, size = maps.shape
        broken = np.zeros(channels, bool)
        values = self.bytes // self.work.itemsize // max(conditions - 1, 1)
        for k, p in _pieces(channels, size, values):
            original = maps[k, 0, p]
            if original.dtype != self.work:
                self.base = _sized(self.base, original.size)
                cast = self.base[: original.size].reshape(original.shape)
                np.copyto(cast, original)
                original = cast
            broken[k] |= ~np.isfinite(original).all(axis=-1)
            shape = (original.shape[0], conditions - 1, original.shape[1])
            self.scratch = _sized(self.scratch, shape[0] * shape[1] * shape[2])
            difference = self.scratch[: shape[0] * shape[1] * shape[2]].reshape(shape)
            if maps.dtype == self.work:
                np.subtract(maps[k, 1:, p], original[:, None], out=difference)
            else:
                np.copyto(difference, maps[k, 1:, p])
                np.subtract(difference, original[:, None], out=difference)
            if "mse" in out:
                out["mse"][k, 1:] += self._sum(difference, None)
            if "mad" in out:
                np.abs(difference, out=difference)
                out["mad"][k, 1:] += self._sum(difference, self.ones)
        if self.work.itemsize < 8:
            self._repeat(maps, out)
        for total in out.values():
            total /= size if size else np.nan
            total[broken, 0] = np.nan

    def _sum(self, values: Floats, ones: Floats | None) -> Floats:
        """Float64 sum over the last axis of ``values``, squared where ``ones`` is None."""
        whole = values.shape[-1] - values.shape[-1] % SEGMENT
        segments = values[..., :whole].reshape(*values.shape[:-1], whole // SEGMENT, SEGMENT)
        rest = values[..., whole:]
        total: Floats = np.vecdot(segments, segments if ones is None else ones).sum(axis=-1, dtype=np.float64)
        if rest.shape[-1]:
            total += np.vecdot(rest, rest if ones is None else ones[: rest.shape[-1]])
        return total

    def _repeat(self, maps: Floats, out: dict[str, Floats]) -> None:
        """Take again, in float64, the sums that float32 may have spoilt."""
        doubtful = np.zeros(maps.shape[:2], bool)
        for total in out.values():
            doubtful |= (total < SAFE_RANGE[0]) | (total > SAFE_RANGE[1])
        if "mad" in out:
            # The difference of two float32 is 0 only where they are equal.
            doubtful &= out["mad"] != 0
        doubtful[:, 0] = False
        if not doubtful.any():
            return
        double = _Differences(np.float64, self.bytes)
        for k, c in np.argwhere(doubtful):
            again: dict[str, Floats] = {name: np.zeros((1, 2)) for name in out}
            pair = np.stack([maps[k, 0], maps[k, c]])[None]
            double.reduce(pair, again)
            for name, total in out.items():
                total[k, c] = again[name][0, 1] * maps.shape[-1]


class _Moments:
    """Mean and standard deviation (divided by the number of pixels) in float64."""

    def __init__(self, scratch_bytes: int) -> None:
        self.values = scratch_bytes // 8
        self.scratch: Floats = np.empty(0, np.float64)

    def reduce(self, maps: Floats, out: dict[str, Floats]) -> None:
        """Reduce one sample: ``maps`` (channel, pixel) into ``out``, each (channel)."""
        channels, size = maps.shape
        total: Floats = np.zeros(channels)
        squares: Floats = np.zeros(channels)
        for k, p in _pieces(channels, size, self.values):
            part = maps[k, p]
            self.scratch = _sized(self.scratch, part.size)
            centred = self.scratch[: part.size].reshape(part.shape)
            np.copyto(centred, part)
            sums: Floats = centred.sum(axis=-1)
            count = part.shape[1]
            np.subtract(centred, (sums / max(count, 1))[:, None], out=centred)
            # Chan, Golub & LeVeque 1983, eq. 2.1b: join the squares about two means without cancellation.
            if p.start:
                apart: Floats = total[k] / p.start - sums / count
                squares[k] += apart * apart * (p.start * count / (p.start + count))
            squares[k] += np.vecdot(centred, centred)
            total[k] += sums
        if "mean" in out:
            out["mean"][:] = total / (size if size else np.nan)
        if "std" in out:
            out["std"][:] = np.sqrt(squares / (size if size else np.nan))


def _sized(scratch: Floats, size: int) -> Floats:
    return scratch if scratch.size >= size else np.empty(size, scratch.dtype)
