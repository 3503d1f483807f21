"""Shared by all benchmarks: the machine, a run on the phantom, interleaved timing and printing."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

from actstore.spec.spec import Spec
from actstore.units import human_bytes

# Benchmarks capture with workers of their own, as tests do.
sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))


def parser(description: str | None, *, runs: int, patients: int) -> argparse.ArgumentParser:
    """The options that benchmarks on the phantom share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--runs", type=int, default=runs)
    made.add_argument("--patients", type=int, default=patients, help="two volumes each")
    made.add_argument("--folder", type=Path, default=None, help="where to write; the system's folder for such files")
    return made


def phantom_spec(folder: Path, *, patients: int, targets: tuple[str, ...] = ("LV", "RV", "MYO")) -> Spec:
    """UNetHeart 8-4-4 with the shipped weights, on a phantom generated into ``folder``."""
    return Spec.from_mapping(
        {
            "data": {
                "format": "phantom",
                "root": "phantom",
                "phantom": {"patients": patients, "seed": 7},
                "classes": {"RV": 1, "MYO": 2, "LV": 3},
            },
            "model": {
                "factory": "actstore.models:unet_heart_8_4_4",
                "weights": "package:unet_heart_8_4_4_phantom.safetensors",
                "layers": ["*.adn.N"],
            },
            "perturb": [{"transform": "brightness", "targets": list(targets), "strengths": [0.1]}],
            "store": {"path": "store.zarr"},
        },
        folder=folder,
    )


def machine() -> str:
    """One line about the machine and versions of a measurement."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {name}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def require_free(folder: Path | str, needed: int) -> int:
    """Bytes free in ``folder``; ends the benchmark if that is less than ``needed``."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{folder} has {human_bytes(free)} free, {human_bytes(needed)} are needed")
    return free


Step = Callable[[], object]


def interleave(candidates: Mapping[str, Step | tuple[Step, Step]], *, runs: int) -> dict[str, list[float]]:
    """Seconds of each candidate, run in turn ``runs`` times after one warm-up each.

    A pair is an untimed preparation and the candidate.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in range(runs + 1):
        for name, candidate in candidates.items():
            before, timed = candidate if isinstance(candidate, tuple) else (lambda: None, candidate)
            before()
            start = time.perf_counter()
            timed()
            print(f"run {run}: {name}: {time.perf_counter() - start:.2f} s", file=sys.stderr)
            if run:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def show(title: str, seconds: Mapping[str, list[float]], *, base: str, note: str = "") -> None:
    """A Markdown table: median seconds, range, and the median of the run-by-run ratios to ``base``."""
    print(f"\n### {title}\n\n{machine()}; `python {' '.join(sys.argv)}`{'; ' + note if note else ''}\n")
    print(f"| what | median s | min–max s | time ÷ {base} |\n|---|---|---|---|")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds[base], strict=True))
        spread = f"{min(values):.3f}–{max(values):.3f}"
        print(f"| {name} | {statistics.median(values):.3f} | {spread} | {ratio:.2f} |")
