"""Memory is known before a run, and does not grow with it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from actstore.jobs.plan import make_plan
from actstore.spec.spec import load_spec
from conftest import WriteSpec

#: A process of its own, whose workers are fresh as well; ``ballast`` is what a notebook may hold beside the capture.
RUN = """
import sys
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec

if __name__ == "__main__":
    ballast = bytearray(b"x") * int(sys.argv[2])
    summary = capture(load_spec(sys.argv[1]), cluster="local", workers=1, device="cpu")
    assert summary.complete, summary.failed
    print(summary.done, summary.peak_memory)
"""


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
    script = folder / "run.py"
    script.write_text(RUN)
    predicted = make_plan(load_spec(spec), workers=1, device="cpu", timing=False).worker_memory
    finished = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(spec), str(ballast)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    done, peak = map(int, finished.stdout.split())
    print(f"{volumes} volumes: peak {peak / 2**20:.0f} MiB, predicted {predicted / 2**20:.0f} MiB")
    return Measured(done, peak, predicted)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Measured:
    return measure(tmp_path_factory.mktemp("memory") / "ten", write_spec, 10)


def expect_predicted(measured: Measured) -> None:
    assert measured.predicted / 1.5 <= measured.peak <= 1.5 * measured.predicted


def test_a_peak_does_not_grow_with_the_number_of_volumes(ten: Measured, tmp_path: Path, write_spec: WriteSpec) -> None:
    sixty = measure(tmp_path / "sixty", write_spec, 60)
    assert (ten.done, sixty.done) == (10, 60)
    assert ten.predicted == sixty.predicted
    expect_predicted(ten)
    expect_predicted(sixty)
    assert abs(sixty.peak - ten.peak) <= 0.1 * ten.peak


def test_a_peak_of_large_buffers_is_predicted(ten: Measured, tmp_path: Path, write_spec: WriteSpec) -> None:
    """Here activations, not libraries, are most of the memory."""
    large = measure(tmp_path / "large", write_spec, 2, size=(256, 256), width=32, shape=(200, 180, 10), batch_size=4)
    assert large.predicted > 1.8 * ten.predicted
    expect_predicted(large)


def test_a_peak_is_the_workers_own(ten: Measured, tmp_path: Path, write_spec: WriteSpec) -> None:
    """A child process inherits what ``getrusage`` says of its parent: a notebook's arrays are no worker's memory."""
    loaded = measure(tmp_path / "ballast", write_spec, 1, ballast=900 * 2**20)
    assert loaded.peak <= 1.1 * ten.peak


def test_memory_of_the_whole_is_refused_before_anything_runs(
    tmp_path: Path, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    from actstore.errors import PlanError
    from actstore.jobs.capture import capture

    spec = load_spec(write_spec(tmp_path))
    little = psutil.virtual_memory()._replace(available=300 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(PlanError, match=r"1 worker of \S+ MB would take \S+ MB of memory, 314\.57 MB are available: "):
        capture(spec, cluster="inline", device="cpu")
    assert not spec.store.path.exists()
