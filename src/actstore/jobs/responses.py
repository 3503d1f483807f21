"""The job that looks up how the run's own samples drive the channels whose images are maximised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from actstore.jobs.job import Compute, PlainUnit, Report
from actstore.jobs.optima import SAMPLES, OpenedNetwork, Optimising
from actstore.jobs.out import Out
from actstore.jobs.reading import block_units, inputs_of, read
from actstore.maximisation.objectives import Goal
from actstore.maximisation.targets import Target
from actstore.spec.spec import Spec
from actstore.store.files.base import Storage
from actstore.store.layout import SmallLayout
from actstore.store.schema import Coordinate, Schema, record_of
from actstore.store.store import Store


@dataclass(frozen=True)
class Responses:
    """The objective of every sample's original, and where each map has its largest value; its centre for "neuron"."""

    of: Optimising
    #: Not pickled: workers receive one block at a time.
    blocks: tuple[PlainUnit, ...] = field(default=(), compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "blocks": ()}

    @property
    def schema(self) -> Schema:
        layout, group = self.of.layout, self.of.responses
        n, slots, width = layout.blocks, layout.slots, sum(len(target.channels) for target in self.of.targets)
        dims = ("sample", "layer_channel")
        value = SmallLayout(f"{group}/value", dims, "float32", n, (slots, width))
        axes = (slots, width, len(layout.space))
        position = SmallLayout(f"{group}/position", (*dims, "axis"), "int32", n, axes)
        return Schema(group, record_of(group, n), (value, position), coordinates=("layer", "channel"))

    @property
    def needs(self) -> Sequence[str]:
        return ()

    def identity(self) -> Mapping[str, Any]:
        return {**self.of.objective_identity(), "name": self.of.name}

    def coordinates(self) -> Sequence[Coordinate]:
        pairs = [(target.name, channel) for target in self.of.targets for channel in target.channels]
        return (
            Coordinate("layer", ("layer_channel",), np.asarray([name for name, _ in pairs])),
            Coordinate("channel", ("layer_channel",), np.asarray([channel for _, channel in pairs], np.int64)),
        )

    def units(self) -> Sequence[PlainUnit]:
        return self.blocks

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        with self.of.opened(device) as opened:
            store = Store(self.of.storage.location)

            def compute(unit: PlainUnit, out: Out) -> Report:
                samples = np.flatnonzero(store.samples["block"] == unit.index)
                with opened.lock:
                    found = [self._of_target(store, opened, target, samples) for target in self.of.targets]
                out.put("value", np.concatenate([value for value, _ in found], axis=1))
                out.put("position", np.concatenate([position for _, position in found], axis=1))
                return Report(unit.index, unit.name)

            yield compute

    def _of_target(
        self, store: Store, opened: OpenedNetwork, target: Target, samples: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Value (sample, channel) and position (sample, channel, axis) of the samples of a block."""
        settings = self.of.settings
        goal = Goal.of(settings.objective, target.channels, settings.directions, opened.device)
        kept = {layer.name for layer in store.layout.layers if layer.kept}
        values, positions = [], []
        for first in range(0, len(samples), SAMPLES):
            some = samples[first : first + SAMPLES]
            if target.name in kept:
                stored = read(store[target.name].isel(sample=some, condition=0)).astype(np.float32)
                maps = torch.from_numpy(stored).to(opened.device)
            else:
                maps = _recorded(opened, target, inputs_of(store, some, 0))
            for one in maps:
                own = goal.maps(one[None].expand(len(target.channels), *one.shape)).double()
                values.append(goal.reduce(own).cpu().numpy().astype(np.float32))
                positions.append(_places(own, settings.objective == "neuron"))
        return np.stack(values), np.stack(positions)

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        return cls.of_run(Optimising.again(storage, identity, spec))

    @classmethod
    def of_run(cls, of: Optimising) -> Self:
        """The job for the blocks of the run's store."""
        return cls(of, block_units(Store(of.storage.location)))


def _places(maps: torch.Tensor, centre: bool) -> NDArray[np.int32]:
    """Where each map (channel, \\*space) has its largest value, or its centre: (channel, axis)."""
    if centre:
        return np.tile(np.asarray([n // 2 for n in maps.shape[1:]], np.int32), (len(maps), 1))
    largest = maps.flatten(1).argmax(1).cpu().numpy()
    return np.stack(np.unravel_index(largest, maps.shape[1:]), 1).astype(np.int32)


@torch.no_grad()
def _recorded(opened: OpenedNetwork, target: Target, images: NDArray[np.float32]) -> torch.Tensor:
    """Maps (sample, channel, \\*space) of a pass over stored inputs."""
    with opened.reach(target) as reach:
        return reach(torch.from_numpy(np.ascontiguousarray(images)).to(opened.device)).values
