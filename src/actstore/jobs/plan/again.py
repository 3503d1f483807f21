"""What `visualise`, `explain` and `intervene` plan alike: the network of a finished run, to be run again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from actstore.errors import SpecError
from actstore.inputs.adapters import pipeline_of
from actstore.jobs.plan.budget import Machine, check_memory, choose_batch_size, machine_of
from actstore.jobs.plan.captured import require_run
from actstore.jobs.plan.identity import load_named
from actstore.jobs.plan.network import Inspected, inspect_model
from actstore.jobs.runner import Workers
from actstore.networks.arithmetic import torch_threads
from actstore.networks.recording import match_modules, probe
from actstore.spec.explain import Explain
from actstore.spec.intervene import Intervene
from actstore.spec.spec import Spec
from actstore.store.files.base import Location
from actstore.store.schema import Layer
from actstore.store.store import Store
from actstore.units import counted

#: What the allocator of a thread keeps beside what passes forward need at once (measured).
THREAD_BYTES = 160 * 2**20

_Table = TypeVar("_Table", Explain, Intervene)


@dataclass(frozen=True)
class Again:
    """A finished run, examined."""

    spec: Spec
    store: Store
    seen: Inspected
    machine: Machine
    #: Inputs of one pass.
    batch_size: int

    @property
    def fields(self) -> dict[str, Any]:
        """What `actstore.jobs.of_run.OfRun` has."""
        return {
            "storage": self.store.storage,
            "spec": self.spec,
            "layout": self.store.layout,
            "weights": self.seen.weights,
            "code": self.store.attributes["identity"].get("code", {}),
            "head": self.seen.head,
            "batch_size": self.batch_size,
        }

    @property
    def stitched(self) -> bool:
        """Whether predictions are averaged over overlapping patches."""
        return self.largest_volume > 0

    @cached_property
    def largest_volume(self) -> int:
        """Voxels of the run's largest volume of overlapping patches, 0 without any."""
        shapes = self.store.samples[["depth", "height", "width"]].drop_duplicates().astype(int)
        windows = map(pipeline_of(self.spec).windows, shapes.itertuples(index=False, name=None))
        return max((math.prod(one.shape) for one in windows if one.overlap), default=0)

    def workers(self, memory: int) -> Workers:
        """Those of the machine, of ``memory`` bytes each."""
        return Workers.of(self.spec, self.machine.workers, self.machine.device, memory)


@contextmanager
def run_again(spec: Spec, store: Location | None, workers: int | None, device: str) -> Iterator[Again]:
    """Examine the run of ``spec`` in its store, or in another ``store``. Passes in the context have a worker's threads.

    Raises
    ------
    ActstoreError
        if the store is not whole or of another run.
    """
    load_named(spec)
    machine = machine_of(spec, device, workers)
    opened = Store(store or spec.store.path)
    spec = spec.with_channels(opened.layout.input_channels)
    with torch_threads(machine.threads):
        seen = inspect_model(spec, pipeline_of(spec))
        require_run(spec, opened, seen)
        batch = spec.run.batch_size or choose_batch_size(machine.device, seen.probe.largest_output_bytes)
        yield Again(spec, opened, seen, machine, batch)


def chosen(tables: Sequence[_Table], names: Sequence[str], table: str, what: str) -> tuple[_Table, ...]:
    """Those of a spec's ``tables`` that have one of ``names``; all without names.

    Raises
    ------
    SpecError
        if there are none, or none of a name.
    """
    known: dict[str, _Table] = {one.name: one for one in tables}
    if not known:
        raise SpecError(f'the spec has no {what}s: add a table [[{table}]] with name = "…"')
    for name in names:
        if name not in known:
            raise SpecError(f"--name {name}: the spec has no {what} of that name, only {', '.join(known)}")
    return tuple(known[name] for name in names or known)


def check_again(again: Again, memory: int) -> None:
    """Refuse workers of ``memory`` bytes that do not fit: as `actstore.jobs.plan.budget.check_memory`."""
    check_memory(
        again.spec,
        again.machine.workers,
        memory,
        why=f"{counted(again.batch_size, 'input')} at once",
        mend="a smaller run.batch_size, or fewer --workers",
    )


def layers_of(again: Again, patterns: Sequence[str], key: str) -> tuple[tuple[Layer, ...], tuple[bool, ...]]:
    """The layers that ``patterns`` match, under the store's names where it records them; and whether it does.

    Raises
    ------
    ModelError
        as `actstore.networks.recording.probe`; ``key`` is that of the spec that the patterns come from.
    """
    layout, model = again.store.layout, again.seen.model
    shape = (len(layout.input_channels), *layout.space)
    matched = set().union(*match_modules(model, patterns, key=key).values())
    last = match_modules(model, again.spec.model.channels_last, key="model.channels_last")
    kept_last = [pattern for pattern, modules in last.items() if modules & matched]
    found = probe(model, shape, patterns, kept_last, key=key).layers
    recorded = {(layer.module, layer.call, layer.output): layer for layer in layout.layers}
    own = [recorded.get((layer.module, layer.call, layer.output)) for layer in found]
    named = (layer or Layer(**{**vars(new), "name": new.label}) for layer, new in zip(own, found, strict=True))
    return tuple(named), tuple(layer is not None for layer in own)
