"""Predicts what a run will do and cost before it computes anything, and refuses a run that does not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actstore.cluster.executors import IN_FLIGHT
from actstore.conditions import Applies
from actstore.data.images import BlockFiles, ImageGroup
from actstore.data.pairing import Discovery
from actstore.data.volume import VolumeFile
from actstore.errors import PlanError
from actstore.geometry import Grid
from actstore.inputs.adapters import AnyPipeline, pipeline_of
from actstore.inputs.images import ImagePipeline
from actstore.jobs.blocks import Block
from actstore.jobs.engine import CaptureJob
from actstore.jobs.plan.budget import (
    CAPTURE_TIME,
    LIVE_OUTPUTS,
    check_memory,
    choose_batch_size,
    library_bytes,
    machine_of,
    ring_samples,
    time_sample,
)
from actstore.jobs.plan.data import find, scan
from actstore.jobs.plan.explain_cost import Cost, costs
from actstore.jobs.plan.identity import identify, load_named
from actstore.jobs.plan.image_trial import ClassifierTrial, try_images
from actstore.jobs.plan.intervene_cost import InterveneCost, intervene_costs
from actstore.jobs.plan.network import Network, examine_network
from actstore.jobs.plan.trial import Trial, try_first
from actstore.jobs.ring import RING_BUFFERS
from actstore.jobs.runner import Task, Workers
from actstore.jobs.scores import scored_classes
from actstore.networks.arithmetic import torch_threads
from actstore.networks.filters import Filters
from actstore.networks.heads import Head
from actstore.networks.model import model_bytes
from actstore.networks.repeatable import Repeatability
from actstore.spec.spec import Spec
from actstore.store.files import writable_at
from actstore.store.files.base import Location, Storage
from actstore.store.files.local import PAGE
from actstore.store.fingerprint import Fingerprint
from actstore.store.schema import StoreLayout
from actstore.units import human_bytes

#: Bytes per voxel to find a place in a whole volume (measured).
PLACEMENT_BYTES = 60


@dataclass(frozen=True)
class Plan:
    """Blocks, bytes, objects, memory and time of a run."""

    spec: Spec
    store: Storage
    layout: StoreLayout
    #: What decides the stored numbers: `Spec.identity` and digests of code next to the spec.
    identity: dict[str, Any]
    fingerprint: Fingerprint
    blocks: tuple[Block, ...]
    device: str
    workers: int
    threads: int
    #: Threads per worker that compute checksums and write.
    writers: int
    batch_size: int
    ring_samples: int
    #: Seconds on this machine for the forward passes of one sample in every condition, each at its batch size.
    seconds_per_sample: float
    model_bytes: int
    transient_bytes: int
    #: The files of the volumes, and other files found with them.
    discovery: Discovery
    #: Volumes whose header could not be read, with the reason; only their blocks fail.
    unreadable: tuple[tuple[str, str], ...]
    #: Where the pixels of each layer lie on the input.
    grids: tuple[Grid, ...]
    #: Whether each output depends on its own input alone.
    repeatable: Repeatability
    #: What the network sees of a volume.
    pipeline: AnyPipeline
    #: Which of the network's outputs holds the logits, and how they become classes.
    head: Head
    #: The weight of the network's first convolution, if there is one.
    filters: Filters | None = None
    #: What the spec's explanations will cost, one by one; none where the plan was made without timing.
    explanations: tuple[Cost, ...] = ()
    #: Likewise its interventions.
    interventions: tuple[InterveneCost, ...] = ()
    #: How the prediction of one volume agrees with its label; ``None`` where that was not tried.
    check: Trial | ClassifierTrial | None = None
    #: Where conditions apply; stores begun by an older version have another rule.
    applies: Applies = "changed"

    @property
    def job(self) -> CaptureJob:
        return CaptureJob(
            self.spec,
            self.layout,
            self.fingerprint.weights,
            self.ring_samples,
            self.batch_size,
            self.threads,
            self.writers,
            self.identity["code"],
            self.head,
            self.applies,
            self.blocks,
        )

    @property
    def task(self) -> Task:
        """The task that is sent to workers."""
        return Task(self.job, self.store, self.fingerprint.token, self.device, self.spec.store.fsync)

    @property
    def placement(self) -> Workers:
        """The workers that compute its blocks."""
        return Workers.of(self.spec, self.workers, self.device, self.worker_memory)

    @property
    def caveats(self) -> tuple[tuple[str, str], ...]:
        """Doubtful entries of the volumes' headers, one row per kind: which volumes, and the first volume's text."""
        found: dict[str, list[tuple[str, str]]] = {}
        for block in self.blocks:
            for caveat in block.header.caveats if block.header is not None else ():
                found.setdefault(caveat.kind, []).append((block.name, caveat.text))
        return tuple(
            (f"{of_kind[0][0]} and {len(of_kind) - 1} more" if len(of_kind) > 1 else of_kind[0][0], of_kind[0][1])
            for of_kind in found.values()
        )

    @property
    def samples(self) -> int:
        return sum(block.samples for block in self.blocks)

    @property
    def bytes(self) -> int:
        """Bytes on disk when every block is committed."""
        return sum(self.layout.capture.block_bytes(block.samples) for block in self.blocks if block.header is not None)

    @property
    def objects(self) -> int:
        """Files of the finished store, without metadata."""
        return self.layout.capture.block_objects * sum(block.header is not None for block in self.blocks)

    @property
    def worker_memory(self) -> int:
        """Predicted peak resident bytes of one worker."""
        computing = self.model_bytes + self.ring_bytes + 2 * self.volume_bytes + self.transient_bytes
        return library_bytes(self.spec) + computing + self.held_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of a block's files that the storage keeps in memory until they are written."""
        files = self.layout.capture.sharded
        return sum(min(array.file_bytes(self.layout.slots), self.store.held_bytes) for array in files)

    @property
    def ring_bytes(self) -> int:
        layout, samples = self.layout, self.ring_samples
        buffers = samples * sum(a.sample_stride for a in layout.streamed) + 2 * PAGE * len(layout.streamed)
        original = sum(
            array.sample_stride // layout.conditions
            for array, layer in zip(layout.activations, layout.layers, strict=True)
            if not layer.kept
        )
        return RING_BUFFERS * buffers + samples * original

    @property
    def volume_bytes(self) -> int:
        """Bytes of the largest volume: decoded, float64 while perturbed and normalised, and preprocessed in all
        conditions; of the inputs of a buffer set; and of what averages predictions.

        With controls also their regions, and the transforms that find a place in a whole volume.
        """
        layout = self.layout
        channels, dims = len(layout.input_channels), len(layout.space)
        largest = max((math.prod(b.header.shape) for b in self.blocks if b.header is not None), default=0)
        regions = len({c.target for c in self.spec.conditions if c.is_control})
        searched = PLACEMENT_BYTES if regions and dims == 3 else 0
        voxel = channels * (8 + 8 + 3 * 8 + 4 * layout.conditions) + 2 + regions + searched
        voxel += 4 * layout.classes * (layout.conditions + 1) if layout.stitched else 0
        pixels = math.prod(layout.space)
        inputs = self.ring_samples * pixels * 4 * channels * (layout.conditions + 2)
        predictions = layout.slots * pixels * (1 + (2 * layout.conditions if layout.stitched else 0))
        # As counted, and as they are written.
        scores = 2 * layout.slots * sum(array.sample_stride for array in layout.scores)
        return largest * voxel + inputs + predictions + scores

    @property
    def pass_seconds(self) -> float:
        """Estimated time for one pass of every sample, on all workers."""
        return self.samples * self.seconds_per_sample / self.layout.conditions / self.workers

    @property
    def seconds(self) -> float:
        """Estimated time for every condition of every sample, with writing."""
        return CAPTURE_TIME * self.samples * self.seconds_per_sample / self.workers


def make_plan(
    spec: Spec, *, store: Location | None = None, workers: int | None = None, device: str = "auto", timing: bool = True
) -> Plan:
    """Read names, headers and the network, and predict what the run will do.

    Raises
    ------
    DataError, ModelError, SpecError
        if data, network or a perturbation cannot be used.
    """
    load_named(spec)
    budget = machine_of(spec, device, workers)
    spec, discovery = find(spec)
    pipeline = pipeline_of(spec)
    network = examine_network(spec, pipeline, budget.threads)
    data = scan(spec, pipeline, discovery)
    with torch_threads(budget.threads):
        files = [block.file for block in data.blocks if block.header is not None]
        tried = try_blocks(spec, pipeline, network, files) if spec.run.check == "warn" else None
    layout = StoreLayout(
        blocks=len(data.blocks),
        slots=max(block.samples for block in data.blocks),
        conditions=len(spec.conditions),
        classes=len(spec.class_names),
        space=pipeline.window,
        dtype=spec.store.dtype,
        layers=network.layers,
        input_channels=pipeline.channels,
        stitched=data.overlap,
        classified=spec.data.classified,
        scored=scored_classes(network.head, spec.labels) if spec.store.histogram and not spec.data.classified else (),
    )
    largest = network.probe.largest_output_bytes
    batch_size = spec.run.batch_size or choose_batch_size(budget.device, largest)
    identity, fingerprint = identify(spec, network.weights, network.head, layout.layers, discovery.volumes)
    shape = (len(pipeline.channels), *pipeline.window)
    return Plan(
        spec=spec,
        store=writable_at(store or spec.store.path),
        layout=layout,
        identity=identity,
        fingerprint=fingerprint,
        blocks=data.blocks,
        device=budget.device,
        workers=budget.workers,
        threads=budget.threads,
        writers=budget.writers,
        batch_size=batch_size,
        ring_samples=ring_samples(layout, budget.device),
        seconds_per_sample=time_sample(network.model, spec, shape, batch_size, budget.device) if timing else math.nan,
        model_bytes=model_bytes(network.model),
        transient_bytes=IN_FLIGHT * LIVE_OUTPUTS * batch_size * largest,
        discovery=discovery,
        unreadable=data.unreadable,
        grids=network.grids,
        repeatable=network.repeatable,
        pipeline=pipeline,
        head=network.head,
        filters=network.filters,
        explanations=costs(spec, network.model, layout) if timing else (),
        interventions=intervene_costs(spec, network.model, layout, data.blocks) if timing else (),
        check=tried,
    )


def try_blocks(
    spec: Spec, pipeline: AnyPipeline, network: Network, files: Sequence[BlockFiles]
) -> Trial | ClassifierTrial | None:
    """Predict a volume, or some images, and compare with their labels."""
    if isinstance(pipeline, ImagePipeline):
        return try_images(spec, pipeline, network, [file for file in files if isinstance(file, ImageGroup)])
    return try_first(spec, pipeline, network, [file for file in files if isinstance(file, VolumeFile)])


def check_resources(plan: Plan, remaining: int) -> None:
    """Refuse a run whose ``remaining`` bytes do not fit the disk, or whose workers here do not fit the memory.

    Raises
    ------
    PlanError
        with the largest array or the workers' memory in human units.
    """
    free = plan.store.free_bytes()
    if free is not None and remaining > free:
        worst = max(plan.layout.capture.sharded, key=lambda array: array.sample_stride)
        share = worst.sample_stride / sum(array.sample_stride for array in plan.layout.capture.sharded)
        raise PlanError(
            f"the run needs {human_bytes(remaining)} at {plan.store}, which has {human_bytes(free)} free "
            f"({worst.path} alone takes {share:.0%}): free space, record fewer layers, or use store.dtype = 'float16'"
        )
    check_memory(plan.spec, plan.workers, plan.worker_memory, mend="fewer --workers or a smaller run.batch_size")
