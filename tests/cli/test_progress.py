"""What a run shows while it lasts, and at its end."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from actstore.cli import progress, results
from actstore.cli.progress import unit_progress


def shown(noun: str, times: list[float], monkeypatch: pytest.MonkeyPatch, *, workers: int = 0) -> list[str]:
    """The lines of a run without a terminal, whose units end at ``times``."""
    at = iter([0.0, *times])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(at))
    console = Console(file=(output := io.StringIO()), width=200)
    with unit_progress(console, noun) as show:
        if workers:
            show.starting(workers)
        for finished in range(1, len(times) + 1):
            show(None, finished, 5)
    return output.getvalue().strip().splitlines()


def test_lines_say_what_is_over_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown("volume", [11.0, 17.0, 29.0, 30.0, 31.0], monkeypatch, workers=2)
    assert lines == [
        "starting 2 workers",
        "1/5 volumes, elapsed 0:11",
        "3/5 volumes, elapsed 0:29, left 0:18",
        "5/5 volumes, elapsed 0:31, left 0:00",
    ]


@pytest.mark.parametrize(("dice", "doubt", "warned"), [(0.49, True, True), (0.5, True, False), (0.49, False, False)])
def test_a_low_dice_of_untouched_images_is_a_warning(
    tiny_store: Path,
    dice: float,
    doubt: bool,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = pd.DataFrame({"class_name": ["RV", "LV", "MYO"], "dice": [0.9, dice, float("nan")]})
    monkeypatch.setattr(results, "original_dice", lambda _: table)
    results.show_original(tiny_store, doubt=doubt)
    out, err = capsys.readouterr()
    assert out == f"original  Dice RV 0.900, LV {dice:.3f}\n"
    assert ("below 0.5 for LV: check that axes" in err) == warned
