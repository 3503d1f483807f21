"""Groups of a store that a job filled under a name of the spec: which there are, and opening them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.tables.catalogue import Unanswerable

if TYPE_CHECKING:
    from actstore.store.store import Store


@dataclass(frozen=True)
class JobGroup:
    """One group of an open store, with a row for each sample of its committed blocks."""

    store: Store
    #: Last part of the group's path.
    name: str
    #: The group's path.
    path: str
    #: Lazy, with committed units only.
    group: xr.Dataset
    #: The resolved table of the spec.
    settings: Mapping[str, Any]

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        """Numbers, among the store's samples, of the group's."""
        done = self.store.group_committed(self.path)
        return np.flatnonzero(done[self.store.samples["block"].to_numpy()])


Group = TypeVar("Group", bound=JobGroup)


@dataclass(frozen=True)
class Kind(Generic[Group]):
    """The groups that one job fills."""

    #: What one of them is: its class, and its name in messages.
    opened: type[Group]
    noun: str
    #: Where they lie, and the key of the settings in what a group says of itself.
    prefix: str
    settings: str
    #: The command that fills them.
    command: str

    def names(self, store: Store) -> list[str]:
        """Names of the groups of which something is committed, in alphabetical order."""
        return [
            path.removeprefix(self.prefix)
            for path in store.groups
            if path.startswith(self.prefix) and store.group_committed(path).any()
        ]

    def open(self, store: Store, name: str) -> Group:
        """The group ``name``.

        Raises
        ------
        StoreError
            naming those that there are.
        """
        names = self.names(store)
        if name not in names:
            there = f"there are {', '.join(names)}" if names else f"`{self.command}` makes them"
            raise StoreError(f"no {self.noun} {name!r}: {there}")
        path = self.prefix + name
        settings = store.groups[path].identity[self.settings]
        return self.opened(store, name, path, store.group(path), settings)

    def all(self, store: Store, of: str | None = None) -> list[Group]:
        """All groups of a store, or the one named ``of``.

        Raises
        ------
        Unanswerable
            if the store holds none.
        StoreError
            as :meth:`open`.
        """
        names = self.names(store)
        if not names:
            raise Unanswerable(f"the store holds no {self.noun}s: `{self.command}` makes them")
        return [self.open(store, name) for name in ([of] if of else names)]
