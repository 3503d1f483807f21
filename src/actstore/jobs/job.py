"""The job protocol: the arrays of one group as data, units of work, and a function that computes one unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from actstore.jobs.out import Out
from actstore.spec.spec import Spec
from actstore.store.files.base import Storage
from actstore.store.schema import Coordinate, Schema


class Unit(Protocol):
    """The smallest piece of work, computed and committed as a whole: a block of the store, or a range of channels."""

    @property
    def index(self) -> int:
        """Which part of each array's leading dim it owns."""
        ...

    @property
    def name(self) -> str:
        """A readable name: a volume, a layer."""
        ...

    @property
    def samples(self) -> int:
        """Number of entries of the leading dim that it fills."""
        ...


@dataclass(frozen=True)
class PlainUnit:
    """A unit without data of its own."""

    index: int
    name: str
    samples: int


@dataclass(frozen=True)
class Report:
    """The outcome of one unit. A job may return a subclass with more fields."""

    unit: int
    name: str
    error: str = ""
    #: Number of attempts.
    attempts: int = 1
    samples: int = 0
    bytes: int = 0
    seconds: float = 0.0
    #: Largest resident set of the process so far, bytes.
    peak_memory: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.error)


Compute = Callable[[Any, Out], Report]


class Job(Protocol):
    """A computation that fills the arrays of one group. Picklable: it is sent to workers with every unit."""

    @property
    def schema(self) -> Schema:
        """The group and its arrays."""
        ...

    @property
    def needs(self) -> Sequence[str]:
        """Groups of other jobs that it reads, which have to be whole before."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """The settings that decide the numbers, besides the store's run, as JSON."""
        ...

    def coordinates(self) -> Sequence[Coordinate]:
        """Coordinates of the group's arrays; the schema's ``coordinates`` lists their names."""
        ...

    def units(self) -> Sequence[Unit]:
        """All units, in the order of their indexes."""
        ...

    def open(self, device: str) -> AbstractContextManager[Compute]:
        """Load once per process what every unit needs. Yields a function that computes and writes one unit."""
        ...

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any], spec: Spec | None = None) -> Self:
        """Recreate the job that made a group of the store in ``storage`` from the group's identity.

        ``spec`` comes before the store's own, where data or weights were moved.
        """
        ...
