"""Layers of a store by name, and whether their tensors are in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actstore.errors import StoreError
from actstore.store.files.base import Location
from actstore.store.schema import Layer, StoreLayout


def find_layer(layout: StoreLayout, name: str) -> Layer:
    """The layer called ``name``.

    Raises
    ------
    KeyError
        naming the layers that there are.
    """
    for layer in layout.layers:
        if layer.name == name:
            return layer
    names = [layer.name for layer in layout.layers]
    raise KeyError(f"no layer {name!r}: there are {names[0]} … {names[-1]}")


def kept_layer(layer: Layer, path: Location, attributes: Mapping[str, Any], instead: str) -> Layer:
    """As :meth:`actstore.store.store.Store.require_kept`, of the store at ``path`` with these root ``attributes``."""
    if not layer.kept:
        keep, instead = attributes["identity"].get("keep"), instead or f"use statistics({layer.name!r})"
        raise StoreError(
            f"the tensors of {layer.name} ({layer.label}) are not in {path}, which was captured with "
            f"store.keep = {keep!r}: {instead}, or capture to another store with the layer in store.keep"
        )
    return layer
