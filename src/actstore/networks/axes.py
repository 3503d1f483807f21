"""Follows which axis of each tensor holds the channels while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]

#: Normalisations over space, or over groups of channels: channels are axis 1.
NORMS = {"batch_norm", "instance_norm", "group_norm"}
#: Normalisations over the last axes; over one alone, that axis holds the features.
LAST_NORMS = {"layer_norm", "rms_norm"}
#: Functions that keep channels where they are, as axis 1 if nothing else is known.
RESIZES = {"interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "grid_sample"}
#: Functions that move axes or insert some, but never merge or split any.
MOVES = {
    *("permute", "transpose", "transpose_", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint"),
    *("unsqueeze", "__get__"),
}
#: Functions that merge or split axes in their order.
RESHAPES = {"reshape", "view", "flatten", "unflatten", "ravel", "reshape_as", "view_as", "squeeze"}
PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm", "einsum", "tensordot"}
#: Sizes that tell axes apart, more than any network has axes.
DISTINCT = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_MARK = "_actstore_axes"


class AxisGroup:
    """Tensors whose channels lie on the same axis, since functions connect them that move none."""

    __slots__ = ("_joined", "_of_products", "_seen")

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._of_products = False
        self._joined: AxisGroup | None = None

    @property
    def axes(self) -> frozenset[int]:
        """Axes that operations took for that of the channels: one, none if unknown, several if they contradict."""
        return frozenset(self.root._seen)

    @property
    def of_products(self) -> bool:
        """Whether some of the tensors are products of two maps, such as the weights of attention."""
        return self.root._of_products

    @property
    def root(self) -> AxisGroup:
        """The group that stands for all groups that this one was joined with."""
        group = self
        while group._joined is not None:
            group = group._joined
        return group

    def add(self, axes: Iterable[int], *, of_products: bool = False) -> None:
        self.root._seen.update(axes)
        self.root._of_products |= of_products

    def join(self, other: AxisGroup) -> None:
        mine, theirs = self.root, other.root
        if mine is not theirs:
            mine.add(theirs._seen, of_products=theirs._of_products)
            theirs._joined = mine


class ChannelAxes(TorchFunctionMode):
    """While this mode is active, it follows the channels' axis through all of torch's functions.

    Convolutions and normalisations over space have channels at axis 1, linear maps and normalisations over one axis at
    the last. Moving, merging and splitting axes is followed, everything else keeps axes where they are. What an
    operation says about its input counts for all tensors that are connected with it, also those computed before.
    Results of code that bypasses these functions, such as TorchScript, count as unknown until an operation takes them.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        #: Weights have no channels in this sense, and several layers may share them.
        self._weights = {id(value) for value in chain(model.parameters(), model.buffers())}
        self._key = object()

    def group(self, tensor: Tensor) -> AxisGroup:
        """The group of ``tensor``."""
        key, group = getattr(tensor, _MARK, (None, None))
        if key is not self._key or group is None:
            group = AxisGroup()
            # An attribute lives as long as the tensor and keeps it no longer.
            setattr(tensor, _MARK, (self._key, group))
        return group

    def __torch_function__(
        self, func: Function, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = [value for value in _flat(result) if self._is_map(value)]
        if outputs:
            name = getattr(func, "__name__", "")
            inputs = [value for value in _flat((*args, *kwargs.values())) if self._is_map(value)]
            with suppress(Exception):  # after an unusual call, results count as unknown
                self._follow(func, name, args, kwargs, inputs, outputs)
        return result

    def _is_map(self, value: Tensor) -> bool:
        return value.ndim > 2 and not value.is_nested and id(value) not in self._weights

    def _follow(
        self,
        func: Function,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        inputs: list[Tensor],
        outputs: list[Tensor],
    ) -> None:
        first, last = (inputs[0] if inputs else None), outputs[0].ndim - 1
        dims = _dims(name)
        if first is not None and name.startswith("conv") and dims:
            self.group(first).add([first.ndim - dims - 1])
            self.group(outputs[0]).add([last - dims])
        elif first is not None and name in ("pixel_shuffle", "pixel_unshuffle"):
            self.group(first).add([first.ndim - 3])
            self.group(outputs[0]).add([last - 2])
        elif name in ("fold", "unfold") and not hasattr(func, "__objclass__"):  # but not Tensor.unfold
            self.group(outputs[0]).add([1])
        elif first is not None and (name in NORMS or name in RESIZES or ("pool" in name and dims)):
            if name in NORMS or not self.group(first).axes:
                self.group(first).add([1 if not dims else first.ndim - dims - 1])
            self._join(inputs[:1], outputs)
        elif first is not None and (name == "linear" or (name in PRODUCTS and self._by_matrix(name, args))):
            self._mix(first, outputs[0])
        elif name in PRODUCTS:
            both = len(inputs) > 1
            self.group(outputs[0]).add((), of_products=both)
        elif name in LAST_NORMS:
            shape = args[1] if len(args) > 1 else kwargs.get("normalized_shape", ())
            if len(shape) == 1:
                self.group(outputs[0]).add([last])
            self._join(inputs[:1], outputs)
        elif name in ("embedding", "multi_head_attention_forward"):
            self.group(outputs[0]).add([last])
        elif first is not None and name in MOVES:
            self._move(func, args, kwargs, first, outputs[0])
        elif first is not None and name in RESHAPES:
            self._reshape(first, outputs[0])
        else:
            self._join(inputs, outputs)

    def _by_matrix(self, name: str, args: Sequence[Any]) -> bool:
        """Whether a product multiplies the last axis of a map by a matrix, as a linear layer does."""
        return name in ("matmul", "__matmul__") and len(args) > 1 and isinstance(args[1], Tensor) and args[1].ndim == 2

    def _join(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """Connect tensors of equally many axes."""
        for output in outputs:
            for value in inputs:
                known = getattr(value, _MARK, (None,))[0] is self._key
                if value.ndim == output.ndim and (known or value.shape == output.shape):
                    self.group(value).join(self.group(output))

    def _mix(self, value: Tensor, output: Tensor) -> None:
        """Follow a linear map of the last axis, which mixes positions if the channels lie elsewhere."""
        group, last = self.group(value), value.ndim - 1
        if not group.axes:
            group.add([last])
        self.group(output).add(group.axes)

    def _move(
        self, func: Function, args: Sequence[Any], kwargs: Mapping[str, Any], value: Tensor, output: Tensor
    ) -> None:
        """Follow moved axes by moving some of distinct sizes."""
        sizes = DISTINCT[: value.ndim]
        stand_in = torch.empty(sizes, device="meta")
        moved = func(
            *(stand_in if item is value else item for item in args),
            **{key: stand_in if item is value else item for key, item in kwargs.items()},
        )
        if sorted(moved.shape) == sorted((*sizes, *[1] * (output.ndim - value.ndim))):
            self._connect(value, output, {axis: tuple(moved.shape).index(n) for axis, n in enumerate(sizes)})

    def _reshape(self, value: Tensor, output: Tensor) -> None:
        """Follow axes with equal sizes before or behind them up to the ends: reshaping leaves these as they are."""
        before, after = tuple(value.shape), tuple(output.shape)
        kept: dict[int, int] = {}
        for axis in range(len(before)):
            behind = axis + len(after) - len(before)
            places = {
                *([axis] if before[: axis + 1] == after[: axis + 1] else []),
                *([behind] if behind >= 0 and before[axis:] == after[behind:] else []),
            }
            if len(places) == 1:
                kept[axis] = places.pop()
        self._connect(value, output, kept)

    def _connect(self, value: Tensor, output: Tensor, places: Mapping[int, int]) -> None:
        """Let ``output`` have the channels of ``value``, whose axes lie at ``places``."""
        if output.ndim == value.ndim and all(places.get(axis) == axis for axis in range(value.ndim)):
            self._join([value], [output])
        group = self.group(value)
        self.group(output).add([places[axis] for axis in group.axes if axis in places], of_products=group.of_products)


def _flat(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _flat(value)


def _dims(name: str) -> int:
    """Spatial dims in the name of a function such as ``conv3d``, or 0."""
    return next((dims for dims in (1, 2, 3) if f"{dims}d" in name), 0)
