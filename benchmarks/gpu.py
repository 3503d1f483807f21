"""Runs all that needs a GPU: the tests marked ``gpu``, then `benchmarks/device.py` in each precision.

Writes the results into the GPU section of docs/performance.md, between its two marks. Without a GPU it ends with one
line and status 1.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from common import machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- begin: written by `make gpu` -->", "<!-- end: written by `make gpu` -->"
#: Seconds for all steps; an unfinished step is then killed and named.
LIMIT = 345
TESTS = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests/gpu")
PRECISIONS = ("float32", "tf32", "bf16")


@dataclass(frozen=True)
class Step:
    """A command, its standard output, and what went wrong; empty if nothing did."""

    name: str
    output: str
    wrong: str = ""

    @property
    def table(self) -> str:
        """The Markdown that it printed."""
        start = self.output.find("### ")
        return self.output[start:].strip() if start >= 0 else ""

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return (self.output.strip().splitlines() or [""])[-1].strip("= ")


def run(name: str, arguments: Sequence[str], seconds: float) -> Step:
    """Run Python in the project's root for at most ``seconds``; standard error goes to the terminal."""
    if seconds <= 0:
        return Step(name, "", "no time was left")
    # A killed step leaves its files behind, and for a moment processes that write them.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
                timeout=seconds,
                check=False,
                env={**os.environ, "TMPDIR": folder},
            )
        except subprocess.TimeoutExpired as late:
            said = late.stdout or b""
            return Step(name, said.decode() if isinstance(said, bytes) else said, f"stopped after {seconds:.0f} s")
    return Step(name, done.stdout, f"status {done.returncode}" if done.returncode else "")


def section(tests: Step, measured: Sequence[Step]) -> str:
    """The page's section: the result of the tests, then a table for each precision."""
    lines = [f"Tests of `tests/gpu` ({machine()}): {tests.last or tests.wrong}."]
    for step in measured:
        lines.append(step.table or f"{step.name}: {step.wrong or 'printed no table'}.")
    return "\n\n".join(lines)


def write(page: Path, content: str) -> None:
    """Replace the text between the two marks of ``page``.

    Raises
    ------
    ValueError
        if the page does not hold each mark once, in their order.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}, once each and in this order")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{content}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit(f"no GPU: torch {torch.__version__} sees none here, and nothing was run or written")
    end = time.monotonic() + LIMIT
    tests = run("tests", TESTS, end - time.monotonic())
    print(tests.output)
    measured = []
    for left, precision in zip(range(len(PRECISIONS), 0, -1), PRECISIONS, strict=True):
        arguments = ("benchmarks/device.py", "--device", "cuda", "--precision", precision, "--runs", "3")
        # Share the remaining time equally, so that a slow precision takes nothing from the next.
        measured.append(run(precision, arguments, (end - time.monotonic()) / left))
        print(measured[-1].output)
    write(PAGE, section(tests, measured))
    print(PAGE.relative_to(ROOT))
    if wrong := [f"{step.name}: {step.wrong}" for step in (tests, *measured) if step.wrong]:
        raise SystemExit("; ".join(wrong))


if __name__ == "__main__":
    main()
