"""Everything that a study asks of a store, computed once and shared by tables, figures and the report."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr
from dask.base import compute

from actstore import analysis
from actstore.errors import StoreError

if TYPE_CHECKING:
    from actstore.store import Store


class Unanswerable(StoreError):
    """A question that this store was not captured for; the message says what the run's spec would need."""


class Findings:
    """The findings of one store: reductions and tables, each computed when first asked for and kept.

    Parameters
    ----------
    store
        An open store with at least one committed block.
    top
        channels of a layer that count as top, per sample and condition.
    most
        most frequent channels listed for a layer.
    resamples
        bootstrap resamples of patients behind every interval.
    """

    def __init__(self, store: Store, *, top: int = 3, most: int = 7, resamples: int = 2000) -> None:
        if not store.parts:
            raise StoreError(f"{store.path} has no committed block yet: `actstore capture SPEC` computes them")
        self.store = store
        self.top = top
        self.most = most
        self.resamples = resamples
        self._tables: dict[str, pd.DataFrame] = {}

    @cached_property
    def applicable(self) -> xr.DataArray:
        """bool (sample, condition), in memory."""
        return self.store.applicable.compute()

    @cached_property
    def confusion(self) -> xr.DataArray:
        """(sample, condition, true_class, predicted_class) pixel counts, in memory."""
        return self.store.confusion.compute()

    @cached_property
    def layers(self) -> dict[str, xr.Dataset]:
        """Layer name to its persisted statistics, in memory."""
        lazy = {layer: self.store.statistics(layer) for layer in self.store.layers.index}
        return dict(zip(lazy, compute(*lazy.values()), strict=True))

    @cached_property
    def network(self) -> xr.Dataset:
        """All layers' statistics along one dimension: (sample, [condition,] channel), in memory."""
        return analysis.stack_layers(self.layers)

    def table(self, name: str) -> pd.DataFrame:
        """The table of that name, one of :data:`TABLES`.

        Raises
        ------
        Unanswerable
            if the store was not captured for it.
        KeyError
            naming the tables that there are.
        """
        if name not in TABLES:
            raise KeyError(f"no table {name!r}: there are {', '.join(TABLES)}")
        if name not in self._tables:
            self._tables[name] = TABLES[name](self)
        return self._tables[name]


#: Table name to what makes it.
TABLES: dict[str, Callable[[Findings], pd.DataFrame]] = {}
