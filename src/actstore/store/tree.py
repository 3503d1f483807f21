"""A whole store as an `xarray.DataTree`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

if TYPE_CHECKING:
    from actstore.store.store import Store


def tree_of(store: Store) -> xr.DataTree:
    """All arrays of a store in network order, coordinates attached to every group; lazy."""
    nodes: dict[str, xr.Dataset] = {
        "/": xr.Dataset(
            {"applicable": store.applicable, "confusion": store.confusion}, attrs={"path": str(store.path)}
        ),
    }
    if store.classified:
        nodes |= {"/inputs": xr.Dataset({"image": store.image}), "/outputs": xr.Dataset({"score": store.score})}
    else:
        nodes["/inputs"] = xr.Dataset({"image": store.image, "label": store.label})
        nodes["/outputs"] = xr.Dataset({"prediction": store.prediction})
    if store.layout.scored:
        nodes["/outputs"] = nodes["/outputs"].assign(histogram=store.histogram, calibration=store.calibration)
    for layer in filter(lambda layer: layer.kept, store.layout.layers):
        nodes[f"/layers/{layer.name}"] = xr.Dataset({"activation": store[layer.name]})
    for layer in store.layout.layers:
        nodes[f"/statistics/{layer.name}"] = store.statistics(layer.name)
    return xr.DataTree.from_dict(nodes)
