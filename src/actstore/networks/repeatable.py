"""Whether a network is a function of one input: the same numbers again, and beside other inputs in a batch."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from actstore.attributes import unrepeatable
from actstore.errors import ModelError, one_line
from actstore.models import weights_checksums
from actstore.record import forward_hooks, hookable, tensors
from actstore.schema import Layer

#: Differences up to this part of a layer's largest magnitude are rounding: in a batch of another size, sums may be
#: taken in another order. Measured on a CPU in float32: 0 with convolutions, some 1e-6 where matrices are multiplied.
#: Normalising a map that is constant but for rounding makes up to 300 times as much of it. What is to be found is far
#: larger: 0.1 for statistics of a batch, 1 for dropout.
ROUNDING = 1e-4
#: Values of a layer that are compared; of larger ones as many at even distances.
COMPARED = 2**20
#: Passes over one input alone, the first one aside, by the dims of its space. A random part that shows in one pass of
#: many is found by the generators that it draws from; a pass over a volume may take many seconds.
AGAIN = {2: 2, 3: 1}

#: (module path, call, position of the tensor in its output), as the layer table has it; the network's own path is "".
Key = tuple[str, int, str]
_OUTPUT = ""


@dataclass(frozen=True)
class Repeatability:
    """What passes over one input, alone and in a batch, show of a network."""

    #: The same input alone gave the same numbers again.
    again: bool
    #: So did the same input in a batch with another; ``None`` where no pass of the run has several inputs.
    in_a_batch: bool | None
    #: The forward pass draws from the global random numbers of these.
    draws: tuple[str, ...] = ()
    #: Weights and buffers that forward passes changed.
    changed: tuple[str, ...] = ()
    #: The first recorded layer that differs, in execution order; "the output" where none does but the output.
    layer: str = ""
    #: Largest difference in that layer in parts of its largest magnitude; infinite for NaN instead of a number.
    difference: float = 0.0
    #: Where it begins, and the usual mend.
    cause: str = ""

    @property
    def holds(self) -> bool:
        """Whether the network is a function of one input, as far as was seen."""
        return self.again and self.in_a_batch is not False and not self.draws and not self.changed

    def as_json(self) -> dict[str, Any]:
        """Root attribute ``repeatable`` of a store; an infinite difference is ``null``."""
        finite = float(f"{self.difference:.2g}") if np.isfinite(self.difference) else None
        return {
            "again": self.again,
            "in_a_batch": self.in_a_batch,
            "draws": list(self.draws),
            "changed": list(self.changed),
            "layer": self.layer,
            "difference": finite,
        }


def refuse(found: Repeatability, factory: str) -> None:
    """Refuse a network that is no function of one input.

    Raises
    ------
    ModelError
        naming the first layer that differs, by how much, and how to mend or allow it.
    """
    if found.holds:
        return
    alone = " use run.batch_size = 1," if found.again and found.in_a_batch is False and not found.changed else ""
    raise ModelError(
        f"{factory!r} is no function of one input: {unrepeatable(found.as_json())}. {found.cause}. Correct that,{alone}"
        ' or set model.unrepeatable = "allow" in the spec, which the store records'
    )


def random_inputs(count: int, size: Sequence[int], normalize: str) -> Tensor:
    """(count, 1, \\*size) float32 in the range of inputs normalised so, the same at every call."""
    generator = torch.Generator().manual_seed(20)
    if normalize.startswith("zscore"):
        return torch.randn(count, 1, *size, generator=generator)
    return torch.rand(count, 1, *size, generator=generator) * (1000 if normalize == "none" else 1)


def examine(
    model: nn.Module, layers: Sequence[Layer], inputs: Tensor, before: Mapping[str, int], *, batched: bool
) -> Repeatability:
    """Run the first of two ``inputs`` again and again, alone and as the second of a batch.

    The global generators of random numbers are left as they were.

    Parameters
    ----------
    model
        in evaluation mode, on the CPU.
    inputs
        (2, 1, \\*size).
    before
        `weights_checksums` before the network ran for the first time.
    batched
        whether any pass of the run has several inputs.

    Raises
    ------
    ModelError
        if the network does not take a batch of two, or returns another number of tensors for it.
    """
    first, both = inputs[:1], inputs.flip(0)
    paths = [*dict.fromkeys(layer.module for layer in layers), _OUTPUT]
    names = {(layer.module, layer.call, layer.output): f"{layer.name} ({layer.label})" for layer in layers}
    draws: set[str] = set()
    again = beside = ("", 0.0)
    with kept_generators():
        expected = _outputs(model, paths, first)
        repeats = AGAIN[inputs.ndim - 2]
        for i in range(repeats):
            # Last, so that what the batch left behind shows too.
            if batched and i == repeats - 1:
                beside = max(beside, _first_difference(expected, _in_a_batch(model, paths, both), names), key=_size)
            drawn = _generators()
            again = max(again, _first_difference(expected, _outputs(model, paths, first), names), key=_size)
            draws |= {name for name, state in _generators().items() if state != drawn[name]}
        after = weights_checksums(model)
        changed = tuple(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        same = again[1] <= ROUNDING
        together = (beside[1] <= ROUNDING) if batched else None
        layer, difference = again if not same else beside if together is False else ("", max(again[1], beside[1]))
        found = Repeatability(same, together, tuple(sorted(draws)), tuple(sorted(changed)), layer, difference)
        if found.holds:
            return found
        cause = _cause(model, found, first, first if not same else both)
    return Repeatability(found.again, together, found.draws, found.changed, layer, difference, cause)


def _size(found: tuple[str, float]) -> float:
    return found[1]


def _in_a_batch(model: nn.Module, paths: Sequence[str], both: Tensor) -> dict[Key, Tensor]:
    mend = "use run.batch_size = 1, or let its forward() take batches"
    try:
        return _outputs(model, paths, both)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the network fails on a batch of two inputs: {one_line(error)}; {mend}") from error


def _outputs(model: nn.Module, paths: Sequence[str], batch: Tensor) -> dict[Key, Tensor]:
    """What each module returns for the last input of ``batch``, at most `COMPARED` values each, in execution order."""
    calls: Counter[str] = Counter()
    seen: dict[Key, Tensor] = {}

    def note(path: str, output: Any) -> None:
        for position, tensor in tensors(output):
            if tensor.shape[:1] != (len(batch),):
                what, leave = (f"module {path!r}", "leave it out of model.layers, or ") if path else ("the network", "")
                raise ModelError(
                    f"{what} returns {tuple(tensor.shape)} for a batch of {len(batch)}: {leave}use run.batch_size = 1"
                )
            seen[path, calls[path], position] = _thinned(tensor[-1])
        calls[path] += 1

    with torch.inference_mode(), forward_hooks(model, paths, note):
        model(batch)
    return seen


def _thinned(tensor: Tensor) -> Tensor:
    """A copy of at most `COMPARED` values, since later operations may change the tensor in place."""
    values = tensor.detach().reshape(-1)
    step = -(-values.numel() // COMPARED)
    return values[:: step + (step > 1 and step % 2 == 0)].clone() if values.numel() else values.clone()


def _first_difference(
    expected: Mapping[Key, Tensor], found: Mapping[Key, Tensor], names: Mapping[Key, str]
) -> tuple[str, float]:
    """The first layer that differs beyond rounding and by how much, or "" and the largest difference of any."""
    largest = 0.0
    for key in {**expected, **found}:
        both = key in expected and key in found
        difference = relative_difference(expected[key], found[key]) if both else np.inf
        if difference > ROUNDING:
            return names.get(key, "the output" if key[0] == _OUTPUT else key[0]), difference
        largest = max(largest, difference)
    return "", largest


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Largest difference in parts of the largest magnitude in both; infinite where one is finite and the other not."""
    if a.shape != b.shape:
        return float("inf")
    if torch.equal(a, b):
        return 0.0
    same = (a == b) | ((a != a) & (b != b))
    if bool(same.all()):
        return 0.0
    a, b = a.double(), b.double()
    apart = (a - b).abs()[~same]
    if not bool(apart.isfinite().all()):
        return float("inf")
    scale = max(float(values[values.isfinite()].abs().max()) for values in (a, b))
    return float(apart.max()) / scale


@contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the global random numbers of torch, NumPy and Python as they were."""
    ours, numpys, pythons = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(ours)
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)


def _generators() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state(legacy=False)),  # noqa: NPY002
        "random": random.getstate(),
    }


def _cause(model: nn.Module, found: Repeatability, alone: Tensor, other: Tensor) -> str:
    """Where the difference begins, and the usual mend."""
    kept = [
        f"{path!r} ({type(module).__name__})"
        for path, module in model.named_modules()
        if module.training and not list(module.children())
    ]
    if kept:
        return (
            f"Training mode is on despite eval() in {_some(kept)}: train(), eval() and forward() must leave modules in "
            "evaluation mode"
        )
    if found.changed:
        return "Nothing may be updated in forward() once eval() was called"
    path = _origin(model, alone, other)
    where = "" if path is None else f"It begins in {path!r} ({type(model.get_submodule(path)).__name__}): "
    where = where.replace("''", "forward() of the network")
    if found.again and not found.draws:
        return where + (
            "batch normalisation needs running statistics (track_running_stats=True), and nothing else may look at "
            "other inputs of the batch, as dynamic quantisation does"
        )
    return where + (
        "functional dropout needs training=self.training (eval() does not reach it), and nothing else may be random or "
        "kept from one pass to the next"
    )


def _origin(model: nn.Module, alone: Tensor, other: Tensor) -> str | None:
    """The innermost module that returns other numbers for the same; ``None`` where none did this time."""
    one, two = _traced(model, alone), _traced(model, other)
    for call in (call for call in one if call in two):
        (given, returned), (again, then) = one[call], two[call]
        if _alike(given, again) and not _alike(returned, then):
            return call[0]
    return None


def _traced(model: nn.Module, batch: Tensor) -> dict[tuple[str, int], tuple[list[Tensor], list[Tensor]]]:
    """Some values of what each call of a module gets and returns for the last of ``batch``, in the order they end."""
    calls: Counter[str] = Counter()
    given: dict[str, list[list[Tensor]]] = {}
    seen: dict[tuple[str, int], tuple[list[Tensor], list[Tensor]]] = {}

    def before(path: str, arguments: Any) -> None:
        given.setdefault(path, []).append([_few(tensor) for _, tensor in tensors(arguments)])

    def after(path: str, output: Any) -> None:
        seen[path, calls[path]] = given[path].pop(), [_few(tensor) for _, tensor in tensors(output)]
        calls[path] += 1

    with torch.inference_mode(), forward_hooks(model, [*hookable(model), _OUTPUT], after, before=before):
        model(batch)
    return seen


def _few(tensor: Tensor) -> Tensor:
    values = (tensor[-1] if tensor.ndim else tensor).detach().reshape(-1)
    return values[:: max(1, values.numel() // 2**14) | 1].clone()


def _alike(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return len(a) == len(b) and all(relative_difference(x, y) <= ROUNDING for x, y in zip(a, b, strict=True))


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names) - most} more)" if len(names) > most else "")
