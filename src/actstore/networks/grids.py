"""Measures the position of each layer's grid on the network's input."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actstore.errors import one_line
from actstore.geometry import Grid, Origin
from actstore.networks.channels import channels_first
from actstore.networks.linear import Linear, geometry_of
from actstore.networks.recording import forward_hooks, tensors
from actstore.store.schema import Layer

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

#: Relative rounding of a linear network's output: thousands of times that of float64, to allow for many layers.
ROUNDING = 1e-9
#: Centres count as equal up to this difference in input pixels, and are rounded to a fraction within it.
NEAR = 1e-8
#: Longest period of a pattern of centres in pixels: the product of the strides of all transposed convolutions.
LONGEST = 64
#: Largest spread (standard deviation) of a pixel's weights, in pixels of the coarsest layer. Interpolation from the
#: coarsest layer to the finest gives at most 0.47; larger values have another cause.
WIDEST = 0.7


def layer_grids(model: nn.Module, layers: Sequence[Layer], size: Sequence[int], channels: int = 1) -> list[Grid]:
    """Position of each layer's pixels on an input of ([z,] y, x) = ``size`` with that many ``channels``.

    A linear copy of the network (:class:`actstore.networks.linear.Linear`) makes each layer's pixel a weighted sum of
    the input's pixels. Images of ones, of pixel indices along each axis and of their squares yield the sum, centre and
    spread of these weights, for all pixels of all layers at once and to the rounding of float64. Start and step follow
    if the centres are an affine function of the pixel, or repeat one, as between the taps of transposed convolutions.
    Layers without space have a grid without axes.
    Adaptive pooling and nearest-neighbour interpolation place pixels unevenly if sizes do not divide; layers that
    depend on them are detected.
    """
    placed = [layer for layer in layers if layer.space]
    found = iter(_of_placed(model, placed, size, channels))
    return [next(found) if layer.space else Grid((), (), ()) for layer in layers]


def _of_placed(model: nn.Module, layers: Sequence[Layer], size: Sequence[int], channels: int) -> list[Grid]:
    """Grids of layers that have space."""
    for lean in (True, False):
        try:
            return _measured(model, layers, size, channels, lean=lean)
        except _NotLinear as error:
            log.debug("the network does not run in linear form: %s", error)
    return [Grid.between_edges(layer.space, size) for layer in layers]


class _NotLinear(Exception):
    """A network cannot be copied, or does not run, in linear form."""


@contextmanager
def _of_network() -> Iterator[None]:
    """Raise what the network's own code raises, which may be anything in linear form, as `_NotLinear`."""
    try:
        yield
    except Exception as error:
        raise _NotLinear(one_line(error)) from error


def _measured(
    model: nn.Module, layers: Sequence[Layer], size: Sequence[int], channels: int, *, lean: bool
) -> list[Grid]:
    numbers = torch.meshgrid(*(torch.arange(1, n + 1, dtype=torch.float64) for n in size), indexing="ij")
    falling = torch.stack([n + 2 - along for n, along in zip(size, numbers, strict=True)]).sum(0)
    squares = torch.stack([along**2 for along in numbers]).sum(0)
    ones = torch.ones_like(squares)
    index = {(layer.module, layer.call, layer.output): i for i, layer in enumerate(layers)}
    calls: Counter[str] = Counter()
    found: dict[int, list[Floats]] = {i: [] for i in range(len(layers))}

    def keep(path: str, output: Any) -> None:
        for position, tensor in tensors(output):
            i = index.get((path, calls[path], position))
            if i is not None and layers[i].channels_last:
                tensor = channels_first(tensor)
            if i is not None and tensor.shape[2:] == layers[i].space:
                found[i].append(_over_channels(tensor))
        calls[path] += 1

    mode = Linear(len(size), lean=lean)
    with _of_network():
        copied = geometry_of(model)
    paths = list(dict.fromkeys(layer.module for layer in layers))
    with torch.inference_mode(), forward_hooks(copied, paths, keep), mode:
        for image in (torch.zeros_like(ones), ones, *numbers, squares, falling):
            calls.clear()
            with _of_network():
                copied(image.expand(1, channels, *size))
        seen = {i: responses[:] for i, responses in found.items()}
        uneven = np.zeros((len(layers), len(size)), dtype=bool)
        for axis in np.flatnonzero(mode.uneven).tolist():
            mode.shown = axis
            calls.clear()
            with _of_network():
                copied(torch.zeros_like(ones).expand(1, channels, *size))
            for i, before in seen.items():
                uneven[i, axis] = len(before) > 1 and _rests(before, found[i][-1])
    least = [
        min(fewest, *(layer.space[axis] for layer in layers if layer.space[axis] > 1), math.inf)
        for axis, fewest in enumerate(mode.fewest)
    ]
    widest = sum((WIDEST * n / min(fewest, n)) ** 2 for n, fewest in zip(size, least, strict=True))
    return [_grid(seen[i], layer.space, size, widest, uneven[i]) for i, layer in enumerate(layers)]


def _rests(responses: list[Floats], shown: Floats) -> bool:
    """Whether a layer depends on unevenly resized maps; ``responses`` begin with those to 0 and 1."""
    nothing, one = responses[:2]
    return bool(np.abs(shown - nothing).max() > ROUNDING * np.abs(one - nothing).max())


def _over_channels(tensor: Tensor) -> Floats:
    one = tensor[0, 0] if tensor.stride(1) == 0 else tensor[0].double().mean(0)
    return np.array(one.numpy(), dtype=np.float64)


def _grid(
    responses: list[Floats], shape: Sequence[int], size: Sequence[int], widest: float, uneven: NDArray[np.bool_]
) -> Grid:
    """The grid of one layer from its responses to 0, 1, each axis, squares and a falling slope.

    ``uneven`` (axis): whether pixels are placed unevenly, which a line through the middle centres may hide.
    """
    assumed = Grid.between_edges(shape, size)
    if len(responses) != len(size) + 4 or not all(np.isfinite(response).all() for response in responses):
        return assumed
    nothing, *others = responses
    total, *moments, squares, falling = (response - nothing for response in others)
    expected = sum(n + 2 for n in size) * total - sum(moments)
    largest = np.abs(expected).max()
    if not (largest > 0 and np.abs(falling - expected).max() <= ROUNDING * largest):
        return assumed
    middle = tuple(slice(n // 4, n - n // 4) for n in shape)
    seen = total[middle] > ROUNDING * np.abs(total).max()
    if not seen.any():
        return assumed
    of_middle = [moment[middle][seen] / total[middle][seen] for moment in moments]
    variance = (squares[middle][seen] / total[middle][seen] - sum(centre**2 for centre in of_middle)).mean()
    start, step, how = list(assumed.start), list(assumed.step), list(assumed.how)
    for axis, (moment, n) in enumerate(zip(moments, size, strict=True)):
        line = _line(_along(total, axis), _along(moment, axis), n, exact=bool(variance <= widest) and not uneven[axis])
        if line is not None:
            start[axis], step[axis], how[axis] = line
    return Grid(tuple(start), tuple(step), tuple(how))


def _along(values: Floats, axis: int) -> Floats:
    """Sums over the middle half of the other axes."""
    for other, n in enumerate(values.shape):
        if other != axis:
            values = values.take(range(n // 4, n - n // 4), axis=other).sum(other, keepdims=True)
    return values.reshape(-1)


def _line(total: Floats, moment: Floats, before: int, *, exact: bool) -> tuple[float, float, Origin] | None:
    """Start and step of centres along one axis, or None."""
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(total > ROUNDING * total.max(), moment / total, np.nan) - 1
    fit = affine(centre) if exact else None
    if fit is not None:
        return _rational(fit[0]), _rational(fit[1]), "geometry"
    if np.isnan(centre).any() or (len(centre) > 1 and np.ptp(centre) <= NEAR):
        # Pixels have no position if they see nothing or all see the same.
        return None
    step = before / len(centre)
    return _rational(float((centre - step * np.arange(len(centre))).mean())), step, "measured"


def affine(centre: Floats) -> tuple[float, float] | None:
    """Start and step of the affine function of the pixel index that ``centre`` equals or repeats.

    Centres repeat one if ``centre[i + p] - centre[i]`` is the same for all i. Up to a quarter of the pixels at both
    ends are left out as necessary, since padding and interpolation may shift them. None if there is no such function,
    or too few pixels to decide.
    """
    n = len(centre)
    trims = [0, *(t for t in (1, 2, 4, 8, 16, 32, 64) if t < n // 4), *([n // 4] if n >= 4 else [])]
    for trim in dict.fromkeys(trims):
        part = centre[trim : n - trim]
        there = np.isfinite(part)
        for period in range(1, min(LONGEST, (len(part) - 2) // 2) + 1):
            rise = part[period:] - part[:-period]
            if (there[period:] != there[:-period]).any() or np.isnan(rise).all():
                continue
            if np.nanmax(rise) - np.nanmin(rise) <= NEAR and np.nanmean(rise) > NEAR:
                step = float(np.nanmean(rise)) / period
                whole = len(part) // period * period
                return float(np.nanmean(part[:whole] - step * (trim + np.arange(whole)))), step
    return None


def _rational(value: float) -> float:
    near = float(Fraction(value).limit_denominator(1024))
    return near if abs(near - value) <= NEAR else value
