"""Gradient ascent on images, one objective an element."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from actstore.analysis.optima import STATUSES
from actstore.errors import ModelError
from actstore.maximisation.objectives import Goal
from actstore.maximisation.parameterizations import parameterization_of
from actstore.maximisation.penalties import is_penalty, penalty_of
from actstore.maximisation.target import Maps, Reach
from actstore.maximisation.transforms import Transform, transform_of
from actstore.spec.visualise import Regularizer, Visualise

LIVE, DEAD, CONSTANT, BOUNDED = range(len(STATUSES))


@dataclass(frozen=True)
class Canvas:
    """What images are like: their input channels, pixels and intensities, and a natural spectrum."""

    channels: int
    #: ([z,] y, x)
    size: tuple[int, ...]
    bounds: tuple[float, float] | None
    #: (input_channel, \\*frequency) float32 for the parameterization "maco".
    magnitude: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Optima:
    """Images that maximise an objective, one an element."""

    #: float32 (element, input_channel, [z,] y, x)
    image: NDArray[np.float32]
    #: float32 (element, step): the objective of what the network saw.
    curve: NDArray[np.float32]
    #: float32 (element): the objective of the first and of the last image, as they are.
    start: NDArray[np.float32]
    final: NDArray[np.float32]
    #: uint8 (element): index into `STATUSES`.
    status: NDArray[np.uint8]


def ascend(
    reach: Reach,
    layer: str,
    channels: Sequence[int],
    repeats: Sequence[int],
    settings: Visualise,
    canvas: Canvas,
    device: torch.device,
    *,
    constant: Sequence[bool] = (),
    bounded: bool = False,
) -> Optima:
    """Maximise the objective of each of ``channels``, each in an image of its own.

    Parameters
    ----------
    reach
        runs the network up to the layer; its weights need no gradient.
    layer
        its label: part of what seeds an element.
    channels, repeats
        of each element: the channel, class or direction, and which of its images this is.
    constant, bounded
        what `actstore.maximisation.examination.examine` found about the elements' channels.

    Raises
    ------
    ModelError
        if the objective has no gradient, or is not finite.
    """
    seeds = [seed_of(settings.seed, layer, c, r) for c, r in zip(channels, repeats, strict=True)]
    made = parameterization_of(settings, seeds, canvas.channels, canvas.size, canvas.bounds, canvas.magnitude, device)
    goal = Goal.of(settings.objective, channels, settings.directions, device)
    steps = _Steps.of(settings, seeds, len(canvas.size), canvas.bounds, device)
    if settings.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam([made.values], lr=float(settings.learning_rate) * made.unit)
    else:
        optimizer = torch.optim.SGD([made.values], lr=float(settings.learning_rate))
    start, _ = evaluated(reach, goal, made.images().detach(), layer)
    curve = torch.empty(settings.steps, len(channels), device=device)
    for step in range(settings.steps):
        optimizer.zero_grad(set_to_none=True)
        images = made.images()
        found = reach(steps.seen(images, step))
        curve[step] = goal.value(found).detach()
        climbed = goal.climbed(found) - steps.penalty(images, step)
        if settings.diversity > 0:
            climbed = climbed - float(settings.diversity) * alikeness(found, channels, repeats)
        if not found.values.requires_grad:
            raise ModelError(
                f"layer {layer!r} passes no gradient to its input: it computes without autograd, as under "
                "torch.no_grad() or by detach(); take that out of the network"
            )
        climbed.sum().neg().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        made.project()
        if steps.changes(step):
            made.assign(steps.changed(made.images().detach(), step))
    image = made.images().detach()
    _refuse_infinite(curve, layer, channels)
    final, found = evaluated(reach, goal, image, layer)
    silent = goal.silent(goal.maps(found.values)).cpu().numpy()
    status = np.where(silent, DEAD, BOUNDED if bounded else LIVE).astype(np.uint8)
    if len(constant):
        status[np.asarray(constant)] = CONSTANT
    return Optima(_host(image), _host(curve.T), _host(start), _host(final), status)


@torch.no_grad()
def evaluated(reach: Reach, goal: Goal, images: Tensor, layer: str) -> tuple[Tensor, Maps]:
    """The objective of ``images`` as they are, and the layer's maps of them."""
    found = reach(images)
    value = goal.value(found)
    if not value.isfinite().all():
        raise ModelError(f"layer {layer!r} returns {float(value[~value.isfinite()][0])}: correct the network")
    return value, found


def seed_of(seed: int, layer: str, channel: int, repeat: int) -> int:
    """The seed of one image, whatever worker and batch it is computed in."""
    text = f"{seed} {layer} {channel} {repeat}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def alikeness(found: Maps, channels: Sequence[int], repeats: Sequence[int]) -> Tensor:
    """(element,): mean cosine between the styles of an element and of the other repeats of its channel.

    An image that fills up a batch is a copy, not another repeat: of several copies each counts for a part.
    The style of an image is the Gram matrix of the layer's maps, as in Olah et al., “Feature Visualization”, 2017.
    """
    flat = found.values.flatten(2)
    gram = functional.normalize((flat @ flat.transpose(1, 2) / flat.shape[2]).flatten(1), dim=1)
    cosine = gram @ gram.T
    own, repeat = torch.tensor(channels, device=flat.device), torch.tensor(repeats, device=flat.device)
    others = (own[:, None] == own[None]) & (repeat[:, None] != repeat[None])
    return (cosine * others).sum(1) / others.sum(1).clamp_min(1)


@dataclass(frozen=True)
class _Step:
    """A regulariser, with what it needs of random numbers."""

    regularizer: Regularizer
    transform: Transform | None
    #: (application, element, number)
    uniform: Tensor

    def due(self, step: int) -> bool:
        return (step + 1) % self.regularizer.every == 0

    def applied(self, images: Tensor, step: int) -> Tensor:
        assert self.transform is not None
        return self.transform(images, self.uniform[step // self.regularizer.every])


@dataclass(frozen=True)
class _Steps:
    """The regularisers in their order."""

    forward: tuple[_Step, ...]
    image: tuple[_Step, ...]
    penalties: tuple[tuple[Regularizer, Callable[[Tensor], Tensor]], ...]
    #: Number of steps.
    count: int

    @classmethod
    def of(
        cls,
        settings: Visualise,
        seeds: Sequence[int],
        dims: int,
        bounds: tuple[float, float] | None,
        device: torch.device,
    ) -> _Steps:
        generators = [torch.Generator().manual_seed(seed ^ 1) for seed in seeds]
        forward: list[_Step] = []
        image: list[_Step] = []
        penalties = []
        for regularizer in settings.regularize:
            if is_penalty(regularizer):
                penalties.append((regularizer, penalty_of(regularizer)))
                continue
            transform = transform_of(regularizer, dims, bounds)
            shape = (settings.steps // regularizer.every, transform.numbers)
            uniform = torch.stack([torch.rand(*shape, generator=generator) for generator in generators], 1)
            (image if regularizer.on_image else forward).append(_Step(regularizer, transform, uniform.to(device)))
        return cls(tuple(forward), tuple(image), tuple(penalties), settings.steps)

    def seen(self, images: Tensor, step: int) -> Tensor:
        """What the network sees of ``images`` at a step."""
        for one in self.forward:
            if one.due(step):
                images = one.applied(images, step)
        return images

    def penalty(self, images: Tensor, step: int) -> Tensor:
        """(element,)"""
        due = [of(images) for regularizer, of in self.penalties if (step + 1) % regularizer.every == 0]
        return torch.stack([torch.zeros(len(images), device=images.device), *due]).sum(0)

    def changes(self, step: int) -> bool:
        """Whether a step ends with a change of the images themselves."""
        return any(self._changes(one, step) for one in self.image)

    def changed(self, images: Tensor, step: int) -> Tensor:
        for one in self.image:
            if self._changes(one, step):
                images = one.applied(images, step)
        return images

    def _changes(self, one: _Step, step: int) -> bool:
        """A random change is for the steps behind it: without any, it would only spoil the optimum."""
        return one.due(step) and not (one.uniform.shape[-1] and step == self.count - 1)


def _refuse_infinite(curve: Tensor, layer: str, channels: Sequence[int]) -> None:
    bad = (~curve.isfinite()).nonzero()
    if len(bad):
        step, element = (int(i) for i in bad[0])
        raise ModelError(
            f"the objective of channel {channels[element]} of layer {layer!r} is {float(curve[step, element])} at step "
            f"{step}: use a smaller visualise.learning_rate, or a range"
        )


def _host(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.cpu().numpy())
