"""Measures how time and memory of capture, opening and tables grow with the number of volumes.

UNetHeart 8-4-4, phantom volumes, 21 layers, `store.keep = "statistics"`, so that hundreds of volumes fit a small disk.
Two Dask workers. Every capture runs in a separate process, whose peak is the client's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from common import machine, phantom_spec, require_free

from actstore.jobs.capture import capture
from actstore.jobs.runner import peak_memory
from actstore.store.opening import open_store
from actstore.tables.build import build_table
from actstore.units import human_bytes

#: Bytes of two volumes, their images and statistics, roughly.
A_PATIENT = 60_000_000
TABLES = ("top-channels", "frequency", "dice", "cases", "mad")


def captured(folder: Path, patients: int) -> None:
    """Capture, and print as JSON when each block ended, its inputs, and the peaks of workers and this process."""
    spec = phantom_spec(folder, patients=patients)
    spec = spec.model_copy(update={"store": spec.store.model_copy(update={"keep": "statistics"})})
    ended: list[tuple[float, int]] = []

    def note(report: Any, finished: int, total: int) -> None:
        ended.append((time.perf_counter(), report.inferred))

    summary = capture(spec, workers=2, progress=note)
    if not summary.complete:
        raise SystemExit(f"{len(summary.failed)} blocks failed: {summary.failed[0].error}")
    print(json.dumps({"ended": ended, "worker": summary.peak_memory, "client": peak_memory()}))


def in_a_process(folder: Path, patients: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--capture", str(folder), "--patients", str(patients)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def per_input(ended: list[tuple[float, int]]) -> float:
    """Seconds per input between the first and the last block."""
    return (ended[-1][0] - ended[0][0]) / sum(inputs for _, inputs in ended[1:])


def seconds(step: Callable[[], object], runs: int) -> list[float]:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return taken


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


def show(name: str, taken: list[float]) -> None:
    row(name, f"{statistics.median(taken):.2f}", f"{min(taken):.2f}–{max(taken):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, nargs="+", default=[5, 150], help="two volumes each")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; the system's folder for such files")
    parser.add_argument("--capture", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.capture is not None:
        captured(arguments.capture, arguments.patients[0])
        return
    print(f"\n### Scale\n\n{machine()}; `python {' '.join(sys.argv)}`\n")
    row("volumes", "s a block", "ms an input", "in the first half", "in the last", "worker's peak", "client's peak")
    row(*["---"] * 7)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        require_free(folder, sum(arguments.patients) * A_PATIENT)
        for patients in arguments.patients:
            place = Path(folder) / str(patients)
            place.mkdir()
            found = in_a_process(place, patients)
            ended = found["ended"]
            middle = len(ended) // 2
            # Blocks finish from the largest to the smallest, so compare time per input.
            rates = [per_input(part) for part in (ended, ended[: middle + 1], ended[middle:])]
            block = (ended[-1][0] - ended[0][0]) / (len(ended) - 1)
            memory = [human_bytes(found[who]) for who in ("worker", "client")]
            row(2 * patients, f"{block:.3f}", *(f"{1000 * rate:.1f}" for rate in rates), *memory)
        path = place / "store.zarr"
        print(f"\n{2 * patients} volumes:\n")
        row("what", "median s", "min–max s")
        row(*["---"] * 3)
        show("`actstore.open`", seconds(lambda: open_store(path), arguments.runs))
        for name in TABLES:
            show(f"table {name}", seconds(partial(build_table, open_store(path), name), arguments.runs))
        commands = {
            "`python -c 'import actstore'`": [sys.executable, "-c", "import actstore"],
            "`actstore --help`": [str(Path(sys.executable).with_name("actstore")), "--help"],
            "`python -c pass`": [sys.executable, "-c", "pass"],
        }
        for name, line in commands.items():
            show(name, seconds(partial(subprocess.run, line, check=True, stdout=subprocess.PIPE), arguments.runs))


if __name__ == "__main__":
    main()
