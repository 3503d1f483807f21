"""What is maximised of a layer's map, one number an element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actstore.maximisation.target import Maps
from actstore.spec.visualise import Objective


@dataclass(frozen=True)
class Goal:
    """The objective of each element of a batch: of one channel's map, or of a weighted sum of channels."""

    objective: Objective
    #: (element,) int64: the channel, class or direction of each element.
    channels: Tensor
    #: (direction, channel) float32 for the objective "direction".
    directions: Tensor | None = None

    @classmethod
    def of(
        cls,
        objective: Objective,
        channels: Sequence[int],
        directions: Sequence[Sequence[float]] | None,
        device: torch.device,
    ) -> Goal:
        weights = None if directions is None else torch.tensor(directions, dtype=torch.float32, device=device)
        return cls(objective, torch.tensor(channels, device=device), weights)

    def maps(self, values: Tensor) -> Tensor:
        """The elements' own maps (element, \\*space) among those of all channels, (element, channel, \\*space)."""
        if self.directions is not None:
            return torch.einsum("ec,ec...->e...", self.directions[self.channels], values)
        return values[torch.arange(len(values), device=values.device), self.channels]

    def reduce(self, maps: Tensor) -> Tensor:
        """(element,) of maps (element, \\*space): their mean, or their value at the centre, n // 2 along each axis."""
        if self.objective == "neuron":
            for n in maps.shape[1:]:
                maps = maps[:, n // 2]
            return maps
        return maps.flatten(1).mean(1)

    def value(self, found: Maps) -> Tensor:
        """The objective, (element,)."""
        return self.reduce(self.maps(found.values))

    def silent(self, maps: Tensor) -> Tensor:
        """bool (element,): whether maps are 0 wherever the objective looks, as below a ReLU that passes nothing."""
        return self.reduce(maps) == 0 if self.objective == "neuron" else (maps.flatten(1) == 0).all(1)

    def climbed(self, found: Maps) -> Tensor:
        """What the optimiser climbs: the objective; below a ReLU that passes nothing of it, what the ReLU was given.

        A dead unit has no gradient, and an image of one would be its first noise. Of a map, that is its largest value:
        the mean may have its maximum where no position is on.
        """
        maps = self.maps(found.values)
        value = self.reduce(maps)
        if found.before is None:
            return value
        before = self.maps(found.before)
        below = self.reduce(before) if self.objective == "neuron" else before.flatten(1).amax(1)
        return torch.where(self.silent(maps), below, value)
