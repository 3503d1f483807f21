"""Reads lazy arrays of a store inside a unit of work."""

from __future__ import annotations

from typing import Any

import xarray as xr
from numpy.typing import NDArray


def read(array: xr.DataArray) -> NDArray[Any]:
    """The values of a lazy array, computed by this thread.

    In a task of a Dask worker ``.values`` asks the cluster for them, gives the task's thread away meanwhile, and waits
    for another one: forever, if those that are there wait for a lock that this task holds.
    """
    values: NDArray[Any] = array.compute(scheduler="synchronous").values
    return values
