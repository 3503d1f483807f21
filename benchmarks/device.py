"""Finds the bottleneck on a device: the bare network, the link to the host, the writer, compared with capture.

UNetHeart 8-4-4, phantom volumes, 21 layers in float32, one process. Rates are bytes of activations per second: computed
by the network, copied to pinned memory, and written with checksums to memory and to disk. Then a capture that stores
everything, and one that stores only statistics. `--device cpu` runs the same code without a GPU.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from common import machine, phantom_spec, require_free

from actstore.inputs.prepare import prepare
from actstore.jobs.plan.plan import Plan, make_plan
from actstore.jobs.ring import Buffers, CudaStream, Stream
from actstore.jobs.runner import releasing, run_unit
from actstore.networks.arithmetic import arithmetic
from actstore.networks.model import build_model
from actstore.spec.precision import Precision
from actstore.store.files import LocalStorage
from actstore.store.shards import ShardWriter
from attended import ThreadStream, prepare_store


def median(step: Callable[[], object], runs: int) -> float:
    """Median seconds of ``runs`` runs after a warm-up."""
    taken = []
    for run in range(runs + 1):
        start = time.perf_counter()
        step()
        if run:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def forward(plan: Plan, runs: int) -> float:
    """Seconds of the bare network for one input, at the plan's batch size."""
    device = torch.device(plan.device)
    model = build_model(plan.spec).to(device)
    batch = torch.rand(plan.batch_size, len(plan.layout.input_channels), *plan.layout.space, device=device)
    passes = 20

    def step() -> None:
        with torch.inference_mode(), arithmetic(plan.spec.run.precision, device):
            for _ in range(passes):
                model(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return median(step, runs) / passes / plan.batch_size


def full_buffers(plan: Plan, stream: Stream) -> Buffers:
    layout = replace(plan.layout, slots=plan.ring_samples)
    buffers = Buffers(layout, plan.ring_samples, stream, [None] * len(layout.layers))
    _, activations = buffers.place(0, plan.ring_samples)
    for activation in activations:
        assert isinstance(activation, torch.Tensor)
        activation.fill_(1.0)
    return buffers


def link(buffers: Buffers, runs: int) -> float:
    """Seconds to copy full buffers from the device to the host, including the device's statistics."""

    def step() -> None:
        buffers.send()
        buffers.arrived()

    return median(step, runs)


def writer(buffers: Buffers, folder: Path, runs: int) -> float:
    """Seconds to compute checksums of full buffers and write them."""

    def step() -> None:
        for buffer in buffers.written:
            with ShardWriter(LocalStorage(folder), "shard", buffer.layout, buffers.count) as target:
                target.write(buffer)
                target.close()
            (folder / "shard").unlink()

    return median(step, runs)


def capture(plan: Plan, runs: int) -> float:
    """Seconds of a whole capture in this process, without creating the store."""
    taken = []
    with releasing():
        for run in range(runs + 1):
            shutil.rmtree(plan.store.location, ignore_errors=True)
            made, todo = prepare_store(plan)
            start = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                reports = list(pool.map(partial(run_unit, made.task), todo))
            if run:
                taken.append(time.perf_counter() - start)
            if failed := [report for report in reports if report.failed]:
                raise SystemExit(failed[0].error)
    shutil.rmtree(plan.store.location)
    return statistics.median(taken)


def inputs_of(plan: Plan) -> int:
    """Inputs of a capture: every applicable condition of every sample."""
    volumes = (plan.pipeline.read(block.file) for block in plan.blocks)
    return sum(int(prepare(plan.spec, plan.pipeline, volume).applicable.sum()) for volume in volumes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="float32", choices=get_args(Precision))
    parser.add_argument("--patients", type=int, default=5, help="two volumes each")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="a folder on the disk to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        spec = phantom_spec(Path(folder), patients=arguments.patients).with_precision(arguments.precision)
        plan = make_plan(spec, workers=1, device=arguments.device, timing=False)
        require_free(folder, 2 * plan.bytes)
        device = torch.device(plan.device)
        stream: Stream = CudaStream(device) if device.type == "cuda" else ThreadStream()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        buffers = full_buffers(plan, stream)
        buffers_bytes = sum(buffer.count * buffer.layout.sample_stride for buffer in buffers.written)
        an_input = sum(plan.layout.activation(layer).sample_stride for layer in plan.layout.layers)
        an_input //= plan.layout.conditions
        rates = {
            "bare forward pass": an_input / forward(plan, arguments.runs),
            "device to host": buffers_bytes / link(buffers, arguments.runs),
        }
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").exists() else None) as memory:
            rates["writer, to memory"] = buffers_bytes / writer(buffers, Path(memory), arguments.runs)
        rates["writer, to disk"] = buffers_bytes / writer(buffers, Path(folder), arguments.runs)
        slowest = min(rates["bare forward pass"], rates["device to host"], rates["writer, to disk"])
        buffers.close()
        del buffers
        applicable = inputs_of(plan)
        rates["capture"] = applicable * an_input / capture(plan, arguments.runs)
        alone = spec.model_copy(update={"store": spec.store.model_copy(update={"keep": "statistics"})})
        small = make_plan(alone, workers=1, device=arguments.device, timing=False)
        rates["capture, statistics alone"] = applicable * an_input / capture(small, arguments.runs)
    print(f"\n### Device: {name}\n\n{machine()}; `python {' '.join(sys.argv)}`; {plan.batch_size} inputs a pass\n")
    print(
        "| what | GB/s of activations | of the slowest of pass, link and disk | of the bare pass |\n|---|---|---|---|"
    )
    for what, rate in rates.items():
        print(f"| {what} | {rate / 1e9:.2f} | {rate / slowest:.2f} | {rate / rates['bare forward pass']:.2f} |")


if __name__ == "__main__":
    main()
