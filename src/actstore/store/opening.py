"""Opens a store, and warns about missing blocks."""

from __future__ import annotations

import warnings

from actstore.errors import StoreError
from actstore.store.files.base import Location
from actstore.store.schema import SCHEMA_VERSION
from actstore.store.store import Store
from actstore.units import counted, first_few, unit_of


class MissingBlocksWarning(UserWarning):
    """The store is incomplete: reductions see only its committed blocks."""


def open_store(path: Location) -> Store:
    """Open the store at ``path``, or at an ``s3://`` or ``https://`` URL; reads only metadata and coordinates.

    Warns
    -----
    MissingBlocksWarning
        if blocks are not committed; they are hidden.

    Raises
    ------
    StoreError
        if there is no store, its schema is not supported, or a commit record is damaged.

    Examples
    --------
    >>> store = actstore.open("run.zarr")
    >>> store.missing
    []
    """
    store = Store(path)
    if store.missing:
        unit = unit_of(store.classified)
        continued = store.layout.version == SCHEMA_VERSION
        mend = "`actstore capture SPEC` computes them" if continued else "a store of this schema is not continued"
        warnings.warn(
            f"{path}: {len(store.missing)} of {counted(store.layout.blocks, f'{unit} is', f'{unit}s are')} missing "
            f"({first_few(store.missing)}); {mend}",
            MissingBlocksWarning,
            stacklevel=2,
        )
    return store


def require_committed(store: Store) -> None:
    """Refuse a store that holds no volume yet.

    Raises
    ------
    StoreError
        naming the command that computes them.
    """
    if not store.block_samples:
        unit = unit_of(store.classified)
        raise StoreError(f"{store.path} holds no {unit} yet: `actstore capture SPEC` computes them")
