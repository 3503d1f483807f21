"""The strongest channels of a layer, projected back into the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from actstore.attribution.rules import Method, Norm, require_fired, ruled
from actstore.errors import ModelError

Start = Literal["peak", "map"]


@dataclass(frozen=True)
class Projections:
    """What comes back of some channels of a layer."""

    #: (element, rank, input_channel, [z,] y, x)
    maps: Tensor
    #: (element, rank) int64
    channels: Tensor
    #: (element, rank): the largest value of each channel's map.
    peaks: Tensor
    #: (element, rank, axis) int64: where, in pixels of the layer.
    places: Tensor


def project(
    reach: Callable[[Tensor], Tensor],
    inputs: Tensor,
    channels: Callable[[Tensor], Tensor],
    method: Method = "deconvnet",
    *,
    start: Start = "peak",
    norm: Norm = "frozen",
) -> Projections:
    """Send channels of a layer back to the input: the Jacobian's transpose times the layer's map, by a method's rules.

    One pass forward and one way back a channel, whatever the number of elements.

    Parameters
    ----------
    reach
        runs the network up to the layer: (element, channel, \\*space).
    inputs
        (element, input_channel, [z,] y, x).
    channels
        which channels of each element, int64 (element, rank), of the layer's maps.
    start
        "peak": the largest value alone, at its place (Zeiler and Fergus 2014); "map": the whole map.

    Raises
    ------
    ModelError
        as for `actstore.attribution.saliency.saliency`, and if the layer has no maps.
    """
    seen = inputs.detach().requires_grad_()
    with torch.enable_grad(), ruled(method, norm) as rules:
        maps = reach(seen.clone())
    if maps.ndim != inputs.ndim:
        raise ModelError(
            f"the layer returns {tuple(maps.shape[1:])} for an input of {tuple(inputs.shape[1:])}: only channels with "
            "maps are projected back"
        )
    if not maps.requires_grad:
        raise ModelError("the layer passes no gradient to the input: it computes without autograd")
    own = maps.detach()
    chosen = channels(own)
    rows = torch.arange(len(own), device=own.device)
    found, peaks, places = [], [], []
    for rank in range(chosen.shape[1]):
        values = own[rows, chosen[:, rank]]
        peak, place = values.flatten(1).max(1)
        sent = torch.zeros_like(own)
        if start == "map":
            sent[rows, chosen[:, rank]] = values
        else:
            sent.flatten(2)[rows, chosen[:, rank], place] = peak
        (back,) = torch.autograd.grad(maps, seen, sent, retain_graph=rank + 1 < chosen.shape[1], allow_unused=True)
        if back is None:
            raise ModelError("the layer passes no gradient to the input, on which its maps do not depend")
        found.append(back)
        peaks.append(peak)
        places.append(torch.stack(torch.unravel_index(place, own.shape[2:]), 1))
    require_fired(rules)
    return Projections(torch.stack(found, 1), chosen, torch.stack(peaks, 1), torch.stack(places, 1))


def strongest(count: int, by: Literal["max", "mean"]) -> Callable[[Tensor], Tensor]:
    """The ``count`` channels of each element with the largest value or mean, the first of equals: for `project`."""

    def chosen(maps: Tensor) -> Tensor:
        flat = maps.flatten(2)
        strength = flat.amax(2) if by == "max" else flat.mean(2)
        order: Tensor = strength.argsort(dim=1, descending=True, stable=True)
        return order[:, :count]

    return chosen
