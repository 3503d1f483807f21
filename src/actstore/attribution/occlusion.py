"""Occlusion: how much of a score is lost where a window hides the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.errors import SpecError

Fill = float | Literal["mean", "blur"]
#: Ends of a box along each axis of space, in pixels.
Box = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Windows:
    """Windows of one size at regular places along each axis of space; the last one ends with the input."""

    #: ([z,] y, x) of the input.
    size: tuple[int, ...]
    #: ([z,] y, x) of a window.
    window: tuple[int, ...]
    #: First pixel of each window along each axis.
    starts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, size: Sequence[int], window: int | Sequence[int], stride: int | Sequence[int], *, name: str = "window"
    ) -> Windows:
        """Windows over inputs of ``size`` ([z,] y, x); one number stands for all axes.

        Raises
        ------
        SpecError
            if a window is larger than the input, or a stride is not positive.
        """
        sides, steps = (
            tuple(value) if isinstance(value, Sequence) else (value,) * len(size) for value in (window, stride)
        )
        for key, values in ((name, sides), ("stride", steps)):
            if len(values) != len(size) or min(values) < 1:
                raise SpecError(f"{key} = {list(values)}: give {len(size)} numbers of pixels from 1 on, ([z,] y, x)")
        for n, side in zip(size, sides, strict=True):
            if side > n:
                raise SpecError(
                    f"{name} = {list(sides)} is larger than the input of {list(size)}: give a side that fits into it"
                )
        starts = tuple(
            tuple(sorted({*range(0, n - side + 1, step), n - side}))
            for n, side, step in zip(size, sides, steps, strict=True)
        )
        return cls(tuple(size), sides, starts)

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of windows along each axis."""
        return tuple(map(len, self.starts))

    def touching(self, box: Box) -> NDArray[np.bool_]:
        """Which windows, \\*grid, have a pixel in ``box``."""
        along = [
            np.array([start < stop_ and start + side > start_ for start in starts])
            for starts, side, (start_, stop_) in zip(self.starts, self.window, box, strict=True)
        ]
        found: NDArray[np.bool_] = np.ones(self.grid, bool)
        for axis, one in enumerate(along):
            found &= one.reshape([-1 if other == axis else 1 for other in range(len(along))])
        return found

    def place(self, index: Sequence[int]) -> tuple[slice, ...]:
        """The pixels of one window."""
        starts = (starts[i] for starts, i in zip(self.starts, index, strict=True))
        return tuple(slice(start, start + side) for start, side in zip(starts, self.window, strict=True))

    def spread(self, drops: NDArray[np.floating]) -> NDArray[np.float32]:
        """Each pixel's mean over the windows that hide it, NaN where none was tried: (…, \\*grid) to (…, \\*size)."""
        leading = drops.shape[: drops.ndim - len(self.size)]
        flat = drops.reshape(-1, *self.grid)
        total = np.zeros((len(flat), *self.size))
        count = np.zeros_like(total)
        for index in np.ndindex(*self.grid):
            values = flat[(slice(None), *index)]
            there = np.isfinite(values)
            at = (slice(None), *self.place(index))
            shape = (-1, *[1] * len(self.size))
            total[at] += np.where(there, values, 0).reshape(shape)
            count[at] += there.reshape(shape)
        found = np.full(total.shape, np.nan)
        np.divide(total, count, out=found, where=count > 0)
        return found.reshape(*leading, *self.size).astype(np.float32)


def filling(image: NDArray[np.float32], fill: Fill, window: Sequence[int], area: Box) -> NDArray[np.float32]:
    """What stands in a window, for each pixel of ``image`` (input_channel, \\*space).

    A number; "mean": each input channel's mean over ``area``; "blur": the image itself, blurred by a Gaussian with a
    standard deviation of half the window.
    """
    if fill == "mean":
        inside = image[(slice(None), *(slice(*ends) for ends in area))]
        mean = inside.reshape(len(image), -1).mean(1, dtype=np.float64)
        return np.broadcast_to(mean.astype(np.float32).reshape(-1, *[1] * (image.ndim - 1)), image.shape).copy()
    if fill == "blur":
        from scipy.ndimage import gaussian_filter

        return np.stack([gaussian_filter(one, [side / 2 for side in window]) for one in image]).astype(np.float32)
    return np.full_like(image, fill)


@torch.inference_mode()
def occlude(
    score: Callable[[Tensor], Tensor],
    image: Tensor,
    filled: Tensor,
    windows: Windows,
    *,
    chosen: NDArray[np.bool_] | None = None,
    batch_size: int = 8,
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """How much lower each score is where a window of the input is filled: (class_name, \\*grid), in the scores' dtype.

    Beside it each score of the input as it is, (class_name).

    Parameters
    ----------
    score
        of inputs (element, input_channel, \\*space): (element, class_name). All classes share the passes.
    image, filled
        the input (input_channel, \\*space), and what stands in a window.
    chosen
        bool \\*grid: the windows to try, by default all; others are NaN.
    batch_size
        inputs of one pass.
    """
    grid = windows.grid
    indexes = np.argwhere(np.ones(grid, bool) if chosen is None else chosen)
    whole = score(image[None])[0]
    drops = torch.full((math.prod(grid), len(whole)), torch.nan, dtype=whole.dtype, device=whole.device)
    batch: Tensor = image.expand(min(batch_size, max(1, len(indexes))), *image.shape).clone()
    hidden: list[tuple[slice, ...]] = []
    for first in range(0, len(indexes), len(batch)):
        some = indexes[first : first + len(batch)]
        for one, place in zip(batch, hidden, strict=False):
            one[(slice(None), *place)] = image[(slice(None), *place)]
        hidden = [windows.place(index) for index in some]
        for one, place in zip(batch, hidden, strict=False):
            one[(slice(None), *place)] = filled[(slice(None), *place)]
        at = torch.from_numpy(np.ravel_multi_index(tuple(some.T), grid)).to(whole.device)
        drops[at] = whole - score(batch[: len(some)])
    return drops.T.reshape(-1, *grid).cpu().numpy(), whole.cpu().numpy()
