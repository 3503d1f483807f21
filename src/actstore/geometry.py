"""Where images and the pixels of a layer lie on the network's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

#: How a grid is known along one axis. "geometry": start and step follow from the network. "measured": where the middle
#: of the layer lies was measured, its step is taken to be the ratio of the sizes. "assumed": nothing could be measured,
#: the outer edges of layer and input are taken to coincide.
Origin = Literal["geometry", "measured", "assumed"]


@dataclass(frozen=True)
class Grid:
    """Pixel i of a layer lies around pixel ``start + i * step`` of the input, along each axis ([z,] y, x).

    Pixels of the input are numbered from 0 at their centres. A pixel of the layer covers the input from half a step
    below its centre to half a step above.
    """

    start: tuple[float, ...]
    step: tuple[float, ...]
    how: tuple[Origin, ...]

    def __post_init__(self) -> None:
        if not len(self.start) == len(self.step) == len(self.how):
            raise ValueError(f"{self}: give start, step and how of every axis")
        if not (np.isfinite([*self.start, *self.step]).all() and min(self.step, default=1.0) > 0):
            raise ValueError(f"{self}: start has to be finite, step above 0")

    @classmethod
    def between_edges(cls, size: Sequence[int], space: Sequence[int]) -> Grid:
        """Of a layer of ``size`` whose outer edges coincide with those of an input of ``space``."""
        return cls.shifted(size, space, [0.0] * len(space), "assumed")

    @classmethod
    def shifted(cls, size: Sequence[int], space: Sequence[int], offset: Sequence[float], how: Origin) -> Grid:
        """The same, moved by ``offset`` pixels of the input."""
        step = [before / after for before, after in zip(space, size, strict=True)]
        start = [width / 2 - 0.5 + shift for width, shift in zip(step, offset, strict=True)]
        return cls(tuple(start), tuple(step), (how,) * len(step))

    def as_json(self) -> dict[str, Any]:
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Grid:
        return cls(tuple(content["start"]), tuple(content["step"]), tuple(content["how"]))

    @property
    def low(self) -> tuple[float, ...]:
        """Where pixel 0 begins, along each axis, in pixels of the input from its outer edge."""
        return tuple(start + 0.5 - step / 2 for start, step in zip(self.start, self.step, strict=True))

    def pixel_at(self, number: int, axis: int, size: int) -> int:
        """The pixel of the layer, which has ``size`` along ``axis``, that holds the centre of the input's ``number``.

        Beyond the layer's edge, the pixel at it.
        """
        # A centre on the border of two pixels belongs to the upper one, whatever rounding does to it.
        at = np.floor((number + 0.5 - self.low[axis]) / self.step[axis] + 1e-9)
        return int(np.clip(at, 0, size - 1))


def image_window(shape: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """Where an image of ``shape`` lies inside the network's input of ``size``: one slice an axis of ``size``.

    ``size`` is (y, x) or (z, y, x); the trailing axes of ``shape`` answer to it. Outside of the window is padding.

    >>> image_window((10, 216, 300), (256, 256))
    (slice(20, 236, None), slice(0, 256, None))
    """
    return tuple(
        slice(before, before + min(n, target))
        for n, target in trailing(shape, size)
        for before in [max(target - n, 0) // 2]
    )


def trailing(shape: Sequence[int], size: Sequence[int]) -> list[tuple[int, int]]:
    """The last axes of ``shape``, one for each of ``size``: (pixels of the image, pixels of the input)."""
    if len(size) > len(shape):
        raise ValueError(f"size {tuple(size)} has more axes than the shape {tuple(shape)}")
    return list(zip(shape[len(shape) - len(size) :], size, strict=True))
