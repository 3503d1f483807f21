"""What a run will do and cost, known before anything is computed; refuses what cannot fit."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch import nn

from actstore.cluster import IN_FLIGHT
from actstore.code.digests import code_digests, load_code
from actstore.conditions import Applies
from actstore.data import Discovery, VolumeFile, VolumeHeader, discover, read_header
from actstore.errors import ActstoreError, DataError, ModelError, PlanError, one_line
from actstore.geometry import Grid
from actstore.inputs.perturb import check
from actstore.jobs.engine import Job, torch_threads
from actstore.jobs.ring import SLOTS
from actstore.networks.grids import layer_grids
from actstore.networks.model import build_model, foreign_dtypes, model_bytes, weights_checksums, weights_digest
from actstore.networks.recording import Probe, match_modules, probe
from actstore.networks.repeatable import Repeatability, examine, random_inputs, refuse
from actstore.spec.spec import Spec
from actstore.store.files import Location, Storage, storage_at
from actstore.store.files.local import PAGE
from actstore.store.fingerprint import Fingerprint
from actstore.store.schema import Layer, StoreLayout
from actstore.store.template import Block
from actstore.units import counted, human_bytes

#: Bytes of one buffer of the ring, as far as whole samples allow: large enough for long writes, small enough for caches
#: of the page tables. Two of them stand in every worker.
RING_BYTES = 192 * 2**20
GPU_RING_BYTES = 1024 * 2**20
#: Python, torch, MONAI, dask, compiled reductions and their libraries in a worker process, before any data (measured).
BASE_BYTES = 540 * 2**20
#: Inputs to one forward pass where the spec does not say: on a CPU more gains nothing (measured from 1 to 16), a GPU is
#: given as many as a share of its memory takes.
BATCH_SIZE = 8
GPU_BATCH_SIZE = 64
GPU_SHARE = 0.25
#: What a forward pass allocates, as a multiple of the largest module output of the batch: intermediate tensors and the
#: scratch memory of convolutions (measured). Each thread that infers keeps what it once had.
LIVE_OUTPUTS = 9
#: Bytes a voxel that finding a place in a whole volume takes (measured).
PLACEMENT_BYTES = 60


@dataclass(frozen=True)
class Plan:
    """Blocks, bytes, objects, memory and time of a run."""

    spec: Spec
    store: Storage
    layout: StoreLayout
    #: What decides the stored numbers: `Spec.identity` and digests of code beside the spec.
    identity: dict[str, Any]
    fingerprint: Fingerprint
    blocks: tuple[Block, ...]
    device: str
    workers: int
    threads: int
    #: Threads of a worker that checksum and write.
    writers: int
    batch_size: int
    ring_samples: int
    #: Seconds of the forward pass of one sample in every condition, each in batches of its size, on this machine.
    seconds_per_sample: float
    model_bytes: int
    transient_bytes: int
    #: The volumes, as files, and what lies beside them.
    discovery: Discovery
    #: Volumes whose header could not be read, with why; their blocks fail by themselves.
    unreadable: tuple[tuple[str, str], ...]
    #: Where the pixels of each layer lie on the input.
    grids: tuple[Grid, ...]
    #: Whether the network is a function of one input.
    repeatable: Repeatability
    #: Where conditions apply; another rule in a store that an older version began.
    applies: Applies = "changed"

    @property
    def job(self) -> Job:
        return Job(
            self.spec,
            self.store,
            self.layout,
            self.fingerprint,
            self.ring_samples,
            self.batch_size,
            self.threads,
            self.writers,
            self.device,
            self.identity["code"],
            self.applies,
        )

    @property
    def caveats(self) -> tuple[tuple[str, str], ...]:
        """What is taken with care in the volumes' headers, once for each kind: which volumes, and the first one's."""
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
        return sum(self.layout.block_bytes(block.samples) for block in self.blocks if block.header is not None)

    @property
    def objects(self) -> int:
        """Files of the finished store, metadata aside."""
        return self.layout.block_objects * sum(block.header is not None for block in self.blocks)

    @property
    def worker_memory(self) -> int:
        """Predicted peak resident bytes of one worker."""
        return BASE_BYTES + self.model_bytes + self.ring_bytes + 2 * self.volume_bytes + self.transient_bytes

    @property
    def ring_bytes(self) -> int:
        return SLOTS * (self.ring_samples * self.layout.sample_bytes + 2 * PAGE * len(self.layout.sharded))

    @property
    def volume_bytes(self) -> int:
        """The largest volume: read and decoded, float64 while perturbed and normalised, inputs of all conditions.

        Where there are controls, their regions too, and the transforms by which a place in a whole volume is found.
        """
        largest = max((math.prod(b.header.shape) for b in self.blocks if b.header is not None), default=0)
        inputs = self.layout.slots * math.prod(self.layout.space) * 4 * (self.layout.conditions + 1)
        regions = len({c.target for c in self.spec.conditions if c.is_control})
        searched = PLACEMENT_BYTES if regions and len(self.layout.space) == 3 else 0
        return largest * (8 + 8 + 3 * 8 + 1 + regions + searched) + inputs

    @property
    def seconds(self) -> float:
        """Estimated time: every condition of every sample, writing included (1.8 times the bare forward pass)."""
        return 1.8 * self.samples * self.seconds_per_sample / self.workers


def make_plan(
    spec: Spec, *, store: Location | None = None, workers: int | None = None, device: str = "auto", timing: bool = True
) -> Plan:
    """Read names, headers and the network; compute what the run will do.

    Raises
    ------
    DataError, ModelError, SpecError
        if data, network or a perturbation cannot be used.
    """
    load_code(spec.folder, [spec.model.factory, *(p.transform for p in spec.perturb)], spec.model.arguments)
    for condition in spec.conditions:
        check(condition)
    device = choose_device(device)
    if spec.run.precision == "tf32" and not device.startswith("cuda"):
        raise PlanError(f"run.precision 'tf32' is of NVIDIA GPUs, the device is {device!r}: use 'float32' or 'bf16'")
    workers = 1 if spec.cluster.kind == "inline" else workers or spec.run.workers or default_workers(device)
    threads = spec.run.threads or threads_of(spec, workers)
    seen = inspect_model(spec)
    model, found, weights = seen.model, seen.probe, seen.weights
    # With a worker's threads: several would wait for each other more than they compute, where workers run already.
    with torch_threads(threads):
        repeatable = check_repeatable(spec, seen)
    discovery = discover(spec.data)
    files = discovery.volumes
    headers = _headers(files, spec)
    blocks = tuple(
        Block(i, file, header, _samples(spec, header))
        for i, (file, (header, _)) in enumerate(zip(files, headers, strict=True))
    )
    unreadable = tuple(
        (block.name, why) for block, (_, why) in zip(blocks, headers, strict=True) if block.header is None
    )
    if len(unreadable) == len(blocks):
        raise DataError(f"none of {counted(len(blocks), 'volume')} in {spec.data.root} can be read: {unreadable[0][1]}")
    layout = StoreLayout(
        blocks=len(blocks),
        slots=max(block.samples for block in blocks),
        conditions=len(spec.conditions),
        classes=len(spec.class_names),
        space=spec.data.preprocess.size,
        dtype=spec.store.dtype,
        layers=keep(found.layers, spec.store.keep, model),
    )
    with torch_threads(threads):
        grids = layer_grids(model, layout.layers, layout.space)
    identity = {**spec.identity(), "code": code_digests()}
    batch_size = spec.run.batch_size or choose_batch_size(device, found.largest_output_bytes)
    return Plan(
        spec=spec,
        store=storage_at(store or spec.store.path),
        layout=layout,
        identity=identity,
        fingerprint=Fingerprint.of(weights, identity, layout.layers, [str(file.key) for file in files]),
        blocks=blocks,
        device=device,
        workers=workers,
        threads=threads,
        writers=spec.run.writers or default_writers(device, workers),
        batch_size=batch_size,
        ring_samples=ring_samples(layout, device),
        seconds_per_sample=_time_sample(model, spec, batch_size, device) if timing else math.nan,
        model_bytes=model_bytes(model),
        transient_bytes=IN_FLIGHT * LIVE_OUTPUTS * batch_size * found.largest_output_bytes,
        discovery=discovery,
        unreadable=unreadable,
        grids=tuple(grids),
        repeatable=repeatable,
    )


def keep(layers: Sequence[Layer], wanted: str | Sequence[str], model: nn.Module) -> tuple[Layer, ...]:
    """``layers`` with those marked whose tensors are stored.

    Raises
    ------
    ModelError
        if a pattern matches no recorded layer.
    """
    if isinstance(wanted, str):
        return tuple(replace(layer, kept=wanted == "all") for layer in layers)
    matches = match_modules(model, wanted, key="store.keep")
    for pattern, modules in matches.items():
        if not any(layer.module in modules for layer in layers):
            raise ModelError(f"store.keep pattern {pattern!r} matches no recorded layer: `actstore layers` shows them")
    kept = set().union(*matches.values())
    return tuple(replace(layer, kept=layer.module in kept) for layer in layers)


def ring_samples(layout: StoreLayout, device: str) -> int:
    """Samples that one buffer of the ring holds."""
    size = GPU_RING_BYTES if device.startswith("cuda") else RING_BYTES
    return max(1, min(layout.slots, size // layout.sample_bytes))


@dataclass(frozen=True)
class Inspected:
    """A network, and what its first forward pass shows."""

    model: nn.Module
    #: `weights_digest` and `weights_checksums` before that pass: it may change them.
    weights: str
    checksums: Mapping[str, int]
    probe: Probe


def inspect_model(spec: Spec) -> Inspected:
    """The spec's network and what a forward pass on zeros shows of it.

    Raises
    ------
    ModelError
        if the network does not map (batch, 1, \\*size) to (batch, class, \\*size), background first.
    """
    model = build_model(spec)
    weights, checksums = weights_digest(model), weights_checksums(model)
    size = spec.data.preprocess.size
    try:
        found = probe(model, (1, *size), spec.model.layers)
    except ActstoreError:
        raise
    except Exception as error:
        others = foreign_dtypes(model)
        raise ModelError(
            f"{spec.model.factory!r} fails on an input of (1, 1, {', '.join(map(str, size))}): {one_line(error)}; "
            + (
                f"its weights are not float32 as inputs are ({others}): return network.float() from the factory"
                if others
                else "correct data.preprocess.size or model.arguments"
            )
        ) from error
    expected = (len(spec.class_names), *size)
    if found.output_shape != expected:
        raise ModelError(
            f"{spec.model.factory!r} returns {_shape_text(found.output_shape)} for one sample: expected {expected}, "
            f"one channel for each of {', '.join(spec.class_names)}, at data.preprocess.size; correct data.classes, "
            "data.preprocess.size or model.arguments"
        )
    return Inspected(model, weights, checksums, found)


def check_repeatable(spec: Spec, seen: Inspected) -> Repeatability:
    """Whether the network is a function of one input, as far as a few passes on the CPU show.

    Raises
    ------
    ModelError
        if it is none, unless ``model.unrepeatable`` allows that; if it does not take batches where the run has them;
        if the factory makes other weights at every call.
    """
    fresh = build_model(spec)
    if spec.model.weights is None and weights_digest(fresh) != seen.weights:
        raise ModelError(
            f"model.factory {spec.model.factory!r} makes other weights at every call, so that no two workers would run "
            "the same network: give model.weights, or let the factory fix its seed"
        )
    inputs = random_inputs(spec.data.preprocess.size, spec.data.preprocess.normalize)
    batched = spec.run.batch_size != 1
    found = examine(seen.model, fresh, seen.probe.layers, inputs, seen.checksums, batched=batched)
    if spec.model.unrepeatable == "refuse":
        refuse(found, spec.model.factory)
    return found


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "no single tensor" if shape is None else str(shape)


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(device: str) -> str:
    """``auto`` decided: the name of a device that is there.

    Raises
    ------
    PlanError
        for a GPU that is not there, or a device of another name.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise PlanError(f"device {device!r} is unknown: use auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= count:
            raise PlanError(f"device {device!r} is not there: torch sees {count or 'no'} GPU(s); use --device cpu")
    return device


def default_workers(device: str) -> int:
    """One for every GPU, or one for every core up to four."""
    return torch.cuda.device_count() if device == "cuda" else 1 if device != "cpu" else max(1, min(4, cpu_count()))


def threads_of(spec: Spec, workers: int) -> int:
    """Torch's threads in a worker: its share of this machine's cores, or what a job elsewhere was given."""
    if spec.cluster.is_here:
        return max(1, cpu_count() // workers)
    return spec.cluster.slurm.cores if spec.cluster.kind == "slurm" else 1


def default_writers(device: str, workers: int) -> int:
    """One where the network needs the cores itself; beside a GPU, a worker's share of them up to four."""
    return max(1, min(4, cpu_count() // workers)) if device.startswith("cuda") else 1


def choose_batch_size(device: str, largest_output_bytes: int) -> int:
    """Inputs to one forward pass. The same on every machine with the same kind of device."""
    if not device.startswith("cuda"):
        return BATCH_SIZE
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, min(GPU_BATCH_SIZE, int(GPU_SHARE * memory / (LIVE_OUTPUTS * largest_output_bytes))))


def _headers(files: Sequence[VolumeFile], spec: Spec) -> list[tuple[VolumeHeader | None, str]]:
    def read(file: VolumeFile) -> tuple[VolumeHeader | None, str]:
        try:
            return read_header(file, geometry=spec.data.geometry, sliced=spec.sliced), ""
        except DataError as error:
            return None, str(error)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(read, files))


def _samples(spec: Spec, header: VolumeHeader | None) -> int:
    if header is None:
        return 0
    return header.shape[0] if spec.sliced else 1


def _time_sample(model: nn.Module, spec: Spec, batch_size: int, device: str) -> float:
    sizes = Counter(condition.batch_size or batch_size for condition in spec.conditions)
    return sum(count * _time_forward(model, spec, size, device) for size, count in sizes.items())


def _time_forward(model: nn.Module, spec: Spec, batch_size: int, device: str) -> float:
    model.to(device)
    batch = torch.zeros(batch_size, 1, *spec.data.preprocess.size, device=device)
    best = math.inf
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            model(batch)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    model.to("cpu")
    return best / batch_size


def check_resources(plan: Plan, remaining: int) -> None:
    """Refuse a run whose ``remaining`` bytes do not fit the disk, or whose workers here do not fit the memory.

    Raises
    ------
    PlanError
        naming the worst offender, in human units.
    """
    free = plan.store.free_bytes()
    if free is not None and remaining > free:
        worst = max(plan.layout.sharded, key=lambda array: array.sample_stride)
        share = worst.sample_stride / sum(array.sample_stride for array in plan.layout.sharded)
        raise PlanError(
            f"the run needs {human_bytes(remaining)} at {plan.store}, which has {human_bytes(free)} free "
            f"({worst.path} alone takes {share:.0%}): free space, record fewer layers, or use store.dtype = 'float16'"
        )
    available = psutil.virtual_memory().available
    needed = plan.worker_memory * plan.workers
    if plan.spec.cluster.is_here and needed > available:
        raise PlanError(
            f"{counted(plan.workers, 'worker')} of {human_bytes(plan.worker_memory)} would take "
            f"{human_bytes(needed)} of memory, {human_bytes(available)} are available: use "
            "fewer --workers or a smaller run.batch_size"
        )
