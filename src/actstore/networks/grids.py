"""Where the grid of each layer lies on the network's input, from the network itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actstore.geometry import Grid, Origin
from actstore.networks.linear import Linear, geometry_of
from actstore.networks.recording import forward_hooks, tensors
from actstore.store.schema import Layer

Floats = NDArray[np.float64]

#: Relative rounding of what a linear network returns; thousands of times that of float64, for networks of many layers.
ROUNDING = 1e-9
#: Centres that differ by no more, in pixels of the input, are one; so near to a fraction, they are that fraction.
NEAR = 1e-8
#: Pixels after which a pattern of centres may repeat: the strides of all transposed convolutions multiplied.
LONGEST = 64
#: Widest spread (standard deviation) of what a pixel stands for, in pixels of the coarsest layer. Interpolation from
#: the coarsest layer to the finest has 0.47 at most; more comes from elsewhere.
WIDEST = 0.7


def layer_grids(model: nn.Module, layers: Sequence[Layer], size: Sequence[int]) -> list[Grid]:
    """Where the pixels of each layer lie on an input of ([z,] y, x) = ``size``.

    A copy of the network is made linear (:class:`actstore.networks.linear.Linear`), so that a layer's pixel is a
    weighted sum of the input's. Shown images of 1, of the pixels' numbers along each axis and of their squares, it
    returns the sum of these weights, their centre and their spread, for all pixels of all layers at once and to the
    rounding of float64. Centres that are an affine function of the pixel, or that repeat one as those between the taps
    of transposed convolutions do, give start and step. Adaptive pooling and interpolation by the nearest pixel place
    pixels unevenly where sizes do not divide; what rests on them is measured.
    """
    for lean in (True, False):
        try:
            return _measured(model, layers, size, lean=lean)
        except Exception:  # whatever a network of the user's raises where it is not run as it was made for
            continue
    return [Grid.between_edges(layer.space, size) for layer in layers]


def _measured(model: nn.Module, layers: Sequence[Layer], size: Sequence[int], *, lean: bool) -> list[Grid]:
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
            if i is not None and tensor.shape[2:] == layers[i].space:
                found[i].append(_over_channels(tensor))
        calls[path] += 1

    mode = Linear(len(size), lean=lean)
    copied = geometry_of(model)
    paths = list(dict.fromkeys(layer.module for layer in layers))
    with torch.inference_mode(), forward_hooks(copied, paths, keep), mode:
        for image in (torch.zeros_like(ones), ones, *numbers, squares, falling):
            calls.clear()
            copied(image[None, None])
        seen = {i: responses[:] for i, responses in found.items()}
        uneven = np.zeros((len(layers), len(size)), dtype=bool)
        for axis in np.flatnonzero(mode.uneven).tolist():
            mode.shown = axis
            calls.clear()
            copied(torch.zeros_like(ones)[None, None])
            for i, before in seen.items():
                uneven[i, axis] = len(before) > 1 and _rests(before, found[i][-1])
    least = [
        min(fewest, *(layer.space[axis] for layer in layers if layer.space[axis] > 1), math.inf)
        for axis, fewest in enumerate(mode.fewest)
    ]
    widest = sum((WIDEST * n / min(fewest, n)) ** 2 for n, fewest in zip(size, least, strict=True))
    return [_grid(seen[i], layer.space, size, widest, uneven[i]) for i, layer in enumerate(layers)]


def _rests(responses: list[Floats], shown: Floats) -> bool:
    """Whether a layer changes where maps that were resized unevenly are shown; ``responses`` to 0 and 1 come first."""
    nothing, one = responses[:2]
    return bool(np.abs(shown - nothing).max() > ROUNDING * np.abs(one - nothing).max())


def _over_channels(tensor: Tensor) -> Floats:
    one = tensor[0, 0] if tensor.stride(1) == 0 else tensor[0].double().mean(0)
    return np.array(one.numpy(), dtype=np.float64)


def _grid(
    responses: list[Floats], shape: Sequence[int], size: Sequence[int], widest: float, uneven: NDArray[np.bool_]
) -> Grid:
    """Of one layer, from its responses to 0, 1, each axis, squares and a falling slope.

    ``uneven`` (axis): whether centres are no function of the pixel, which a line through those of the middle may hide.
    """
    assumed = Grid.between_edges(shape, size)
    if len(responses) != len(size) + 4:
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
    """Start and step of centres along one axis, None where there are none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(total > ROUNDING * total.max(), moment / total, np.nan) - 1
    fit = affine(centre) if exact else None
    if fit is not None:
        return _rational(fit[0]), _rational(fit[1]), "geometry"
    if np.isnan(centre).any() or (len(centre) > 1 and np.ptp(centre) <= NEAR):
        # Pixels that see nothing, or all of them the same, lie nowhere.
        return None
    step = before / len(centre)
    return _rational(float((centre - step * np.arange(len(centre))).mean())), step, "measured"


def affine(centre: Floats) -> tuple[float, float] | None:
    """Start and step of an affine function of the pixel's number that ``centre`` is, or that it repeats.

    Centres repeat one where ``centre[i + p] - centre[i]`` is the same for all i. As many pixels as necessary are left
    out at both ends, where padding and interpolation may move centres, up to a quarter. None where there is no such
    function, or too few pixels to know.
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
