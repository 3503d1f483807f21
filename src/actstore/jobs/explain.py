"""Explanations of committed blocks: maps of classes' scores, or channels projected back into the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from actstore.cluster.main_guard import refuse_in_worker
from actstore.jobs.channel_maps import ChannelMaps
from actstore.jobs.class_maps import ClassMaps
from actstore.jobs.explaining import Explaining
from actstore.jobs.filled import Filled, fill_each
from actstore.jobs.job import Compute, PlainUnit, Report
from actstore.jobs.of_run import Opened
from actstore.jobs.out import Out
from actstore.jobs.plan.explain import plan_explain
from actstore.jobs.reading import block_units
from actstore.jobs.reproduction import require_reproduced
from actstore.jobs.runner import Progress
from actstore.spec.spec import Spec
from actstore.store.files.base import Location, Storage
from actstore.store.schema import Coordinate, Schema, record_of
from actstore.store.store import Store


@dataclass(frozen=True)
class ExplainJob:
    """One explanation of every sample of a run; fills the group ``explain/NAME``. A unit is a block."""

    of: Explaining
    #: Not pickled: workers receive one block at a time.
    blocks: tuple[PlainUnit, ...] = field(default=(), compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "blocks": ()}

    @property
    def _maps(self) -> ClassMaps | ChannelMaps:
        return ChannelMaps(self.of) if self.of.settings.of_channels else ClassMaps(self.of)

    @property
    def schema(self) -> Schema:
        names = tuple(coordinate.name for coordinate in self.coordinates())
        record = record_of(self.of.group, self.of.layout.blocks)
        return Schema(self.of.group, record, self._maps.arrays, coordinates=names)

    @property
    def needs(self) -> Sequence[str]:
        return ()

    def identity(self) -> Mapping[str, Any]:
        return self.of.identity()

    def coordinates(self) -> Sequence[Coordinate]:
        condition = np.asarray(self.of.settings.conditions)
        return (Coordinate("condition", ("condition",), condition), *self._maps.coordinates)

    def units(self) -> Sequence[PlainUnit]:
        return self.blocks

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        with self.of.opened(device) as opened:
            store = Store(self.of.storage.location)

            def compute(unit: PlainUnit, out: Out) -> Report:
                samples = np.flatnonzero(store.samples["block"] == unit.index)
                with opened.computing():
                    require_reproduced(self.of, opened, store, samples, unit.name)
                    self._compute(opened, store, samples, out)
                return Report(unit.index, unit.name)

            yield compute

    def _compute(self, opened: Opened, store: Store, samples: NDArray[np.int64], out: Out) -> None:
        maps = self._maps
        small: dict[str, list[NDArray[Any]]] = {}
        with out.one_by_one(maps.name) as write:
            for first in range(0, len(samples), self.of.batch_size):
                for found in maps.of_samples(opened, store, samples[first : first + self.of.batch_size]):
                    write(found.pop(maps.name))
                    for name, values in found.items():
                        small.setdefault(name, []).append(values)
        for name, entries in small.items():
            out.put(name, np.stack(entries))

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        return cls.of_run(Explaining.again(storage, identity, spec))

    @classmethod
    def of_run(cls, of: Explaining) -> Self:
        """The job for the blocks of the run's store."""
        return cls(of, block_units(Store(of.storage.location)))


def explain(
    spec: Spec,
    *,
    names: Sequence[str] = (),
    store: Location | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> tuple[Filled, ...]:
    """Make the explanations of ``spec.explain``, each into its group ``explain/NAME`` of the run's store; continues.

    Inputs and predictions come from the store: the data set is not needed.

    Parameters
    ----------
    names
        of the explanations to make; by default all.
    store, cluster, workers, device, progress, stopping
        as for `actstore.capture`.

    Returns
    -------
    tuple of Filled
        one for each explanation; the last one is not complete if it failed or was stopped, and later ones are missing.

    Raises
    ------
    ActstoreError
        if the store is not whole or of another run; if the settings do not fit the network; if a group belongs to other
        settings.

    Examples
    --------
    >>> found = actstore.explain(actstore.load_spec("run.toml"), cluster="inline")
    >>> [one.group for one in found]
    ['explain/slope']
    """
    refuse_in_worker(cluster or spec.cluster.kind)
    planned = plan_explain(spec.with_cluster(cluster), names=names, store=store, workers=workers, device=device)
    jobs = ((ExplainJob.of_run(of), of.storage, planned.workers) for of in planned.of)
    return fill_each(jobs, progress, stopping)
