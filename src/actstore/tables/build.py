"""Tables of a store, by the names that the command line knows them by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd

from actstore.errors import StoreError, needing
from actstore.paths import given
from actstore.tables.catalogue import check_options
from actstore.tables.findings import Findings

if TYPE_CHECKING:
    from actstore.store.store import Store


def build_table(store: Store, name: str, **options: Any) -> pd.DataFrame:
    """The table ``name`` of :data:`actstore.tables.catalogue.TABLES`, with the options of its ``Findings``.

    Raises
    ------
    StoreError
        as :func:`check_options`; for a store without a committed block, or not captured for the question.
    """
    check_options(name, **options)
    return Findings(store, **{key: value for key, value in options.items() if value}).table(name)


def write_csv(table: pd.DataFrame, output: Path | BinaryIO) -> None:
    """Write CSV in UTF-8 with ``\\n`` at line ends, whatever the locale."""
    table.to_csv(output, index=False, encoding="utf-8", lineterminator="\n")


def write_parquet(table: pd.DataFrame, output: Path) -> None:
    """Write Parquet.

    Raises
    ------
    MissingError
        as :func:`require_parquet`.
    """
    require_parquet()
    table.to_parquet(output, engine="pyarrow", index=False)


def require_parquet() -> None:
    """Look for the library that writes Parquet.

    Raises
    ------
    MissingError
        if it is not installed.
    """
    with needing("a .parquet file"):
        import pyarrow  # noqa: F401  # by pandas


def write_table(table: pd.DataFrame, output: str | Path | BinaryIO) -> None:
    """Write CSV or, for a path that ends in ``.parquet``, Parquet. A leading ``~`` of a path is the home.

    Raises
    ------
    MissingError
        for Parquet, if no library that writes it is installed.
    StoreError
        if it cannot be written; a reader of ``output`` that left raises ``BrokenPipeError``.
    """
    try:
        if not isinstance(output, str | Path):
            write_csv(table, output)
            output.flush()
            return
        output = given(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.suffix == ".parquet":
            write_parquet(table, output)
        else:
            write_csv(table, output)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StoreError(
            f"{_name(output)} cannot be written: {error.strerror or error}; choose another path or free the disk"
        ) from error


def _name(output: str | Path | BinaryIO) -> str:
    return str(output) if isinstance(output, str | Path) else "standard output"
