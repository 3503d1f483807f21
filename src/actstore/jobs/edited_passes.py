"""Edited passes over the samples of a block, and what they predict."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.analysis.maps.masks import averaged
from actstore.jobs.edits import Edit
from actstore.jobs.intervening import Intervening
from actstore.jobs.of_run import Opened
from actstore.jobs.reading import maps_of
from actstore.networks.interventions import Edited, Intervention
from actstore.store.store import Store

#: Inputs of a sample in a condition, by their numbers: (input_channel, \\*space) float32.
Inputs = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class EditedPasses:
    """Runs the network of a run with channels edited."""

    of: Intervening
    opened: Opened
    store: Store
    forward: Edited
    inputs: Inputs

    def logits(self, sample: int, position: int, edits: Sequence[Edit]) -> Tensor:
        """Logits of one sample under each of ``edits``, one pass: (edit, class, \\*space).

        ``position`` is that of the condition among ``into``; the edits are of layers that are all recomputed, or none.
        """
        own = self._sample(sample, position)
        first = int(self.of.recomputed[edits[0].layer])
        # A copy each: a network may work in place on its input.
        batch = own.seen.expand(first + len(edits), *own.seen.shape).contiguous()
        if first:
            batch[0] = own.donor_seen
        interventions: dict[int, list[Intervention]] = {}
        for element, edit in enumerate(edits, first):
            interventions.setdefault(edit.layer, []).append(own.intervention(edit, element))
        return self.of.head.logits(self.forward(batch, interventions))[first:]

    @cached_property
    def _samples(self) -> dict[tuple[int, int], EditedSample]:
        return {}

    def _sample(self, sample: int, position: int) -> EditedSample:
        """What is put into one sample; that of the last one is kept."""
        key = sample, position
        if key not in self._samples:
            self._samples.clear()
            self._samples[key] = EditedSample(self.of, self.store, self.opened.device, self.inputs, sample, position)
        return self._samples[key]

    def batches(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """The ``numbers`` of edits, batch by batch; one element less where the donor is computed in the same pass."""
        for recomputed in (False, True):
            room = max(1, self.of.batch_size - recomputed)
            own = [at for at in numbers if self.of.recomputed[self.of.edits[at].layer] == recomputed]
            for first in range(0, len(own), room):
                yield own[first : first + room]


class EditedSample:
    """One sample in one condition, and what is put into its layers; that of the last layer is kept."""

    def __init__(
        self, of: Intervening, store: Store, device: torch.device, inputs: Inputs, sample: int, position: int
    ) -> None:
        self._of, self._store, self._device, self._inputs = of, store, device, inputs
        self._sample, self._position = sample, position
        self._kept: dict[str, tuple[int, Any]] = {}

    @cached_property
    def seen(self) -> Tensor:
        """The input that is edited: (input_channel, \\*space)."""
        return torch.from_numpy(self._inputs(self._sample, self._of.into[self._position])).to(self._device)

    @cached_property
    def donor_seen(self) -> Tensor:
        """The input of the donor."""
        assert self._of.donor is not None
        return torch.from_numpy(self._inputs(self._sample, self._of.donor)).to(self._device)

    def intervention(self, edit: Edit, element: int) -> Intervention:
        """What ``edit`` is for the ``element`` of a batch."""
        channels = torch.tensor(edit.sets[self._position], device=self._device)
        where = self._once("where", edit.layer, self._where) if self._of.settings.region != "all" else None
        if self._of.settings.edit == "shuffle":
            order = self._once("order", edit.layer, self._order)
            return Intervention(element, channels, order=order[channels], where=where)
        if self._of.recomputed[edit.layer]:
            return Intervention(element, channels, donor=0, where=where)
        values = self._once("values", edit.layer, self._values)
        return Intervention(element, channels, values=values[channels], where=where)

    def _once(self, name: str, layer: int, make: Callable[[int], Tensor]) -> Tensor:
        if self._kept.get(name, (-1,))[0] != layer:
            self._kept[name] = layer, make(layer)
        found: Tensor = self._kept[name][1]
        return found

    def _values(self, number: int) -> Tensor:
        """What is put in: (channel, \\*space), or of 1 along space."""
        layer, edit = self._of.layers[number], self._of.settings.edit
        ones = (1,) * len(layer.space)
        if edit == "zero":
            return torch.zeros(layer.channels, *ones, device=self._device)
        if edit == "mean":
            return torch.from_numpy(self._of.means[number].reshape(layer.channels, *ones)).to(self._device)
        assert self._of.donor is not None
        maps = maps_of(self._store, layer, self._sample, self._of.donor)
        return torch.from_numpy(maps).to(self._device)

    def _where(self, number: int) -> Tensor:
        """Pixels of a layer that see any of the class, or those that see none: bool (\\*space)."""
        layer, members = self._of.layers[number], self._of.spec.labels.members
        label = self._store.picture("label", self._sample)
        mask = np.isin(label, members[self._of.target(self._position)])
        inside = averaged(mask, layer.space, self._store.grids[layer.name]) > 0
        found = inside if self._of.settings.region == "inside" else ~inside
        return torch.from_numpy(found).to(self._device)

    def _order(self, number: int) -> Tensor:
        """Of each channel a random order of its pixels, or of those of the region: int64 (channel, pixel)."""
        layer, seed = self._of.layers[number], self._of.settings.seed
        rng = np.random.default_rng([seed, zlib.crc32(layer.label.encode()), self._sample])
        pixels = int(np.prod(layer.space))
        moved = np.arange(pixels)
        if self._of.settings.region != "all":
            moved = np.flatnonzero(self._where(number).cpu().numpy())
        order = np.tile(np.arange(pixels), (layer.channels, 1))
        order[:, moved] = rng.permuted(np.tile(moved, (layer.channels, 1)), axis=1)
        return torch.from_numpy(order).to(self._device)
