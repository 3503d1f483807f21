"""Tables of a store's layers, their grids, and patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.errors import StoreError
from actstore.geometry import Grid, Origin
from actstore.store.coordinates import IMAGE_COORDINATES, PATCH_COORDINATES, SAMPLE_COORDINATES
from actstore.store.files.base import Location
from actstore.store.schema import StoreLayout

_BOXES = PATCH_COORDINATES[1:]
#: Not along ``sample`` alone, about hidden slots, or only of stores with patches.
_OF_THEIR_OWN = ("valid", "spacing", *PATCH_COORDINATES)


def layer_listing(layout: StoreLayout, samples: int) -> pd.DataFrame:
    """One row per layer in network order: module, type, channels, size, bytes of the tensors of ``samples`` samples."""
    rows = [
        {
            "layer": layer.name,
            "module": layer.label,
            "type": layer.type,
            "channels": layer.channels,
            "size": layer.space,
            "bytes": samples * array.sample_stride if layer.kept else 0,
        }
        for layer, array in zip(layout.layers, layout.activations, strict=True)
    ]
    return pd.DataFrame(rows).set_index("layer")


def sample_listing(
    coordinates: Mapping[str, NDArray[Any]], slots: NDArray[np.intp]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Columns of the samples in ``slots``, and further coordinates that their arrays have.

    Where a slice or volume has several patches, the former have ``patch``, and the latter the patch's origin and owned
    box along each axis.
    """
    patched = bool("patch" in coordinates and coordinates["patch"][coordinates["valid"]].any())
    columns: dict[str, NDArray[Any]] = {}
    for name in (*SAMPLE_COORDINATES, *IMAGE_COORDINATES):
        if name not in _OF_THEIR_OWN and name in coordinates:
            columns[name] = coordinates[name][slots]
        if name == "slice" and patched:
            columns["patch"] = coordinates["patch"][slots]
    columns |= {f"spacing_{axis}": coordinates["spacing"][slots, i] for i, axis in enumerate("zyx")}
    boxes = [(name, i, axis) for name in _BOXES for i, axis in enumerate("zyx") if patched]
    return columns, {f"{name}_{axis}": coordinates[name][slots, i] for name, i, axis in boxes}


def patch_listing(coordinates: Mapping[str, NDArray[Any]], path: Location, layout: StoreLayout) -> pd.DataFrame:
    """One row per sample: its patch, and the patch's origin and owned box along each axis.

    Raises
    ------
    StoreError
        naming ``path``, if there are no coordinates of patches, as before schema 4.
    """
    if not coordinates:
        raise StoreError(f"{path} has schema {layout.version}, which records no patches: capture it again")
    columns = {"patch": coordinates["patch"]}
    for name in _BOXES:
        columns |= {f"{name}_{axis}": coordinates[name][:, i] for i, axis in enumerate("zyx")}
    return pd.DataFrame(columns).rename_axis("sample")


def layer_grids(layout: StoreLayout, stored: Sequence[Any] | None) -> dict[str, Grid]:
    """Position of each layer's pixels, from the root attribute ``grid``, which older stores may lack."""
    found = stored or [[0.0] * len(layout.space)] * len(layout.layers)
    how: Origin = "measured" if stored else "assumed"
    return {
        layer.name: Grid.from_json(grid)
        if isinstance(grid, dict)
        else Grid.shifted(layer.space, layout.space, grid, how)
        for layer, grid in zip(layout.layers, found, strict=True)
    }
