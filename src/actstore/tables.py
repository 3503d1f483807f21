"""Tables of a store, by the names that the command line knows them by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pandas as pd

from actstore import analysis
from actstore.errors import StoreError

if TYPE_CHECKING:
    from actstore.store import Store


def build_table(store: Store, name: str, *, by: Sequence[str] = (), top: int = 3, most: int = 7) -> pd.DataFrame:
    """One of the tables ``top-channels``, ``frequency``, ``dice``, ``cases`` and ``mad``, in DataFrame columns.

    Parameters
    ----------
    by
        what groups a frequency: ``case``, ``patient`` or another coordinate along sample or condition.
    top
        channels of a layer that count as top, per sample and condition.
    most
        most frequent channels listed for a layer.

    Raises
    ------
    StoreError
        for ``by`` with a table that has no groups, or a store without a committed block.
    """
    if not store.parts:
        raise StoreError(f"{store.path} has no committed block yet: `actstore capture SPEC` computes them")
    if by and name != "frequency":
        raise StoreError(f"table {name!r} is not grouped: --by {' '.join(by)} goes with frequency")
    if name == "dice":
        return analysis.dice_table(store.confusion, applicable=store.applicable)
    if name == "cases":
        return analysis.cases_table(store.confusion, store.case_rules, applicable=store.applicable)
    statistics = {layer: store.statistics(layer) for layer in store.layers.index}
    if name == "top-channels":
        return analysis.top_channels_table(statistics, top, applicable=store.applicable)
    if name == "mad":
        return analysis.mad_table(statistics, applicable=store.applicable)
    if name == "frequency":
        keys = [store.cases if key == "case" else key for key in by]
        return analysis.frequency_table(statistics, top, most=most, by=keys, applicable=store.applicable)
    raise ValueError(f"no table {name!r}")


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
