"""Builds and checks a spec's network, and computes digests of its weights."""

from __future__ import annotations

import hashlib
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import crc32c
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from actstore.code.digests import known_code, require_code
from actstore.code.imports import add_folder, resolve_callable
from actstore.errors import ActstoreError, ModelError, one_line
from actstore.networks.adapters import build_trained
from actstore.networks.weights import load_weights
from actstore.spec.spec import Spec
from actstore.units import first_few


def build_model(spec: Spec) -> nn.Module:
    """The spec's network with its weights, in evaluation mode, on the CPU.

    Raises
    ------
    ModelError
        if the factory fails, or does not return a network of Python modules with values in all parameters; if the
        weights are unreadable, hold code or do not fit.
    """
    add_folder(spec.folder)
    if spec.trained is not None:
        made, what = build_trained(spec.trained), f"model.{spec.trained.kind} {spec.model.source!r}"
    else:
        made, what = _made(spec), f"model.factory {spec.model.source!r}"
    model = _unwrapped(_module(made, what))
    if spec.model.weights is not None:
        load_weights(model, spec.model.weights)
    try:
        # Ignore the return values: overridden methods often return nothing.
        model.eval()
        model.cpu()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
    except Exception as error:
        raise ModelError(
            f"the network of {spec.model.source!r} does not go into evaluation mode on the CPU: {one_line(error)}; "
            "correct its train(), eval() or to()"
        ) from error
    return model


def planned_model(spec: Spec, code: Mapping[str, str], weights: str) -> nn.Module:
    """As `build_model`, with the ``code`` and ``weights`` (digests) that a run was planned with.

    Raises
    ------
    SpecError
        if code that the network is made of is another.
    ModelError
        as `build_model`, and if its weights are others.
    """
    require_code(spec.folder, code)
    with known_code(spec.folder, code):
        model = build_model(spec)
    found = weights_digest(model)
    if found != weights:
        raise ModelError(
            f"weights {spec.model.weights} changed since the run was planned ({weights[:12]} → {found[:12]}): restore "
            "them or start a new store"
        )
    return model


def _made(spec: Spec) -> Any:
    """What the factory returns."""
    name = str(spec.model.factory)
    factory = resolve_callable(name, "model.factory")
    try:
        return factory(**spec.model.arguments)
    except ActstoreError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"model.factory {name!r} failed with {one_line(error)}; "
            f"correct it or model.arguments, which are {spec.model.arguments}"
        ) from error


def _module(made: Any, factory: str) -> nn.Module:
    """Check that a factory returned a network that takes hooks and weights."""
    if not isinstance(made, nn.Module):
        raise ModelError(f"{factory} returned {_what(made)}")
    if isinstance(made, torch.jit.ScriptModule):
        raise ModelError(
            f"{factory} returned TorchScript ({made.original_name}), whose modules take no hooks: return the Python "
            "network that was scripted or traced, with its weights in model.weights, which may be the TorchScript file"
        )
    values = list(chain(made.named_parameters(), made.named_buffers()))
    lazy = [name for name, value in values if is_lazy(value)]
    if lazy:
        raise ModelError(
            f"{factory} returned lazy modules, whose parameters have no shape before the first input ("
            f"{first_few(lazy)}): run the network in the factory once on zeros, or give the channels of its layers"
        )
    empty = [name for name, value in values if value.is_meta]
    if empty:
        raise ModelError(
            f"{factory} returned parameters on the meta device, which hold no values ({first_few(empty)}): make the "
            "network on the CPU"
        )
    return made


def _what(made: Any) -> str:
    """What was returned instead of a network, and the remedy."""
    must = "it must return a torch.nn.Module"
    if isinstance(made, type) and issubclass(made, nn.Module):
        return f"the class {made.__name__}, not an instance of it: return {made.__name__}(…)"
    if made is None:
        return f"nothing: {must}, take a look at its `return`"
    if isinstance(made, Mapping) and made and all(isinstance(value, Tensor) for value in made.values()):
        return f"a state dict: {must}; name the file of the weights in model.weights"
    inside = [i for i, part in enumerate(made) if isinstance(part, nn.Module)] if isinstance(made, tuple | list) else []
    if inside:
        return f"a {type(made).__name__} with a network at {inside[0]}: return the network alone"
    if callable(made):
        return (
            f"a {type(made).__name__}: {must}; wrap it in a module, or call it in the factory if it makes the network"
        )
    return f"a {type(made).__name__}: {must}"


def _unwrapped(model: nn.Module) -> nn.Module:
    """``model`` without wrappers that bypass hooks on its modules or run them out of order.

    A compiled network calls only the hooks that it was compiled with; a distributed one waits for other processes.
    """

    def inner(module: nn.Module) -> nn.Module:
        # Recognise a compiled module by its only child, since importing its class takes a second.
        while "_orig_mod" in module._modules or isinstance(module, DistributedDataParallel):
            module = module.get_submodule("_orig_mod" if "_orig_mod" in module._modules else "module")
        return module

    model = inner(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if inner(child) is not child:
                setattr(module, name, inner(child))
    for module in model.modules():
        module._compiled_call_impl = None
        if isinstance(module, DataParallel):
            # Makes it call its network directly, not copies of it on all GPUs.
            module.device_ids = []
    return model


def foreign_dtypes(model: nn.Module) -> str:
    """The dtypes of weights that are neither float32 nor integers, or ""."""
    values = [value for value in chain(model.parameters(), model.buffers()) if value.is_floating_point()]
    others = Counter(str(value.dtype).removeprefix("torch.") for value in values if value.dtype != torch.float32)
    return ", ".join(f"{count} of {len(values)} {dtype}" for dtype, count in sorted(others.items()))


def quantised_modules(model: nn.Module) -> list[str]:
    """Paths and types of modules that take and return quantised tensors, unlike dynamically quantised ones."""
    return [
        f"{path} ({type(module).__name__})"
        for path, module in model.named_modules()
        if re.search(r"\.quantized\.(?!dynamic)", f"{type(module).__module__}.")
    ]


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of parameters and buffers, independent of their file.

    Raises
    ------
    ModelError
        if the state of a module has a type that cannot be digested.
    """
    digest = hashlib.sha256()
    for name, value in _state(model):
        for part in _parts(name, value):
            digest.update(part)
    return digest.hexdigest()


def model_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(value.numel() * value.element_size() for _, value in _state(model) if isinstance(value, Tensor))


def weights_checksums(model: nn.Module) -> dict[str, int]:
    """CRC32C of each entry that `weights_digest` covers: fast, and shows what changed."""
    checksums = {}
    for name, value in _state(model):
        checksum = 0
        for part in _parts(name, value):
            checksum = crc32c.crc32c(part, checksum)
        checksums[name] = checksum
    return checksums


def _state(model: nn.Module) -> list[tuple[str, Any]]:
    return sorted({**dict(model.named_buffers()), **model.state_dict()}.items())


def _parts(name: str, value: Any) -> Iterator[bytes]:
    """Bytes that identify ``value``, equal in every process."""
    if isinstance(value, Tensor) and value.is_quantized:
        yield from _parts(f"{name} {value.dtype} {value.qscheme()}", value.int_repr())
        if value.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
            yield from _parts("scales", value.q_per_channel_scales())
            yield from _parts("zeros", value.q_per_channel_zero_points())
            yield from _parts("axis", value.q_per_channel_axis())
        else:
            yield from _parts("scale", value.q_scale())
            yield from _parts("zero", value.q_zero_point())
    elif isinstance(value, Tensor) and value.layout is not torch.strided:
        yield f"{name} {value.layout}\n".encode()
        yield from _parts("dense", value.to_dense())
    elif isinstance(value, Tensor):
        plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        yield f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode()
        yield plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        yield from _parts_of_object(name, value)


def _parts_of_object(name: str, value: Any) -> Iterator[bytes]:
    head = f"{name} {type(value).__name__}"
    if value is None or isinstance(value, bool | int | str | torch.dtype | torch.device):
        yield f"{head} {value!r}\n".encode()
    elif isinstance(value, float):
        yield f"{head}\n".encode() + struct.pack("<d", value)
    elif isinstance(value, bytes | bytearray):
        yield f"{head} {len(value)}\n".encode() + bytes(value)
    elif isinstance(value, Mapping):
        yield f"{head} {len(value)}\n".encode()
        for key in sorted(value, key=repr):
            yield from _parts("key", key)
            yield from _parts("value", value[key])
    elif isinstance(value, tuple | list):
        yield f"{head} {len(value)}\n".encode()
        for i, item in enumerate(value):
            yield from _parts(str(i), item)
    elif hasattr(value, "__array__") and getattr(value, "dtype", None) is not None and not value.dtype.hasobject:
        plain = value.__array__()
        yield f"{head} {plain.dtype.str} {plain.shape}\n".encode()
        yield plain.tobytes()
    else:
        raise ModelError(
            f"the network's state {name!r} holds a {type(value).__name__}, of which no digest can be made that is the "
            "same in every process: let get_extra_state return tensors, numbers, text, lists and dicts of these"
        )
