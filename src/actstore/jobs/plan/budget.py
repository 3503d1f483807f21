"""What a run uses of a machine: device, workers, threads, batches and buffers."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from actstore.errors import PlanError
from actstore.spec.spec import Spec
from actstore.store.schema import StoreLayout
from actstore.units import counted, human_bytes

#: Target bytes of one buffer of the ring, in whole samples: large enough for long writes, small enough for the caches
#: of page tables. Every worker holds two.
RING_BYTES = 192 * 2**20
GPU_RING_BYTES = 1024 * 2**20
#: Python, torch, MONAI, dask, compiled reductions and their libraries in a worker process, before any data (measured).
BASE_BYTES = 470 * 2**20
#: What the libraries of a trained network add to that, by its kind (measured).
LIBRARY_BYTES: Mapping[str, int] = {"nnunet": 180 * 2**20, "bundle": 80 * 2**20}
#: Largest number of inputs to one forward pass by default. On a CPU more gains nothing (measured from 1 to 16); a GPU
#: gets as many as fit a share of its memory.
BATCH_SIZE = 8
GPU_BATCH_SIZE = 64
GPU_SHARE = 0.25
#: Memory of a forward pass on a CPU, if a batch of one does not need more.
PASS_BYTES = 2**30
#: Time of a capture by that of its bare forward passes: docs/performance.md measured 1.42 and 1.44, with UNetHeart,
#: every tensor stored, two workers on a CPU.
CAPTURE_TIME = 1.4
#: What a forward pass allocates, as a multiple of the largest module output of the batch: intermediate tensors and the
#: scratch memory of convolutions (measured). Each inferring thread keeps what it once allocated.
LIVE_OUTPUTS = 9


@dataclass(frozen=True)
class Machine:
    """The device, workers and threads of a run."""

    device: str
    workers: int
    #: Torch's threads per worker.
    threads: int
    #: Threads per worker that compute checksums and write.
    writers: int


def machine_of(spec: Spec, device: str, workers: int | None) -> Machine:
    """The devices, workers and threads that a spec asks for, or that this machine has.

    Raises
    ------
    PlanError
        for a device that does not exist, or a precision that it does not support.
    """
    device = choose_device(device)
    if spec.run.precision == "tf32" and not device.startswith("cuda"):
        raise PlanError(f"run.precision 'tf32' is of NVIDIA GPUs, the device is {device!r}: use 'float32' or 'bf16'")
    asked = workers or spec.run.workers or default_workers(device, spec.cluster.kind)
    workers = 1 if spec.cluster.kind == "inline" else asked
    threads = spec.run.threads or threads_of(spec, workers)
    return Machine(device, workers, threads, spec.run.writers or default_writers(device, workers))


def library_bytes(spec: Spec) -> int:
    """Memory of a worker process before any data: Python, libraries and those of a trained network."""
    return BASE_BYTES + (LIBRARY_BYTES[spec.trained.kind] if spec.trained else 0)


def check_memory(spec: Spec, workers: int, memory: int, *, why: str = "", mend: str) -> None:
    """Refuse ``workers`` of ``memory`` bytes each that compute here and do not fit; ``why`` says what takes so much.

    Raises
    ------
    PlanError
        with the workers' memory in human units, and ``mend``.
    """
    available = psutil.virtual_memory().available
    needed = memory * workers
    if spec.cluster.is_here and needed > available:
        raise PlanError(
            f"{counted(workers, 'worker')} of {human_bytes(memory)} would take {human_bytes(needed)} of memory, "
            f"{human_bytes(available)} are available{f' ({why})' if why else ''}: use {mend}"
        )


def ring_samples(layout: StoreLayout, device: str) -> int:
    """Samples that one buffer of the ring holds."""
    size = GPU_RING_BYTES if device.startswith("cuda") else RING_BYTES
    return max(1, min(layout.slots, size // layout.sample_bytes))


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(device: str) -> str:
    """Resolve ``auto``, and check that the device exists.

    Raises
    ------
    PlanError
        for a missing GPU or an unknown device name.
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


def default_workers(device: str, cluster: str) -> int:
    """One for every GPU, but one where all workers would have the same; without a GPU one for every core up to four."""
    if device == "cuda":
        return 1 if cluster == "local" else torch.cuda.device_count()
    return max(1, min(4, cpu_count())) if device == "cpu" else 1


def threads_of(spec: Spec, workers: int) -> int:
    """Torch's threads per worker: its share of this machine's cores, or the threads that a cluster job has."""
    if spec.cluster.is_here:
        return max(1, cpu_count() // workers)
    return spec.cluster.slurm.cores if spec.cluster.kind == "slurm" else 1


def default_writers(device: str, workers: int) -> int:
    """One on a CPU, where the network needs the cores; with a GPU, a worker's share of them up to four."""
    return max(1, min(4, cpu_count() // workers)) if device.startswith("cuda") else 1


def choose_batch_size(device: str, largest_output_bytes: int) -> int:
    """Inputs to one forward pass. The same on every machine with the same kind of device."""
    if not device.startswith("cuda"):
        return max(1, min(BATCH_SIZE, PASS_BYTES // (LIVE_OUTPUTS * largest_output_bytes)))
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, min(GPU_BATCH_SIZE, int(GPU_SHARE * memory / (LIVE_OUTPUTS * largest_output_bytes))))


def time_sample(model: nn.Module, spec: Spec, shape: Sequence[int], batch_size: int, device: str) -> float:
    """Seconds for one input of ``shape`` (channel, \\*space) in every condition."""
    sizes = Counter(condition.batch_size or batch_size for condition in spec.conditions)
    return sum(count * _time_forward(model, shape, size, device) for size, count in sizes.items())


def _time_forward(model: nn.Module, shape: Sequence[int], batch_size: int, device: str) -> float:
    model.to(device)
    batch = torch.zeros(batch_size, *shape, device=device)
    best = math.inf
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            model(batch)
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
    model.to("cpu")
    return best / batch_size
