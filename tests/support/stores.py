"""Whole stores in tests: a slow network to interrupt, and bitwise comparison."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from actstore.jobs.blocks import Block
from actstore.jobs.engine import Engine
from actstore.jobs.job import Report
from actstore.jobs.plan.plan import Plan
from actstore.jobs.ring import Stream
from actstore.jobs.runner import compute_unit
from conftest import WriteSpec

BATCH = 8

#: A network file next to the spec, as a researcher's own would be. It pauses for some seconds per pass, and waits while
#: a file exists, so that a fault hits blocks in flight.
SLOW_NETWORK = """
import os
import time
import torch
from torch import nn


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, padding=1), nn.InstanceNorm2d(16), nn.ReLU(inplace=True), nn.Conv2d(16, 4, 1),
        )

    def forward(self, x):
        # Not while a run is planned, which shows it zeros and noise, and a copy with even weights a spot of light.
        trial = len(x) <= 2 or not (x.any() and self.body[0].bias.any())
        time.sleep(0 if trial else float(os.environ.get("SLOW_NETWORK_PAUSE", "0")))
        while not trial and os.path.exists(os.environ.get("SLOW_NETWORK_HELD", "")):
            time.sleep(0.02)
        return self.body(x)


def slow():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Slow()
"""


def slow_spec(folder: Path, write_spec: WriteSpec, data_root: Path, **changes: Any) -> Path:
    """Write a spec of the slow network at 48 x 48, and the network next to it."""
    folder.mkdir(exist_ok=True)
    (folder / "slow_network.py").write_text(SLOW_NETWORK)
    settings: dict[str, Any] = {
        "data__root": data_root,
        "model__factory": "slow_network:slow",
        "data__preprocess__size": [48, 48],
        "model__layers": ["type:InstanceNorm2d"],
        "run": {"threads": 1, "batch_size": BATCH, "retries": 0},
    }
    return write_spec(folder, **(settings | changes))


def is_chunk(key: str) -> bool:
    """Whether a file holds numbers; metadata and their copy differ by versions and folders."""
    return not key.endswith("zarr.json") and not key.startswith("metadata/")


def files_of(root: Path) -> dict[str, bytes]:
    """Every chunk and shard below ``root`` by key."""
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {key: path.read_bytes() for key, path in files.items() if is_chunk(key)}


def expect_same(found: Path, expected: Path) -> None:
    """Check that both stores hold identical files, and identical arrays when read by Zarr."""
    mine, theirs = files_of(found), files_of(expected)
    assert mine.keys() == theirs.keys(), "no file is missing, none is left over"
    assert [key for key in mine if mine[key] != theirs[key]] == []
    with_zarr, other = zarr.open_group(found, mode="r"), zarr.open_group(expected, mode="r")
    arrays = [name for name, member in other.members(max_depth=None) if isinstance(member, zarr.Array)]
    assert [n for n, member in with_zarr.members(max_depth=None) if isinstance(member, zarr.Array)] == arrays
    for name in (name for name in arrays if is_chunk(f"{name}/")):
        a: Any = with_zarr[name]
        b: Any = other[name]
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.array_equal(a[...], b[...], equal_nan=a.dtype.kind == "f"), name


def committed(root: Path) -> list[int]:
    """Blocks that have a commit record."""
    names = [path.name.removeprefix("c.") for path in (root / "committed").glob("c.*")]
    return sorted(int(name) for name in names if name.isdigit())


def strays(root: Path) -> list[str]:
    """Temporary files of attempts."""
    return [path.name for path in root.rglob("*.partial*")]


def edit_attributes(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    metadata = json.loads((store / "zarr.json").read_text())
    change(metadata["attributes"])
    (store / "zarr.json").write_text(json.dumps(metadata))


@contextmanager
def worker(plan: Plan, stream: Stream | None = None) -> Iterator[Callable[[Block], Report]]:
    """Computes and commits blocks of a plan in this process; raises the error of a failed block."""
    engine = Engine(plan.job, plan.device, stream)
    try:
        yield lambda block: compute_unit(engine.compute, plan.task, block)
    finally:
        engine.close()
