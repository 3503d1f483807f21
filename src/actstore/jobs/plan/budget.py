"""What a run takes of a machine: device, workers, threads, batches and buffers."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from actstore.errors import PlanError
from actstore.spec.spec import Spec
from actstore.store.schema import StoreLayout

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


@dataclass(frozen=True)
class Machine:
    """Where a run computes, and how many do so."""

    device: str
    workers: int
    #: Torch's threads in a worker.
    threads: int
    #: Threads of a worker that checksum and write.
    writers: int


def machine_of(spec: Spec, device: str, workers: int | None) -> Machine:
    """The devices, workers and threads that a spec asks for, or that this machine has.

    Raises
    ------
    PlanError
        for a device that is not there, or a precision that it does not have.
    """
    device = choose_device(device)
    if spec.run.precision == "tf32" and not device.startswith("cuda"):
        raise PlanError(f"run.precision 'tf32' is of NVIDIA GPUs, the device is {device!r}: use 'float32' or 'bf16'")
    workers = 1 if spec.cluster.kind == "inline" else workers or spec.run.workers or default_workers(device)
    threads = spec.run.threads or threads_of(spec, workers)
    return Machine(device, workers, threads, spec.run.writers or default_writers(device, workers))


def ring_samples(layout: StoreLayout, device: str) -> int:
    """Samples that one buffer of the ring holds."""
    size = GPU_RING_BYTES if device.startswith("cuda") else RING_BYTES
    return max(1, min(layout.slots, size // layout.sample_bytes))


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


def time_sample(model: nn.Module, spec: Spec, batch_size: int, device: str) -> float:
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
