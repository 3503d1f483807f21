"""Where the grid of each layer lies on the network's input, measured on the network itself."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from actstore.record import forward_hooks, tensors
from actstore.schema import Layer

#: Offsets are given to this part of an input pixel.
STEP = 1 / 8


def grid_offsets(model: nn.Module, layers: Sequence[Layer], size: Sequence[int]) -> list[tuple[float, ...]]:
    """How far each layer's grid is shifted against the input's, along each axis, in pixels of the input.

    Where the edges of both grids coincide, as after pooling, it is 0; a convolution of width 3, stride 2 and padding 1
    shifts by −0.5, one after the other by −1.5. A copy of the network with every weight positive and even, so that
    nothing but its geometry decides, is shown a smooth bright spot in the middle of ([z,] y, x) = ``size``; measured is
    the centre of each layer's response, of what exceeds half its maximum. 0 where there is none, and for all layers of
    a network that cannot be run so.
    """
    nothing = [(0.0,) * len(size) for _ in layers]
    axes = torch.meshgrid(*(((torch.arange(n) + 0.5 - n / 2) / max(1, n / 12)) ** 2 for n in size), indexing="ij")
    image = torch.exp(-torch.stack(axes).sum(0) / 2)[None, None]
    index = {(layer.module, layer.call, layer.output): i for i, layer in enumerate(layers)}
    calls: Counter[str] = Counter()
    found = list(nothing)

    def measure(path: str, output: Any) -> None:
        for position, tensor in tensors(output):
            i = index.get((path, calls[path], position))
            if i is not None:
                found[i] = _offset(tensor[0].double().sum(0), size)
        calls[path] += 1

    try:
        even = _even(model)
        with (
            torch.inference_mode(),
            forward_hooks(even, list(dict.fromkeys(layer.module for layer in layers)), measure),
        ):
            even(image)
    except Exception:  # whatever a network of the user's raises on weights it was not made for
        return nothing
    return found


def _even(model: nn.Module) -> nn.Module:
    copied = copy.deepcopy(model).cpu().float().eval()
    with torch.no_grad():
        for name, values in (*copied.named_parameters(), *copied.named_buffers()):
            if not values.is_floating_point():
                continue
            if values.ndim > 1:
                values.fill_(1 / values[0].numel())
            else:
                values.fill_(0.0 if name.endswith(("bias", "running_mean")) else 1.0)
    return copied


def _offset(response: Tensor, size: Sequence[int]) -> tuple[float, ...]:
    change = (response - response.median()).abs()
    if not (torch.isfinite(change).all() and change.max() > 0):
        return (0.0,) * len(size)
    lobe = torch.clip(change - change.max() / 2, min=0)
    offset = []
    for axis, before in enumerate(size):
        weight = lobe.sum([a for a in range(lobe.ndim) if a != axis])
        position = float((weight * (torch.arange(len(weight)) + 0.5)).sum() / weight.sum())
        offset.append(round((before / 2 - position * before / len(weight)) / STEP) * STEP)
    return tuple(offset)
