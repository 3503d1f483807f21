"""Network factories, and weights that load without running code."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from actstore.errors import ActstoreError, ModelError, one_line
from actstore.imports import add_folder, resolve_callable
from actstore.spec import Spec

#: Where common training loops nest the state dict in a checkpoint.
NESTED_KEYS = ("model_state_dict", "state_dict", "network_weights", "model", "net")
#: Prefixes that wrappers (DataParallel, Lightning modules, torch.compile) put before every key.
WRAPPER_PREFIXES = ("module.", "model.", "net.", "network.", "_orig_mod.")


def unet_heart_8_4_4() -> nn.Module:
    """MONAI UNet "UNetHeart 8-4-4": (batch, 1, y, x) to (batch, 4, y, x) logits of background, RV, MYO, LV."""
    from monai.networks.nets.unet import UNet

    return UNet(
        spatial_dims=2, in_channels=1, out_channels=4, channels=(8, 16, 32, 64), strides=(2, 2, 2), num_res_units=4
    )


def build_model(spec: Spec) -> nn.Module:
    """The spec's network with its weights, in evaluation mode, on the CPU.

    Raises
    ------
    ModelError
        if the factory fails or returns no module; if the weights are unreadable, hold code or do not fit.
    """
    add_folder(spec.folder)
    factory = resolve_callable(spec.model.factory, "model.factory")
    try:
        model = factory(**spec.model.arguments)
    except ActstoreError:
        raise
    except Exception as error:
        raise ModelError(
            f"model.factory {spec.model.factory!r} failed with {one_line(error)}; "
            f"correct it or model.arguments, which are {spec.model.arguments}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model.factory {spec.model.factory!r} returned a {type(model).__name__}: it must return a torch.nn.Module"
        )
    if spec.model.weights is not None:
        load_weights(model, spec.model.weights)
    return model.eval().requires_grad_(False)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load safetensors or a torch checkpoint into ``model``, every key matched.

    Nested checkpoints, wrapper prefixes and the bottleneck names of older MONAI UNets (``submodule.0.`` for
    ``submodule.``) are understood.

    Raises
    ------
    ModelError
        if the file is missing, unreadable or needs code to load; if keys are missing, unexpected or differently shaped.
    """
    state = _match_names(read_state(path), model.state_dict())
    own = model.state_dict()
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    shaped = [
        f"{key} is {tuple(state[key].shape)}, the network has {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    problems = [
        f"{len(keys)} {kind}: {_some(keys)}"
        for kind, keys in (("missing", missing), ("unexpected", unexpected), ("differently shaped", shaped))
        if keys
    ]
    if problems:
        raise ModelError(
            f"weights {path} do not fit {type(model).__name__}: {'; '.join(problems)}. "
            "Name the factory and arguments that these weights were trained with"
        )
    # A buffer may hold -inf on purpose, as attention masks do.
    parameters = {name for name, _ in model.named_parameters()}
    broken = [
        key
        for key, value in state.items()
        if value.is_floating_point() and (value.isnan().any() or (key in parameters and value.isinf().any()))
    ]
    if broken:
        raise ModelError(
            f"weights {path} hold NaN or infinity in {len(broken)} of {len(state)} tensors: {_some(broken)}; "
            "choose a checkpoint from before the training diverged"
        )
    model.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file or torch checkpoint; nothing in the file is run.

    Raises
    ------
    ModelError
        if the file is missing, unreadable, needs code to load or holds something else than a state dict.
    """
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist: give the path of a safetensors file or torch checkpoint")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ModelError(f"weights {path} cannot be read: {error.strerror}; check file and disk") from error
    return _read_safetensors(path) if path.suffix == ".safetensors" else _unnest(_read_checkpoint(path), path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"weights {path} are not readable safetensors ({error}): fetch the file again") from error


def _read_checkpoint(path: Path) -> Any:
    save = "save a plain state dict with torch.save(model.state_dict(), …) or as safetensors"
    # What torch says of a file that it refuses advises to load it with weights_only=False: not passed on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            code = re.search(r"GLOBAL ([\w.]+)", str(error))
            if isinstance(error, pickle.UnpicklingError) and code:
                raise ModelError(
                    f"weights {path} hold pickled objects ({code[1]}) that would run code, and are not loaded: {save}"
                ) from error
            raise ModelError(
                f"weights {path} are not a torch checkpoint that loads without running code, or a damaged one: "
                f"fetch the file again, or {save}"
            ) from error


def _unnest(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        nested = next((content[key] for key in NESTED_KEYS if isinstance(content.get(key), Mapping)), None)
        if nested is None:
            break
        content = nested
    named = isinstance(content, Mapping) and all(isinstance(k, str) for k in content)
    if not named or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(
            f"weights {path} hold no state dict: save model.state_dict(), bare or under one of {', '.join(NESTED_KEYS)}"
        )
    return dict(content)


def _match_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` under the network's own key names, where a known renaming leads to them."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        target = next((name for name in _spellings(key) if name in own and name not in renamed), key)
        renamed[target] = value
    return renamed


def _spellings(key: str) -> list[str]:
    names = [key]
    for prefix in WRAPPER_PREFIXES:
        names += [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    names += [f"model.{name}" for name in names]
    for name in list(names):
        names += [
            name[: match.start()] + "submodule." + name[match.end() :] for match in re.finditer(r"submodule\.0\.", name)
        ]
    return list(dict.fromkeys(names))


def _some(keys: list[str], most: int = 4) -> str:
    return ", ".join(keys[:most]) + (f", … ({len(keys) - most} more)" if len(keys) > most else "")


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of parameters and buffers: the same whatever file they came from."""
    digest = hashlib.sha256()
    values = {**dict(model.named_buffers()), **model.state_dict()}
    for name, tensor in sorted(values.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
