"""Selects the modules of a network to record, finds their order, and records them with hooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from actstore.errors import ModelError
from actstore.networks.axes import ChannelAxes
from actstore.networks.channels import Output, channels_first, place_channels
from actstore.store.schema import Layer

TYPE_PREFIX = "type:"
#: Attribute of a tensor of `Probe.output`: whether its values were probabilities over the classes.
SUMS_TO_ONE = "_actstore_sums_to_one"
#: Rounding of sums of probabilities in bfloat16.
NEAR_ONE = 0.02
#: Dtypes that a recorded layer may return: float32 holds all their values exactly,
EXACT = (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8, torch.int16)
#: and the values of these up to `LARGEST_WHOLE`.
WHOLE = (torch.int32, torch.int64)
LARGEST_WHOLE = 2**24


@dataclass(frozen=True)
class ModuleRow:
    """One module of a network as ``actstore layers`` shows it."""

    module: str
    type: str
    calls: int
    #: Output shape without the batch dim; ``None`` if the module never ran or does not return a single tensor.
    shape: tuple[int, ...] | None
    matched: bool


@dataclass(frozen=True)
class Probe:
    """Findings of one forward pass on zeros."""

    layers: list[Layer]
    modules: list[ModuleRow]
    #: What the network returned for a batch of one, with tensors that have a shape and no values.
    output: Any
    #: Bytes of the largest tensor that any module returns for one sample.
    largest_output_bytes: int


#: Takes a layer's index and output; must copy the output before returning, since later operations may change it.
Sink = Callable[[int, Tensor], None]
#: Runs the network on a batch of inputs and hands each recorded output to a sink.
Forward = Callable[[Tensor, Sink], Any]


def tensors(output: Any) -> Iterator[tuple[str, Tensor]]:
    """Each tensor in a module's output with its position: "" for a single tensor, else "0", "1", … or a key."""
    if isinstance(output, Tensor):
        yield "", output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            for inner, tensor in tensors(value):
                yield f"{key}.{inner}" if inner else str(key), tensor
    elif isinstance(output, list | tuple):
        for i, value in enumerate(output):
            for inner, tensor in tensors(value):
                yield f"{i}.{inner}" if inner else str(i), tensor


def match_modules(model: nn.Module, patterns: Sequence[str], *, key: str = "model.layers") -> dict[str, set[str]]:
    """Module paths that each pattern matches; a module with several paths is listed by its first.

    Raises
    ------
    ModelError
        if a pattern matches none.
    """
    canonical = {module: path for path, module in model.named_modules() if path}
    matches: dict[str, set[str]] = {}
    for pattern in patterns:
        matches[pattern] = {
            canonical[module]
            for path, module in model.named_modules(remove_duplicate=False)
            if module in canonical and _matches(path, module, pattern)
        }
        if not matches[pattern]:
            kinds = ", ".join(sorted({type(m).__name__ for m in model.modules()})[:8])
            name = "layer" if key.endswith(".layers") else key
            raise ModelError(
                f"{name} pattern {pattern!r} matches no module of {type(model).__name__} (module types: {kinds}, …): "
                f"correct {key}, `actstore layers SPEC` shows the module tree"
            )
    return matches


def _matches(path: str, module: nn.Module, pattern: str) -> bool:
    if pattern.startswith(TYPE_PREFIX):
        return pattern.removeprefix(TYPE_PREFIX) in {kind.__name__ for kind in type(module).__mro__}
    return fnmatchcase(path, pattern)


def hookable(model: nn.Module) -> list[str]:
    """Paths of all modules below ``model`` except TorchScript modules, which take no hooks."""
    return [path for path, module in model.named_modules() if path and not isinstance(module, torch.jit.ScriptModule)]


@contextmanager
def forward_hooks(
    model: nn.Module,
    paths: Sequence[str],
    hook: Callable[[str, Any], Any],
    *,
    before: Callable[[str, Any], None] | None = None,
) -> Iterator[None]:
    """Call ``hook(path, output)`` after each listed module runs; removes all hooks on exit.

    What it returns, if not ``None``, takes the place of the output.

    ``before(path, [arguments, keyword arguments])`` is called before it runs.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    handles: list[Any] = []

    def attach(path: str) -> None:
        def after(_module: nn.Module, _args: Any, output: Any) -> Any:
            return hook(path, output)

        def first(_module: nn.Module, arguments: Any, keywords: Any) -> None:
            if before is not None:
                before(path, [arguments, keywords])

        if before is not None:
            handles.append(modules[path].register_forward_pre_hook(first, with_kwargs=True))
        handles.append(modules[path].register_forward_hook(after))

    try:
        for path in paths:
            attach(path)
        yield
    finally:
        for handle in handles:
            handle.remove()


def probe(
    model: nn.Module,
    input_shape: Sequence[int],
    patterns: Sequence[str],
    channels_last: Sequence[str] = (),
    *,
    key: str = "model.layers",
) -> Probe:
    """Run the network once on zeros and list the layers to record, in execution order.

    Parameters
    ----------
    model
        in evaluation mode.
    input_shape
        (channel, [z,] y, x) of one sample.
    patterns
        globs over module paths, or ``type:ClassName``.
    channels_last
        such patterns for modules whose outputs are (batch, \\*space, channel).
    key
        of the spec that ``patterns`` come from, for messages.

    Raises
    ------
    ModelError
        if a pattern matches no module, or none that runs and returns a tensor; if a recorded output is not
        (batch, channel, \\*space) with as many spatial dims as the input, or of a dtype that float32 does not hold; if
        its channels come last or may do so, unless ``channels_last`` says so.
    """
    matches = match_modules(model, patterns, key=key)
    matched = set().union(*matches.values())
    said = _said(match_modules(model, channels_last, key="model.channels_last"), matched)
    paths, hooked = [path for path, _ in model.named_modules() if path], hookable(model)
    _refuse_script(matched - set(hooked))
    calls: Counter[str] = Counter()
    shapes: dict[str, tuple[int, ...]] = {}
    types = {path: type(module).__name__ for path, module in model.named_modules()}
    axes, seen = ChannelAxes(model), list[Output]()
    largest = 0

    def note(path: str, output: Any) -> None:
        nonlocal largest
        for position, tensor in tensors(output):
            if path in matched:
                _refuse_inexact(tensor, f"module {path!r} ({types[path]})")
            if not tensor.is_nested:
                largest = max(largest, tensor.numel() * tensor.element_size())
                shape = tuple(tensor.shape)
                seen.append(Output(path, types[path], calls[path], position, shape, axes.group(tensor)))
        if isinstance(output, Tensor) and not output.is_nested:
            shapes[path] = tuple(output.shape[1:])
        calls[path] += 1

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.inference_mode(), forward_hooks(model, hooked, note):
        zeros = torch.zeros(1, *input_shape, device=device)
        axes.group(zeros).add([1])
        with axes:
            output = model(zeros)

    found = [output for output in seen if output.module in matched]
    recorded = {output.module for output in found}
    for pattern, modules in matches.items():
        if not modules & recorded:
            what = "return no tensor" if any(calls[module] for module in modules) else "never run in a forward pass"
            raise ModelError(
                f"layer pattern {pattern!r} matches only modules that {what} "
                f"({', '.join(sorted(modules)[:3])}): choose other modules, `actstore layers SPEC` shows them"
            )
    spaces = {one.shape[2:] for one in seen if one.evidently_first}
    layers = []
    for i, one in enumerate(found):
        name = f"L{i + 1:0{max(2, len(str(len(found))))}d}"
        channels, space, last = place_channels(one, name, input_shape[1:], spaces, said.get(one.module))
        layers.append(Layer(name, one.module, one.type, one.call, one.position, channels, space, channels_last=last))
    rows = [ModuleRow(path, types[path], calls[path], shapes.get(path), path in matched) for path in paths]
    for _, tensor in tensors(output):
        _refuse_unordered(tensor, f"the network ({type(model).__name__})")
    return Probe(layers, rows, _shapes(output), largest)


def _sums_to_one(output: Tensor) -> bool:
    """Whether (batch, class, …) holds probabilities over its classes, as behind a softmax."""
    if not output.is_floating_point() or output.ndim < 2 or output.shape[1] < 2:
        return False
    values = output.float()
    return bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < NEAR_ONE).all())


def _shapes(output: Any) -> Any:
    """``output`` with tensors that have a shape and no values."""
    if isinstance(output, Tensor):
        found = torch.empty(output.shape, dtype=output.dtype, device="meta")
        setattr(found, SUMS_TO_ONE, _sums_to_one(output))
        return found
    if isinstance(output, Mapping):
        return {key: _shapes(value) for key, value in output.items()}
    if isinstance(output, list | tuple):
        entries = [_shapes(value) for value in output]
        return entries if isinstance(output, list) else tuple(entries)
    return output


def _said(matches: Mapping[str, set[str]], recorded: set[str]) -> dict[str, str]:
    """The pattern of ``model.channels_last`` that matches each recorded module."""
    for pattern, modules in matches.items():
        if not modules & recorded:
            raise ModelError(
                f"model.channels_last pattern {pattern!r} matches no recorded module "
                f"({', '.join(sorted(modules)[:3])}): add one to model.layers, or take the pattern out"
            )
    return {module: pattern for pattern, modules in matches.items() for module in modules & recorded}


def _refuse_script(paths: set[str]) -> None:
    if paths:
        raise ModelError(
            f"module {min(paths)!r} is TorchScript, which takes no hooks and cannot be recorded: leave it out of "
            "model.layers, or build it from the Python module that was scripted or traced"
        )


def _refuse_inexact(tensor: Tensor, what: str) -> None:
    """Refuse a dtype that float32, used for statistics, cannot hold exactly."""
    _refuse_unordered(tensor, what, "leave it out of model.layers")
    if tensor.dtype not in (*EXACT, *WHOLE):
        mend = "return network.float() from the factory" if tensor.dtype == torch.float64 else "let it return .float()"
        raise ModelError(
            f"{what} returns {_dtype(tensor)}, which float32 would round: {mend}, or leave it out of model.layers"
        )


def _refuse_unordered(tensor: Tensor, what: str, otherwise: str = "correct model.factory") -> None:
    """Refuse anything but a dense array of real numbers."""
    if tensor.is_complex():
        raise ModelError(
            f"{what} returns {_dtype(tensor)}, of which only the real part would be kept: record its magnitude or real "
            f"part in a module of its own, or {otherwise}"
        )
    kind = "a quantised" if tensor.is_quantized else "a nested" if tensor.is_nested else "a sparse"
    if tensor.is_quantized or tensor.is_nested or tensor.layout is not torch.strided:
        let = "record the module that dequantises it" if tensor.is_quantized else "let it return a dense one"
        raise ModelError(f"{what} returns {kind} tensor ({_dtype(tensor)}): {let}, or {otherwise}")


def _as_float(tensor: Tensor, path: str) -> Tensor:
    """``tensor`` in float32; raises if that would round it."""
    _refuse_inexact(tensor, f"module {path!r}")
    if tensor.dtype in WHOLE and bool((tensor.abs() > LARGEST_WHOLE).any()):
        raise ModelError(
            f"module {path!r} returns whole numbers beyond {LARGEST_WHOLE}, which float32 would round: leave it out of "
            "model.layers"
        )
    return tensor.float()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@contextmanager
def recording(model: nn.Module, layers: Sequence[Layer]) -> Iterator[Forward]:
    """Hook the recorded layers. Yields a forward pass whose hooks call the sink.

    Raises
    ------
    ModelError
        if a forward pass runs calls that the layer table does not list, or returns other shapes.
    """
    index = {(layer.module, layer.call, layer.output): i for i, layer in enumerate(layers)}
    calls: Counter[str] = Counter()
    seen = 0
    sink: Sink

    def hook(path: str, output: Any) -> None:
        nonlocal seen
        for position, tensor in tensors(output):
            i = index.get((path, calls[path], position))
            if i is None:
                raise ModelError(
                    f"module {path!r} ran call {calls[path]} (output {position or 'tensor'!r}), which the layer table "
                    "does not list: the network's control flow depends on its input, which cannot be recorded"
                )
            expected = (layers[i].channels, *layers[i].space)
            if layers[i].channels_last and tensor.ndim == len(expected) + 1:
                tensor = channels_first(tensor)
            if tensor.shape[1:] != expected:
                raise ModelError(
                    f"module {path!r} returned (batch, {', '.join(map(str, tensor.shape[1:]))}), (batch, "
                    f"{', '.join(map(str, expected))}) in the trial pass: the network's shapes depend on its input, "
                    "which cannot be recorded"
                )
            sink(i, tensor if tensor.is_floating_point() and tensor.dtype in EXACT else _as_float(tensor, path))
            seen += 1
        calls[path] += 1

    def forward(inputs: Tensor, into: Sink) -> Any:
        nonlocal seen, sink
        sink, seen = into, 0
        calls.clear()
        output = model(inputs)
        if seen != len(layers):
            raise ModelError(
                f"a forward pass ran {seen} of {len(layers)} recorded layers: the network's control flow depends on "
                "its input, which cannot be recorded"
            )
        return output

    with forward_hooks(model, list(dict.fromkeys(layer.module for layer in layers)), hook):
        yield forward
