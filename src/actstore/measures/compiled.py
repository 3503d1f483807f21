"""Compilation of loops over activations, and views of maps as flat arrays."""

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
    """Compile ``function``, with a cache on disk if a writable folder exists.

    Sums may be reordered so that they vectorise; NaN and infinities are handled correctly.
    """
    return _machine(function, {"reassoc", "nsz", "arcp", "contract"})


def inlined(function: Function) -> Function:
    """Compile ``function`` as a part of each :func:`compiled` one that calls it, and not by itself.

    As a function of its own it would be vectorised in another way than its copy in the caller, and a process that
    compiles would use the one, a process that loads from the cache the other: sums would differ in their last bits.
    """
    return cast(Function, numba.njit(function, inline="always"))


def as_written(function: Function) -> Function:
    """Like :func:`compiled`, but every operation is rounded in the order of the source."""
    return _machine(function, set())


def _machine(function: Function, fastmath: set[str]) -> Function:
    # Division by 0 gives NaN or infinity, as in NumPy; a check for it would prevent vectorisation.
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        machine = numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder
        machine = numba.njit(function, **options)
    return cast(Function, machine)


def run_of(maps: Floats) -> Run:
    """Maps (sample, channel, condition, pixel) with contiguous pixels, as a flat array with shape and strides."""
    strides = tuple(stride // maps.itemsize for stride in maps.strides[:3])
    last = sum((n - 1) * stride for n, stride in zip(maps.shape, strides, strict=False))
    values = as_strided(maps, (last + maps.shape[-1],), (maps.itemsize,), writeable=False)
    return values, maps.shape, strides
