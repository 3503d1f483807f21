"""One block, from files to commit: perturb, infer, record, reduce, write."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from actstore.code.digests import known_code, require_code
from actstore.conditions import Applies
from actstore.data import Volume, read_volume
from actstore.errors import BlockError, ModelError, one_line
from actstore.jobs.inference import Inference, Passes
from actstore.jobs.ring import CudaStream, Ring, Slot, Stream
from actstore.jobs.statistics import BlockStatistics
from actstore.networks.model import build_model, weights_digest
from actstore.networks.recording import recording
from actstore.spec.spec import Spec
from actstore.store import commits
from actstore.store.fence import Fence, Superseded
from actstore.store.files import Storage
from actstore.store.fingerprint import Fingerprint
from actstore.store.schema import StoreLayout
from actstore.store.shards import ShardWriter, write_small
from actstore.store.template import Block
from actstore.tables.rescaled import Rescaling, rescalings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """All that a worker needs for any block of a run; small, sent with every task."""

    spec: Spec
    store: Storage
    layout: StoreLayout
    fingerprint: Fingerprint
    #: Samples whose activations one buffer of the ring holds.
    ring_samples: int
    #: Model inputs in one forward pass.
    batch_size: int
    threads: int
    #: Threads that checksum and write.
    writers: int
    device: str
    #: Digest of each module that the run imports and that is not installed, by name.
    code: Mapping[str, str]
    applies: Applies = "changed"


@dataclass(frozen=True)
class BlockReport:
    """What became of one block."""

    block: int
    volume: str
    error: str = ""
    #: How often it was tried.
    attempts: int = 1
    samples: int = 0
    #: (sample, condition) pairs inferred, and model calls made for them.
    inferred: int = 0
    forward_passes: int = 0
    #: By condition: samples that hold its target or a place for its control, and those of them whose input stayed as
    #: it was. Empty where nothing was computed.
    held: tuple[int, ...] = ()
    unchanged: tuple[int, ...] = ()
    #: By condition: samples that normalisation rescaled, and by how much at least and at most (`Prepared.stretched`).
    rescaled: tuple[Rescaling, ...] = ()
    bytes: int = 0
    seconds: float = 0.0
    #: Largest resident set of the process so far, bytes.
    peak_memory: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.error)


#: What an engine is made for, beside the run.
_OF_ENGINE = ("store", "layout", "ring_samples", "batch_size", "threads", "writers", "device", "applies")
_engine: tuple[object, Engine] | None = None
_loading = Lock()


def run_block(job: Job, block: Block) -> BlockReport:
    """Compute and commit ``block``; a failure becomes a report. The model is loaded once a process and run.

    Two blocks may run in one process at once: one infers while the other reads its files or ends its writing.
    """
    start = time.perf_counter()
    try:
        report = _loaded(job).run(block)
    except Exception as error:
        log.debug("block %s failed", block.name, exc_info=True)
        report = BlockReport(block.index, block.name, error=_reason(error))
    return replace(report, seconds=time.perf_counter() - start, peak_memory=peak_memory())


def peak_memory() -> int:
    """Largest resident set size of this process so far, in bytes.

    Linux hands ``ru_maxrss`` on from parent to child, so a worker's own peak is read from ``/proc`` where that exists.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_bytes().splitlines() if line.startswith(b"VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reason(error: Exception) -> str:
    if isinstance(error, BlockError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}: mend that and run capture again"
    return one_line(error)


def _loaded(job: Job) -> Engine:
    global _engine
    with _loading:
        key = (job.fingerprint.run, *(getattr(job, field.name) for field in fields(job) if field.name in _OF_ENGINE))
        if _engine is None or _engine[0] != key:
            release()
            _engine = (key, Engine(job))
        return _engine[1]


def release() -> None:
    """Let go of the network, the buffers and the writer that `run_block` keeps for this process's next block."""
    global _engine
    if _engine is not None:
        _engine[1].close()
        _engine = None


@contextmanager
def closing_engine() -> Iterator[None]:
    """`release` at the end, whatever happens: for blocks that ran in this process."""
    try:
        yield
    finally:
        release()


class Engine:
    """The loaded network, its buffers and its writer: runs the blocks of one process."""

    def __init__(self, job: Job, stream: Stream | None = None) -> None:
        self.job = job
        self.device = torch.device(job.device)
        require_code(job.spec.folder, job.code)
        with known_code(job.spec.folder, job.code):
            self.model = build_model(job.spec)
        found = weights_digest(self.model)
        if found != job.fingerprint.weights:
            raise ModelError(
                f"weights {job.spec.model.weights} changed since the run was planned "
                f"({job.fingerprint.weights[:12]} → {found[:12]}): restore them or start a new store"
            )
        self.model.to(self.device)
        if stream is None and self.device.type == "cuda":
            stream = CudaStream(self.device)
        self.ring = Ring(job.layout, job.ring_samples, stream)
        #: Takes slots in the order in which they were filled; several shards of one are written side by side.
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="actstore-writer")
        self._shards = ThreadPoolExecutor(job.writers, thread_name_prefix="actstore-shard") if job.writers > 1 else None
        self._inferring = Lock()

    def close(self) -> None:
        """End the engine's threads, when they have written what they were given."""
        self.writer.shutdown()
        if self._shards:
            self._shards.shutdown()
        self.ring.close()

    def run(self, block: Block) -> BlockReport:
        """Compute, write and commit one block.

        Raises
        ------
        ActstoreError, OSError
            whatever made it fail; nothing of the block is then committed.
        """
        job = self.job
        fence = Fence(job.store, job.layout, block.index, job.fingerprint.token)
        try:
            fence.check()
            with known_code(job.spec.folder, job.code):
                return self._computed(block, fence)
        except Superseded:
            return BlockReport(block.index, block.name)

    def _computed(self, block: Block, fence: Fence) -> BlockReport:
        job, spec = self.job, self.job.spec
        volume = read_volume(block.file, spec.data.classes, geometry=spec.data.geometry, sliced=spec.sliced)
        samples = 1 if len(job.layout.space) == 3 else len(volume.image)
        if samples != block.samples:
            raise BlockError(
                block.name,
                f"{block.file.image} has {samples} slices, {block.samples} when the run was planned: run capture again",
            )
        inference = Inference(self.model, self.device, job.layout, job.batch_size, spec, volume, job.applies)
        statistics = BlockStatistics(job.layout, samples)
        size = self._write(block, inference, statistics, fence)
        size += self._write_small(block, volume, inference, statistics, fence)
        fence.check()
        commits.commit(job.store, job.layout, block.index, job.fingerprint.token, fsync=spec.store.fsync)
        return BlockReport(
            block.index,
            block.name,
            samples=samples,
            inferred=int(inference.applicable.sum()),
            forward_passes=inference.forward_passes,
            held=tuple((inference.applicable | inference.unchanged).sum(axis=0).tolist()),
            unchanged=tuple(inference.unchanged.sum(axis=0).tolist()),
            rescaled=rescalings(inference.stretched, inference.applicable),
            bytes=size,
        )

    def _write(self, block: Block, inference: Inference, statistics: BlockStatistics, fence: Fence) -> int:
        """Infer and write everything with pixels. Returns bytes written."""
        job = self.job
        writing: list[Future[None]] = []
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    ShardWriter(
                        job.store, array.shard_key(block.index), array, block.samples, fsync=job.spec.store.fsync
                    )
                )
                for array in job.layout.sharded
            ]
            stack.callback(lambda: wait(writing))

            def write(slot: Slot, passes: Passes, results: Sequence[Tensor]) -> None:
                reduced = slot.arrived()
                inference.read(passes, results)
                statistics.add(slot, reduced)
                self._write_shards(writers, slot)

            with (
                self._inferring,
                torch_threads(job.threads),
                arithmetic(job.spec.run.precision, self.device),
                recording(self.model, job.layout.layers, inference.record) as finish_pass,
            ):
                for first in range(0, block.samples, job.ring_samples):
                    _raise_any(writing)
                    slot = self.ring.take()
                    images, activations = slot.place(first, min(job.ring_samples, block.samples - first))
                    passes = inference.infer(first, images, activations, finish_pass)
                    results = slot.send(passes.results)
                    writing.append(self.writer.submit(write, slot, passes, results))
                    self.ring.give(writing[-1])
            wait(writing)
            _raise_any(writing)
            size = 0
            for writer in writers:
                fence.check()
                size += writer.close()
            return size

    def _write_shards(self, writers: Sequence[ShardWriter], slot: Slot) -> None:
        """Write a slot's shards; when this returns or raises, nothing uses the slot any more."""
        pairs = list(zip(writers, slot.kept, strict=True))
        if self._shards is None:
            for writer, buffer in pairs:
                writer.write(buffer)
            return
        writing = [self._shards.submit(writer.write, buffer) for writer, buffer in pairs]
        wait(writing)
        for shard in writing:
            shard.result()

    def _write_small(
        self, block: Block, volume: Volume, inference: Inference, statistics: BlockStatistics, fence: Fence
    ) -> int:
        """Everything without pixels; the record of the statistics last."""
        job, layout = self.job, self.job.layout
        applicable = np.zeros(layout.applicable.chunk, dtype=bool)
        applicable[: block.samples] = inference.applicable
        confusion = np.zeros(layout.confusion.chunk, dtype=np.int64)
        confusion[: block.samples] = inference.confusion
        source = np.frombuffer(volume.digest, dtype=np.uint8)[None]
        fsync, size = job.spec.store.fsync, 0
        for array, content in ((layout.applicable, applicable), (layout.confusion, confusion), (layout.source, source)):
            fence.check()
            size += write_small(job.store, array.chunk_key(block.index), content, fsync=fsync)
        token = job.fingerprint.token
        return size + statistics.write(job.store, block.index, token, fsync=fsync, before=fence.check)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Let the network compute in ``precision``: float32 is exact also where a GPU would take TF32 by itself."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


def _raise_any(futures: Sequence[Future[None]]) -> None:
    for future in futures:
        if future.done():
            future.result()
