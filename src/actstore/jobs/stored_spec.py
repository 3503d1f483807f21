"""The spec that a store was captured with, for jobs that compute its blocks again or use its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actstore.errors import ActstoreError, StoreError
from actstore.spec.spec import Spec
from actstore.store.attributes import window_of


def spec_of(attributes: dict[str, Any]) -> Spec:
    """The spec that a store was captured with, including the normalisation window of older stores that do not name it.

    Raises
    ------
    StoreError
        if the spec cannot be used here.
    """
    data = attributes["spec"]["data"]
    if len(data["preprocess"]["size"]) == 3 and not data.get("axes"):
        raise StoreError(
            "the store's spec has no data.axes: its volumes were read as (k, i, j), as no volume is read any more. It "
            "opens as before and is not continued: capture the damaged volumes to another store"
        )
    preprocess = {"window": window_of(attributes["identity"]), **data["preprocess"]}
    content = {**attributes["spec"], "data": {**data, "preprocess": preprocess}}
    try:
        return Spec.from_mapping(
            content, folder=Path(attributes.get("folder", ".")), name="the store's spec", stored=True
        )
    except ActstoreError as error:
        raise StoreError(f"{error}; give one that fits with --spec") from error
