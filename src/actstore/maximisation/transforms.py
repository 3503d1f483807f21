"""Transforms of images between the optimiser and the network, most of them random.

Positions are in pixels about the centre of the image, with axes in the order of the array, and are sampled with
``torch.nn.functional.grid_sample``. Its grids are made here, since ``affine_grid`` measures each axis by the length of
the image along it: a rotation would shear an image that is not square.

What a transform moves into the image repeats its border. Zeros, or the lowest intensity, would draw an edge around the
image that a network responds to, and an image of free range has no lowest intensity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from actstore.errors import SpecError
from actstore.maximisation.filters import SwitchingBilateral, TotalVariation
from actstore.spec.visualise import Interpolation, Regularizer

#: Largest ratio of the sides of a crop, as of torchvision's ``RandomResizedCrop``; the smallest is its inverse.
RATIO = 4 / 3

Bounds = tuple[float, float] | None


class Transform(Protocol):
    """What changes images between the optimiser and the network, or the images themselves."""

    @property
    def numbers(self) -> int:
        """Uniform random numbers that one element needs for one application."""

    def __call__(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Images (element, input_channel, [z,] y, x) of floats, of the same shape and dtype as those given.

        ``uniform`` (element, numbers) holds random numbers in [0, 1), each element's own. All input channels of an
        element are transformed alike; elements do not influence each other. Differentiable with respect to ``images``
        for kinds that ``apply = "forward"`` admits.
        """


def transform_of(regularizer: Regularizer, dims: int, bounds: Bounds) -> Transform:
    """The transform of a regulariser.

    Parameters
    ----------
    dims
        axes of an image: 2 (y, x) or 3 (z, y, x).
    bounds
        lowest and highest intensity of an image, None if it is free.

    Raises
    ------
    SpecError
        for bicubic interpolation of 3D images, which torch does not have.
    ValueError
        for a penalty.
    """
    if regularizer.kind == "switching_bilateral":
        return SwitchingBilateral(bounds)
    if regularizer.kind == "tv" and regularizer.on_image:
        return TotalVariation(regularizer.strength)
    if regularizer.kind == "brightness":
        return Brightness(regularizer.bounds, bounds)
    if regularizer.kind not in _MOVES:
        raise ValueError(f"{regularizer.kind} is a penalty, not a transform")
    if dims == 3 and regularizer.interpolation == "bicubic":
        raise SpecError(
            f'visualise.regularize: {regularizer.kind} with mode = "bicubic" is a 2D transform, and the network is 3D: '
            'set mode = "bilinear"'
        )
    numbers, move = _MOVES[regularizer.kind]
    return Moving(regularizer.bounds, regularizer.interpolation, bounds, numbers[dims], move)


@dataclass(frozen=True)
class Brightness:
    """Scale the distance from the lowest intensity by a random factor; the "jitter" of Eitel et al."""

    range: tuple[float, float]
    bounds: Bounds
    numbers: int = 1

    def __call__(self, images: Tensor, uniform: Tensor) -> Tensor:
        factor = _between(self.range, uniform.to(images)[:, 0]).reshape(-1, *[1] * (images.ndim - 1))
        if self.bounds is None:
            return factor * images
        lowest, highest = self.bounds
        return (lowest + factor * (images - lowest)).clamp(lowest, highest)


#: Where images are sampled: range, size ([z,] y, x) in pixels and uniform (element, numbers) give a matrix
#: (element, axis, axis) and an offset (element, axis). Pixel ``p`` of the result shows ``matrix @ p + offset``.
Move = Callable[[tuple[float, float], Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Moving:
    """Move, turn or scale images by random numbers: ``move`` says where each is sampled."""

    range: tuple[float, float]
    mode: Interpolation
    bounds: Bounds
    numbers: int
    move: Move

    def __call__(self, images: Tensor, uniform: Tensor) -> Tensor:
        size = torch.tensor(images.shape[2:]).to(images)
        matrix, offset = self.move(self.range, size, uniform.to(images))
        moved = grid_sample(
            images, _grid(images, matrix, offset), mode=self.mode, padding_mode="border", align_corners=False
        )
        # Cubic splines overshoot beside edges, beyond what the network was trained on.
        return moved.clamp(*self.bounds) if self.mode == "bicubic" and self.bounds is not None else moved


def _translated(range_: tuple[float, float], size: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Shift by a random number of pixels along each axis, towards higher indices where it is positive."""
    return torch.eye(len(size)).to(uniform).expand(len(uniform), -1, -1), -_between(range_, uniform)


def _rotated(range_: tuple[float, float], size: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Turn about the centre by random degrees, as ``numpy.rot90`` turns: in 2D once, in 3D about z, then y, then x.

    Angles are those between pixels, whatever the spacing of the voxels.
    """
    dims = len(size)
    matrix = torch.eye(dims).to(uniform).expand(len(uniform), -1, -1)
    angles = torch.deg2rad(_between(range_, uniform))
    planes = [(0, 1)] if dims == 2 else [(1, 2), (0, 2), (0, 1)]
    for angle, (first, second) in zip(angles.unbind(1), planes, strict=True):
        cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
        # The rotation that comes last is the first one on the way back from a pixel of the result.
        columns = list(matrix.unbind(2))
        columns[first], columns[second] = (
            cosine * columns[first] - sine * columns[second],
            sine * columns[first] + cosine * columns[second],
        )
        matrix = torch.stack(columns, 2)
    return matrix, torch.zeros_like(uniform[:, :1]).expand(-1, dims)


def _resized(range_: tuple[float, float], size: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Scale about the centre by one random number; what grows beyond the image is cut off."""
    scale = _between(range_, uniform)
    matrix = torch.eye(len(size)).to(uniform) / scale[:, :, None]
    return matrix, torch.zeros_like(scale).expand(-1, len(size))


def _cropped(range_: tuple[float, float], size: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Stretch a random box inside the image to the size of the image.

    The box has a random share of the area or volume. Its ratio of sides, measured in sides of the image, is log-uniform
    between 3/4 and 4/3: x to y, and in 3D also z to the geometric mean of both. Where a large share leaves no room for
    such a ratio, it is log-uniform over what fits. torchvision draws again instead, with no fixed count of numbers.
    """
    dims = len(size)
    # All in logarithms: the sides add up to the share.
    share = _between(range_, uniform[:, 0]).clamp(max=1).log()
    mean = share / dims
    if dims == 2:
        half = _log_ratio(share, -share, uniform[:, 1]) / 2
        sides = torch.stack([mean - half, mean + half], 1)
    else:
        depth = _log_ratio(share, -share / 2, uniform[:, 1]) / 3
        plane = mean - depth
        half = _log_ratio(2 * plane, -2 * plane, uniform[:, 2]) / 2
        sides = torch.stack([mean + 2 * depth, plane - half, plane + half], 1)
    sides = sides.exp().clamp(max=1)
    offset = (uniform[:, dims:] - 0.5) * (1 - sides) * size
    return torch.diag_embed(sides), offset


def _log_ratio(low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
    """The logarithm of a random ratio, no further from 0 than that of ``RATIO`` and between ``low`` and ``high``."""
    limit = math.log(RATIO)
    low, high = low.clamp(min=-limit), high.clamp(max=limit)
    return low + (high - low) * uniform


#: Random numbers in 2D and 3D, and where images are sampled. A crop takes its share, its ratios and its place.
_MOVES: Mapping[str, tuple[Mapping[int, int], Move]] = {
    "translate": ({2: 2, 3: 3}, _translated),
    "rotate": ({2: 1, 3: 3}, _rotated),
    "resize": ({2: 1, 3: 1}, _resized),
    "crop": ({2: 4, 3: 6}, _cropped),
}


def _between(range_: tuple[float, float], uniform: Tensor) -> Tensor:
    low, high = range_
    return low + (high - low) * uniform


def _grid(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """The grid of ``grid_sample`` (element, [z,] y, x, axis), x first along ``axis``, from -1 to 1 within the image."""
    size = images.shape[2:]
    coordinates = []
    for axis, length in enumerate(size):
        where = offset[:, axis].reshape(-1, *[1] * len(size))
        for along, extent in enumerate(size):
            shape = [extent if other == along else 1 for other in range(len(size))]
            pixels = (torch.arange(extent).to(images) - (extent - 1) / 2).reshape(1, *shape)
            where = where + matrix[:, axis, along].reshape(-1, *[1] * len(size)) * pixels
        coordinates.append(2 * where / length)
    return torch.stack(coordinates[::-1], -1)
