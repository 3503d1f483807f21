"""Progress of a run on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from actstore.units import clock, counted, plural_of

#: Seconds between two lines where there is no terminal.
EVERY = 10.0


class _Times(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_times(task.elapsed or 0.0, task.fields["left"]))


class Shown:
    """Shows how far a run is; called after every unit with its report, units finished and units to do."""

    def __init__(self, bar: Progress, errors: Console, noun: str) -> None:
        self._bar, self._errors, self._noun = bar, errors, noun
        self._task = bar.add_task(plural_of(noun), total=None, note="", left=None)
        self._began = self._said = time.perf_counter()
        self._failed = 0
        self._first = 0.0

    def starting(self, workers: int) -> None:
        """Called before worker processes start, which takes a while."""
        self._errors.print(f"starting {counted(workers, 'worker')}", soft_wrap=True)

    def __call__(self, report: Any, finished: int, total: int) -> None:
        now = time.perf_counter()
        # The first includes the start of workers and loading the network, so leave it out of the rate.
        self._first = self._first or now
        each = (now - self._first) / (finished - 1) if finished > 1 else None
        left = None if each is None else each * (total - finished)
        self._failed += bool(getattr(report, "error", ""))
        note = f"{self._failed} failed" if self._failed else ""
        self._bar.update(self._task, completed=finished, total=total, note=note, left=left)
        if not self._errors.is_terminal and (now - self._said > EVERY or finished == total):
            self._said = now
            parts = [f"{finished}/{counted(total, self._noun)}", _times(now - self._began, left), note]
            self._errors.print(", ".join(filter(None, parts)), soft_wrap=True)


@contextmanager
def unit_progress(errors: Console, noun: str) -> Iterator[Shown]:
    """Progress in units called ``noun``, on a console of standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Times(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=errors, disable=not errors.is_terminal, transient=True) as bar:
        yield Shown(bar, errors, noun)


def _times(elapsed: float, left: float | None) -> str:
    return f"elapsed {clock(elapsed)}" + ("" if left is None else f", left {clock(left)}")
