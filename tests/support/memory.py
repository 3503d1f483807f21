"""Captures in separate processes to compare their peak memory with the prediction."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from actstore.jobs.plan.plan import make_plan
from actstore.spec.spec import load_spec
from conftest import SUPPORT, WriteSpec
from forked import forked


def write_volumes(root: Path, volumes: int, shape: tuple[int, int, int] = (40, 36, 3)) -> Path:
    """Random volumes with a small box of every class, in nnU-Net's layout; ``shape`` is (row, column, slice)."""
    rng = np.random.default_rng(volumes)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for i in range(volumes):
        image = rng.integers(0, 1000, shape).astype(np.int16)
        label = np.zeros(shape, np.uint8)
        for value in (1, 2, 3):
            label[8 * value : 8 * value + 6, 10:20] = value
        for folder, name, content in (("imagesTr", f"case_{i:03d}_0000", image), ("labelsTr", f"case_{i:03d}", label)):
            volume: Any = nibabel.Nifti1Image(content, np.eye(4))  # type: ignore[no-untyped-call]
            volume.to_filename(root / folder / f"{name}.nii")
    return root


@dataclass(frozen=True)
class Measured:
    done: int
    peak: int
    predicted: int


def measure(
    folder: Path, write_spec: WriteSpec, volumes: int, *, size: tuple[int, int] = (64, 64), width: int = 2,
    shape: tuple[int, int, int] = (40, 36, 3), batch_size: int = 8, ballast: int = 0,
    cluster: str = "local", device: str = "cpu",
) -> Measured:  # fmt: skip
    folder.mkdir()
    spec = write_spec(
        folder,
        data__format="nnunet",
        data__root=write_volumes(folder / "data", volumes, shape),
        data__preprocess__size=list(size),
        model__arguments={"width": width},
        run={"threads": 1, "batch_size": batch_size},
    )
    return measure_spec(spec, volumes, ballast=ballast, cluster=cluster, device=device)


def measure_patches(folder: Path) -> Measured:
    """An nnU-Net with random weights whose patches of 48³ overlap in a volume of 72 x 72 x 48; seven conditions."""
    from actstore.spec.nnunet_results import ResultFolder
    from nnunet_folders import made_results, save_weights

    settings = {"patch_size": [48] * 3, "spacing": [1.0] * 3}
    results = made_results(folder, configuration="3d_fullres", settings=settings)
    save_weights(ResultFolder.read(results))
    root = write_volumes(folder / "raw", 1, (72, 72, 48))
    (root / "dataset.json").write_bytes((results / "dataset.json").read_bytes())
    spec = folder / "spec.toml"
    spec.write_text(
        f"""
        data = {{format = "nnunet", root = "{root}"}}
        model = {{nnunet = "{results}", layers = ["type:InstanceNorm3d"]}}
        perturb = [{{transform = "brightness", targets = ["LV", "RV", "MYO"], strengths = [0.1, 0.5]}}]
        store = {{path = "store.zarr", keep = "statistics"}}
        run = {{threads = 1}}
        """
    )
    return measure_spec(spec, 1)


def measure_spec(
    spec: Path, volumes: int, *, ballast: int = 0, cluster: str = "local", device: str = "cpu"
) -> Measured:
    predicted = make_plan(load_spec(spec), workers=1, device=device, timing=False).worker_memory
    with forked(
        *(SUPPORT / "capture_beside.py", spec, ballast, cluster, device),
        strict=True,
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    done, peak = map(int, output.split())
    print(f"{volumes} volumes: peak {peak / 2**20:.0f} MiB, predicted {predicted / 2**20:.0f} MiB")
    return Measured(done, peak, predicted)


def expect_predicted(measured: Measured) -> None:
    assert measured.predicted / 1.5 <= measured.peak <= 1.5 * measured.predicted
