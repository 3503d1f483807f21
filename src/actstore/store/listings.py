"""Tables of a store's layers, their grids, and patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from actstore.geometry import Grid, Origin
from actstore.store.coordinates import PATCH_COORDINATES
from actstore.store.schema import StoreLayout


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


def patch_listing(coordinates: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """One row per sample: its patch, and the patch's origin and owned box along each axis."""
    columns = {"patch": coordinates["patch"]}
    for name in PATCH_COORDINATES[1:]:
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


def position_of(index: Mapping[str, int | str], conditions: Sequence[str]) -> dict[str, int]:
    """Positions along the dims of ``index``, with a condition's name replaced by its position.

    Raises
    ------
    KeyError
        naming the existing conditions.
    """
    condition = index.get("condition")
    if isinstance(condition, str):
        if condition not in conditions:
            raise KeyError(f"no condition {condition!r}: there are {', '.join(conditions)}")
        index = {**index, "condition": conditions.index(condition)}
    return {name: int(i) for name, i in index.items()}
