"""Tables for people and programs: rounded on a terminal, CSV in a pipe, JSON on request, or a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actstore.cli import terminal
from actstore.units import counted

if TYPE_CHECKING:
    import pandas as pd


def checked_output(output: Path | None, *, as_json: bool = False) -> None:
    """Refuse a file that no table can be written to, before computing one."""
    from actstore.tables.build import require_parquet

    if output is not None and as_json:
        raise click.UsageError("--json goes to standard output: leave out -o, or redirect it with >")
    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise click.UsageError(f"{output} ends in {output.suffix!r}: name a .csv or .parquet file")
    if output is not None and output.suffix == ".parquet":
        require_parquet()


def written(made: pd.DataFrame, output: Path | None, *, as_json: bool = False) -> None:
    """Write a table to a file, or to standard output: for a terminal rounded and aligned, else CSV or JSON."""
    from actstore.tables.build import write_table

    if output is not None:
        write_table(made, output)
        terminal.say(f"{counted(len(made), 'row')}: {output}")
    elif as_json:
        terminal.binary_output().write(_records(made).encode())
    elif terminal.is_terminal():
        from actstore.cli.results import show_table

        show_table(made)
    else:
        write_table(made, terminal.binary_output())


def _records(made: pd.DataFrame) -> str:
    """A list of one object a row, one a line; null for what has no value, as NaN and infinities."""
    rows = (dict(zip(made.columns, row, strict=True)) for row in made.itertuples(index=False, name=None))
    lines = (json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False) for row in rows)
    return "[" + ",\n ".join(lines) + "]\n"


def _plain(value: Any) -> Any:
    import numpy as np
    import pandas as pd

    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)
