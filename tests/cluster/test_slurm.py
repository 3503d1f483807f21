"""A capture in jobs of a real SLURM, on this machine: complete and bit for bit what one process stores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from conftest import SUPPORT, WriteSpec
from slurm import missing, running_slurm
from stores import committed, expect_same

pytestmark = pytest.mark.cluster

#: Seconds for a whole capture, start of jobs included.
LIMIT = 300

#: Lies beside the spec. In a job, every forward pass says that it began and waits while ``HELD`` is there.
HELD_NETWORK = """
import os
import time
from pathlib import Path
from networks import tiny_unet


def wait(*_):
    held, job = Path(os.environ["HELD"]), os.environ["SLURM_JOB_ID"]
    held.with_name(f"infers.{job}").touch()
    while held.exists():
        time.sleep(0.05)


def held_unet():
    network = tiny_unet()
    if "SLURM_JOB_ID" in os.environ:
        network.register_forward_pre_hook(wait)
    return network
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if why := missing():
        pytest.skip(why)
    with running_slurm(tmp_path_factory.mktemp("slurm"), cpus=4) as environment:
        yield environment


def spec_for_jobs(folder: Path, write_spec: WriteSpec, *, slurm: dict[str, Any] | None = None, **changes: Any) -> Path:
    jobs = {"walltime": "00:20:00", "log_folder": "logs", **(slurm or {})}
    return write_spec(folder, cluster={"interface": "lo", "slurm": jobs}, **changes)


@contextmanager
def capturing(spec: Path, slurm: dict[str, str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command line at work. Jobs have its environment, and so find the tests' networks."""
    command = (Path(sys.executable).with_name("actstore"), "capture", spec, "--cluster", "slurm", "--workers", "2")
    with subprocess.Popen(
        [*map(str, command), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **slurm, "PYTHONPATH": str(SUPPORT), **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str], spec: Path) -> None:
    output, _ = process.communicate(timeout=LIMIT)
    logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted((spec.parent / "logs").glob("*")))
    assert process.returncode == 0, f"{output}\n{logs}"


def jobs(slurm: dict[str, str]) -> set[str]:
    """Numbers of the jobs that run or are to run."""
    command = ("squeue", "--noheader", "--format=%i", "--states=PENDING,RUNNING")
    done = subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_jobs_store_what_one_process_stores(
    tmp_path: Path, slurm: dict[str, str], write_spec: WriteSpec, tiny_store: Path
) -> None:
    spec = spec_for_jobs(tmp_path, write_spec)
    with capturing(spec, slurm) as process:
        finish(process, spec)
    assert jobs(slurm) == set(), "no job is left"
    expect_same(load_spec(spec).store.path, tiny_store)


class Held:
    """A spec whose network waits in jobs until it is let go, and what one process stores of it."""

    settings: ClassVar[dict[str, Any]] = {"model__factory": "held_network:held_unet"}

    def __init__(self, folder: Path, write_spec: WriteSpec, **slurm: Any) -> None:
        self.folder = folder
        self.file = folder / "held"
        self.file.touch()
        (folder / "held_network.py").write_text(HELD_NETWORK)
        inline = load_spec(write_spec(folder, store__path="expected.zarr", **self.settings))
        self.expected = capture(inline, cluster="inline", device="cpu").store
        self.spec = spec_for_jobs(folder, write_spec, slurm=slurm, **self.settings)
        self.store = load_spec(self.spec).store.path

    def inferring(self) -> set[str]:
        """Jobs that began to infer, ever."""
        return {path.name.removeprefix("infers.") for path in self.folder.glob("infers.*")}


def test_a_cancelled_job_is_replaced_and_costs_nothing(
    tmp_path: Path, slurm: dict[str, str], write_spec: WriteSpec
) -> None:
    held = Held(tmp_path, write_spec)
    with capturing(held.spec, slurm, HELD=str(held.file)) as process:
        wait_until(lambda: len(held.inferring()) == 2, process)
        first = held.inferring()
        assert jobs(slurm) == first
        assert committed(held.store) == []
        subprocess.run(["scancel", min(first)], env={**os.environ, **slurm}, check=True, timeout=60)
        wait_until(lambda: len(held.inferring()) == 3, process)
        assert jobs(slurm) == held.inferring() - {min(first)}, "the replacement infers beside the job that was left"
        held.file.unlink()
        finish(process, held.spec)
    assert jobs(slurm) == set(), "no job is left"
    expect_same(held.store, held.expected)


def test_a_job_that_ends_before_its_worker_came_is_replaced(
    tmp_path: Path, slurm: dict[str, str], write_spec: WriteSpec
) -> None:
    """As on a broken node: SLURM starts the job, and it ends at once."""
    held = Held(tmp_path, write_spec, prologue=[f"if mkdir '{tmp_path}/broken' 2>/dev/null; then exit 3; fi"])
    with capturing(held.spec, slurm, HELD=str(held.file)) as process:
        wait_until(lambda: len(held.inferring()) == 2, process)
        assert (tmp_path / "broken").is_dir()
        held.file.unlink()
        finish(process, held.spec)
    assert jobs(slurm) == set(), "no job is left"
    expect_same(held.store, held.expected)


def test_what_sbatch_refuses_is_said_at_once(tmp_path: Path, slurm: dict[str, str], write_spec: WriteSpec) -> None:
    spec = spec_for_jobs(tmp_path, write_spec, slurm={"partition": "nosuch"})
    with capturing(spec, slurm) as process:
        output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "invalid partition specified: nosuch" in output
    assert "Traceback" not in output
