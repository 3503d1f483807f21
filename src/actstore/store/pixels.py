"""Inputs, labels and predictions in pixels; of a classifier, an image's class in every pixel."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.store.arrays import Arrays


def read_image(arrays: Arrays) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.image`, of a store of any schema."""
    layout = arrays.layout
    found = arrays.sharded(layout.image, "image")
    if "input_channel" not in found.dims:
        found = found.expand_dims("input_channel", axis=2)
    return found.assign_coords(input_channel=list(layout.input_channels))


def read_label(arrays: Arrays) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.label`."""
    if not arrays.layout.classified:
        return arrays.sharded(arrays.layout.label, "label")
    counts = read_confusion(arrays).sum("predicted_class").max("condition")
    return _spread(arrays, counts.argmax("true_class"), "label")


def read_prediction(arrays: Arrays) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.prediction`."""
    if not arrays.layout.classified:
        return arrays.sharded(arrays.layout.prediction, "prediction")
    return _spread(arrays, read_confusion(arrays).sum("true_class").argmax("predicted_class"), "prediction")


def read_confusion(arrays: Arrays) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.confusion`."""
    return arrays.small(arrays.layout.confusion, "confusion")


def _spread(arrays: Arrays, classes: xr.DataArray, name: str) -> xr.DataArray:
    """The class of each image in every pixel of the network's input, uint8; lazy."""
    import dask.array as da

    dims = arrays.layout.space_dims
    values: Any = classes.astype(np.uint8).data
    shape = (*values.shape, *arrays.layout.space)
    spread = da.broadcast_to(values[(..., *[None] * len(dims))], shape)
    found = (*(str(dim) for dim in classes.dims), *dims)
    return xr.DataArray(spread, dims=found, coords=arrays.coordinates(found), name=name)


def read_picture(
    arrays: Arrays,
    name: Literal["image", "label", "prediction"],
    sample: int,
    condition: int | str,
    input_channel: int,
) -> NDArray[Any]:
    """As :meth:`actstore.store.store.Store.picture`."""
    layout = arrays.layout
    if name != "image" and layout.classified:
        return _class_picture(arrays, name, sample, condition)
    if name == "label":
        return arrays.single(layout.label, sample)
    if name == "prediction":
        return arrays.single(layout.prediction, sample, condition=condition)
    if layout.version > 3:
        return arrays.single(layout.image, sample, condition=condition, input_channel=input_channel)
    if input_channel:
        raise IndexError(f"input_channel {input_channel} is outside 0..0")
    return arrays.single(layout.image, sample, condition=condition)


def _class_picture(
    arrays: Arrays, name: Literal["label", "prediction"], sample: int, condition: int | str
) -> NDArray[Any]:
    """A classifier's label or prediction of one sample, its class in every pixel: ([z,] y, x)."""
    at = list(arrays.condition["condition"]).index(condition) if isinstance(condition, str) else condition
    if name == "label":
        return np.array(read_label(arrays).isel(sample=sample).values)
    return np.array(read_prediction(arrays).isel(sample=sample, condition=at).values)
