"""Loads weights without running code, and undoes the renaming by wrappers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actstore.errors import ModelError, one_line
from actstore.networks.checkpoints import read_file
from actstore.networks.weight_names import match_names
from actstore.units import first_few

#: Keys under which common training loops store the state dict in a checkpoint.
NESTED_KEYS = ("model_state_dict", "state_dict", "network_weights", "model", "net")
#: Entries of a state dict that are not tensors: from modules with `get_extra_state`, and quantised ones.
_NO_TENSORS = re.compile(r"(^|\.)(_extra_state$|_packed_params\.)")


def load_weights(model: nn.Module, path: Path) -> None:
    """Load safetensors, a torch checkpoint or the weights in TorchScript into ``model``; every key must match.

    Accepts nested checkpoints, and names that :func:`actstore.networks.weight_names.match_names` can map.

    Raises
    ------
    ModelError
        if the file is missing, unreadable or needs code to load; if keys are missing, unexpected, ambiguous or have
        another shape; if values are NaN, or would be rounded to the network's dtype.
    """
    content, own = read_state(path), model.state_dict()
    _refuse_quantised(content, own, f"weights {path}", type(model).__name__)
    state, doubtful = match_names(content, own)
    # Tied weights are one tensor under two names; safetensors stores it once.
    shared = _shared(own)
    for key in own.keys() - state.keys():
        twin = next((name for name in shared.get(key, ()) if name in state), None)
        if twin is not None:
            state[key] = state[twin]
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    both = sorted(own.keys() & state.keys())
    shaped = [
        f"{key} is {_kind(state[key])}, the network has {_kind(own[key])}"
        for key in both
        if _kind(state[key]) != _kind(own[key])
    ]
    problems = [
        f"{len(keys)} {kind}: {_some(keys)}"
        for kind, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("ambiguous", doubtful),
            ("differently shaped", shaped),
        )
        if keys
    ]
    if problems:
        raise ModelError(
            f"weights {path} do not fit {type(model).__name__}: {'; '.join(problems)}. "
            "Name the factory and arguments that these weights were trained with"
        )
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    # A buffer may hold -inf on purpose, such as an attention mask.
    parameters = {name for name, _ in model.named_parameters()}
    broken = [
        key
        for key, value in tensors.items()
        if value.is_floating_point() and (value.isnan().any() or (key in parameters and value.isinf().any()))
    ]
    if broken:
        raise ModelError(
            f"weights {path} hold NaN or infinity in {len(broken)} of {len(state)} tensors: {_some(broken)}; "
            "choose a checkpoint from before the training diverged"
        )
    rounded = [
        f"{key} ({_dtype(value)} to {_dtype(own[key])})"
        for key, value in tensors.items()
        if not _fits_exactly(value, own[key].dtype)
    ]
    if rounded:
        raise ModelError(
            f"weights {path} would be rounded to fit {type(model).__name__}, {len(rounded)} of {len(state)} tensors: "
            f"{_some(rounded)}; convert them yourself and save them as the network's own dtype if that is meant"
        )
    torn = [
        f"{twin} and {key}"
        for key, twins in shared.items()
        for twin in twins
        if twin < key and not torch.equal(state[key].to(own[key].dtype), state[twin].to(own[key].dtype))
    ]
    if torn:
        raise ModelError(
            f"weights {path} hold two values for one tensor, since {type(model).__name__} shares it under two names: "
            f"{_some(torn)}; name the factory that these weights were trained with"
        )
    try:
        model.load_state_dict(state)
    except Exception as error:
        raise ModelError(
            f"weights {path} cannot be loaded into {type(model).__name__}: {one_line(error)}; name the factory and "
            "arguments that these weights were trained with"
        ) from error


def _refuse_quantised(state: Mapping[str, Any], own: Mapping[str, Any], weights: str, network: str) -> None:
    if _quantised(state) and not _quantised(own):
        raise ModelError(
            f"{weights} are those of a quantised network ({_some(_quantised(state), 2)}), and {network} is none: name "
            "the checkpoint from before quantisation, or a factory that makes the quantised network"
        )


def _quantised(state: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, value in state.items()
        if "_packed_params." in name or (isinstance(value, Tensor) and value.is_quantized)
    ]


def _shared(own: Mapping[str, Any]) -> dict[str, list[str]]:
    """The other names of each tensor that has several names."""
    names: dict[Any, list[str]] = {}
    for key, value in own.items():
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized and value.numel():
            place = value.device, value.data_ptr(), value.shape, value.stride(), value.dtype
            names.setdefault(place, []).append(key)
    return {key: [n for n in group if n != key] for group in names.values() if len(group) > 1 for key in group}


def _kind(value: Any) -> tuple[int, ...] | str:
    """Shape of a dense tensor, or a description of any other entry."""
    if not isinstance(value, Tensor):
        return "no tensor"
    if value.is_quantized:
        return f"quantised {tuple(value.shape)}"
    return tuple(value.shape)


def _fits_exactly(value: Tensor, dtype: torch.dtype) -> bool:
    if value.dtype == dtype or value.is_quantized or value.layout is not torch.strided:
        return True
    if value.is_complex() and not dtype.is_complex:
        return False
    converted = value.to(dtype)
    return torch.equal(converted.to(value.dtype), value)


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def read_state(path: Path) -> dict[str, Any]:
    """The state dict in a safetensors, TorchScript or checkpoint file; runs no Python in the file.

    Values are tensors, except the state of modules that store something else (`get_extra_state`, quantised ones).

    Raises
    ------
    ModelError
        if the file is missing, unreadable, needs code to load or does not hold a state dict.
    """
    return _unnest(read_file(path), path)


def _unnest(content: Any, path: Path) -> dict[str, Any]:
    while isinstance(content, Mapping):
        nested = next((content[key] for key in NESTED_KEYS if isinstance(content.get(key), Mapping)), None)
        if nested is None:
            break
        content = nested
    named = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if (
        not named
        or not any(isinstance(value, Tensor) for value in content.values())
        or not all(isinstance(value, Tensor) or _NO_TENSORS.search(key) for key, value in content.items())
    ):
        raise ModelError(
            f"weights {path} hold no state dict: save model.state_dict(), bare or under one of {', '.join(NESTED_KEYS)}"
        )
    return dict(content)


def _some(names: Sequence[str], most: int = 4) -> str:
    return first_few(names, most, count=True)
