"""Reads the weight of the network's first convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from actstore.errors import StoreError, one_line
from actstore.store.attributes import REPAIR
from actstore.store.files.base import Storage
from actstore.store.schema import FILTERS, WEIGHT


def read_filters(storage: Storage, attributes: Mapping[str, Any]) -> xr.DataArray:
    """(out_channel, input_channel, [z,] y, x) float32 of a store with these root ``attributes``.

    Raises
    ------
    StoreError
        if the store holds none, saying why and what to do, or they are damaged.
    """
    if FILTERS not in attributes:
        raise StoreError(
            f"{storage.location} was captured before {FILTERS}/{WEIGHT} was stored: capture it to another store"
        )
    if attributes[FILTERS] is None:
        raise StoreError(f"{storage.location} holds no {FILTERS}/{WEIGHT}: no convolution ran in its network")
    import zarr

    try:
        array: Any = zarr.open_array(storage.zarr(), path=f"{FILTERS}/{WEIGHT}", mode="r")
        if array.nchunks_initialized < array.nchunks:
            raise FileNotFoundError(f"no chunk of {FILTERS}/{WEIGHT}")
        values = np.asarray(array[...])
    except Exception as error:
        raise StoreError(
            f"{storage.location} is damaged: {FILTERS}/{WEIGHT} cannot be read ({one_line(error)}); {REPAIR}"
        ) from error
    return xr.DataArray(values, dims=array.metadata.dimension_names, name=WEIGHT, attrs=dict(attributes[FILTERS]))
