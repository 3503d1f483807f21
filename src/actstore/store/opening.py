"""Opening a store, with a word about what is missing."""

from __future__ import annotations

import warnings

from actstore.store.files import Location
from actstore.store.schema import SCHEMA_VERSION
from actstore.store.store import Store
from actstore.units import counted


class MissingBlocksWarning(UserWarning):
    """The store is not complete: reductions see its committed blocks only."""


def open_store(path: Location) -> Store:
    """Open the store at ``path``, or at an ``s3://`` URL, for reading; nothing but metadata and coordinates is read.

    Warns
    -----
    MissingBlocksWarning
        if blocks are not committed; they are hidden.

    Raises
    ------
    StoreError
        if there is no store, one of a schema that is not read, or one with a damaged commit record.
    """
    store = Store(path)
    if store.missing:
        first = ", ".join(store.missing[:3]) + (", …" if len(store.missing) > 3 else "")
        continued = store.layout.version == SCHEMA_VERSION
        mend = "`actstore capture SPEC` computes them" if continued else "a store of this schema is not continued"
        warnings.warn(
            f"{path}: {len(store.missing)} of {counted(store.layout.blocks, 'block is', 'blocks are')} missing "
            f"({first}); {mend}",
            MissingBlocksWarning,
            stacklevel=2,
        )
    return store
