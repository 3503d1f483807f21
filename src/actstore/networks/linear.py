"""Runs a network as a linear map that keeps only its geometry."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]

#: Functions that keep every value at its position; they become the identity.
SAME_GRID = {
    *("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "rrelu", "rrelu_", "elu", "elu_", "celu"),
    *("celu_", "selu", "selu_", "gelu", "silu", "silu_", "mish", "hardswish", "hardtanh", "hardtanh_"),
    *("softplus", "softsign", "tanh", "tanh_", "logsigmoid", "threshold", "threshold_", "clamp", "clamp_"),
    *("clamp_min", "clamp_min_", "clip", "instance_norm", "batch_norm", "group_norm", "layer_norm", "rms_norm"),
    *("local_response_norm", "dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
    *("feature_dropout", "feature_alpha_dropout"),
}
#: Functions that gate other values; the gates are opened.
GATES = {"sigmoid", "sigmoid_", "hardsigmoid"}
#: Functions that enlarge maps. A skip connection outweighs them by so much that a shift of a pixel has no effect.
ENLARGING = {"interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "pixel_shuffle"}
FAINT = 2.0**-40
#: Products of two maps, as in attention, and functions applied to the result before it is used as a weight.
PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}
SCORED = {
    *("add", "add_", "__iadd__", "sub", "sub_", "mul", "mul_", "__imul__", "div", "div_", "true_divide"),
    *("masked_fill", "masked_fill_"),
}
#: Interpolation modes whose centres lie on a line except at the edges, for all sizes.
STRAIGHT = {"linear", "bilinear", "trilinear", "bicubic"}
#: Reductions of the whole map, as in global pooling.
WHOLE = {"mean", "amax", "amin", "max", "min", "sum", "var", "std"}


class Linear(TorchFunctionMode):
    """While this mode is active, networks are linear and all their channels are equal.

    Convolutions weigh only the middle of their kernel, equally over all channels: this keeps the centre of any uniform
    kernel, and padding cannot cut it off. Transposed convolutions interpolate as far as their kernel reaches. Maximum
    pooling takes the mean. Normalisation and activations do nothing, gates are open, and results from the whole map
    (attention, global pooling) are 0, so that a pixel's position comes from its own path. Where a skip connection joins
    an upsampled map, only the skip connection counts: it is the finer map, and the other is often shifted against it,
    which training compensates.
    """

    def __init__(self, axes: int, *, lean: bool) -> None:
        """``axes``: spatial dims. ``lean``: channels share memory, which in-place operations do not support."""
        super().__init__()
        self.axes, self.lean = axes, lean
        #: Smallest size above one that any convolution returned along each axis.
        self.fewest = [math.inf] * axes
        #: Whether any resizing, such as adaptive pooling of 48 pixels to 7, is uneven along each axis.
        self.uneven = [False] * axes
        #: Maps resized unevenly along this axis become 1, so that an image of 0 reveals the layers that depend on them.
        self.shown: int | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name.startswith("conv") and name[4:].startswith(("1d", "2d", "3d", "_transpose")):
            return self._convolution(func, name, *args, **kwargs)
        if name in PRODUCTS:
            maps = [value for value in args if isinstance(value, Tensor)]
            if len(maps) > 1 and all(value.ndim > 2 for value in maps):
                shapes = [
                    value.new_empty(value.shape, device="meta") if isinstance(value, Tensor) else value
                    for value in args
                ]
                return _nothing(maps[0], func(*shapes, **kwargs).shape)
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor):
            return func(*args, **kwargs)
        if name in SAME_GRID:
            return x
        if name in (*SCORED, "softmax") and _is_nothing(x):
            others = [value.shape for value in args[1:] if name != "softmax" and isinstance(value, Tensor)]
            return _nothing(x, np.broadcast_shapes(x.shape, *others))
        if name in GATES:
            return torch.ones_like(x)
        if name in ("softmax", "log_softmax"):
            dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
            of_channels = self._is_map(x) and isinstance(dim, int) and dim % x.ndim == 1
            return x if of_channels else torch.zeros_like(x)
        if name == "scaled_dot_product_attention":
            value = args[2] if len(args) > 2 else kwargs["value"]
            return _nothing(value, (*value.shape[:-2], x.shape[-2], value.shape[-1]))
        if name == "multi_head_attention_forward":
            return torch.zeros_like(x), None
        if name == "linear":
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            return self._spread(self._mixed(x, -1), -1, weight.shape[0])
        if name in ("max_pool1d", "max_pool2d", "max_pool3d"):
            return _pooled(func, name, *args, **kwargs)
        if name in ENLARGING:
            found = self._resized(func, name, x, args, kwargs)
            return found * FAINT if found.shape[2:].numel() > x.shape[2:].numel() else found
        if name.startswith("adaptive_") and name[-2:] in ("1d", "2d", "3d"):
            found = self._resized(func, name, x, args, kwargs)
            return torch.zeros_like(found) if math.prod(found.shape[2:]) == 1 else found
        if name in WHOLE and self._is_map(x) and self._takes_all(x, *args[1:2], **kwargs):
            found = func(*args, **kwargs)
            return torch.ones_like(found) if name in ("var", "std") else torch.zeros_like(found)
        return func(*args, **kwargs)

    def _resized(self, func: Function, name: str, x: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
        """Result of adaptive pooling or interpolation; records axes with uneven centres."""
        found: Tensor = func(*args, **kwargs)
        method = args[3] if name == "interpolate" and len(args) > 3 else kwargs.get("mode")
        straight = name == "upsample_bilinear" or (method in STRAIGHT and not kwargs.get("antialias"))
        if straight or name == "pixel_shuffle" or not self._is_map(x):
            return found
        for axis, (before, after) in enumerate(zip(x.shape[2:], found.shape[2:], strict=True)):
            if after % before == 0:
                continue
            shape = [-1 if other == axis else 1 for other in range(self.axes)]
            ramp = torch.arange(before, dtype=torch.float64).reshape(shape).expand(1, 1, *x.shape[2:])
            given = {key: value for key, value in kwargs.items() if key != "input"}
            line = func(ramp, *args[1:], **given)[0, 0].movedim(axis, 0).reshape(after, -1)[:, 0]
            if after > 2 and (line.diff().max() - line.diff().min()) > 1e-9:
                self.uneven[axis] = True
                if self.shown == axis:
                    found = torch.ones_like(found)
        return found

    def _is_map(self, x: Tensor) -> bool:
        return x.ndim == self.axes + 2

    def _takes_all(self, x: Tensor, dim: Any = None, **kwargs: Any) -> bool:
        """Whether a reduction covers all of space but not channels."""
        dim = kwargs.get("axis", dim)
        dims = {d % x.ndim for d in ([dim] if isinstance(dim, int) else dim if isinstance(dim, Sequence) else [])}
        return dims == set(range(2, x.ndim))

    def _convolution(self, func: Function, name: str, x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.ndim != weight.ndim:
            found: Tensor = func(x, weight, *args, **kwargs)
            return found
        transposed = "transpose" in name
        names = ["bias", "stride", "padding", "dilation", "groups"]
        if transposed:
            names = ["bias", "stride", "padding", "output_padding", "groups", "dilation"]
        given = dict(zip(names, args, strict=False)) | kwargs
        groups = given.pop("groups", 1)
        given.pop("bias", None)
        axes = weight.ndim - 2
        stride, dilation = (_each(given.get(key, 1), axes) for key in ("stride", "dilation"))
        shape = zip(weight.shape[2:], stride if transposed else [1] * axes, dilation, strict=True)
        kernel = torch.ones((), dtype=x.dtype)
        for count, step, apart in shape:
            kernel = kernel[..., None] * torch.tensor(middle(count, step, apart), dtype=x.dtype)
        one = func(self._mixed(x, 1), kernel[None, None], None, **given)
        if axes == self.axes:
            seen = zip(self.fewest, one.shape[2:], strict=True)
            self.fewest = [min(least, n) if n > 1 else least for least, n in seen]
        if transposed:
            return self._spread(one * FAINT if max(stride) > 1 else one, 1, weight.shape[1] * groups)
        return self._spread(one, 1, weight.shape[0])

    @staticmethod
    def _mixed(x: Tensor, dim: int) -> Tensor:
        return x.narrow(dim, 0, 1) if x.stride(dim) == 0 else x.mean(dim, keepdim=True)

    def _spread(self, x: Tensor, dim: int, channels: int) -> Tensor:
        shape = list(x.shape)
        shape[dim] = channels
        wide = x.expand(shape)
        return wide if self.lean else wide.contiguous()


def _nothing(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Zeros that use no memory, since attention needs pixels squared of them."""
    return like.new_zeros(()).expand(tuple(shape))


def _is_nothing(x: Tensor) -> bool:
    return x.ndim > 2 and x.numel() > 1 and not any(x.stride())


def _each(value: Any, axes: int) -> Sequence[int]:
    return [value] * axes if isinstance(value, int) else list(value) * (axes if len(value) == 1 else 1)


def middle(count: int, stride: int = 1, dilation: int = 1) -> list[float]:
    """Weights of a kernel's taps along one axis, nonzero at its middle.

    With the ``stride`` of a transposed convolution, weights of linear interpolation as far as the kernel reaches. They
    map a constant to the same constant.
    """
    taps = [k * dilation for k in range(count)]
    centre = taps[-1] / 2
    reach = max(stride, dilation)
    weights = [max(0.0, 1 - abs(tap - centre) / reach) for tap in taps]
    sums: dict[int, float] = {}
    for tap, weight in zip(taps, weights, strict=True):
        phase = tap % stride
        sums[phase] = sums.get(phase, 0.0) + weight
    return [w / sums[tap % stride] if sums[tap % stride] else 0.0 for tap, w in zip(taps, weights, strict=True)]


def _pooled(
    func: Function,
    name: str,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    **kwargs: Any,
) -> Any:
    if return_indices or any(n != 1 for n in _each(dilation, 3)):
        return func(x, kernel_size, stride, padding, dilation, ceil_mode, **kwargs)
    average: Function = getattr(functional, name.replace("max", "avg"))
    return average(x, kernel_size, stride or None, padding, ceil_mode=ceil_mode, count_include_pad=False)


def _same(x: Any, *_: Any, **__: Any) -> Any:
    return x


def geometry_of(model: nn.Module) -> nn.Module:
    """A float64 copy of a network to run within :class:`Linear`.

    Parameters outside convolutions and linear layers become uniform. Leaf modules named as normalisation become the
    identity, even if they compute it by hand.
    """
    copied = copy.deepcopy(model).cpu().double().eval()
    with torch.no_grad():
        for name, values in (*copied.named_parameters(), *copied.named_buffers()):
            if values.is_floating_point():
                zero = values.ndim < 2 and name.endswith(("bias", "running_mean"))
                values.fill_(0.0 if zero else 1.0 if values.ndim < 2 else 1 / values[0].numel())
    for module in copied.modules():
        if "norm" in type(module).__name__.lower() and not any(True for _ in module.children()):
            module.forward = partial(_same)
    return copied
