"""What jobs read of a store: its blocks as units of work, lazy arrays and single samples inside such a unit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.jobs.job import PlainUnit
from actstore.store.schema import Layer
from actstore.store.single import read_condition
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


def inputs_of(store: Store, samples: Iterable[int], condition: int) -> NDArray[np.float32]:
    """Inputs of samples in one condition: (sample, input_channel, \\*space); no other sample is read."""
    layout = store.layout
    shape = (len(layout.input_channels), *layout.space)
    return np.stack(
        [
            read_condition(store.storage, layout.image, store.block_samples, int(sample), condition).reshape(shape)
            for sample in samples
        ]
    )


def maps_of(store: Store, layer: Layer, sample: int, condition: int) -> NDArray[np.floating]:
    """Stored activations of one sample in one condition: (channel, \\*space)."""
    array = store.layout.activation(store.require_kept(layer))
    return read_condition(store.storage, array, store.block_samples, sample, condition)
