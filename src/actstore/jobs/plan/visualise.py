"""Which channels `actstore visualise` maximises, checked against the run's store and network before any step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from actstore.errors import SpecError
from actstore.jobs.optima import SAMPLES, Optimising, examples
from actstore.jobs.plan.again import run_again
from actstore.jobs.plan.budget import check_memory, library_bytes
from actstore.jobs.runner import Workers
from actstore.maximisation.ascent import Canvas
from actstore.maximisation.penalties import is_penalty
from actstore.maximisation.targets import Target, find_targets
from actstore.maximisation.transforms import transform_of
from actstore.networks.model import model_bytes
from actstore.spec.spec import Spec
from actstore.spec.visualise import Visualise
from actstore.store.attributes import trained_of
from actstore.store.files.base import Location
from actstore.store.store import Store
from actstore.units import counted

#: What autograd and the optimiser load beside the libraries of a capture (measured).
AUTOGRAD_BYTES = 96 * 2**20
#: What the switching bilateral filter holds of one image of one channel at once, in such images, by axes (measured).
FILTER_IMAGES = {2: 10, 3: 52}
#: Percentiles of the run's inputs between which images lie where normalisation sets no range.
RANGE_PERCENTILES = (0.1, 99.9)


@dataclass(frozen=True)
class OptimaPlan:
    """A run of activation maximisation, ready to start."""

    of: Optimising
    workers: Workers


def plan_optima(
    spec: Spec, *, store: Location | None = None, name: str = "optima", workers: int | None = None, device: str = "auto"
) -> OptimaPlan:
    """Check ``spec.visualise`` against the run's store and network, and fill in what it leaves open.

    Raises
    ------
    ActstoreError
        if the store is not whole or of another run; if the settings do not fit the network; if memory does not suffice.
    """
    with run_again(spec, store, workers, device) as again:
        spec, opened, seen = again.spec, again.store, again.seen
        settings = _resolved(spec, opened)
        canvas = _canvas(settings, opened)
        for regularizer in settings.regularize:
            if not is_penalty(regularizer):
                transform_of(regularizer, len(canvas.size), canvas.bounds)
        targets = find_targets(
            seen.model,
            settings,
            canvas,
            settings.layers or spec.model.layers,
            channels_last=spec.model.channels_last,
            head=seen.head,
            recorded=opened.layout.layers,
        )
    memory = _memory(spec, settings, canvas, targets, seen.model, opened)
    worst = max(targets, key=lambda target: target.bytes)
    check_memory(
        spec,
        again.machine.workers,
        memory,
        why=f"{counted(_elements(settings), 'image')} up to layer {worst.label!r} at once",
        mend="a smaller visualise.batch_size, or fewer --workers",
    )
    attributes = opened.attributes
    of = Optimising(
        opened.storage,
        name,
        spec,
        opened.layout,
        seen.weights,
        attributes["identity"].get("code", {}),
        settings,
        targets,
        seen.head,
    )
    return OptimaPlan(of, again.workers(memory))


def _resolved(spec: Spec, store: Store) -> Visualise:
    """The spec's settings with layers, size and range, as they are stored."""
    layout = store.layout
    regularize = tuple(regularizer.filled for regularizer in spec.visualise.regularize)
    settings = spec.visualise.model_copy(update={"regularize": regularize})
    size = settings.size or layout.space
    if len(size) != len(layout.space):
        raise SpecError(
            f"visualise.size = {list(size)}: the network takes {len(layout.space)}D inputs, of {list(layout.space)} in "
            f"this run; give {len(layout.space)} numbers"
        )
    if settings.parameterization == "maco" and tuple(size) != layout.space:
        raise SpecError(
            f'visualise.size = {list(size)}: "maco" takes its magnitude from the run\'s inputs of '
            f"{list(layout.space)}: take size out"
        )
    if settings.parameterization == "maco" and settings.range is None:
        # Natural spectra have the inputs' own range.
        return settings.model_copy(update={"size": tuple(size), "range": _own_range(store)})
    chosen = settings.range or _range(spec, store)
    layers = None if settings.objective == "class" else settings.layers or spec.model.layers
    return settings.model_copy(update={"size": tuple(size), "range": chosen, "layers": layers})


def _range(spec: Spec, store: Store) -> tuple[float, float]:
    normalize = spec.data.preprocess.normalize
    if not trained_of(store.attributes["identity"]) and normalize.partition("-")[0] in ("minmax", "percentile"):
        return (0.0, 1.0)
    return _own_range(store)


def _own_range(store: Store) -> tuple[float, float]:
    """The range of the run's own inputs without extremes, to three digits of its span."""
    low, high = np.nanpercentile(examples(store), RANGE_PERCENTILES).tolist()
    if not low < high:
        raise SpecError(f"visualise.range is missing: the run's inputs are {low:g} everywhere; give a range")
    # Of the span, not of the numbers: three digits of 1000.4 and 1000.9 would leave no span.
    decimals = 2 - math.floor(math.log10(high - low))
    return round(low, decimals), round(high, decimals)


def _canvas(settings: Visualise, store: Store) -> Canvas:
    bounds = settings.range if isinstance(settings.range, tuple) else None
    return Canvas(len(store.layout.input_channels), settings.size or store.layout.space, bounds)


def _memory(
    spec: Spec, settings: Visualise, canvas: Canvas, targets: tuple[Target, ...], model: nn.Module, store: Store
) -> int:
    """Predicted peak resident bytes of one worker."""
    image = 4 * canvas.channels * math.prod(canvas.size)
    elements = _elements(settings)
    largest = max(target.bytes for target in targets) * elements
    if settings.samples:
        # Samples have the size of the run's inputs, whatever that of the images.
        once = max(target.bytes for target in targets) * math.prod(store.layout.space) / math.prod(canvas.size)
        widest = max(len(target.channels) for target in targets)
        largest = max(largest, math.ceil(once * max(SAMPLES, min(settings.batch_size, widest))))
    # An image, its gradient, two moments of Adam and what transforms return; the images of a unit.
    images = image * (elements * (8 + 2 * len(settings.regularize)) + settings.batch_size * settings.repeats)
    if any(regularizer.kind == "switching_bilateral" for regularizer in settings.regularize):
        images += 4 * math.prod(canvas.size) * FILTER_IMAGES[len(canvas.size)]
    return library_bytes(spec) + AUTOGRAD_BYTES + model_bytes(model) + largest + images


def _elements(settings: Visualise) -> int:
    return settings.batch_size * (settings.repeats if settings.diversity > 0 else 1)
