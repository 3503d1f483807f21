"""Activation maximisation of a network in memory, without a store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import nn

from actstore.errors import SpecError
from actstore.maximisation.ascent import Canvas, Optima, ascend
from actstore.maximisation.target import Reach
from actstore.maximisation.targets import Target, find_targets, reached
from actstore.networks.arithmetic import torch_threads
from actstore.networks.heads import Head
from actstore.spec.visualise import Visualise


def maximise(
    model: nn.Module,
    settings: Visualise,
    *,
    channels: int = 1,
    size: Sequence[int] = (),
    bounds: tuple[float, float] | None = (0.0, 1.0),
    head: Head | None = None,
    threads: int = 1,
) -> dict[str, Optima]:
    """Images that maximise channels of ``settings.layers``, by layer label; elements are (channel, repeat) in C order.

    Parameters
    ----------
    model
        a network in evaluation mode, on the device that computes. Its weights are frozen while this runs.
    channels, size
        of its input; ``settings.size`` comes before ``size``.
    bounds
        intensities of its input; ``settings.range`` comes before them. ``None`` for any.

    Raises
    ------
    ModelError, SpecError
        as `actstore.maximisation.targets.find_targets`; if an objective has no gradient; if the size is missing, bounds
        are upside down, or the parameterization is "maco", which needs a run.
    """
    chosen = settings.range
    bounds = bounds if chosen is None else None if chosen == "free" else chosen
    if not (settings.size or size):
        raise SpecError("size is missing: give ([z,] y, x) of the images, or settings.size")
    if settings.parameterization == "maco":
        raise SpecError('"maco" takes its magnitude from the inputs of a run: use `actstore visualise`, or "fourier"')
    if bounds is not None and not bounds[0] < bounds[1]:
        raise SpecError(f"bounds = {bounds}: give the lower intensity first, and two that differ")
    canvas = Canvas(channels, tuple(settings.size or size), bounds)
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with torch_threads(threads):
            targets = find_targets(model, settings, canvas, settings.layers or ("*",), head=head)
            return {target.label: _of_target(model, target, settings, canvas, head, device) for target in targets}
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _of_target(
    model: nn.Module, target: Target, settings: Visualise, canvas: Canvas, head: Head | None, device: torch.device
) -> Optima:
    with reached(model, target, head) as reach:
        size = settings.batch_size
        starts = range(0, len(target.channels), size)
        parts = [ascend_batch(reach, target, start, settings, canvas, device) for start in starts]
    return _joined(parts)


def ascend_batch(
    reach: Reach, target: Target, first: int, settings: Visualise, canvas: Canvas, device: torch.device
) -> Optima:
    """Maximise a batch of a target's channels from number ``first`` on; elements are (channel, repeat) in C order.

    A batch always has ``settings.batch_size`` channels, the last one of the target repeated if need be, since the size
    of a batch decides the last bits.
    """
    size, repeats = settings.batch_size, settings.repeats
    count = min(size, len(target.channels) - first)
    at = [min(first + i, len(target.channels) - 1) for i in range(size)]
    parts = []
    # Images that push each other apart have to be in one batch.
    for together in [range(repeats)] if settings.diversity > 0 else [range(r, r + 1) for r in range(repeats)]:
        elements = [(i, r) for i in at for r in together]
        part = ascend(
            reach,
            target.label,
            [target.channels[i] for i, _ in elements],
            [r for _, r in elements],
            settings,
            canvas,
            device,
            constant=[target.constant[i] for i, _ in elements],
            bounded=target.bounded,
        )
        parts.append(_reshaped(part, size, len(together), count))
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts], axis=1) for f in fields(Optima)}
    return Optima(**{name: value.reshape(-1, *value.shape[2:]) for name, value in joined.items()})


def _reshaped(part: Optima, channels: int, repeats: int, count: int) -> Optima:
    """The first ``count`` channels of a batch, as (channel, repeat, …)."""

    def values() -> Iterator[tuple[str, np.ndarray]]:
        for field in fields(Optima):
            value = getattr(part, field.name)
            yield field.name, value.reshape(channels, repeats, *value.shape[1:])[:count]

    return Optima(**dict(values()))


def _joined(parts: Sequence[Optima]) -> Optima:
    return Optima(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Optima)})
