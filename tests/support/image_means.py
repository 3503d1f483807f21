"""A minimal job: the mean of the network's input over each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from actstore.jobs.job import Compute, PlainUnit, Report
from actstore.jobs.out import Out
from actstore.spec.spec import Spec
from actstore.store.files import Storage
from actstore.store.layout import SmallLayout
from actstore.store.schema import Coordinate, Schema, StoreLayout, record_of
from actstore.store.store import Store


@dataclass(frozen=True)
class ImageMeans:
    storage: Storage
    layout: StoreLayout
    blocks: tuple[PlainUnit, ...]
    group = "features/means"
    needs = ()

    @property
    def schema(self) -> Schema:
        n, shape = self.layout.blocks, (self.layout.slots, self.layout.conditions)
        mean = SmallLayout(f"{self.group}/mean", ("sample", "condition"), "float64", n, shape)
        return Schema(self.group, record_of(self.group, n), (mean,), coordinates=("unit",))

    def identity(self) -> Mapping[str, Any]:
        return {"of": "inputs/image"}

    def coordinates(self) -> Sequence[Coordinate]:
        return (Coordinate("unit", ("block",), np.asarray([block.name for block in self.blocks])),)

    def units(self) -> Sequence[PlainUnit]:
        return self.blocks

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        store = Store(self.storage.location)

        def compute(unit: PlainUnit, out: Out) -> Report:
            image = store.image.isel(sample=np.flatnonzero(store.samples["block"] == unit.index))
            out.put("mean", image.mean(["input_channel", "y", "x"], dtype=np.float64).values)
            return Report(unit.index, unit.name)

        yield compute

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        store = Store(storage.location)
        blocks = tuple(PlainUnit(b, store.attributes["blocks"][b], samples) for b, samples in store.block_samples)
        return cls(storage, store.layout, blocks)
