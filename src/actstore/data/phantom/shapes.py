"""Soft-edged shapes and smooth random fields for painting the phantom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Body coordinates of each pixel: ``x`` to the right, ``y`` to the back, (row, column) in mm from the heart."""

    x: Field
    y: Field
    #: Pixel side in mm; edges have partial volume over this width.
    pixel: float

    def ellipse(self, cx: float, cy: float, a: float, b: float, angle: float = 0.0) -> Field:
        """Approximate signed distance in mm to an ellipse with semi-axes ``a``, ``b``; negative inside."""
        x, y = self.x - cx, self.y - cy
        if angle:
            c, s = math.cos(angle), math.sin(angle)
            x, y = c * x + s * y, c * y - s * x
        x, y = x / a, y / b
        k0 = np.sqrt(x * x + y * y)
        x, y = x / a, y / b
        k1 = np.sqrt(x * x + y * y)
        return k0 * (k0 - 1.0) / np.maximum(k1, 1e-9)

    def disc(self, cx: float, cy: float, radius: float) -> Field:
        """Signed distance in mm to a disc; negative inside."""
        x, y = self.x - cx, self.y - cy
        return np.sqrt(x * x + y * y) - radius

    def cover(self, distance: Field, softness: float = 1.0) -> Field:
        """The share of each pixel that lies inside, 0 to 1, over an edge of ``softness`` pixels."""
        return np.clip(0.5 - distance / (softness * self.pixel), 0.0, 1.0)

    def window(self, rows: slice, columns: slice) -> Grid:
        """The part of the grid in ``rows`` and ``columns``; a view."""
        return Grid(self.x[rows, columns], self.y[rows, columns], self.pixel)


def paint(image: Field, cover: Field, value: float | Field) -> None:
    """Blend ``value`` over ``image`` in place with opacity ``cover``."""
    image += cover * (value - image)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Field:
    """A smooth random field (row, column) of about unit variance: cubic B-splines over ``cells`` knots per axis."""
    rows, columns = (_spline_basis(n, cells) for n in shape)
    knots = rng.standard_normal((cells + 3, cells + 3))
    # A cubic B-spline's squared weights sum to 151/315 on average, on either axis.
    field: Field = rows @ knots @ columns.T * (315.0 / 151.0)
    return field


@cache
def _spline_basis(n: int, cells: int) -> Field:
    """Weights (position, knot) of the uniform cubic B-spline at ``n`` pixel centres."""
    position = (np.arange(n) + 0.5) * cells / n
    distance = np.abs(position[:, None] - (np.arange(cells + 3)[None, :] - 1.0))
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.maximum(2.0 - distance, 0.0) ** 3 / 6.0
    basis = np.where(distance < 1.0, near, far)
    basis.flags.writeable = False
    return basis
