"""Context managers that set torch's threads and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads, and restore the old number on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Let the network compute in ``precision``, the same bits for the same input.

    float32 is exact even on GPUs that default to TF32.
    """
    with (
        _repeatable(),
        _tf32(precision == "tf32"),
        torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
    ):
        yield


@contextmanager
def _repeatable() -> Iterator[None]:
    """Let cuDNN take algorithms that add in one order, and not those that were fastest just now."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    newer: list[Any] = []
    try:
        before = products.allow_tf32, convolutions.allow_tf32
    except RuntimeError:
        # A network set what torch has since 2.9 instead; it then refuses to read these.
        newer = [products, convolutions.conv, convolutions.rnn]  # type: ignore[attr-defined]
        chosen = [setting.fp32_precision for setting in newer]
        for setting in newer:
            setting.fp32_precision = "tf32" if allowed else "ieee"
    else:
        products.allow_tf32 = convolutions.allow_tf32 = allowed
    try:
        yield
    finally:
        if newer:
            for setting, value in zip(newer, chosen, strict=True):
                setting.fp32_precision = value
        else:
            products.allow_tf32, convolutions.allow_tf32 = before
