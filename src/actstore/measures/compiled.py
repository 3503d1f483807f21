"""What compiled loops over activations share: how they are compiled, and maps as one run of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Floats = NDArray[np.floating]
#: Values one after another; (sample, channel, condition, pixel); strides of the first three in values.
Run = tuple[Floats, tuple[int, ...], tuple[int, ...]]
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """``function`` in machine code, kept on disk for later processes where a folder for it is writable.

    Sums may be taken in any order, for which vector registers are used; NaN and infinities are kept.
    """
    return _machine(function, {"reassoc", "nsz", "arcp", "contract"})


def as_written(function: Function) -> Function:
    """As :func:`compiled`, but every operation is rounded as it is written."""
    return _machine(function, set())


def _machine(function: Function, fastmath: set[str]) -> Function:
    # A division by 0 gives NaN or infinity, as in NumPy: to look for one would take the vector registers away.
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        machine = numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder
        machine = numba.njit(function, **options)
    return cast(Function, machine)


def run_of(maps: Floats) -> Run:
    """Maps (sample, channel, condition, pixel), pixels contiguous, as one run of values with shape and strides."""
    strides = tuple(stride // maps.itemsize for stride in maps.strides[:3])
    last = sum((n - 1) * stride for n, stride in zip(maps.shape, strides, strict=False))
    values = as_strided(maps, (last + maps.shape[-1],), (maps.itemsize,), writeable=False)
    return values, maps.shape, strides
