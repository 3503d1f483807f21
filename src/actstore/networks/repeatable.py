"""Checks that a network's output depends on one input alone: not on repetition, earlier inputs or the batch."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from actstore.errors import ModelError, one_line
from actstore.networks.differences import ROUNDING, origin, relative_difference
from actstore.networks.model import weights_checksums
from actstore.networks.recording import forward_hooks, tensors
from actstore.store.attributes import unrepeatable
from actstore.store.schema import Layer
from actstore.units import first_few

#: Number of values of a layer to compare; larger layers are sampled at even distances.
COMPARED = 2**20
#: (module path, call, position of the tensor in its output), as in the layer table; the network's own path is "".
Key = tuple[str, int, str]
_OUTPUT = ""


@dataclass(frozen=True)
class Repeatability:
    """Findings of passes over one input: alone, after another input, and in a batch."""

    #: The same input alone gave the same numbers again.
    again: bool
    #: A second network from the same factory gave the same numbers after it had seen another input.
    after_another: bool
    #: The same input gave the same numbers in a batch with another; ``None`` if no pass of the run has several inputs.
    in_a_batch: bool | None
    #: Libraries from whose global random generators the forward pass draws.
    draws: tuple[str, ...] = ()
    #: Weights and buffers that forward passes changed.
    changed: tuple[str, ...] = ()
    #: The first recorded layer that differs, in execution order; "the output" if only the output does.
    layer: str = ""
    #: Largest difference in that layer relative to its largest magnitude; infinite if only one value is NaN.
    difference: float = 0.0
    #: Where the difference begins, and the usual remedy.
    cause: str = ""

    @property
    def holds(self) -> bool:
        """Whether the network passed all checks."""
        same = self.again and self.after_another and self.in_a_batch is not False
        return same and not self.draws and not self.changed

    def as_json(self) -> dict[str, Any]:
        """Root attribute ``repeatable`` of a store; an infinite difference is ``null``."""
        finite = float(f"{self.difference:.2g}") if np.isfinite(self.difference) else None
        return {
            "again": self.again,
            "after_another": self.after_another,
            "in_a_batch": self.in_a_batch,
            "draws": list(self.draws),
            "changed": list(self.changed),
            "layer": self.layer,
            "difference": finite,
        }


def refuse(found: Repeatability, factory: str) -> None:
    """Refuse a network that is not a function of its input alone.

    Raises
    ------
    ModelError
        with the first layer that differs, by how much, and how to correct or allow it.
    """
    if found.holds:
        return
    only_batches = found.again and found.after_another and found.in_a_batch is False and not found.changed
    alone = " use run.batch_size = 1," if only_batches else ""
    raise ModelError(
        f"{factory!r} is not a function of its input alone: {unrepeatable(found.as_json())}. {found.cause}. "
        f"Correct that,{alone}"
        ' or set model.unrepeatable = "allow" in the spec, which the store records'
    )


def random_inputs(size: Sequence[int], normalize: str, channels: int = 1) -> Tensor:
    """(2, channel, \\*size) float32 in the range of inputs with that normalisation, the same at every call.

    Mean, spread, minimum and maximum of the two differ, and the second has the wider range, so that anything that a
    network keeps from the second shows when it then sees the first.
    """
    generator = torch.Generator().manual_seed(20)
    if normalize.startswith("zscore"):
        inputs = torch.randn(2, channels, *size, generator=generator)
    else:
        inputs = torch.rand(2, channels, *size, generator=generator)
    inputs[0] = 0.1 + 0.5 * inputs[0]
    return inputs * (1000 if normalize == "none" else 1)


def examine(
    model: nn.Module,
    fresh: nn.Module,
    layers: Sequence[Layer],
    inputs: Tensor,
    before: Mapping[str, int],
    *,
    batched: bool,
) -> Repeatability:
    """Run the first of two ``inputs`` twice alone, then in a second network after and together with the other input.

    Restores the global random generators.

    Parameters
    ----------
    model
        in evaluation mode, on the CPU.
    fresh
        a second network from the same factory that has not run yet.
    inputs
        (2, 1, \\*size).
    before
        `weights_checksums` of ``model`` before it ran for the first time.
    batched
        whether any pass of the run has several inputs.

    Raises
    ------
    ModelError
        if the network does not take a batch of two, or returns a different number of outputs for it.
    """
    first, both = inputs[:1], inputs.flip(0)
    paths = [*dict.fromkeys(layer.module for layer in layers), _OUTPUT]
    names = {(layer.module, layer.call, layer.output): f"{layer.name} ({layer.label})" for layer in layers}
    # State that only the first pass adds, such as cached position encodings, is not a change. The fresh network shows
    # whether it depends on the input of that pass.
    before = {**weights_checksums(model), **before}
    fresh_before = weights_checksums(fresh)
    beside = ("", 0.0)
    with kept_generators():
        expected = _outputs(model, paths, first)
        # A pass over a volume may take many seconds, so run only a few. One repetition is enough, since the generators
        # reveal rare random behaviour. The batch also serves as the other input that the fresh network sees first.
        drawn = _generators()
        again = _first_difference(expected, _outputs(model, paths, first), names)
        if batched:
            beside = _first_difference(expected, _in_a_batch(fresh, paths, both), names)
        else:
            _outputs(fresh, [], inputs[1:])
        after = _first_difference(expected, _outputs(fresh, paths, first), names)
        draws = tuple(sorted(name for name, state in _generators().items() if state != drawn[name]))
        changed = _changed(before, model) | (_changed(fresh_before, fresh) & fresh_before.keys())
        layer, difference = next(
            (found for found in (again, after, beside) if found[1] > ROUNDING),
            ("", max(again[1], after[1], beside[1])),
        )
        found = Repeatability(
            again=again[1] <= ROUNDING,
            after_another=after[1] <= ROUNDING,
            in_a_batch=beside[1] <= ROUNDING if batched else None,
            draws=draws,
            changed=tuple(sorted(changed)),
            layer=layer,
            difference=difference,
        )
        if found.holds:
            return found
        if not found.again or found.draws:
            other, batch = model, first
        elif not found.after_another:
            other, batch = fresh, first
        else:
            other, batch = fresh, both
        return replace(found, cause=_cause(model, found, first, other, batch))


def _changed(before: Mapping[str, int], model: nn.Module) -> set[str]:
    after = weights_checksums(model)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _in_a_batch(model: nn.Module, paths: Sequence[str], both: Tensor) -> dict[Key, Tensor]:
    mend = "use run.batch_size = 1, or let its forward() take batches"
    try:
        return _outputs(model, paths, both)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the network fails on a batch of two inputs: {one_line(error)}; {mend}") from error


def _outputs(model: nn.Module, paths: Sequence[str], batch: Tensor) -> dict[Key, Tensor]:
    """Each module's output for the last input of ``batch``, at most `COMPARED` values each, in execution order."""
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
    """Copy at most `COMPARED` values, since later operations may change the tensor in place."""
    values = tensor.detach().reshape(-1)
    step = -(-values.numel() // COMPARED)
    return values[:: step + (step > 1 and step % 2 == 0)].clone() if values.numel() else values.clone()


def _first_difference(
    expected: Mapping[Key, Tensor], found: Mapping[Key, Tensor], names: Mapping[Key, str]
) -> tuple[str, float]:
    """The first layer that differs beyond rounding, and by how much; or "" and the largest difference of all layers."""
    largest = 0.0
    for key in {**expected, **found}:
        both = key in expected and key in found
        difference = relative_difference(expected[key], found[key]) if both else np.inf
        if difference > ROUNDING:
            return names.get(key, "the output" if key[0] == _OUTPUT else key[0]), difference
        largest = max(largest, difference)
    return "", largest


@contextmanager
def kept_generators() -> Iterator[None]:
    """Restore the global random state of torch, NumPy and Python on exit."""
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


def _cause(model: nn.Module, found: Repeatability, alone: Tensor, other: nn.Module, batch: Tensor) -> str:
    """Where the difference begins, and the usual remedy."""
    kept = [
        f"{path!r} ({type(module).__name__})"
        for path, module in model.named_modules()
        if module.training and not list(module.children())
    ]
    if kept:
        return (
            f"Training mode is on despite eval() in {first_few(kept, count=True)}: train(), eval() and forward() must "
            "leave modules in evaluation mode"
        )
    if found.changed:
        return "Nothing may be updated in forward() once eval() was called"
    path = origin(model, alone, other, batch)
    where = "" if path is None else f"It begins in {path!r} ({type(model.get_submodule(path)).__name__}): "
    where = where.replace("''", "forward() of the network")
    if found.again and not found.draws and not found.after_another:
        return where + (
            "nothing that forward() sees may be kept, in attributes or elsewhere, and the factory must make the same "
            "network at every call"
        )
    if found.again and not found.draws:
        return where + (
            "batch normalisation needs running statistics (track_running_stats=True), and nothing else may look at "
            "other inputs of the batch, as dynamic quantisation does"
        )
    return where + (
        "functional dropout needs training=self.training (eval() does not reach it), and nothing else may be random or "
        "kept from one pass to the next"
    )
