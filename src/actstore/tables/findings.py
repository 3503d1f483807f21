"""The findings of a store: its tables, and the reductions behind them."""

from __future__ import annotations

from functools import cached_property

import pandas as pd

from actstore.tables import builders
from actstore.tables.catalogue import TABLES
from actstore.tables.reductions import Reductions


class Findings(Reductions):
    """The findings of one store: reductions and tables, each computed on first use and kept.

    Parameters
    ----------
    store
        An open store with at least one committed block.
    top
        channels of a layer that count as top, per sample and condition.
    most
        most frequent channels listed for a layer.
    metric
        what channels are ranked by, one of :data:`actstore.measures.names.METRICS`.
    by
        what groups the tables of frequencies, curves and confusion: ``case``, ``patient`` or another coordinate along
        sample, of frequencies also along condition.
    per
        what a row of the tables of segmentation is: a slice, a volume or a patient.
    over
        which samples a mean of Dice counts: those whose true mask holds the class ("present"), or "all".
    of
        name of the optima, of the explanation or of the intervention, where the store holds several; without one, all
        explanations or interventions.
    layer
        the one layer that the tables of neighbours and of the projection are of, by default each; of neighbours also
        ``pixels``.
    nearest
        neighbours listed of each sample.
    method, perplexity
        of the projection: "pca", or "tsne" and its perplexity, by default 30.
    resamples
        bootstrap resamples of patients behind every interval, and permutations behind the p of similarity.

    Raises
    ------
    StoreError
        if no block is committed.

    Examples
    --------
    >>> findings = actstore.Findings(store, top=2, by=["patient"])
    >>> list(findings.table("frequency"))
    ['layer', 'condition', 'target', 'patient', 'channel', 'count', 'rank']
    """

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        return {}

    def table(self, name: str) -> pd.DataFrame:
        """The table of that name, one of :data:`actstore.tables.catalogue.TABLES`; docs/tables.md lists their columns.

        Raises
        ------
        Unanswerable
            if the store was not captured for it.
        KeyError
            naming the tables that there are.

        Examples
        --------
        >>> findings = actstore.Findings(store)
        >>> list(findings.table("frequency"))
        ['layer', 'condition', 'target', 'channel', 'count', 'rank']
        """
        if name not in TABLES:
            raise KeyError(f"no table {name!r}: there are {', '.join(TABLES)}")
        if name not in self._tables:
            for need in TABLES[name].needs:
                self.need(need)
            self._tables[name] = _without_negative_zero(getattr(builders, TABLES[name].builder)(self))
        return self._tables[name]


def _without_negative_zero(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with 0.0 where it has -0.0, which a file would spell out."""
    floats = [name for name in table.columns if pd.api.types.is_float_dtype(table[name])]
    table[floats] = table[floats] + 0.0
    return table
