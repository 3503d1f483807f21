"""Precision and determinism of the network, which a network's own module may have set otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from actstore.networks.arithmetic import arithmetic

CPU = torch.device("cpu")
PRODUCTS, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn


@pytest.fixture
def newer() -> Iterator[list[Any]]:
    """What torch has beside ``allow_tf32``, restored in the end."""
    if not hasattr(PRODUCTS, "fp32_precision"):
        pytest.skip("this torch knows allow_tf32 only")
    settings: list[Any] = [PRODUCTS, CUDNN.conv, CUDNN.rnn]  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    yield settings
    for setting, value in zip(settings, before, strict=True):
        setting.fp32_precision = value


def test_settings_are_restored() -> None:
    before = PRODUCTS.allow_tf32, CUDNN.allow_tf32, CUDNN.deterministic, CUDNN.benchmark
    with arithmetic("float32", CPU):
        assert (PRODUCTS.allow_tf32, CUDNN.allow_tf32, CUDNN.deterministic, CUDNN.benchmark) == (
            *(False, False),
            *(True, False),
        )
    with arithmetic("tf32", CPU):
        assert PRODUCTS.allow_tf32
        assert CUDNN.allow_tf32
    with arithmetic("bf16", CPU):
        assert not PRODUCTS.allow_tf32
        assert torch.is_autocast_enabled("cpu")
    assert (PRODUCTS.allow_tf32, CUDNN.allow_tf32, CUDNN.deterministic, CUDNN.benchmark) == before


def test_a_network_may_have_set_what_replaces_them(newer: list[Any]) -> None:
    """Torch then refuses to read ``allow_tf32``."""
    chosen = ["tf32", "ieee", "tf32"]
    for setting, value in zip(newer, chosen, strict=True):
        setting.fp32_precision = value
    with pytest.raises(RuntimeError, match="allow_tf32"):
        _ = PRODUCTS.allow_tf32, CUDNN.allow_tf32
    for precision, expected in (("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")):
        with arithmetic(precision, CPU):
            assert [setting.fp32_precision for setting in newer] == [expected] * 3
        assert [setting.fp32_precision for setting in newer] == chosen
