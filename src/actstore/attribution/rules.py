"""Rules of the way back through a network: of activations and of norms. All else is autograd's, which is exact.

Convolutions, pooling and skip connections go back by their adjoints. Activations and norms are met as functions are
called, so that modules, functions, forms that work in place and modules that are used twice are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from actstore.attribution.norms import frozen_norm
from actstore.errors import ModelError

Method = Literal["gradient", "guided", "deconvnet"]
Norm = Literal["frozen", "autograd"]

#: Functions that return 0 for all that is negative.
_RELU = {torch.relu, torch.relu_, functional.relu, functional.relu_, Tensor.relu, Tensor.relu_}
_LEAKY = {functional.leaky_relu, functional.leaky_relu_, torch._C._nn.leaky_relu, torch._C._nn.leaky_relu_}
_PRELU = {functional.prelu, torch.prelu, Tensor.prelu}
#: A ReLU if the lower bound is 0 and there is no upper one.
_CLAMP = {torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, torch.clip, Tensor.clip, Tensor.clip_}
_CLAMP_MIN = {torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_}
_MAXIMUM = {torch.maximum, Tensor.maximum, torch.fmax, Tensor.fmax, torch.max, Tensor.max}
_THRESHOLD = {functional.threshold, torch.threshold, torch.threshold_}
#: Working in place by their name, or by an argument at a position.
_IN_PLACE = {
    *(torch.relu_, functional.relu_, Tensor.relu_, functional.leaky_relu_, torch._C._nn.leaky_relu_),
    *(torch.clamp_, Tensor.clamp_, Tensor.clip_, torch.clamp_min_, Tensor.clamp_min_),
    torch.threshold_,
}
_IN_PLACE_AT = {functional.relu: 1, functional.leaky_relu: 2, functional.threshold: 3, functional.rrelu: 4}
#: Held constant: what they return weighs something else.
_GATES = {
    *(torch.sigmoid, torch.sigmoid_, functional.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, functional.hardsigmoid),
    *(torch.softmax, functional.softmax, Tensor.softmax, torch.special.expit),
}
#: Attention in one function, with a softmax inside.
_ATTENTION = {
    functional.scaled_dot_product_attention: "scaled_dot_product_attention",
    functional.multi_head_attention_forward: "MultiheadAttention",
    torch._native_multi_head_attention: "MultiheadAttention",
    torch._transformer_encoder_layer_fwd: "TransformerEncoderLayer",
}
_CURVED_NAMES = (
    *("elu", "elu_", "selu", "selu_", "celu", "celu_", "gelu", "silu", "mish", "softplus", "hardswish", "relu6"),
    *("hardtanh", "hardtanh_", "tanh", "softsign", "logsigmoid", "softshrink", "hardshrink", "tanhshrink", "glu"),
)
#: Activations for which twice the input is not twice the output: what comes back of them is no part of the input.
_CURVED = {getattr(functional, name): name for name in _CURVED_NAMES if hasattr(functional, name)}
_CURVED |= dict.fromkeys((torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_), "tanh")
_CURVED |= dict.fromkeys((torch.exp, torch.exp_, Tensor.exp, Tensor.exp_), "exp")
_CURVED |= {torch.selu: "selu", torch.selu_: "selu", torch.celu: "celu", torch.celu_: "celu"}


class _Activation(torch.autograd.Function):
    """A piecewise linear activation: forwards its own values, backwards by a rule."""

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, compute: Callable[[], Tensor], slope: Any, in_place: bool, rules: Rules
    ) -> Tensor:
        ctx.rules = rules
        if rules.method == "guided":
            # Before it is changed in place.
            ctx.save_for_backward(given > 0)
            ctx.slope = slope
        if in_place:
            ctx.mark_dirty(given)
            compute()
            return given
        return compute()

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        ctx.rules.fired += 1
        back = upstream[0].clamp_min(0)
        if ctx.rules.method == "guided":
            (on,) = ctx.saved_tensors
            back = torch.where(on, back, back * ctx.slope)
        return back, None, None, None, None


class Rules(TorchFunctionMode):
    """While active, calls of activations and norms are replaced by ones with other ways back.

    Parameters
    ----------
    method
        "gradient": each activation's own derivative; "guided": that, of what is positive upstream; "deconvnet": what is
        positive upstream, whatever the activation was given.
    norm
        "frozen": norms keep the mean and spread of this pass, so that they are affine; "autograd": both are
        differentiated too.
    """

    def __init__(self, method: Method, norm: Norm) -> None:
        super().__init__()
        for name, value, known in (("method", method, get_args(Method)), ("norm", norm, get_args(Norm))):
            if value not in known:
                raise ValueError(f"{name} = {value!r}: give {', '.join(map(repr, known))}")
        self.method, self.norm = method, norm
        #: How often the rule of activations was met on a way back.
        self.fired = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.norm == "frozen" and (found := frozen_norm(func, args, kwargs)) is not None:
            return found
        if self.method == "gradient":
            return func(*args, **kwargs)
        if func in _GATES:
            return func(*args, **kwargs).detach()
        if func in _ATTENTION:
            raise ModelError(
                f"the network uses {_ATTENTION[func]}, whose softmax {self.method!r} cannot hold constant: use "
                'method = "gradient" or "occlusion"'
            )
        if func in _CURVED:
            raise ModelError(
                f"the network uses {_CURVED[func]}, and {self.method!r} is for ReLU, leaky ReLU and PReLU alone: use "
                'method = "gradient" or "occlusion"'
            )
        if (slope := _slope(func, args, kwargs)) is None:
            return func(*args, **kwargs)
        return self._activated(func, args, kwargs, slope)

    def _activated(self, func: Any, args: Any, kwargs: Any, slope: Any) -> Any:
        given = args[0] if args else kwargs["input"]
        if func in _MAXIMUM and _is_zero(given):
            given = _argument(args, kwargs, 1, "other", None)
        at = _IN_PLACE_AT.get(func)
        in_place = func in _IN_PLACE or (at is not None and bool(_argument(args, kwargs, at, "inplace", False)))

        def compute() -> Any:
            return func(*args, **kwargs)

        return _Activation.apply(given, compute, slope, in_place, self)  # type: ignore[no-untyped-call]


def _slope(func: Any, args: Any, kwargs: Any) -> Any:
    """The slope below 0 of a piecewise linear activation, a number or a tensor; ``None`` of any other function."""
    if _is_relu(func, args, kwargs):
        return 0.0
    if func in _LEAKY:
        return _argument(args, kwargs, 1, "negative_slope", 0.01)
    if func in _PRELU:
        given, weight = _argument(args, kwargs, 0, "input", None), _argument(args, kwargs, 1, "weight", None)
        channels = weight.detach() if weight.numel() == 1 else weight.detach().reshape(-1, *[1] * (given.ndim - 2))
        return channels
    if func in (functional.rrelu, torch.rrelu) and not _argument(args, kwargs, 3, "training", False):
        return (_argument(args, kwargs, 1, "lower", 1 / 8) + _argument(args, kwargs, 2, "upper", 1 / 3)) / 2
    return None


def _is_relu(func: Any, args: Any, kwargs: Any) -> bool:
    if func in _RELU:
        return True
    # Of two tensors: the others reduce one.
    if func in _MAXIMUM and isinstance(other := _argument(args, kwargs, 1, "other", None), Tensor):
        return _is_zero(other) or _is_zero(_argument(args, kwargs, 0, "input", None))
    if func in _CLAMP_MIN:
        return _is_zero(_argument(args, kwargs, 1, "min", None))
    if func in _CLAMP:
        return _is_zero(_argument(args, kwargs, 1, "min", None)) and _is_no_bound(
            _argument(args, kwargs, 2, "max", None)
        )
    if func in _THRESHOLD:
        return _is_zero(_argument(args, kwargs, 1, "threshold", None)) and _is_zero(
            _argument(args, kwargs, 2, "value", None)
        )
    return False


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return isinstance(value, int | float) and value == 0


def _is_no_bound(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value == math.inf)


def _argument(args: Any, kwargs: Any, position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


@contextmanager
def ruled(method: Method, norm: Norm) -> Iterator[Rules]:
    """Passes inside go back by the rules. Yields them; on exit, `Rules.fired` says whether any activation was met.

    Raises
    ------
    ModelError
        if an activation is met that the method is not for.
    """
    with Rules(method, norm) as rules:
        yield rules


def require_fired(rules: Rules) -> None:
    """Refuse a way back on which no activation was met: it is the plain gradient under another name.

    Raises
    ------
    ModelError
        naming the method.
    """
    if rules.method != "gradient" and not rules.fired:
        raise ModelError(
            f"{rules.method!r} met no ReLU, leaky ReLU or PReLU between the input and what is explained, and would "
            'return the plain gradient: use method = "gradient", or a layer behind an activation'
        )
