"""Passes that end at one layer, and what its map says about whether it can be maximised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from actstore.errors import ModelError
from actstore.networks.channels import channels_first
from actstore.networks.heads import Head
from actstore.networks.recording import forward_hooks, tensors
from actstore.store.schema import Layer

#: Functions that return 0 for all that is negative, with those that work in place.
RECTIFIERS = {torch.relu, torch.relu_, functional.relu, functional.relu6, Tensor.relu, Tensor.relu_}
_IN_PLACE = {torch.relu_, Tensor.relu_}
#: Position of the argument that makes a function work in place.
_IN_PLACE_AT = {functional.relu: 1, functional.relu6: 1, functional.hardtanh: 3}
#: Functions of single values: what they return of a normalised map is bounded as that map is.
ACTIVATIONS = {
    *RECTIFIERS,
    *(functional.leaky_relu, torch.prelu, functional.elu, functional.selu, functional.celu, functional.gelu),
    *(
        functional.silu,
        functional.mish,
        functional.hardtanh,
        functional.hardswish,
        functional.softplus,
        functional.dropout,
    ),
    *(functional.dropout2d, functional.dropout3d, torch.sigmoid, Tensor.sigmoid, torch.tanh, Tensor.tanh),
}
_NORMALISED = "_actstore_normalised"


@dataclass(frozen=True)
class Maps:
    """What a layer returned."""

    #: (element, channel, \\*space)
    values: Tensor
    #: What the ReLU at the layer's end was given, if it ends with one.
    before: Tensor | None = None
    #: Whether each map, or each group of maps, was normalised by a mean and spread of its own, with nothing but an
    #: activation behind that.
    normalised: bool = False


#: Runs a network on images (element, input_channel, \\*space) up to a layer.
Reach = Callable[[Tensor], Maps]


class _Reached(Exception):
    """Ends a forward pass at the layer."""


class _Frozen(TorchFunctionMode):
    """While active, a PReLU of one weight without a gradient runs as a leaky ReLU.

    Its values are the same bits; backwards, torch's PReLU computes the gradient of its weight in any case, which took a
    fifth of a pass.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.prelu and not kwargs and len(args) == 2:
            given, weight = args
            if weight.numel() == 1 and not weight.requires_grad and weight.device.type == "cpu":
                return functional.leaky_relu(given, weight.item())
        return func(*args, **(kwargs or {}))


class _Followed(TorchFunctionMode):
    """While active, notes what the last ReLU was given and returned, and which tensors are normalised maps."""

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[Tensor, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = args[0] if args else kwargs.get("input")
        if func in RECTIFIERS or (func is functional.hardtanh and _argument(args, kwargs, 1, "min_val", -1.0) == 0):
            in_place = func in _IN_PLACE or (
                func in _IN_PLACE_AT and _argument(args, kwargs, _IN_PLACE_AT[func], "inplace", False)
            )
            before = given.clone() if in_place else given
            returned = func(*args, **kwargs)
            self.last = before, returned
        else:
            returned = func(*args, **kwargs)
        if _normalises(func, args, kwargs) or (func in ACTIVATIONS and getattr(given, _NORMALISED, False)):
            setattr(returned, _NORMALISED, True)
        return returned


def _normalises(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call gives one mean and one spread to what holds whole maps: each map, a group of maps, all of them."""
    if func in (functional.instance_norm, torch.instance_norm):
        return bool(_argument(args, kwargs, 5, "use_input_stats", True))
    if func in (functional.layer_norm, torch.layer_norm):
        # Over channels alone the bound of a position has nothing to do with the size of the image.
        return bool(len(_argument(args, kwargs, 1, "normalized_shape", ())) == args[0].ndim - 1)
    return func in (functional.group_norm, torch.group_norm)


def _argument(args: Any, kwargs: Any, position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


@contextmanager
def reaching(model: nn.Module, layer: Layer, *, follow: bool = True) -> Iterator[Reach]:
    """Hook a layer. Yields a forward pass that ends there.

    Parameters
    ----------
    layer
        as `actstore.networks.recording.probe` lists it.
    follow
        whether to look for a ReLU at its end, and for norms before it.

    Raises
    ------
    ModelError
        if a pass does not reach the layer, or it returns another number of channels.
    """
    found: Tensor | None = None
    calls = 0

    def hook(path: str, output: Any) -> None:
        nonlocal found, calls
        if calls == layer.call:
            found = dict(tensors(output)).get(layer.output)
            raise _Reached
        calls += 1

    def reach(images: Tensor) -> Maps:
        nonlocal found, calls
        found, calls = None, 0
        mode = _Followed() if follow else None
        try:
            with mode or nullcontext(), _Frozen():
                model(images)
        except _Reached:
            pass
        if found is None:
            raise ModelError(
                f"layer {layer.label!r} is not reached by a forward pass on images of "
                f"({', '.join(map(str, images.shape[1:]))}): choose another layer, or the size of the network's input"
            )
        ended = mode.last if mode is not None and mode.last is not None and mode.last[1] is found else None
        place = channels_first if layer.channels_last else _as_it_is
        values = place(found)
        if values.shape[:2] != (len(images), layer.channels):
            raise ModelError(
                f"layer {layer.label!r} returns {tuple(values.shape)} for {len(images)} images, {layer.channels} "
                "channels each in the trial pass: its shapes depend on the input, which cannot be maximised"
            )
        return Maps(values, None if ended is None else place(ended[0]), getattr(found, _NORMALISED, False))

    with forward_hooks(model, [layer.module], hook):
        yield reach


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@contextmanager
def predicting(model: nn.Module, head: Head) -> Iterator[Reach]:
    """A forward pass to the logits, (element, class, \\*space), for the objective "class"."""

    def reach(images: Tensor) -> Maps:
        with _Frozen():
            return Maps(head.logits(model(images)))

    yield reach
