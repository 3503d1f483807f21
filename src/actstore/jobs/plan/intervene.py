"""What `actstore intervene` edits, checked against the run's store and network before any pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from actstore.cluster.executors import IN_FLIGHT
from actstore.errors import SpecError
from actstore.jobs.intervening import Intervening
from actstore.jobs.plan.again import THREAD_BYTES, Again, check_again, chosen, layers_of, run_again
from actstore.jobs.plan.budget import LIVE_OUTPUTS, library_bytes
from actstore.jobs.plan.rankings import rankings_of
from actstore.jobs.runner import Workers
from actstore.networks.model import model_bytes
from actstore.spec.intervene import Intervene
from actstore.spec.spec import Spec
from actstore.store.files.base import Location
from actstore.store.schema import Layer


@dataclass(frozen=True)
class IntervenePlan:
    """An intervention in a run, ready to start."""

    of: Intervening
    workers: Workers


def plan_intervene(
    spec: Spec,
    *,
    names: Sequence[str] = (),
    store: Location | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> Iterator[IntervenePlan]:
    """Check ``spec.intervene`` against the run's store and network; yields one plan after the other.

    Each is made when the one before it has run, which it may rank channels by.

    Raises
    ------
    ActstoreError
        if the store is not whole or of another run; if settings do not fit the network; if memory does not suffice.
    """
    wanted = chosen(spec.intervene, names, "intervene", "intervention")
    with run_again(spec, store, workers, device) as again:
        fitted = [_fitted(again, settings) for settings in wanted]
        memory = max(_memory(again, layers) for layers, _ in fitted)
    check_again(again, memory)
    for settings, (layers, recomputed) in zip(wanted, fitted, strict=True):
        rankings = rankings_of(settings, layers, again.store, spec.intervene)
        of = Intervening(
            **again.fields,
            settings=settings,
            layers=layers,
            recomputed=recomputed,
            stitched=again.stitched,
            rankings=rankings,
        )
        yield IntervenePlan(of, again.workers(memory))


def _fitted(again: Again, settings: Intervene) -> tuple[tuple[Layer, ...], tuple[bool, ...]]:
    """The layers whose channels are edited, and for which the donor's maps are computed in the same pass."""
    where = f"intervene {settings.name!r}"
    layers, recorded = layers_of(again, settings.layers or again.spec.model.layers, f"{where}: layers")
    what = "ranks channels by what the store records" if settings.ranked else 'edit = "mean" needs the stored means'
    if (settings.ranked or settings.edit == "mean" or settings.region != "all") and not all(recorded):
        missing = layers[recorded.index(False)].label
        if settings.region != "all" and not settings.ranked and settings.edit != "mean":
            what = f'region = "{settings.region}" needs the place of the layer\'s pixels'
        raise SpecError(f"{where}: {what}, and {missing!r} is none of its layers: take it out of layers")
    if not isinstance(settings.channels, str):
        for layer in layers:
            if (beyond := max(map(max, settings.channels))) >= layer.channels:
                raise SpecError(
                    f"{where}: channels names channel {beyond}, and {layer.name} ({layer.label}) has "
                    f"{layer.channels}, from 0 on: correct channels or layers"
                )
    if settings.edit == "shuffle" and any(math.prod(layer.space) == 1 for layer in layers):
        flat = next(layer for layer in layers if math.prod(layer.space) == 1)
        raise SpecError(
            f'{where}: edit = "shuffle" moves pixels, and {flat.label!r} has one value a channel: take it out of layers'
        )
    if settings.region != "all" and any(not layer.space for layer in layers):
        flat = next(layer for layer in layers if not layer.space)
        raise SpecError(
            f"{where}: region = {settings.region!r}, and {flat.label!r} has no pixels: take it out of layers"
        )
    recomputed = tuple(
        settings.edit == "patch" and not _as_stored(again, layer, known)
        for layer, known in zip(layers, recorded, strict=True)
    )
    if any(recomputed) and again.spec.run.batch_size == 1:
        raise SpecError(
            f"{where}: the donor's maps of {layers[recomputed.index(True)].label!r} are not stored as they were and "
            "are computed in the same pass, as a second input, and run.batch_size = 1: give 2 or more, or capture "
            "with the layer in store.keep"
        )
    return layers, recomputed


def _as_stored(again: Again, layer: Layer, recorded: bool) -> bool:
    """Whether the store has a layer's maps with every bit, for every sample that may be edited."""
    exact = again.store.layout.dtype == "float32" and again.spec.store.mantissa_bits is None
    return recorded and layer.kept and exact and not again.stitched


def _memory(again: Again, layers: Sequence[Layer]) -> int:
    """Predicted peak resident bytes of one worker."""
    layout, seen = again.store.layout, again.seen
    # One more where the donor is in the batch of one edit.
    batch = max(2, again.batch_size)
    passes = LIVE_OUTPUTS * batch * seen.probe.largest_output_bytes + THREAD_BYTES
    maps = max(layer.channels * math.prod(layer.space) for layer in layers)
    # What is put in, copies of it, and where patches overlap the sums of a whole volume for each edit, and its inputs.
    held = 4 * (2 + batch) * maps + (4 * batch * seen.head.channels + 8 * layout.conditions) * again.largest_volume
    return library_bytes(again.spec) + model_bytes(seen.model) + IN_FLIGHT * (passes + held)
