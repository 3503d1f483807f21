"""Compares the outputs of two passes and finds the module where they begin to differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from actstore.networks.recording import forward_hooks, hookable, tensors

#: Differences up to this fraction of a layer's scale count as rounding: another batch size may change the order of
#: sums. Measured on a CPU in float32: 0 with convolutions, some 1e-6 with matrix products. Normalising a map that is
#: constant up to rounding amplifies that by up to 300. Real faults are far larger: 0.1 for batch statistics, 1 for
#: dropout.
ROUNDING = 1e-4
#: A value that more than this fraction of a tensor's entries share in both passes is a constant, such as one channel
#: without input among hundreds, or an attention mask. Its magnitude says nothing about the rounding of other values.
CONSTANT = 1e-3


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest magnitude in both tensors, ignoring constants.

    Infinite if only one value is finite, or shapes differ.
    """
    if a.shape != b.shape:
        return float("inf")
    if torch.equal(a, b):
        return 0.0
    same = (a == b) | ((a != a) & (b != b))
    if bool(same.all()):
        return 0.0
    a, b = a.double(), b.double()
    apart = (a - b).abs()[~same]
    if not bool(apart.isfinite().all()):
        return float("inf")
    shared = a[same].abs()
    differing = max(float(values[~same].abs().max()) for values in (a, b))
    scale = max(differing, _largest(shared[shared.isfinite()], max(1, int(CONSTANT * a.numel()))))
    return float(apart.max()) / scale


def _largest(magnitudes: Tensor, most: int) -> float:
    """The largest of ``magnitudes`` that at most ``most`` entries share, or 0."""
    if not magnitudes.numel():
        return 0.0
    largest = magnitudes.max()
    # Sorting takes 50 times as long as counting one value and is rarely needed.
    if int((magnitudes == largest).sum()) <= most:
        return float(largest)
    values, counts = torch.unique(magnitudes, return_counts=True)
    rare = values[counts <= most]
    return float(rare.max()) if rare.numel() else 0.0


def origin(model: nn.Module, alone: Tensor, other: nn.Module, batch: Tensor) -> str | None:
    """The innermost module that returns different numbers for the same input; ``None`` if none did this time.

    Runs ``alone`` through ``model``, and ``batch``, whose last input is the same, through ``other``.
    """
    one, two = _traced(model, alone), _traced(other, batch)
    for call in (call for call in one if call in two):
        (given, returned), (again, then) = one[call], two[call]
        if _alike(given, again) and not _alike(returned, then):
            return call[0]
    return None


def _traced(model: nn.Module, batch: Tensor) -> dict[tuple[str, int], tuple[list[Tensor], list[Tensor]]]:
    """A sample of each module call's inputs and outputs for the last of ``batch``, in the order in which calls end."""
    calls: Counter[str] = Counter()
    given: dict[str, list[list[Tensor]]] = {}
    seen: dict[tuple[str, int], tuple[list[Tensor], list[Tensor]]] = {}

    def before(path: str, arguments: Any) -> None:
        given.setdefault(path, []).append([_few(tensor) for _, tensor in tensors(arguments)])

    def after(path: str, output: Any) -> None:
        seen[path, calls[path]] = given[path].pop(), [_few(tensor) for _, tensor in tensors(output)]
        calls[path] += 1

    with torch.inference_mode(), forward_hooks(model, [*hookable(model), ""], after, before=before):
        model(batch)
    return seen


def _few(tensor: Tensor) -> Tensor:
    values = (tensor[-1] if tensor.ndim else tensor).detach().reshape(-1)
    return values[:: max(1, values.numel() // 2**14) | 1].clone()


def _alike(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) and all(relative_difference(x, y) <= ROUNDING for x, y in zip(a, b, strict=True))
