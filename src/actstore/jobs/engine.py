"""The capture job, and what a worker keeps for it: the network, its buffers and its writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from actstore.code.digests import known_code
from actstore.conditions import Applies
from actstore.errors import BlockError, StoreError
from actstore.inputs.adapters import pipeline_of, prepared, read_block
from actstore.jobs.blocks import Block
from actstore.jobs.inference import Inference, Passes
from actstore.jobs.job import Compute, Report
from actstore.jobs.out import Out
from actstore.jobs.ring import Buffers, CudaStream, Ring, Stream
from actstore.jobs.statistics import BlockStatistics
from actstore.networks.arithmetic import arithmetic, torch_threads
from actstore.networks.heads import Head
from actstore.networks.model import planned_model
from actstore.networks.recording import recording
from actstore.spec.spec import Spec
from actstore.store.files.base import Storage
from actstore.store.schema import Coordinate, Schema, StoreLayout
from actstore.store.shards import ShardWriter
from actstore.tables.rescaled import Rescaling, rescalings
from actstore.units import counted


@dataclass(frozen=True)
class BlockReport(Report):
    """The outcome of one block of a capture."""

    #: (sample, condition) pairs inferred, and model calls made for them.
    inferred: int = 0
    forward_passes: int = 0
    #: By condition: samples that hold its target or a place for its control, and those of them whose input did not
    #: change. Empty if nothing was computed.
    held: tuple[int, ...] = ()
    unchanged: tuple[int, ...] = ()
    #: By condition: samples that normalisation rescaled, and the smallest and largest factor (`Prepared.stretched`).
    rescaled: tuple[Rescaling, ...] = ()


@dataclass(frozen=True)
class CaptureJob:
    """Perturbed inference over every volume of a run; fills the root of the store."""

    spec: Spec
    layout: StoreLayout
    #: Digest that the network's weights must have.
    weights: str
    #: Samples whose activations one buffer of the ring holds.
    ring_samples: int
    #: Model inputs in one forward pass.
    batch_size: int
    threads: int
    #: Threads that checksum and write.
    writers: int
    #: Digest of each imported module that is not an installed package, by name.
    code: Mapping[str, str]
    #: Which of the network's outputs holds the logits, and how they become classes.
    head: Head
    applies: Applies = "changed"
    #: Not pickled: workers receive one block at a time.
    blocks: tuple[Block, ...] = field(default=(), compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "blocks": ()}

    @property
    def schema(self) -> Schema:
        return self.layout.capture

    @property
    def needs(self) -> Sequence[str]:
        return ()

    def identity(self) -> Mapping[str, Any]:
        return {}

    def coordinates(self) -> Sequence[Coordinate]:
        return ()

    def units(self) -> Sequence[Block]:
        return self.blocks

    @contextmanager
    def open(self, device: str) -> Iterator[Compute]:
        engine = Engine(self, device)
        try:
            yield engine.compute
        finally:
            engine.close()

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        raise StoreError(f"{storage} is captured again from its spec: `actstore capture SPEC`")


class Engine:
    """Runs the blocks of one process."""

    def __init__(self, job: CaptureJob, device: str, stream: Stream | None = None) -> None:
        self.job = job
        self.device = torch.device(device)
        self.model = planned_model(job.spec, job.code, job.weights)
        self.pipeline = pipeline_of(job.spec)
        self.model.to(self.device)
        if stream is None and self.device.type == "cuda":
            stream = CudaStream(self.device)
        self.ring = Ring(job.layout, job.ring_samples, stream, job.threads)
        #: Writes sets of buffers in the order in which they were filled; the shards of one set in parallel.
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="actstore-writer")
        self._shards = ThreadPoolExecutor(job.writers, thread_name_prefix="actstore-shard") if job.writers > 1 else None
        self._inferring = Lock()

    def close(self) -> None:
        """Finish pending writes and end the engine's threads."""
        self.writer.shutdown()
        if self._shards:
            self._shards.shutdown()
        self.ring.close()

    def compute(self, block: Block, out: Out) -> BlockReport:
        """Infer one block and write all its arrays.

        Raises
        ------
        ActstoreError, OSError
            if the block fails.
        """
        job, spec = self.job, self.job.spec
        with known_code(spec.folder, job.code):
            volume = read_block(self.pipeline, block.file)
            inputs = prepared(spec, self.pipeline, volume, applies=job.applies)
            if len(inputs) != block.samples:
                raise BlockError(
                    block.name,
                    f"{block.file.images[0]} has {counted(len(inputs), 'sample')}, {block.samples} when "
                    "the run was planned: run capture again",
                )
            inference = Inference(self.device, job.layout, job.batch_size, spec, inputs, job.head)
            statistics = BlockStatistics(job.layout, block.samples)
            self._infer(inference, statistics, out)
            for path, values in inference.predictions.finish().items():
                out.put(path, values)
            out.put("source", np.frombuffer(volume.digest, dtype=np.uint8)[None])
            out.put("applicable", inputs.applicable)
            out.put("confusion", inference.predictions.confusion)
            if inference.scores is not None:
                for path, values in inference.scores.arrays().items():
                    out.put(path, values)
            statistics.put(out, "statistics/")
        held = inputs.applicable | inputs.unchanged
        return BlockReport(
            block.index,
            block.name,
            inferred=int(inference.needed.sum()),
            forward_passes=inference.forward_passes,
            held=tuple(held.sum(axis=0).tolist()),
            unchanged=tuple(inputs.unchanged.sum(axis=0).tolist()),
            rescaled=rescalings(inputs.stretched, inputs.applicable),
        )

    def _infer(self, inference: Inference, statistics: BlockStatistics, out: Out) -> None:
        """Infer and write everything with pixels."""
        job = self.job
        writing: list[Future[None]] = []
        with out.shards(job.layout.streamed) as writers:

            def write(buffers: Buffers, passes: Passes, results: Sequence[Tensor]) -> None:
                reduced = buffers.arrived()
                inference.read(passes, results)
                statistics.add(buffers, reduced)
                self._write_shards(writers, buffers)

            try:
                with (
                    self._inferring,
                    torch_threads(job.threads),
                    arithmetic(job.spec.run.precision, self.device),
                    recording(self.model, job.layout.layers) as forward,
                ):
                    for first in range(0, out.samples, job.ring_samples):
                        _raise_any(writing)
                        buffers = self.ring.take()
                        images, activations = buffers.place(first, min(job.ring_samples, out.samples - first))
                        passes = inference.infer(first, images, activations, forward)
                        results = buffers.send(passes.results)
                        writing.append(self.writer.submit(write, buffers, passes, results))
                        self.ring.give(writing[-1])
            finally:
                wait(writing)
            _raise_any(writing)

    def _write_shards(self, writers: Sequence[ShardWriter], buffers: Buffers) -> None:
        """Write a buffer set's shards; when this returns or raises, nothing uses the buffers any more."""
        pairs = list(zip(writers, buffers.written, strict=True))
        if self._shards is None:
            for writer, buffer in pairs:
                writer.write(buffer)
            return
        writing = [self._shards.submit(writer.write, buffer) for writer, buffer in pairs]
        wait(writing)
        for shard in writing:
            shard.result()


def _raise_any(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        if future.done():
            future.result()
