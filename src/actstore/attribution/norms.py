"""Norms that keep the mean and spread of a pass: affine maps, forwards as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_INSTANCE = {functional.instance_norm, torch.instance_norm}
_BATCH = {functional.batch_norm, torch.batch_norm}
_GROUP = {functional.group_norm, torch.group_norm}
_RMS = {functional.rms_norm, torch.rms_norm}
_LAYER = {functional.layer_norm, torch.layer_norm}


class _Affine(torch.autograd.Function):
    """Forwards the norm's own values, backwards its scale alone."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, compute: Callable[[], Tensor], scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        found = compute()
        # A view of what nobody else has, as instance norm returns it, could not be changed in place behind this.
        return found.new_empty(0).set_(found.untyped_storage(), found.storage_offset(), found.shape, found.stride())

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        (scale,) = ctx.saved_tensors
        return upstream[0] * scale, None, None


def frozen_norm(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """What a call of a norm returns, its mean and spread taken as constants on the way back.

    ``None`` of any other function, and of norms whose mean and spread are constants already.
    """
    scale = _scale(func, args, kwargs)
    if scale is None:
        return None
    given = args[0] if args else kwargs["input"]
    found: Tensor = _Affine.apply(given, lambda: func(*args, **kwargs), scale)  # type: ignore[no-untyped-call]
    return found


@torch.no_grad()
def _scale(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """By what a norm multiplies, broadcast against its input; ``None`` where its spread is not of this pass."""
    if func in _INSTANCE | _BATCH:
        name, default = ("use_input_stats", True) if func in _INSTANCE else ("training", False)
        if not _argument(args, kwargs, 5, name, default):
            return None
        at = 3 if func in (functional.instance_norm, functional.batch_norm) else 1
        given, weight = _given(args, kwargs), _argument(args, kwargs, at, "weight", None)
        first = () if func in _INSTANCE else (0,)
        return _over(given, (*first, *range(2, given.ndim)), _eps(args, kwargs, 7)) * _per_channel(weight, given)
    if func in _GROUP:
        given, groups = _given(args, kwargs), _argument(args, kwargs, 1, "num_groups", 1)
        weight, eps = _argument(args, kwargs, 2, "weight", None), _eps(args, kwargs, 4)
        spread = _over(given.reshape(len(given), groups, -1), (2,), eps)
        each = spread.repeat_interleave(given.shape[1] // groups, dim=1).reshape(
            *given.shape[:2], *[1] * (given.ndim - 2)
        )
        return each * _per_channel(weight, given)
    if func in _RMS:
        given, shape = _given(args, kwargs), _argument(args, kwargs, 1, "normalized_shape", ())
        weight, eps = _argument(args, kwargs, 2, "weight", None), _argument(args, kwargs, 3, "eps", None)
        dims = tuple(range(given.ndim - len(tuple(shape)), given.ndim))
        least = torch.finfo(given.dtype).eps if eps is None else float(eps)
        spread = torch.rsqrt(given.square().mean(dims, keepdim=True) + least)
        return spread if weight is None else spread * weight
    if func in _LAYER:
        given, shape = _given(args, kwargs), _argument(args, kwargs, 1, "normalized_shape", ())
        weight, eps = _argument(args, kwargs, 2, "weight", None), _eps(args, kwargs, 4)
        spread = _over(given, tuple(range(given.ndim - len(tuple(shape)), given.ndim)), eps)
        return spread if weight is None else spread * weight
    return None


def _over(given: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    return torch.rsqrt(given.var(dims, correction=0, keepdim=True) + eps)


def _per_channel(weight: Tensor | None, given: Tensor) -> Tensor:
    return given.new_ones(()) if weight is None else weight.reshape(-1, *[1] * (given.ndim - 2))


def _given(args: Any, kwargs: Any) -> Tensor:
    found: Tensor = args[0] if args else kwargs["input"]
    return found


def _eps(args: Any, kwargs: Any, position: int) -> float:
    return float(_argument(args, kwargs, position, "eps", 1e-5))


def _argument(args: Any, kwargs: Any, position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)
