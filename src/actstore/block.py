"""One block, from files to commit: perturb, infer, record, write."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actstore import commits
from actstore.data import Volume, read_volume
from actstore.errors import BlockError, ModelError, one_line
from actstore.fingerprint import Fingerprint
from actstore.models import build_model, weights_digest
from actstore.perturb import apply
from actstore.data.preprocess import fit, image_window, normalize
from actstore.record import recording
from actstore.schema import StoreLayout
from actstore.shards import ShardBuffer, ShardWriter, write_small
from actstore.spec import Spec
from actstore.template import Block

log = logging.getLogger(__name__)

#: Buffers in the ring: one is filled while the other is written.
RING = 2


@dataclass(frozen=True)
class Job:
    """All that a worker needs for any block of a run; small, hashable by its fingerprint, sent with every task."""

    spec: Spec
    store: Path
    layout: StoreLayout
    fingerprint: Fingerprint
    #: Samples whose activations one buffer of the ring holds.
    ring_samples: int
    #: Model inputs in one forward pass.
    batch_size: int
    threads: int
    device: str


@dataclass(frozen=True)
class BlockReport:
    """What became of one block."""

    block: int
    volume: str
    error: str = ""
    samples: int = 0
    #: (sample, condition) pairs inferred, and model calls made for them.
    inferred: int = 0
    forward_passes: int = 0
    bytes: int = 0
    seconds: float = 0.0
    #: Largest resident set of the process so far, bytes.
    peak_memory: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.error)


_engines: dict[tuple[str, str], Engine] = {}


def run_block(job: Job, block: Block) -> BlockReport:
    """Compute and commit ``block``; a failure becomes a report. The model is loaded once a process and run."""
    start = time.perf_counter()
    try:
        report = _engine(job).run(block)
    except Exception as error:
        log.debug("block %s failed", block.name, exc_info=True)
        failure = error if isinstance(error, BlockError) else BlockError(block.name, one_line(error))
        report = BlockReport(block.index, block.name, error=failure.message)
    seconds = time.perf_counter() - start
    return BlockReport(**{**report.__dict__, "seconds": seconds, "peak_memory": peak_memory()})


def peak_memory() -> int:
    """Largest resident set size of this process so far, in bytes (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _engine(job: Job) -> Engine:
    key = (job.fingerprint.run, str(job.store))
    if key not in _engines:
        _engines.clear()
        _engines[key] = Engine(job)
    return _engines[key]


class Ring:
    """Buffers for all sharded arrays, filled by inference and emptied by one writer thread, in order."""

    def __init__(self, layout: StoreLayout, samples: int) -> None:
        self._slots = [[ShardBuffer(array, samples) for array in layout.sharded] for _ in range(RING)]
        self._pending: list[Future[None] | None] = [None] * RING
        self._turn = 0

    def take(self) -> list[ShardBuffer]:
        """The next buffers, once they have been written. Raises what the writer raised."""
        self._turn = (self._turn + 1) % RING
        self._wait(self._turn)
        return self._slots[self._turn]

    def give(self, written: Future[None]) -> None:
        """Hand the buffers taken last to the writer, whose ``written`` tells when they are free again."""
        self._pending[self._turn] = written

    def drain(self) -> None:
        for turn in range(RING):
            self._wait(turn)

    def abandon(self) -> None:
        """Wait for the writer and forget its errors: the block has failed already."""
        for turn, future in enumerate(self._pending):
            self._pending[turn] = None
            if future is not None:
                future.exception()

    def _wait(self, turn: int) -> None:
        future, self._pending[turn] = self._pending[turn], None
        if future is not None:
            future.result()


class Engine:
    """The loaded network and its buffers: runs blocks one after another in one process."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        self.job = job
        self.device = torch.device(job.device)
        self.model = build_model(job.spec)
        found = weights_digest(self.model)
        if found != job.fingerprint.weights:
            raise ModelError(
                f"weights {job.spec.model.weights} changed since the run was planned "
                f"({job.fingerprint.weights[:12]} → {found[:12]}): restore them or start a new store"
            )
        self.model.to(self.device)
        self.ring = Ring(job.layout, job.ring_samples)
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="actstore-writer")

    def run(self, block: Block) -> BlockReport:
        """Compute, write and commit one block.

        Raises
        ------
        ActstoreError, OSError
            whatever made it fail; nothing of the block is then committed.
        """
        job, spec = self.job, self.job.spec
        commits.clear(job.store, job.layout, block.index)
        volume = read_volume(block.file, spec.data.classes)
        samples = 1 if len(job.layout.space) == 3 else len(volume.image)
        if samples != block.samples:
            raise BlockError(
                block.name,
                f"{block.file.image} has {samples} slices, {block.samples} when the run was planned: run capture again",
            )
        inputs, label, applicable = prepare(spec, volume)
        window = image_window(volume.image.shape, spec.data.preprocess.size)
        inference = Inference(self, inputs, label, applicable, window)
        try:
            size = self._write(block, inference)
        except BaseException:
            self.ring.abandon()
            raise
        size += self._write_small(block, volume, inference)
        commits.commit(job.store, job.layout, block.index, job.fingerprint.token, fsync=spec.store.fsync)
        return BlockReport(
            block.index,
            block.name,
            samples=samples,
            inferred=int(applicable.sum()),
            forward_passes=inference.forward_passes,
            bytes=size,
        )

    def _write(self, block: Block, inference: Inference) -> int:
        job = self.job
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    ShardWriter(
                        job.store / array.shard_key(block.index), array, block.samples, fsync=job.spec.store.fsync
                    )
                )
                for array in job.layout.sharded
            ]

            def write(buffers: Sequence[ShardBuffer]) -> None:
                for writer, buffer in zip(writers, buffers, strict=True):
                    writer.write(buffer)

            stack.callback(self.ring.abandon)
            with recording(self.model, job.layout.layers, inference.record) as finish_pass:
                for first in range(0, block.samples, job.ring_samples):
                    count = min(job.ring_samples, block.samples - first)
                    buffers = self.ring.take()
                    inference.infer(first, count, buffers, finish_pass)
                    self.ring.give(self.writer.submit(write, buffers))
            self.ring.drain()
            return sum(writer.close() for writer in writers)

    def _write_small(self, block: Block, volume: Volume, inference: Inference) -> int:
        job, layout = self.job, self.job.layout
        applicable = np.zeros(layout.applicable.chunk, dtype=bool)
        applicable[: block.samples] = inference.applicable
        confusion = np.zeros(layout.confusion.chunk, dtype=np.int64)
        confusion[: block.samples] = inference.confusion
        source = np.frombuffer(volume.digest, dtype=np.uint8)[None]
        contents = ((layout.applicable, applicable), (layout.confusion, confusion), (layout.source, source))
        return sum(
            write_small(job.store / array.chunk_key(block.index), content, fsync=job.spec.store.fsync)
            for array, content in contents
        )


def prepare(spec: Spec, volume: Volume) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """What the network sees of a volume.

    Returns
    -------
    inputs
        (sample, condition, \\*space) float32, NaN where not applicable.
    label
        (sample, \\*space) uint8 class index.
    applicable
        (sample, condition) bool: the original everywhere, others where the target class lies in the network's input.
    """
    size = spec.data.preprocess.size
    volumetric = len(size) == 3
    names, conditions = spec.class_names, spec.conditions
    label = fit(volume.label, size)
    label = label[None] if volumetric else label
    inputs = np.full((len(label), len(conditions), *size), np.nan, dtype=np.float32)
    applicable = np.zeros((len(label), len(conditions)), dtype=bool)
    space = tuple(range(1, label.ndim))
    for c, condition in enumerate(conditions):
        present = condition.is_original or (label == names.index(condition.target)).any(axis=space)
        applicable[:, c] = present
        if not applicable[:, c].any():
            continue
        changed = apply(
            condition, volume.image, volume.label, names, seed=spec.run.seed, key=volume.key, volumetric=volumetric
        )
        seen = fit(normalize(changed, spec.data.preprocess.normalize), size)
        seen = seen[None] if volumetric else seen
        inputs[applicable[:, c], c] = seen[applicable[:, c]]
    return inputs, label, applicable


class Inference:
    """Forward passes over one block, recorded into shard buffers."""

    def __init__(
        self,
        engine: Engine,
        inputs: NDArray[np.float32],
        label: NDArray[np.uint8],
        applicable: NDArray[np.bool_],
        window: tuple[slice, ...],
    ) -> None:
        layout = engine.job.layout
        self.model: nn.Module = engine.model
        self.device = engine.device
        self.batch_size = engine.job.batch_size
        self.layout = layout
        self.inputs = inputs
        self.label = label
        self.applicable = applicable
        self.window = window
        self.confusion = np.zeros((*applicable.shape, layout.classes, layout.classes), dtype=np.int64)
        self.forward_passes = 0
        self._destinations: list[Tensor] = []
        self._runs: list[Run] = []

    def infer(self, first: int, count: int, buffers: Sequence[ShardBuffer], finish_pass: Any) -> None:
        """Fill ``buffers`` with samples ``first`` … ``first + count - 1``: inputs, label, predictions, activations."""
        image, label, prediction, *activations = (buffer.place(first, count) for buffer in buffers)
        samples = slice(first, first + count)
        _by_condition(image)[...] = _grouped(self.inputs[samples], self.layout.image.chunk[0])
        label[...] = self.label[samples].reshape(label.shape)
        predicted = _by_condition(prediction)
        predicted[...] = 0
        self._destinations = [_by_condition_tensor(view, len(self.layout.space)) for view in activations]
        self._blank(samples)
        chunk = self.layout.prediction.chunk[0]
        with torch.inference_mode():
            for runs in batches(self.applicable[samples], self.batch_size):
                self._runs = runs
                batch = np.concatenate([self.inputs[first + r.start : first + r.stop, r.condition] for r in runs])
                logits = self.model(torch.from_numpy(batch).unsqueeze(1).to(self.device))
                finish_pass()
                self.forward_passes += 1
                classes = logits.argmax(1).to(torch.uint8).cpu().numpy()
                for run in runs:
                    group, within = divmod(run.condition, chunk)
                    found = classes[run.offset : run.offset + run.stop - run.start]
                    predicted[run.start : run.stop, group, within] = found
                    for i, sample in enumerate(range(first + run.start, first + run.stop)):
                        self.confusion[sample, run.condition] = self._confusion(self.label[sample], found[i])

    def _blank(self, samples: slice) -> None:
        for sample, condition in np.argwhere(~self.applicable[samples]):
            for destination, layer in zip(self._destinations, self.layout.layers, strict=True):
                chunk = self.layout.activation(layer).chunk[0]
                destination[sample, condition // chunk, condition % chunk] = torch.nan

    def record(self, layer: int, output: Tensor) -> None:
        """Copy one layer's output of the current batch to where it lies in the shard."""
        destination = self._destinations[layer]
        chunk = destination.shape[2]
        channel_groups, channels = destination.shape[3:5]
        for run in self._runs:
            group, within = divmod(run.condition, chunk)
            part = output[run.offset : run.offset + run.stop - run.start]
            destination[run.start : run.stop, group, within].copy_(
                part.reshape(len(part), channel_groups, channels, *part.shape[2:])
            )

    def _confusion(self, label: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
        classes = self.layout.classes
        pairs = label[self.window].astype(np.intp).ravel() * classes + predicted[self.window].ravel()
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class Run:
    """Consecutive samples of one condition inside one forward batch."""

    condition: int
    start: int
    stop: int
    #: Where the run begins in the batch.
    offset: int


def batches(applicable: NDArray[np.bool_], size: int) -> Iterator[list[Run]]:
    """Cut the applicable (sample, condition) pairs into batches of at most ``size``, condition by condition."""
    runs: list[Run] = []
    filled = 0
    for condition in range(applicable.shape[1]):
        position = 0
        wanted = np.flatnonzero(applicable[:, condition])
        while position < len(wanted):
            start = int(wanted[position])
            length = 1
            while (
                position + length < len(wanted)
                and wanted[position + length] == start + length
                and filled + length < size
            ):
                length += 1
            runs.append(Run(condition, start, start + length, filled))
            filled += length
            position += length
            if filled == size:
                yield runs
                runs, filled = [], 0
    if runs:
        yield runs


def _grouped(values: NDArray[Any], chunk: int) -> NDArray[Any]:
    """(sample, condition, …) as (sample, condition group, condition in group, …)."""
    return values.reshape(len(values), -1, chunk, *values.shape[2:])


def _by_condition(view: NDArray[Any]) -> NDArray[Any]:
    """A shard view of (sample, condition, \\*space) as (sample, condition group, condition in group, \\*space)."""
    return _squeeze(view, (view.ndim - 1) // 2, 1)


def _by_condition_tensor(view: NDArray[Any], space: int) -> Tensor:
    """A shard view of an activation as (sample, condition group, condition in group, channel group, channel, \\*space)."""
    n = space + 2
    squeezed = _squeeze(view, n, 2)
    return torch.from_numpy(squeezed.transpose(0, 1, 3, 2, *range(4, squeezed.ndim)))


def _squeeze(view: NDArray[Any], n: int, kept: int) -> NDArray[Any]:
    """Drop the chunk-grid axes of space, which are never split: their length is 1."""
    return view.squeeze(axis=tuple(range(1 + kept, 1 + n)))
