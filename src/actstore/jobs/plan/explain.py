"""What `actstore explain` explains, checked against the run's store and network before any pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from actstore.attribution.occlusion import Windows
from actstore.cluster.executors import IN_FLIGHT
from actstore.code.digests import code_digests, load_code
from actstore.code.imports import resolve_callable
from actstore.errors import SpecError
from actstore.jobs.explaining import Explaining
from actstore.jobs.plan.again import THREAD_BYTES, Again, check_again, chosen, layers_of, run_again
from actstore.jobs.plan.budget import LIVE_OUTPUTS, library_bytes
from actstore.jobs.plan.explain_cost import resolved, weighted_of
from actstore.jobs.runner import Workers
from actstore.maximisation.targets import alive_bytes, module_outputs
from actstore.networks.model import model_bytes
from actstore.spec.explain import BACKWARD, OCCLUSION, Explain
from actstore.spec.spec import Spec
from actstore.store.files.base import Location
from actstore.store.schema import Layer


@dataclass(frozen=True)
class ExplainPlan:
    """Explanations of a run, ready to start."""

    of: tuple[Explaining, ...]
    workers: Workers


def plan_explain(
    spec: Spec,
    *,
    names: Sequence[str] = (),
    store: Location | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> ExplainPlan:
    """Check ``spec.explain`` against the run's store and network.

    Parameters
    ----------
    names
        of the explanations to make; by default all.

    Raises
    ------
    ActstoreError
        if the store is not whole or of another run; if settings do not fit the network; if memory does not suffice.
    """
    wanted = chosen(spec.explain, names, "explain", "explanation")
    with run_again(spec, store, workers, device) as again:
        made = tuple(_explaining(again, settings) for settings in wanted)
        memory = max(_memory(of, again) for of in made)
    check_again(again, memory)
    return ExplainPlan(made, again.workers(memory))


def _explaining(again: Again, settings: Explain) -> Explaining:
    """One explanation, fitted to the run."""
    layers = _layers(again, settings)
    own = _code(again.spec, settings, again.fields["code"])
    refuse_script(settings, again.seen.model)
    layout = again.store.layout
    if settings.method == OCCLUSION:
        Windows.of(layout.space, settings.window, settings.stride)
    weighted = weighted_of(again.seen.model, layout, layers)
    fitted = resolved(settings, layout.space, weighted)
    return Explaining(**{**again.fields, "code": own}, settings=fitted, layers=layers, weighted=weighted)


def _layers(again: Again, settings: Explain) -> tuple[Layer, ...]:
    """The layers whose channels are projected back."""
    if settings.layers is None:
        return ()
    layers, recorded = layers_of(again, settings.layers, f"explain {settings.name!r}: layers")
    if settings.by == "mad" and not all(recorded):
        raise SpecError(
            f'explain {settings.name!r}: by = "mad" needs what the store records, and '
            f'{layers[recorded.index(False)].label!r} is none of its layers: use by = "max" or "mean"'
        )
    return layers


def refuse_script(settings: Explain, model: nn.Module) -> None:
    """Refuse a way back through TorchScript, in which neither activations nor norms are met."""
    script = [path or "the network" for path, part in model.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    goes_back = settings.method in BACKWARD
    plain = settings.method == "gradient" and settings.norm == "autograd" and not settings.of_channels
    randomised = settings.randomisation or (goes_back and settings.randomisation is None)
    if script and (randomised or (goes_back and not plain)):
        raise SpecError(
            f"explain {settings.name!r}: {script[0]} is TorchScript, in which activations, norms and single layers are "
            'not met: use method = "occlusion", or "gradient" with norm = "autograd" and randomisation = []'
        )


def _code(spec: Spec, settings: Explain, captured: dict[str, str]) -> dict[str, str]:
    """Digests of the code beside the spec that a worker may import."""
    if settings.method in (OCCLUSION, *BACKWARD):
        return captured
    named = [*filter(None, [spec.model.factory]), *(p.transform for p in spec.perturb), settings.method]
    load_code(spec.folder, named, spec.model.arguments)
    resolve_callable(settings.method, f"explain {settings.name!r}: method")
    return code_digests()


def _memory(of: Explaining, again: Again) -> int:
    """Predicted peak resident bytes of one worker."""
    layout, seen, model = of.layout, again.seen, again.seen.model
    image = 4 * math.prod(layout.space)
    shape = (len(layout.input_channels), *layout.space)
    passes = LIVE_OUTPUTS * of.batch_size * seen.probe.largest_output_bytes + THREAD_BYTES
    if of.settings.method != OCCLUSION:
        passes = max(passes, of.batch_size * alive_bytes(module_outputs(model, shape)))
    maps = len(of.layers) * of.settings.top if of.layers else len(of.targets)
    held = of.batch_size * len(layout.input_channels) * image * (maps + 2)
    held += of.batch_size * image * maps * len(of.conditions)
    # Where patches overlap, the mean logits of a whole volume.
    held += 8 * of.head.channels * again.largest_volume
    # Weights are permuted in a copy.
    weights = model_bytes(model) * (2 if of.settings.randomisation else 1)
    return library_bytes(of.spec) + weights + IN_FLIGHT * (passes + held)
