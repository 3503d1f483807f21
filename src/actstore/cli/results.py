"""What a store holds, as a person reads it at once: a rounded table, and the Dice of untouched images."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.cells import cell_len

from actstore.cli import text
from actstore.cli.terminal import held
from actstore.store.opening import MissingBlocksWarning, open_store
from actstore.tables.summaries import original_dice

if TYPE_CHECKING:
    from actstore.store.files.base import Location

#: Mean Dice of untouched images below which a warning says what to look at.
DOUBTFUL = 0.5


def show_table(frame: pd.DataFrame) -> None:
    """Show a table of a store in aligned columns, a row a line: numbers of four digits, a dash for none.

    Columns without any value are named below it.
    """
    empty = [str(name) for name in frame.columns if len(frame) and frame[name].isna().all()]
    frame = frame.drop(columns=empty)
    columns = []
    for name in frame.columns:
        cells = [held(str(name)), *map(_rounded, frame[name])]
        width = max(map(cell_len, cells))
        right = pd.api.types.is_numeric_dtype(frame[name])
        spaces = [" " * (width - cell_len(cell)) for cell in cells]
        columns.append([space + cell if right else cell + space for space, cell in zip(spaces, cells, strict=True)])
    header, *rows = zip(*columns, strict=True)
    for row in (header, ["-" * cell_len(name) for name in header], *rows):
        text.say("  ".join(row).rstrip())
    if empty:
        text.say(f"without any value: {', '.join(map(held, empty))}")


def _rounded(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else held(str(value))


def show_original(location: Location, *, doubt: bool) -> None:
    """Show the Dice of untouched images; in ``doubt``, warn where it is so low that the input may be at fault."""
    with warnings.catch_warnings():
        # The capture has named those that failed.
        warnings.simplefilter("ignore", MissingBlocksWarning)
        store = open_store(location)
    if store.classified or not store.block_samples:
        return
    found = original_dice(store).dropna().set_index("class_name")["dice"]
    text.say(f"original  Dice {', '.join(f'{name} {dice:.3f}' for name, dice in found.items()) or 'of no class'}")
    if doubt and len(low := found[found < DOUBTFUL]):
        text.show_warning(
            f"the Dice of untouched images is below {DOUBTFUL} for {', '.join(map(str, low.index))}: check that axes, "
            "spacing, normalisation and labels are those that the network was trained with"
        )
