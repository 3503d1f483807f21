"""What jobs read of a store: its blocks as units of work, and lazy arrays inside such a unit."""

from __future__ import annotations

from typing import Any

import xarray as xr
from numpy.typing import NDArray

from actstore.jobs.job import PlainUnit
from actstore.store.store import Store


def block_units(store: Store) -> tuple[PlainUnit, ...]:
    """The committed blocks of a store, each a unit."""
    names = store.attributes["blocks"]
    return tuple(PlainUnit(block, names[block], samples) for block, samples in store.block_samples)


def read(array: xr.DataArray) -> NDArray[Any]:
    """The values of a lazy array, computed by this thread.

    In a task of a Dask worker ``.values`` asks the cluster for them, gives the task's thread away meanwhile, and waits
    for another one: forever, if those that are there wait for a lock that this task holds.
    """
    values: NDArray[Any] = array.compute(scheduler="synchronous").values
    return values
