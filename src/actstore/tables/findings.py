"""The reductions that tables, figures and the report share, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import pandas as pd
import xarray as xr
from dask.base import compute

from actstore.analysis.channels.ranking import in_top
from actstore.analysis.channels.relative import network_rank, standardised
from actstore.analysis.layers import stack_layers
from actstore.analysis.maps.regions import mean_regions, regional_mad
from actstore.analysis.segmentation.cases import NO_CASE, cases
from actstore.analysis.segmentation.overlap import Over, dice, dice_over
from actstore.analysis.strengths import doses
from actstore.analysis.uncertainty.resamples import RESAMPLES
from actstore.conditions import CONTROL, REPEAT
from actstore.errors import StoreError
from actstore.measures.names import STATISTICS
from actstore.tables.catalogue import TABLES, Need

if TYPE_CHECKING:
    from actstore.store.store import Store

Per = Literal["slice", "volume", "patient"]


class Unanswerable(StoreError):
    """A question that this store was not captured for; the message says what the run's spec would need."""


class Findings:
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
        what groups the table of frequencies: ``case``, ``patient`` or another coordinate along sample or condition.
    per
        what a row of the tables of segmentation is: a slice, a volume or a patient.
    over
        which samples a mean of Dice counts: those whose true mask holds the class ("present"), or "all".
    resamples
        bootstrap resamples of patients behind every interval.

    Raises
    ------
    StoreError
        if no block is committed.
    """

    def __init__(
        self,
        store: Store,
        *,
        top: int = 3,
        most: int = 7,
        metric: str = "mad",
        by: Sequence[str] = (),
        per: Per = "slice",
        over: Over = "present",
        resamples: int = RESAMPLES,
    ) -> None:
        if not store.parts:
            raise StoreError(f"{store.path} has no committed block yet: `actstore capture SPEC` computes them")
        self.store: Store = store
        self.top: int = top
        self.most: int = most
        self.metric: str = metric
        self.by = tuple(by)
        self.per: Per = per
        self.over: Over = over
        self.resamples: int = resamples
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
    def dice(self) -> xr.DataArray:
        """Dice: float64 (sample, condition, class_name), in memory."""
        return dice(self.confusion, applicable=self.applicable)

    @cached_property
    def averaged_dice(self) -> xr.DataArray:
        """Dice of the samples that means count, NaN of others: float64 (sample, condition, class_name), in memory."""
        return dice_over(self.confusion, over=self.over, applicable=self.applicable)

    @cached_property
    def cases(self) -> xr.DataArray:
        """The kind of failure of each prediction: str (sample, condition), in memory."""
        return cases(self.confusion, self.store.case_rules, applicable=self.applicable)

    @cached_property
    def layers(self) -> dict[str, xr.Dataset]:
        """Layer name to its statistics, in memory: what is persisted, and ``metric``."""
        names = list(dict.fromkeys([*STATISTICS, self.metric]))
        return _computed({layer: self.store.statistics(layer, names) for layer in self.store.layers.index})

    @cached_property
    def network(self) -> xr.Dataset:
        """All layers' statistics along one dimension: (sample, [condition,] channel), in memory."""
        return stack_layers(self.layers).compute()

    @cached_property
    def score(self) -> xr.DataArray:
        """What channels are ranked by: (sample, condition, channel) of all layers, in memory."""
        return self.network[self.metric]

    @cached_property
    def member(self) -> xr.DataArray:
        """Whether a channel is among its layer's top: bool (sample, condition, channel), in memory."""
        return in_top(self.score, self.top, applicable=self.applicable)

    @cached_property
    def standardised(self) -> xr.DataArray:
        """MAD in standard deviations of the channel on the original: (sample, condition, channel), in memory."""
        return standardised(self.network)

    @cached_property
    def network_rank(self) -> xr.DataArray:
        """Percentile rank of a channel's mean MAD among all of the network: (condition, channel), in memory."""
        return network_rank(self.network["mad"])

    @cached_property
    def regions(self) -> xr.Dataset:
        """Mean MAD inside the perturbed class, around it and outside: (condition, channel) of all layers, in memory."""
        self.need("tensors")
        store = self.store
        lazy = {
            layer: mean_regions(
                regional_mad(store[layer], store.label, class_names=store.class_names, grid=store.grids[layer])
            )
            for layer in store.layers.index
        }
        return stack_layers(_computed(lazy))

    @cached_property
    def rescaling(self) -> xr.DataArray:
        """By how much normalisation stretched what was not perturbed: float64 (sample, condition), in memory."""
        return self.store.rescaling.compute()

    def need(self, what: Need) -> None:
        """Refuse what the store cannot answer, as :data:`actstore.tables.catalogue.Need` lists it.

        Raises
        ------
        Unanswerable
            naming what the run's spec would need.
        """
        conditions = self.store.conditions
        if what == "control" and not (conditions["region"] == CONTROL).any():
            raise Unanswerable("the store has no control conditions: set `region = true` below [controls] in the spec")
        if what == "repeat" and not (conditions["transform"] == REPEAT).any():
            raise Unanswerable("the store has no repeated inputs: set `noise = true` below [controls] in the spec")
        if what == "dose" and not doses(self.confusion):
            raise Unanswerable(
                "no transform and target has three strengths: give `strengths` below [[perturb]] more values"
            )
        if what == "failure" and not (self.cases != NO_CASE).any():
            raise Unanswerable("no prediction has a kind of failure: no perturbation applies to any sample")
        if what == "tensors" and (gone := [layer.name for layer in self.store.layout.layers if not layer.kept]):
            raise Unanswerable(
                f"where a map changes needs the tensors of {', '.join(gone[:3])}{', …' if gone[3:] else ''}: "
                'capture with store.keep = "all"'
            )

    def table(self, name: str) -> pd.DataFrame:
        """The table of that name, one of :data:`actstore.tables.catalogue.TABLES`; docs/tables.md lists their columns.

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
            from actstore.tables import builders  # which take findings

            for need in TABLES[name].needs:
                self.need(need)
            self._tables[name] = _without_negative_zero(getattr(builders, TABLES[name].builder)(self))
        return self._tables[name]


def _computed(lazy: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """In one go, since the layers share what is read."""
    return dict(zip(lazy, compute(*lazy.values()), strict=True))


def _without_negative_zero(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with 0.0 where it has -0.0, which a file would spell out."""
    floats = [name for name in table.columns if pd.api.types.is_float_dtype(table[name])]
    table[floats] = table[floats] + 0.0
    return table
