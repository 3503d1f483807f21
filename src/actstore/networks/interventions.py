"""Edits channels of recorded layers during a pass: one hook a layer, another edit for each element of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from actstore.errors import ModelError
from actstore.networks.channels import channels_first
from actstore.networks.recording import forward_hooks, tensors
from actstore.store.schema import Layer


@dataclass(frozen=True)
class Intervention:
    """What is put into channels of one layer, for one element of a batch; one of ``values``, ``donor``, ``order``."""

    #: Of the batch.
    element: int
    #: int64 (channel)
    channels: Tensor
    #: (channel, \\*space), or of 1 along space: what is put in.
    values: Tensor | None = None
    #: The element of the batch whose maps are put in.
    donor: int | None = None
    #: int64 (channel, pixel): the pixel of its own map that each value comes from.
    order: Tensor | None = None
    #: bool (\\*space): where; everywhere if ``None``.
    where: Tensor | None = None

    def apply(self, maps: Tensor) -> None:
        """Change ``maps`` (element, channel, \\*space) in place."""
        own = maps[self.element]
        there = own[self.channels]
        if self.values is not None:
            found = self.values.to(there.dtype).expand_as(there)
        elif self.donor is not None:
            found = maps[self.donor][self.channels]
        else:
            assert self.order is not None
            found = there.flatten(1).gather(1, self.order).view_as(there)
        own[self.channels] = found if self.where is None else torch.where(self.where, found, there)


#: By the index of a layer, what is done to its maps, in this order.
Interventions = Mapping[int, Sequence[Intervention]]
#: Runs the network on inputs (element, input_channel, \\*space), with maps of layers edited on the way.
Edited = Callable[[Tensor, Interventions], Any]


@contextmanager
def intervening(model: nn.Module, layers: Sequence[Layer]) -> Iterator[Edited]:
    """Hook ``layers``. Yields a forward pass in which the maps of any of them are edited.

    What comes after a layer sees the edited maps and what came before does not: they are a copy of what the module
    returned. Only of a module that works in place on its own input the output itself is edited, since networks may go
    on with either. All hooks are gone when the context exits.

    Parameters
    ----------
    layers
        as `actstore.networks.recording.probe` lists them.

    Raises
    ------
    ModelError
        if a pass does not reach an edited layer, or it returns other shapes than in the trial pass.
    """
    index = {(layer.module, layer.call, layer.output): number for number, layer in enumerate(layers)}
    calls: Counter[str] = Counter()
    given: dict[str, list[tuple[Tensor, int]]] = {}
    wanted: Interventions = {}
    elements, reached = 0, set[int]()

    def before(path: str, arguments: Any) -> None:
        found = [tensor for _, tensor in tensors(arguments)]
        if any(tensor.is_inference() for tensor in found):
            raise ModelError(
                f"module {path!r} runs in torch.inference_mode, in which edits are not possible: take it out of the "
                "network's forward"
            )
        given[path] = [(tensor, tensor._version) for tensor in found]

    def hook(path: str, output: Any) -> Any:
        call = calls[path]
        calls[path] += 1
        own = {}
        for position, tensor in tensors(output):
            number = index.get((path, call, position))
            if number is not None and wanted.get(number):
                own[position] = _edited(tensor, layers[number], wanted[number], elements, given[path])
                reached.add(number)
        return _replaced(output, own, path) if own else None

    def forward(inputs: Tensor, interventions: Interventions) -> Any:
        nonlocal wanted, elements
        wanted, elements = interventions, len(inputs)
        calls.clear()
        reached.clear()
        # Inference mode counts no versions, which tell what works in place.
        with torch.no_grad():
            output = model(inputs)
        given.clear()
        for number in {number for number, some in interventions.items() if some} - reached:
            raise ModelError(
                f"layer {layers[number].label!r} is not reached by a pass: the network's control flow depends on its "
                "input, and the layer cannot be edited"
            )
        return output

    with forward_hooks(model, list(dict.fromkeys(layer.module for layer in layers)), hook, before=before):
        yield forward


def _edited(
    tensor: Tensor, layer: Layer, some: Sequence[Intervention], elements: int, given: Sequence[tuple[Tensor, int]]
) -> Tensor:
    """``tensor`` with the maps of ``some`` edited."""
    in_place = any(
        one._version != version and one.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        for one, version in given
    )
    found = tensor if in_place else tensor.clone()
    maps = channels_first(found) if layer.channels_last else found
    if maps.shape != (elements, layer.channels, *layer.space):
        raise ModelError(
            f"layer {layer.label!r} returned {tuple(tensor.shape)} for {elements} inputs, (batch, {layer.channels}, "
            f"{', '.join(map(str, layer.space))}) in the trial pass: its shapes depend on the input, and it cannot be "
            "edited"
        )
    if not found.is_floating_point():
        raise ModelError(
            f"layer {layer.label!r} returns whole numbers or truth values ({found.dtype}), which are not edited: leave "
            "it out of the intervention's layers"
        )
    for one in some:
        one.apply(maps)
    return found


def _replaced(output: Any, own: Mapping[str, Tensor], path: str, within: str = "") -> Any:
    """``output`` with other tensors at the positions of ``own``, which are those of `recording.tensors`."""
    if isinstance(output, Tensor):
        return own.get(within.removesuffix("."), output)
    if not any(name.startswith(within) for name in own):
        return output

    def entry(key: Any, value: Any) -> Any:
        return _replaced(value, own, path, f"{within}{key}.")

    if type(output) is dict:
        return {key: entry(key, value) for key, value in output.items()}
    if type(output) in (list, tuple):
        return type(output)(entry(i, value) for i, value in enumerate(output))
    if not isinstance(output, Mapping | list | tuple):
        return output
    raise ModelError(
        f"module {path!r} returns a {type(output).__name__}, which cannot be made again with an edited tensor: edit a "
        "module inside it, or let it return a tuple or dict"
    )
