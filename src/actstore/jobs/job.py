"""What a job is: the arrays of one group as data, units of work, and a function that computes one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from actstore.jobs.out import Out
from actstore.store.files import Storage
from actstore.store.schema import Coordinate, Schema


class Unit(Protocol):
    """What is computed, committed and repeated as a whole: a block of the store, or a range of channels."""

    @property
    def index(self) -> int:
        """Which part of the leading dim of each array it owns."""
        ...

    @property
    def name(self) -> str:
        """For people: a volume, a layer."""
        ...

    @property
    def samples(self) -> int:
        """How many entries of the leading dim it fills."""
        ...


@dataclass(frozen=True)
class PlainUnit:
    """A unit that is nothing but its place."""

    index: int
    name: str
    samples: int


@dataclass(frozen=True)
class Report:
    """What became of one unit. A job may return one with more fields."""

    unit: int
    name: str
    error: str = ""
    #: How often it was tried.
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
    """One kind of computation that fills the arrays of one group. Picklable: it is sent to workers with every unit."""

    @property
    def schema(self) -> Schema:
        """The group and its arrays."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """What decides the numbers, beside the run of the store, as JSON; empty if nothing does."""
        ...

    def coordinates(self) -> Sequence[Coordinate]:
        """Along the dims of the group's arrays; their names are the schema's ``coordinates``."""
        ...

    def units(self) -> Sequence[Unit]:
        """All of them, in the order of their indexes."""
        ...

    def open(self, device: str) -> AbstractContextManager[Compute]:
        """Load once a process what every unit needs. What is yielded computes a unit and puts its arrays out."""
        ...

    @classmethod
    def again(cls, storage: Storage, identity: Mapping[str, Any]) -> Self:
        """The job that made a group of the store in ``storage``, from the identity that the group describes."""
        ...
