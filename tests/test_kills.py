"""Processes of a capture that are killed, frozen or started twice: the store ends as if nothing had happened.

Moments are random, from seeds that are printed. One case of each kind runs always, the others in the fault suite.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import actstore
from actstore.capture import Summary, capture
from actstore.spec import load_spec
from actstore.store import MissingBlocksWarning
from conftest import WriteSpec
from processes import alive, captured, finish, kill_group, loopback, until, workers_of
from stores import BATCH, committed, expect_same, expect_whole, files_of, slow_spec, strays

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")

#: Makes a block take about a second.
PAUSE = {"SLOW_NETWORK_PAUSE": "0.3"}
REFUSED = ("another capture is writing to", "appeared while the store was made: run again to continue it")

#: Lies beside the spec. Takes much memory in the only forward pass of so many inputs.
HUNGRY_NETWORK = """
import os
import time

import torch
from networks import tiny_unet


def eat(_, inputs):
    if str(len(inputs[0])) == os.environ.get("HUNGRY_INPUTS"):
        eaten = torch.ones(2**30 // 4)
        time.sleep(30)


def hungry():
    network = tiny_unet()
    network.register_forward_pre_hook(eat)
    return network
"""


def seeds(count: int) -> Sequence[Any]:
    """So many seeds, all but the first for the fault suite."""
    return [seed if seed == 0 else pytest.param(seed, marks=pytest.mark.faults) for seed in range(count)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec, phantom_root: Path) -> Summary:
    """An undisturbed capture of the slow network, where it is not slow."""
    spec = slow_spec(tmp_path_factory.mktemp("undisturbed"), write_spec, phantom_root)
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete
    return summary


@pytest.fixture
def spec(tmp_path: Path, write_spec: WriteSpec, phantom_root: Path) -> Path:
    """Four blocks of the slow network."""
    return slow_spec(tmp_path / "spec", write_spec, phantom_root, cluster={"startup_timeout": 60})


def store_of(spec: Path) -> Path:
    return spec.parent / "tiny.zarr"


def passes_of(root: Path, blocks: Sequence[int]) -> int:
    """Forward passes for ``blocks`` of a whole store: ``BATCH`` applicable inputs at a time, never across blocks."""
    store = actstore.open(root)
    applicable, of = store.applicable.values, store.samples["block"].to_numpy()
    return sum(-(-int(applicable[of == block].sum()) // BATCH) for block in blocks)


def until_in_flight(process: subprocess.Popen[str], root: Path, done: int = 0) -> None:
    """Wait until ``done`` blocks are committed and others are being written."""

    def in_flight() -> bool:
        assert process.poll() is None, finish(process)
        return len(committed(root)) >= done and bool(strays(root))

    until(in_flight, "blocks are in flight")


def said(errors: str) -> list[str]:
    """Lines of standard error that tell no progress."""
    return [line for line in errors.splitlines() if line.strip() and " blocks" not in line.partition(",")[0]]


def expect_end(process: subprocess.Popen[str], root: Path, expected: Path) -> bool:
    """It ends by itself, complete, or with one line for each thing that went wrong; whether it is complete."""
    output, errors = finish(process)
    lines = said(errors)
    print(process.returncode, lines)
    expect_whole(root, expected)
    if process.returncode == 0:
        assert "0 failed" in output
        assert lines == []
        expect_same(root, expected)
        return True
    assert process.returncode == 1, errors
    failed = [line for line in lines if line.startswith("failed: ")]
    assert lines == failed or (len(lines) == 1 and lines[0].startswith("actstore: ")), errors
    return False


def resume(spec: Path, whole: Summary) -> None:
    """The same command, here: computes what is not committed, and nothing else."""
    root = store_of(spec)
    expect_whole(root, whole.store)
    done = committed(root)
    with pytest.warns(MissingBlocksWarning) if len(done) < whole.done else _nothing():
        store = actstore.open(root)
    assert [block for block, _ in store.parts] == done
    todo = [block for block in range(whole.done) if block not in done]
    kept = {key: (root / key).stat().st_mtime_ns for key in files_of(root) if of_blocks(key, done)}
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete
    assert (summary.done, summary.skipped) == (len(todo), len(done))
    assert summary.forward_passes == passes_of(root, todo), "no forward pass for a committed block"
    assert {key: (root / key).stat().st_mtime_ns for key in kept} == kept, "no committed file is touched"
    expect_same(root, whole.store)
