"""What a run of a job did to its group of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from actstore.jobs.job import Job, Report
from actstore.jobs.runner import Outcome, Progress, Workers, run
from actstore.store.files.base import Location, Storage


@dataclass(frozen=True)
class Filled:
    """A group of a store after a run of its job."""

    store: Location
    group: str
    #: Units computed, and committed before.
    done: int
    skipped: int
    failed: tuple[Report, ...]
    #: Units that were not begun because the run was stopped.
    left: int

    @classmethod
    def of(cls, store: Location, group: str, outcome: Outcome) -> Self:
        done = len(outcome.reports) - len(outcome.failed)
        return cls(store, group, done, outcome.skipped, outcome.failed, outcome.left)

    @property
    def complete(self) -> bool:
        return not self.failed and not self.left


def fill_each(
    jobs: Iterable[tuple[Job, Storage, Workers]], progress: Progress | None, stopping: Callable[[], None]
) -> tuple[Filled, ...]:
    """Run one job after the other, up to the first that fails or is stopped."""
    made: list[Filled] = []
    for job, storage, workers in jobs:
        outcome = run(job, storage, workers, progress=progress, stopping=stopping)
        made.append(Filled.of(storage.location, job.schema.group, outcome))
        if not made[-1].complete:
            break
    return tuple(made)
