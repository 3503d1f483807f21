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
from actstore.inputs.adapters import pipeline_of
from actstore.jobs.explaining import Explaining
from actstore.jobs.plan.budget import LIVE_OUTPUTS, check_memory, choose_batch_size, library_bytes, machine_of
from actstore.jobs.plan.captured import require_run
from actstore.jobs.plan.explain_cost import resolved, weighted_of
from actstore.jobs.plan.identity import load_named
from actstore.jobs.plan.network import Inspected, inspect_model
from actstore.jobs.runner import Workers
from actstore.maximisation.targets import alive_bytes, module_outputs
from actstore.networks.arithmetic import torch_threads
from actstore.networks.model import model_bytes
from actstore.networks.recording import match_modules, probe
from actstore.spec.explain import BACKWARD, OCCLUSION, Explain
from actstore.spec.spec import Spec
from actstore.store.files.base import Location
from actstore.store.schema import Layer
from actstore.store.store import Store
from actstore.units import counted

#: What the allocator of a thread keeps beside what passes forward need at once (measured).
THREAD_BYTES = 160 * 2**20


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
    chosen = _chosen(spec, names)
    load_named(spec)
    budget = machine_of(spec, device, workers)
    opened = Store(store or spec.store.path)
    spec = spec.with_channels(opened.layout.input_channels)
    pipeline = pipeline_of(spec)
    with torch_threads(budget.threads):
        seen = inspect_model(spec, pipeline)
        require_run(spec, opened, seen)
        code = opened.attributes["identity"].get("code", {})
        batch = spec.run.batch_size or choose_batch_size(budget.device, seen.probe.largest_output_bytes)
        made = []
        for settings in chosen:
            layers = _layers(spec, settings, opened, seen)
            own = _code(spec, settings, code)
            refuse_script(settings, seen.model)
            if settings.method == OCCLUSION:
                Windows.of(opened.layout.space, settings.window, settings.stride)
            weighted = weighted_of(seen.model, opened.layout, layers)
            of = Explaining(
                opened.storage,
                spec,
                opened.layout,
                seen.weights,
                own,
                resolved(settings, opened.layout.space, weighted),
                layers,
                weighted,
                seen.head,
                batch,
            )
            made.append(of)
        memory = max(_memory(of, seen) for of in made)
    check_memory(
        spec,
        budget.workers,
        memory,
        why=f"{counted(batch, 'input')} at once",
        mend="a smaller run.batch_size, or fewer --workers",
    )
    return ExplainPlan(tuple(made), Workers.of(spec, budget.workers, budget.device, memory))


def _chosen(spec: Spec, names: Sequence[str]) -> tuple[Explain, ...]:
    known = {settings.name: settings for settings in spec.explain}
    if not known:
        raise SpecError('the spec has no explanations: add a table [[explain]] with name = "…" and method = "…"')
    for name in names:
        if name not in known:
            raise SpecError(f"--name {name}: the spec has no explanation of that name, only {', '.join(known)}")
    return tuple(known[name] for name in names or known)


def _layers(spec: Spec, settings: Explain, store: Store, seen: Inspected) -> tuple[Layer, ...]:
    """The layers whose channels are projected back, under the store's names where it records them."""
    if settings.layers is None:
        return ()
    shape, model = (len(store.layout.input_channels), *store.layout.space), seen.model
    matched = set().union(*match_modules(model, settings.layers, key=f"explain {settings.name!r}: layers").values())
    last = match_modules(model, spec.model.channels_last, key="model.channels_last")
    kept_last = [pattern for pattern, modules in last.items() if modules & matched]
    found = probe(model, shape, settings.layers, kept_last, key=f"explain {settings.name!r}: layers").layers
    recorded = {(layer.module, layer.call, layer.output): layer for layer in store.layout.layers}
    layers = []
    for layer in found:
        own = recorded.get((layer.module, layer.call, layer.output))
        if settings.by == "mad" and own is None:
            raise SpecError(
                f'explain {settings.name!r}: by = "mad" needs what the store records, and {layer.label!r} is none of '
                'its layers: use by = "max" or "mean"'
            )
        layers.append(own or Layer(**{**vars(layer), "name": layer.label}))
    return tuple(layers)


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


def _memory(of: Explaining, seen: Inspected) -> int:
    """Predicted peak resident bytes of one worker."""
    layout, model = of.layout, seen.model
    image = 4 * math.prod(layout.space)
    shape = (len(layout.input_channels), *layout.space)
    passes = LIVE_OUTPUTS * of.batch_size * seen.probe.largest_output_bytes + THREAD_BYTES
    if of.settings.method != OCCLUSION:
        passes = max(passes, of.batch_size * alive_bytes(module_outputs(model, shape)))
    maps = len(of.layers) * of.settings.top if of.layers else len(of.targets)
    held = of.batch_size * len(layout.input_channels) * image * (maps + 2)
    held += of.batch_size * image * maps * len(of.conditions)
    # Where patches overlap, the mean logits of a whole volume.
    held += 8 * of.head.channels * _largest_volume(of)
    # Weights are permuted in a copy.
    weights = model_bytes(model) * (2 if of.settings.randomisation else 1)
    return library_bytes(of.spec) + weights + IN_FLIGHT * (passes + held)


def _largest_volume(of: Explaining) -> int:
    """Voxels of the run's largest volume of overlapping patches."""
    shapes = Store(of.storage.location).samples[["depth", "height", "width"]].drop_duplicates().astype(int)
    pipeline = pipeline_of(of.spec)
    overlapping = [
        math.prod(shape) for shape in shapes.itertuples(index=False, name=None) if pipeline.windows(shape).overlap
    ]
    return max(overlapping, default=0)
