"""What a run of a job did to its group of a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from actstore.jobs.job import Report
from actstore.jobs.runner import Outcome
from actstore.store.files.base import Location


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
