"""Interventions in committed blocks: channels are edited in passes of the network, and predictions counted again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.analysis.patches import owned_boxes
from actstore.cluster.main_guard import refuse_in_worker
from actstore.errors import BlockError
from actstore.inputs.adapters import pipeline_of, prepared, read_block
from actstore.inputs.prepare import Prepared
from actstore.inputs.windows import Stitched, Windows
from actstore.jobs.blocks import Block
from actstore.jobs.edited_passes import EditedPasses, Inputs
from actstore.jobs.edits import distinct
from actstore.jobs.filled import Filled, fill_each
from actstore.jobs.intervening import Intervening
from actstore.jobs.job import Compute, PlainUnit, Report
from actstore.jobs.of_run import Opened
from actstore.jobs.out import Out
from actstore.jobs.plan.data import blocks_of
from actstore.jobs.plan.intervene import plan_intervene
from actstore.jobs.predictions import confusion_of
from actstore.jobs.reading import block_units, inputs_of, read
from actstore.jobs.reproduction import require_reproduced
from actstore.jobs.runner import Progress, Workers
from actstore.networks.interventions import intervening
from actstore.spec.spec import Spec
from actstore.store.files.base import Location, Storage
from actstore.store.reader import read_small
from actstore.store.schema import Coordinate, Schema
from actstore.store.store import Store
from actstore.units import counted

Units = tuple[Block, ...] | tuple[PlainUnit, ...]
#: A sample's place in its block, the number of an edit, its confusion counts, and a classifier's scores.
_Counted = tuple[int, int, NDArray[np.int64], NDArray[np.float32] | float]


@dataclass(frozen=True)
class InterveneJob:
    """One intervention in every sample of a run; fills the group ``interventions/NAME``. A unit is a block."""

    of: Intervening
    #: Not pickled: workers receive one block at a time.
    blocks: Units = field(default=(), compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "blocks": ()}

    @property
    def schema(self) -> Schema:
        return self.of.schema

    @property
    def needs(self) -> Sequence[str]:
        effect = self.of.settings.effect_of
        return () if effect is None else (f"interventions/{effect}",)

    def identity(self) -> Mapping[str, Any]:
        return self.of.identity()

    def coordinates(self) -> Sequence[Coordinate]:
        return self.of.coordinates

    def units(self) -> Sequence[Block | PlainUnit]:
        return self.blocks

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        with self.of.opened(device) as opened:
            store = Store(self.of.storage.location)
            edited = self.of.edited(store)

            def compute(unit: Block | PlainUnit, out: Out) -> Report:
                samples = np.flatnonzero(store.samples["block"] == unit.index)
                with opened.computing():
                    if edited[samples].any():
                        require_reproduced(self.of, opened, store, samples, unit.name)
                    inputs = _inputs(self.of, store, samples, unit)
                    found = _Block(self.of, opened, store, samples, edited[samples], inputs, unit.name).arrays()
                for name, values in found.items():
                    out.put(name, values)
                return Report(unit.index, unit.name)

            yield compute

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        return cls.of_run(Intervening.again(storage, identity, spec))

    @classmethod
    def of_run(cls, of: Intervening) -> Self:
        """The job for the blocks of the run's store.

        Raises
        ------
        ActstoreError
            if inputs have to be made again, and the data set is not the run's.
        """
        store = Store(of.storage.location)
        if not (of.stitched and of.touched):
            return cls(of, block_units(store))
        return cls(of, blocks_of(of.spec, store.attributes["blocks"]))


def _inputs(of: Intervening, store: Store, samples: NDArray[np.int64], unit: Block | PlainUnit) -> Inputs:
    """Inputs of the samples of a block, as the run had them.

    Of patches that overlap, those that own nothing of a perturbed class change too and are not in the store: they are
    made again from the data set.
    """
    if not isinstance(unit, Block):
        return lambda sample, condition: inputs_of(store, [sample], condition)[0]
    pipeline = pipeline_of(of.spec)
    volume = read_block(pipeline, unit.file)
    source = read_small(of.storage, of.layout.source, unit.index)
    if source is None or source.tobytes() != volume.digest:
        raise BlockError(
            unit.name,
            "its files are not those that were captured, and inputs of overlapping patches are made again from them: "
            "give the run's data set in data.root, or capture again",
        )
    made = prepared(of.spec, pipeline, volume)
    assert isinstance(made, Prepared)

    def inputs(sample: int, condition: int) -> NDArray[np.float32]:
        patch = sample - int(samples[0])
        seen = 0 if made.volumes[condition] is None or made.same[patch, condition] else condition
        wanted = np.zeros(made.same.shape, bool)
        wanted[patch, seen] = True
        found: NDArray[np.float32] = made.images(slice(patch, patch + 1), wanted)[0, seen]
        return found

    return inputs


@dataclass(frozen=True)
class _Block:
    """The interventions in one block."""

    of: Intervening
    opened: Opened
    store: Store
    #: Their numbers in the store, and (sample, condition) which are edited.
    samples: NDArray[np.int64]
    edited: NDArray[np.bool_]
    inputs: Inputs
    name: str

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the group, of this block."""
        conditions, edits, classes = len(self.of.into), len(self.of.edits), self.of.layout.classes
        shape = (len(self.samples), conditions, edits)
        confusion = np.zeros((*shape, classes, classes), np.int64)
        score = np.full((*shape, classes), np.nan, np.float32)
        compute = self._stitched if self.of.stitched else self._single
        with intervening(self.opened.model, self.of.layers) as forward:
            passes = EditedPasses(self.of, self.opened, self.store, forward, self.inputs)
            for position in range(conditions):
                kept, like = distinct(self.of.edits, position)
                for at, number, counts, scores in compute(passes, position, kept):
                    confusion[at, position, number] = counts
                    score[at, position, number] = scores
                for array in (confusion, score):
                    array[:, position] = array[:, position][:, np.asarray(kept)[like]]
        found: dict[str, NDArray[Any]] = {"confusion": confusion, "edited": self.edited}
        return found | ({"score": score} if self.of.layout.classified else {})

    def _single(self, passes: EditedPasses, position: int, kept: Sequence[int]) -> Iterator[_Counted]:
        """Each sample's prediction is its own."""
        for at in np.flatnonzero(self.edited[:, position]).tolist():
            for numbers in passes.batches(kept):
                logits = self._logits(passes, at, position, numbers)
                if self.of.layout.classified:
                    every = self.of.head.scores(logits).cpu().numpy()
                    for number, scores in zip(numbers, every, strict=True):
                        # The first of equals, as in a capture.
                        yield at, number, self._classified(at, int(scores.argmax())), scores
                    continue
                for number, classes in zip(numbers, self.of.head.classes(logits).cpu().numpy(), strict=True):
                    yield at, number, self._counted(at, classes), np.nan

    def _stitched(self, passes: EditedPasses, position: int, kept: Sequence[int]) -> Iterator[_Counted]:
        """Logits of overlapping patches are averaged, as in a capture: every patch has the same edit."""
        if not self.edited[:, position].any():
            return
        windows = self._windows
        for numbers in passes.batches(kept):
            sums = [Stitched(windows, self.of.head.channels) for _ in numbers]
            for at in range(len(self.samples)):
                logits = self._logits(passes, at, position, numbers).float().cpu().numpy()
                for whole, one in zip(sums, logits, strict=True):
                    whole.add(at, one.reshape(len(one), *windows.size))
            for number, whole in zip(numbers, sums, strict=True):
                classes = self.of.head.classes(torch.from_numpy(whole.logits)[None])[0].numpy()
                for at in range(len(self.samples)):
                    cut = windows.cut(classes, at).reshape(self.of.layout.space)
                    yield at, number, self._counted(at, cut), np.nan

    def _logits(self, passes: EditedPasses, at: int, position: int, numbers: Sequence[int]) -> Tensor:
        edits = [self.of.edits[number] for number in numbers]
        logits = passes.logits(int(self.samples[at]), position, edits)
        # The largest of numbers and a NaN is NaN.
        if broken := logits.flatten(1).amax(1).isnan().nonzero().flatten().tolist():
            edit = edits[broken[0]]
            raise BlockError(
                self.name,
                f"the network returns NaN when {edit.name(self.of.layers[edit.layer])} is edited in "
                f"{self.of.settings.into[position]}: leave the layer out, or use another edit",
            )
        return logits

    @cached_property
    def _windows(self) -> Windows:
        depth, height, width = self.store.samples.loc[self.samples[0], ["depth", "height", "width"]].astype(int)
        windows: Windows = pipeline_of(self.of.spec).windows((depth, height, width))
        return windows

    @cached_property
    def _labels(self) -> NDArray[np.uint8]:
        """(sample, \\*space)"""
        found: NDArray[np.uint8] = read(self.store.label.isel(sample=self.samples))
        return found

    @cached_property
    def _owned(self) -> list[tuple[slice, ...]]:
        """Of each sample the pixels that count."""
        predicted = self.store.prediction.isel(sample=self.samples, condition=0)
        boxes = owned_boxes(predicted, self.of.spec.spatial_dims).tolist()
        return [tuple(slice(*ends) for ends in box) for box in boxes]

    def _counted(self, at: int, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
        own = self._owned[at]
        return confusion_of(self._labels[at][own], classes[own], self.of.layout.classes)

    def _classified(self, at: int, predicted: int) -> NDArray[np.int64]:
        true = read(self.store.confusion.isel(sample=self.samples[at], condition=0).sum("predicted_class"))
        counts = np.zeros((self.of.layout.classes,) * 2, np.int64)
        counts[int(true.argmax()), predicted] = 1
        return counts


def intervene(
    spec: Spec,
    *,
    names: Sequence[str] = (),
    store: Location | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stopping: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Filled, ...]:
    """Make the interventions of ``spec.intervene``, each into its group ``interventions/NAME`` of the run's store.

    Continues what was begun. Inputs, labels and, where they were kept as the network made them, the maps that are put
    in come from the store. The data set is needed only where patches overlap and a perturbed condition is edited or is
    the donor, since patches beside the perturbed class change too and are not stored.

    Parameters
    ----------
    names
        of the interventions to make; by default all, in the order of the spec.
    store, cluster, workers, device, progress, stopping
        as for `actstore.capture`.
    say
        called with a line on each intervention whose donor's maps are computed in the same passes.

    Returns
    -------
    tuple of Filled
        one for each intervention; the last one is not complete if it failed or was stopped, and later ones are missing.

    Raises
    ------
    ActstoreError
        if the store is not whole or of another run; if the settings do not fit the network; if a group belongs to other
        settings.

    Examples
    --------
    >>> found = actstore.intervene(actstore.load_spec("run.toml"), cluster="inline")
    >>> [one.group for one in found]
    ['interventions/restore']
    """
    refuse_in_worker(cluster or spec.cluster.kind)
    planned = plan_intervene(spec.with_cluster(cluster), names=names, store=store, workers=workers, device=device)

    def jobs() -> Iterator[tuple[InterveneJob, Storage, Workers]]:
        for plan in planned:
            if number := sum(plan.of.recomputed):
                say(
                    f"{plan.of.group}: the donor's maps of {counted(number, 'layer')} are not stored as they were, and "
                    "are computed in the same passes"
                )
            yield InterveneJob.of_run(plan.of), plan.of.storage, plan.workers

    return fill_each(jobs(), progress, stopping)
