"""What a layer's objective can tell: whether it depends on the image at all, and whether it has a bound of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.maximisation.objectives import Goal
from actstore.maximisation.target import Maps, Reach

#: Differences below this share of a map's spread are rounding (measured for means of normalised maps: 1e-9 to 1e-7).
ROUNDING = 1e-5
#: Contrasts of the images that are looked at, in ranges of intensity.
CONTRASTS = (0.05, 0.2, 0.5, 1.0)
#: Share of a map's largest value by which a batch of another size changes it through rounding, at most.
BATCH_ROUNDING = 1e-3


@dataclass(frozen=True)
class Examined:
    """Findings about the channels (or directions, or classes) of a layer."""

    #: bool (channel): the objective is the same for every image.
    constant: NDArray[np.bool_]
    #: float64 (channel): the objective of the first image that was looked at.
    value: NDArray[np.float64]
    #: Whether one position is bounded by the number of positions alone, as behind an instance norm.
    bounded: bool
    #: Whether the layer ends with a ReLU.
    rectified: bool
    #: How far the maps of an image change with the rest of its batch or from pass to pass, as a share of their largest
    #: value; 0 where that is rounding.
    unsteady: float


def example_images(channels: int, size: Sequence[int], bounds: tuple[float, float] | None) -> Tensor:
    """(image, input_channel, \\*size) of noise, rough and smooth, one image for each contrast about the middle."""
    low, high = bounds or (-1.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    images = []
    for contrast in CONTRASTS:
        rough = torch.rand(channels, *size, generator=generator) - 0.5
        coarse = torch.rand(1, channels, *(max(1, n // 8) for n in size), generator=generator) - 0.5
        smooth = torch.nn.functional.interpolate(coarse, size=tuple(size), mode="nearest")[0]
        images.append((low + high) / 2 + (high - low) * contrast * (rough + smooth) / 2)
    return torch.stack(images)


@torch.no_grad()
def examine(reach: Reach, goal: Goal, images: Tensor) -> Examined:
    """Compare the objective of each of ``goal.channels`` over ``images`` that have little in common."""
    values, spreads, largest, least = [], [], [], []
    found = Maps(torch.empty(0))
    alone = []
    for image in images:
        found = reach(image[None])
        alone.append(found.values)
        maps = goal.maps(found.values.expand(len(goal.channels), *found.values.shape[1:])).double()
        values.append(goal.reduce(maps))
        spreads.append(maps.flatten(1).std(1, correction=0))
        largest.append(maps.flatten(1).abs().amax(1))
        least.append(maps.flatten(1).amin(1))
    value, size = torch.stack(values), torch.stack(largest).amax(0)
    differences = value.amax(0) - value.amin(0)
    spread = torch.stack(spreads).mean(0)
    constant = (size > 0) & (differences <= ROUNDING * torch.maximum(spread, ROUNDING * size))
    if goal.objective == "neuron":
        # A position that an activation turns off says nothing of other images.
        constant &= ~((value == torch.stack(least)).all(0) & (spread > 0))
    bounded = goal.objective == "neuron" and found.normalised
    return Examined(
        constant.cpu().numpy(),
        value[0].cpu().numpy(),
        bounded,
        found.before is not None,
        _unsteady(reach, images, alone),
    )


def _unsteady(reach: Reach, images: Tensor, alone: Sequence[Tensor]) -> float:
    """How far two images in one batch have other maps than each has by itself; 0 if that is rounding."""
    together = reach(images[-2:]).values
    most = max(float(values.abs().max()) for values in (*alone[-2:], together))
    apart = max(float((one - values[0]).abs().max()) for one, values in zip(together, alone[-2:], strict=True))
    return apart / most if apart > BATCH_ROUNDING * most else 0.0
