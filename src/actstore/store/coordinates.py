"""A store's coordinates: their names by schema version, and their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.conditions import TARGET
from actstore.errors import StoreError, one_line
from actstore.store.attributes import REPAIR
from actstore.store.files.base import Storage

#: Index of a sample's patch in its volume; position of its first voxel in the volume, negative where the input is
#: padded; the box of voxels that it owns, from ``owned_start`` up to ``owned_stop``. All but the first (sample, axis).
PATCH_COORDINATES = ("patch", "origin", "owned_start", "owned_stop")
#: Along ``sample``.
SAMPLE_COORDINATES = (
    *("patient", "frame", "slice", "phase", "group", "block", "valid", "depth", "height", "width", "spacing"),
    *PATCH_COORDINATES,
)
#: Along ``sample`` of a classifier's images: each one's name, class and split.
IMAGE_COORDINATES = ("image_name", "label", "split")
CONDITION_COORDINATES = ("transform", "target", "strength", "perturbation_source", "region")
#: Along ``condition`` where a condition changes chosen input channels only: their names, "" for all channels.
CHANNELS = "channels"
#: Along the axis of the same name.
INDEXES = ("condition", "true_class", "predicted_class", "axis", "input_channel")
#: The first schema that has a coordinate, if it is not the oldest schema.
_SINCE = {"region": 3, "input_channel": 4, **dict.fromkeys(PATCH_COORDINATES, 4)}


def stored(names: tuple[str, ...], schema: int) -> tuple[str, ...]:
    """The ``names`` that exist in a store of that schema."""
    return tuple(name for name in names if schema >= _SINCE.get(name, 0))


def condition_coordinates(channels: bool) -> tuple[str, ...]:
    """What describes a condition: every store's, and ``channels`` where there are chosen ones."""
    return (*CONDITION_COORDINATES, CHANNELS) if channels else CONDITION_COORDINATES


def sample_coordinates(images: bool) -> tuple[str, ...]:
    """What describes a sample: every store's, and what only images have."""
    return (*SAMPLE_COORDINATES, *IMAGE_COORDINATES) if images else SAMPLE_COORDINATES


def root_coordinates(schema: int, *, channels: bool, images: bool = False) -> tuple[str, ...]:
    """Every coordinate in the root of a store of that schema; ``channels`` as in :func:`condition_coordinates`.

    ``images``: whether its samples are a classifier's.
    """
    return stored((*sample_coordinates(images), *condition_coordinates(channels), *INDEXES), schema)


def statistic_coordinates(schema: int) -> tuple[str, ...]:
    """Every coordinate in the group ``statistics``."""
    return ("statistic", "layer", "channel") if schema > 3 else ()


def score_coordinates(scored: bool) -> tuple[str, ...]:
    """Every coordinate in the group ``outputs``, which has them where scores are counted."""
    return ("class_name", "truth", "bin", "probability_bin", "total") if scored else ()


def read_coordinates(storage: Storage, schema: int, *, channels: bool, images: bool = False) -> dict[str, NDArray[Any]]:
    """All coordinates along ``sample`` and ``condition`` of a store of that schema, by name.

    ``channels`` and ``images`` as in :func:`root_coordinates`.

    Raises
    ------
    StoreError
        if one is missing or damaged.
    """
    import zarr

    try:
        root: Any = zarr.open_group(storage.zarr(), mode="r")
        names = stored((*sample_coordinates(images), "condition", *condition_coordinates(channels)), schema)
        arrays = {name: root[name] for name in names}
        if gone := [name for name, array in arrays.items() if not _is_whole(storage, name, array)]:
            raise FileNotFoundError(f"no chunk of {', '.join(gone)}")
        found = {name: plain(array[...]) for name, array in arrays.items()}
    except Exception as error:
        raise StoreError(
            f"{storage} is damaged: its coordinates cannot be read ({one_line(error)}); {REPAIR}"
        ) from error
    # A store of schema 2 holds no controls.
    return {"region": np.where(found["target"] == "", "", TARGET), **found}


def _is_whole(storage: Storage, name: str, array: Any) -> bool:
    """Whether each chunk of an array in the root exists; not by listing, which a web server cannot."""
    keys = map(array.metadata.encode_chunk_key, np.ndindex(*array.cdata_shape))
    return all(storage.exists(f"{name}/{key}") for key in keys)


def plain(values: Any) -> NDArray[Any]:
    """Convert strings to fixed-width unicode, which every NumPy, pandas and xarray reads; return other arrays as is."""
    array = np.asarray(values)
    return np.asarray(array.tolist(), dtype=str) if array.dtype.kind in "OT" else array
