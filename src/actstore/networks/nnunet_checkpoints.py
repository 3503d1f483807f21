"""Reads nnU-Net's checkpoints, which hold NumPy scalars, without running code."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from actstore.errors import ModelError
from actstore.units import shown

#: What a NumPy scalar is pickled as, under the module name of NumPy 1 and of NumPy 2.
_SCALARS: tuple[Any, ...] = (
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")),
)


@contextlib.contextmanager
def numpy_scalars() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` read NumPy's scalars."""
    with torch.serialization.safe_globals(list(_SCALARS)):
        yield


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint.

    Raises
    ------
    ModelError
        if the file is unreadable, or names other globals than NumPy's scalars.
    """
    try:
        with numpy_scalars():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Not torch's own message, which advises weights_only=False.
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"holds pickled objects ({code[1]}) that would run code" if code else "is damaged, or no checkpoint"
        raise ModelError(f"{shown(path)}: {why}, and is not loaded; copy it again, or choose another") from error
    if not isinstance(content, dict):
        raise ModelError(f"{shown(path)}: holds a {type(content).__name__}, no checkpoint of nnU-Net")
    return content
