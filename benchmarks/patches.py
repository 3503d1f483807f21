"""Compares the capture of a trained network's patches with its bare sliding window, and predicted with measured memory.

python benchmarks/patches.py SPEC      capture ÷ bare sliding window over the same inputs, of one worker
python benchmarks/patches.py --memory  a six-stage nnU-Net, 128³, 22 normalisation layers, 7 conditions, statistics
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from common import interleave, machine, show
from torch import nn

from actstore.inputs.prepare import Prepared, prepare
from actstore.inputs.windows import Stitched
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import Plan, make_plan
from actstore.jobs.runner import peak_memory, releasing, run_unit
from actstore.networks.model import build_model
from actstore.spec.spec import Spec, load_spec
from actstore.units import human_bytes
from attended import prepare_store

SIZE = 128
FEATURES = (32, 64, 128, 256, 320, 320)


def network() -> nn.Module:
    """nnU-Net's network for 128³ with random weights."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(0)
    made: nn.Module = PlainConvUNet(
        1, 6, FEATURES, nn.Conv3d, 3, (1, 2, 2, 2, 2, 2), 2, 4, 2, True, nn.InstanceNorm3d,
        {"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    )  # fmt: skip
    return made


def write_volume(root: Path) -> None:
    """One volume of random intensities with a ball of each of three classes."""
    rng = np.random.default_rng(0)
    label = np.zeros((SIZE,) * 3, np.uint8)
    grid = np.stack(np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij"))
    for value, centre in ((1, 40), (2, 64), (3, 88)):
        label[((grid - centre) ** 2).sum(0) < 12**2] = value
    image = rng.gamma(3, 50, label.shape).astype(np.float32)
    for name, values in (("imagesTr/case_0000", image), ("labelsTr/case", label)):
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def memory_spec(folder: Path) -> Spec:
    content: dict[str, Any] = {
        "data": {
            "format": "nnunet",
            "root": str(folder / "raw"),
            "axes": "simpleitk",
            "preprocess": {"normalize": "zscore-volume", "size": [SIZE] * 3},
            "classes": {"A": 1, "B": 2, "C": 3},
        },
        "model": {"factory": "patches:network", "layers": ["type:InstanceNorm3d"]},
        "perturb": [{"transform": "brightness", "targets": ["A", "B", "C"], "strengths": [0.1, 0.5]}],
        "store": {"path": str(folder / "store.zarr"), "keep": "statistics"},
        "run": {"workers": 1, "check": "off"},
    }
    return Spec.from_mapping(content, folder=Path(__file__).parent)


def memory() -> None:
    """Capture in a process of its own, which prints what was predicted and its peak."""
    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder) / "raw")
        command = [sys.executable, __file__, "--memory-of", folder]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"\n### Memory of a worker: six-stage nnU-Net, {SIZE}³, 7 conditions, statistics\n\n{machine()}\n")
    print("| layers | batch | predicted | measured peak |\n|---|---|---|---|")
    print(
        f"| {told['layers']} | {told['batch']} | {human_bytes(told['predicted'])} | {human_bytes(told['measured'])} |"
    )


def measure(folder: Path) -> None:
    spec = memory_spec(folder)
    plan = make_plan(spec, workers=1, timing=False)
    summary = capture(spec, cluster="inline")
    if summary.failed:
        raise SystemExit(summary.failed[0].error)
    told = {
        "layers": len(plan.layout.layers),
        "batch": plan.batch_size,
        "predicted": plan.worker_memory,
        "measured": peak_memory(),
    }
    print(json.dumps(told))


def sliding(plan: Plan, model: nn.Module, prepared: list[Prepared], batch: int) -> None:
    """Every patch in every condition that applies somewhere, stitched as the network's own predictor does."""
    for of_volume in prepared:
        windows = of_volume.windows
        for condition in np.flatnonzero(of_volume.applicable.any(axis=0)).tolist():
            volume = of_volume.volumes[condition]
            assert volume is not None
            stitched: Stitched | None = None
            for first in range(0, len(windows), batch):
                patches = range(first, min(first + batch, len(windows)))
                cut = np.stack([windows.cut(volume, patch).reshape(-1, *of_volume.space) for patch in patches])
                with torch.inference_mode():
                    logits = plan.head.logits(model(torch.from_numpy(cut))).numpy()
                stitched = stitched or Stitched(windows, logits.shape[1])
                for patch, values in zip(patches, logits, strict=True):
                    stitched.add(patch, values.reshape(len(values), *windows.size))
            assert stitched is not None
            plan.head.classes(torch.from_numpy(stitched.logits)[None])


def compare(spec: Spec, runs: int) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        plan = make_plan(spec, store=Path(folder) / "store.zarr", workers=1, timing=False)
        torch.set_num_threads(plan.threads)
        model = build_model(plan.spec)
        volumes = [plan.pipeline.read(block.file) for block in plan.blocks]
        prepared = [prepare(plan.spec, plan.pipeline, volume) for volume in volumes]

        def clean() -> None:
            shutil.rmtree(Path(folder) / "store.zarr", ignore_errors=True)

        def captured() -> None:
            made, todo = prepare_store(plan)
            with releasing():
                for block in todo:
                    report = run_unit(made.task, block)
                    if report.failed:
                        raise SystemExit(report.error)

        candidates = {
            "bare sliding window": lambda: sliding(plan, model, prepared, plan.batch_size),
            "capture": (clean, captured),
        }
        seconds = interleave(candidates, runs=runs)
        note = f"{len(volumes)} volumes, {plan.samples} patches, {human_bytes(plan.bytes)}"
        show("Capture of patches, with reading and preprocessing", seconds, base="bare sliding window", note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        measure(arguments.memory_of)
    elif arguments.memory:
        memory()
    elif arguments.spec:
        compare(load_spec(arguments.spec), arguments.runs)
    else:
        parser.error("give a SPEC, or --memory")


if __name__ == "__main__":
    main()
