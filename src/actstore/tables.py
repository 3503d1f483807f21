"""Tables of a store, by the names that the command line knows them by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd

from actstore.errors import StoreError
from actstore.findings import Findings

if TYPE_CHECKING:
    from actstore.store import Store

#: What a table must be for an option to mean something to it.
_OPTIONS_OF = {
    "by": ("frequency",),
    "per": ("segmentation", "surface"),
    "metric": (
        *("top-channels", "frequency", "certainty", "stability", "sensitivity", "comparison", "general-specific"),
        *("heterogeneity", "leave-one-out", "association"),
    ),
}


def check_options(name: str, **options: Any) -> None:
    """Refuse an option that means nothing to the table ``name``.

    Raises
    ------
    StoreError
        naming the option and the tables that it goes with.
    """
    for option, tables in _OPTIONS_OF.items():
        if options.get(option) and name not in tables:
            raise StoreError(f"--{option} does not go with {name}, only with {', '.join(tables)}")


def build_table(store: Store, name: str, **options: Any) -> pd.DataFrame:
    """The table ``name`` of :data:`actstore.findings.TABLES`, with the options of :class:`actstore.findings.Findings`.

    Raises
    ------
    StoreError
        as :func:`check_options`; for a store without a committed block, or not captured for the question.
    """
    check_options(name, **options)
    return Findings(store, **{key: value for key, value in options.items() if value}).table(name)


def write_table(table: pd.DataFrame, output: Path | TextIO) -> None:
    """Write CSV or, for a path that ends in ``.parquet``, Parquet."""
    if not isinstance(output, Path):
        table.to_csv(output, index=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.suffix == ".parquet":
            table.to_parquet(output, index=False)
        else:
            table.to_csv(output, index=False)
    except OSError as error:
        raise StoreError(
            f"{output} cannot be written: {error.strerror or error}; choose another path or free the disk"
        ) from error
