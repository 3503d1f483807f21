"""`make gpu` without a GPU: what it says, and that made-up results reach the page between its marks alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TABLE = """
### Device: NVIDIA Fake

2026-01-01, a machine; `python benchmarks/device.py`; 64 inputs a pass

| what | GB/s of activations |
|---|---|
| bare forward pass | 12.34 |
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/gpu.py."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for the module's names.
    monkeypatch.setitem(sys.modules, "gpu_benchmark", module)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_one_line_says_so(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "run", None)
    with pytest.raises(SystemExit, match=r"^no GPU: torch \S+ sees none here, and nothing was run or written$"):
        gpu.main()


def test_results_stand_between_the_marks(gpu: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Title\n\n{gpu.BEGIN}\n\nold words\n\n{gpu.END}\n\nafter\n", encoding="utf-8")
    tests = gpu.Step("tests", "....\n===== 9 passed, 7 deselected in 4.00s =====\n")
    late = gpu.Step("bf16", "", "stopped after 60 s")
    for _ in range(2):
        gpu.write(page, gpu.section(tests, [gpu.Step("float32", "warming up\n" + TABLE), late]))
    before, shown, after = page.read_text(encoding="utf-8").replace(gpu.END, gpu.BEGIN).split(gpu.BEGIN)
    assert (before, after) == ("# Title\n\n", "\n\nafter\n")
    assert "old words" not in shown
    assert shown.endswith(f"9 passed, 7 deselected in 4.00s.\n\n{TABLE.strip()}\n\nbf16: stopped after 60 s.\n\n")


def test_a_page_without_its_marks_is_left_alone(gpu: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{gpu.END} {gpu.BEGIN}", encoding="utf-8")
    with pytest.raises(ValueError, match="once each and in this order"):
        gpu.write(page, "new")
    assert page.read_text(encoding="utf-8") == f"{gpu.END} {gpu.BEGIN}"


def test_the_page_has_the_marks(gpu: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_bytes(gpu.PAGE.read_bytes())
    gpu.write(page, "new")
    assert page.read_text(encoding="utf-8").count("\nnew\n") == 1


def test_a_step_that_fails_or_takes_too_long_is_named(gpu: ModuleType) -> None:
    assert gpu.run("a", ["-c", "print('### yes')"], 180).table == "### yes"
    assert gpu.run("a", ["-c", "print(1); raise SystemExit(3)"], 180) == gpu.Step("a", "1\n", "status 3")
    assert gpu.run("a", ["-c", "import time; time.sleep(600)"], 0.5).wrong == "stopped after 0 s"
    assert gpu.run("a", [], 0).wrong == "no time was left"


def test_every_precision_is_measured_and_what_failed_ends_the_command(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(name: str, arguments: tuple[str, ...], seconds: float) -> object:
        assert 0 < seconds <= gpu.LIMIT
        asked.append((name, *arguments))
        return gpu.Step(name, "2 passed\n" if name == "tests" else TABLE, "status 1" if name == "tf32" else "")

    page = tmp_path / "performance.md"
    page.write_text(f"{gpu.BEGIN}\n{gpu.END}", encoding="utf-8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "run", run)
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "PAGE", page)
    with pytest.raises(SystemExit, match=r"^tf32: status 1$"):
        gpu.main()
    assert [name for name, *_ in asked] == ["tests", "float32", "tf32", "bf16"]
    assert page.read_text(encoding="utf-8").count("NVIDIA Fake") == 3
