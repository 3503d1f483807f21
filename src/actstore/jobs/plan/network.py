"""Inspects the network of a run on zeros, and checks that each output depends on its own input alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from actstore.data.images import COLOURS
from actstore.errors import ActstoreError, ModelError, one_line
from actstore.geometry import Grid
from actstore.inputs.adapters import AnyPipeline
from actstore.networks.arithmetic import torch_threads
from actstore.networks.filters import Filters, first_filters
from actstore.networks.grids import layer_grids
from actstore.networks.heads import Head, head_of
from actstore.networks.model import build_model, foreign_dtypes, quantised_modules, weights_checksums, weights_digest
from actstore.networks.recording import Probe, match_modules, probe
from actstore.networks.repeatable import Repeatability, examine, random_inputs, refuse
from actstore.spec.spec import Spec
from actstore.store.schema import Layer


@dataclass(frozen=True)
class Inspected:
    """A network, and the findings of its first forward pass."""

    model: nn.Module
    #: `weights_digest` and `weights_checksums` before that pass, which may change the weights.
    weights: str
    checksums: Mapping[str, int]
    probe: Probe
    #: Which of its outputs holds the logits, and how they become classes.
    head: Head


def inspect_model(spec: Spec, pipeline: AnyPipeline) -> Inspected:
    """Load the spec's network and inspect it with a forward pass on zeros.

    Raises
    ------
    ModelError
        if what the network returns for (batch, 1, \\*size) fits none of the heads of `head_of`.
    """
    model = build_model(spec)
    weights, checksums = weights_digest(model), weights_checksums(model)
    shape = (len(pipeline.channels), *pipeline.window)
    try:
        found = probe(model, shape, spec.model.layers, spec.model.channels_last)
    except ActstoreError:
        raise
    except Exception as error:
        raise ModelError(
            f"{spec.model.source!r} fails on an input of (1, {', '.join(map(str, shape))}): {one_line(error)}; "
            f"{_mend(spec, model, error)}"
        ) from error
    size = () if spec.data.classified else pipeline.window
    return Inspected(model, weights, checksums, found, head_of(spec, size, found.output))


def _mend(spec: Spec, model: nn.Module, error: Exception) -> str:
    """The likely remedy for a network that fails on zeros."""
    if "quantized::" in str(error) and (quantised := quantised_modules(model)):
        return (
            f"modules such as {quantised[0]} take quantised inputs: return the network from before quantisation, or "
            "put QuantStub and DeQuantStub around them"
        )
    if others := foreign_dtypes(model):
        return f"its weights are not float32 as inputs are ({others}): return network.float() from the factory"
    if spec.data.classified and len(spec.input_channels) == len(COLOURS) and "channels" in str(error):
        return (
            f"the images have {len(COLOURS)} channels ({', '.join(spec.input_channels)}): for a grey network set "
            'data.images.colour = "grey"'
        )
    return "correct data.preprocess.size or model.arguments"


def check_repeatable(spec: Spec, pipeline: AnyPipeline, seen: Inspected) -> Repeatability:
    """Check with a few passes on the CPU whether each output of the network depends on its own input alone.

    Raises
    ------
    ModelError
        if it does not, unless ``model.unrepeatable`` allows that; if the network does not take batches and the run has
        them; if the factory makes other weights at every call.
    """
    fresh = build_model(spec)
    if spec.model.weights is None and weights_digest(fresh) != seen.weights:
        raise ModelError(
            f"model.factory {spec.model.factory!r} makes other weights at every call, so that no two workers would run "
            "the same network: give model.weights, or let the factory fix its seed"
        )
    inputs = random_inputs(pipeline.window, spec.data.preprocess.normalize, len(pipeline.channels))
    batched = spec.run.batch_size != 1
    found = examine(seen.model, fresh, seen.probe.layers, inputs, seen.checksums, batched=batched)
    if spec.model.unrepeatable == "refuse":
        refuse(found, spec.model.source)
    return found


@dataclass(frozen=True)
class Network:
    """What a run knows about its network."""

    model: nn.Module
    weights: str
    probe: Probe
    head: Head
    #: Recorded layers; `Layer.kept` marks those whose tensors are stored.
    layers: tuple[Layer, ...]
    #: Where the pixels of each layer lie on the input.
    grids: tuple[Grid, ...]
    #: Whether each output depends on its own input alone.
    repeatable: Repeatability
    #: The weight of the first convolution, if there is one.
    filters: Filters | None = None


def examine_network(spec: Spec, pipeline: AnyPipeline, threads: int) -> Network:
    """Examine the spec's network with passes on the CPU.

    Use a worker's ``threads``: if workers are already running, more threads would mostly wait for each other.

    Raises
    ------
    ModelError
        as raised by `inspect_model`, `check_repeatable` and `keep`.
    """
    seen = inspect_model(spec, pipeline)
    layers = keep(seen.probe.layers, spec.store.keep, seen.model)
    with torch_threads(threads):
        repeatable = check_repeatable(spec, pipeline, seen)
        grids = layer_grids(seen.model, layers, pipeline.window, len(pipeline.channels))
    filters = first_filters(seen.model, (len(pipeline.channels), *pipeline.window))
    return Network(seen.model, seen.weights, seen.probe, seen.head, layers, tuple(grids), repeatable, filters)


def keep(layers: Sequence[Layer], wanted: str | Sequence[str], model: nn.Module) -> tuple[Layer, ...]:
    """Mark the ``layers`` whose tensors are stored.

    Raises
    ------
    ModelError
        if a pattern matches no recorded layer.
    """
    if isinstance(wanted, str):
        return tuple(replace(layer, kept=wanted == "all") for layer in layers)
    matches = match_modules(model, wanted, key="store.keep")
    for pattern, modules in matches.items():
        if not any(layer.module in modules for layer in layers):
            raise ModelError(f"store.keep pattern {pattern!r} matches no recorded layer: `actstore layers` shows them")
    kept = set().union(*matches.values())
    return tuple(replace(layer, kept=layer.module in kept) for layer in layers)
