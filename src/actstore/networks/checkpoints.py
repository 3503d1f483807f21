"""Reads files of weights without running Python that they hold."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actstore.errors import ModelError, one_line

SAVE = "save a plain state dict with torch.save(model.state_dict(), …) or as safetensors"
#: What torch's message calls something that a file would have called or built.
_REFUSED = re.compile(r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>|function <?(?:class |built-in function )?'?([\w.]+)")


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """All entries of a torch checkpoint, on the CPU, without running anything in it.

    Takes NumPy's scalars beside what ``weights_only`` allows, since nnU-Net's logs and schedulers hold some.

    Raises
    ------
    ModelError
        if the file is missing, unreadable, no mapping, or names any other function or class, which it then names.
    """
    _check_readable(path)
    content = load_pickled(path)
    if not isinstance(content, Mapping):
        raise ModelError(f"weights {path} hold a {type(content).__name__} instead of a dict of entries: {SAVE}")
    return content


def read_file(path: Path) -> Any:
    """The content of a safetensors file, of a torch checkpoint, or the state dict of a TorchScript file.

    Raises
    ------
    ModelError
        as `read_checkpoint`.
    """
    _check_readable(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_script(path) if _is_script(path) else load_pickled(path)


def load_pickled(path: Path) -> Any:
    """What ``torch.load`` gives with ``weights_only`` and NumPy's scalars.

    Raises
    ------
    ModelError
        if the file is damaged or needs code to load.
    """
    # Hide torch's message about a refused file, since it advises weights_only=False.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.serialization.safe_globals(_numpy_globals()):
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            named = _REFUSED.search(str(error))
            if isinstance(error, pickle.UnpicklingError) and named:
                what = next(filter(None, named.groups()))
                raise ModelError(
                    f"weights {path} hold pickled objects ({what}) that would run code, and are not loaded: {SAVE}"
                ) from error
            raise ModelError(
                f"weights {path} are not a torch checkpoint that loads without running code, or a damaged one: "
                f"fetch the file again, or {SAVE}"
            ) from error


def _numpy_globals() -> list[Any]:
    """What pickled NumPy scalars name: the function that makes them, also by NumPy 1's name, and their dtypes."""
    make = np.float64(0).__reduce__()[0]
    makers: list[Any] = []
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):

        def scalar(*arguments: Any) -> Any:
            return make(*arguments)  # type: ignore[operator]

        # torch compares these names with those in the file.
        scalar.__module__, scalar.__qualname__ = module, "scalar"
        makers.append(scalar)
    kinds = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type) and issubclass(kind, np.dtype)]
    return [*makers, np.dtype, *(kind for kind in kinds if kind is not np.dtypes.ObjectDType)]


def _check_readable(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist: give the path of a safetensors file or torch checkpoint")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ModelError(f"weights {path} cannot be read: {error.strerror}; check file and disk") from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights {path} are not readable safetensors ({error}): fetch the file again") from error


def _is_script(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return path.suffix == ".ts"


def _read_script(path: Path) -> dict[str, Tensor]:
    """Weights in a TorchScript file: its own code, which is no Python, is compiled, and its forward() never runs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
            state = script.state_dict()
    except Exception as error:
        raise ModelError(
            f"weights {path} are not readable TorchScript ({one_line(error)}): fetch the file again, or {SAVE}"
        ) from error
    if not state:
        raise ModelError(
            f"weights {path} are TorchScript without named weights, as torch.jit.freeze leaves it: save the script "
            f"before that, or {SAVE}"
        )
    return {name: value.detach() for name, value in state.items()}
