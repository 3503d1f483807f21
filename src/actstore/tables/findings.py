"""Everything that a study asks of a store, computed once and shared by tables, figures and the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import pandas as pd
import xarray as xr
from dask.base import compute

from actstore import analysis
from actstore.analysis.network import layer_slices
from actstore.analysis.resampling import RESAMPLES
from actstore.analysis.segmentation import Over
from actstore.conditions import CONTROL, REPEAT
from actstore.errors import StoreError
from actstore.measures.names import STATISTICS

if TYPE_CHECKING:
    from actstore.store.store import Store

Per = Literal["slice", "volume", "patient"]


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
        return analysis.dice(self.confusion, applicable=self.applicable)

    @cached_property
    def averaged_dice(self) -> xr.DataArray:
        """Dice of the samples that means count, NaN of others: float64 (sample, condition, class_name), in memory."""
        return analysis.dice_over(self.confusion, over=self.over, applicable=self.applicable)

    @cached_property
    def cases(self) -> xr.DataArray:
        """The kind of failure of each prediction: str (sample, condition), in memory."""
        return analysis.cases(self.confusion, self.store.case_rules, applicable=self.applicable)

    @cached_property
    def layers(self) -> dict[str, xr.Dataset]:
        """Layer name to its statistics, in memory: what is persisted, and ``metric``."""
        names = list(dict.fromkeys([*STATISTICS, self.metric]))
        lazy = {layer: self.store.statistics(layer, names) for layer in self.store.layers.index}
        return dict(zip(lazy, compute(*lazy.values()), strict=True))

    @cached_property
    def network(self) -> xr.Dataset:
        """All layers' statistics along one dimension: (sample, [condition,] channel), in memory."""
        return analysis.stack_layers(self.layers).compute()

    @cached_property
    def score(self) -> xr.DataArray:
        """What channels are ranked by: (sample, condition, channel) of all layers, in memory."""
        return self.network[self.metric]

    @cached_property
    def member(self) -> xr.DataArray:
        """Whether a channel is among its layer's top: bool (sample, condition, channel), in memory."""
        return analysis.in_top(self.score, self.top, applicable=self.applicable)

    @cached_property
    def standardised(self) -> xr.DataArray:
        """MAD in standard deviations of the channel on the original: (sample, condition, channel), in memory."""
        return analysis.standardised(self.network)

    @cached_property
    def network_rank(self) -> xr.DataArray:
        """Percentile rank of a channel's mean MAD among all of the network: (condition, channel), in memory."""
        return analysis.network_rank(self.network["mad"])

    @cached_property
    def regions(self) -> xr.Dataset:
        """Mean MAD inside the perturbed class, around it and outside: (condition, channel) of all layers, in memory."""
        store = self.store
        if gone := [layer.name for layer in store.layout.layers if not layer.kept]:
            raise Unanswerable(
                f"where a map changes needs the tensors of {', '.join(gone[:3])}{', …' if gone[3:] else ''}: "
                'capture with store.keep = "all"'
            )
        found = {
            layer: analysis.mean_regions(
                analysis.regional_mad(
                    store[layer],
                    store.label,
                    class_names=store.class_names,
                    grid=store.grids[layer],
                )
            )
            for layer in store.layers.index
        }
        return analysis.stack_layers(dict(zip(found, compute(*found.values()), strict=True)))

    @cached_property
    def rescaling(self) -> xr.DataArray:
        """By how much normalisation stretched what was not perturbed: float64 (sample, condition), in memory."""
        return self.store.rescaling.compute()

    def need(self, what: str) -> None:
        """Refuse what the store's conditions cannot answer: "control", "repeat" or "dose".

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
        if what == "dose" and not analysis.doses(self.confusion):
            raise Unanswerable(
                "no transform and target has three strengths: give `strengths` below [[perturb]] more values"
            )

    def table(self, name: str) -> pd.DataFrame:
        """The table of that name, one of :data:`TABLES`; docs/tables.md lists their columns.

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
            self._tables[name] = _without_negative_zero(TABLES[name](self))
        return self._tables[name]


def _without_negative_zero(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with 0.0 where it has -0.0, which a file would spell out."""
    floats = [name for name in table.columns if pd.api.types.is_float_dtype(table[name])]
    table[floats] = table[floats] + 0.0
    return table


def _frequency(f: Findings) -> pd.DataFrame:
    keys = [f.cases if key == "case" else key for key in f.by]
    return analysis.frequency_table(f.layers, f.top, most=f.most, by=keys, applicable=f.applicable, metric=f.metric)


def _mad(f: Findings) -> pd.DataFrame:
    rank = analysis.sample_rank(f.network["mad"])
    beside = {"standardised": f.standardised.variable, "sample_rank": rank.transpose(*f.standardised.dims).variable}
    network = f.network.assign(beside)
    parts = {
        layer: network.isel(channel=where).assign_coords(module=f.layers[layer]["module"])
        for layer, where in layer_slices(network).items()
    }
    return analysis.mad_table(parts, applicable=f.applicable, beside=tuple(beside))


def _segmentation(f: Findings) -> pd.DataFrame:
    if f.per == "slice":
        return analysis.segmentation_table(f.confusion, applicable=f.applicable)
    by = ("patient", "frame") if f.per == "volume" else ("patient",)
    return analysis.segmentation_table(analysis.pooled(f.confusion, by, applicable=f.applicable))


def _surface(f: Findings) -> pd.DataFrame:
    if f.per == "patient":
        raise Unanswerable("surface distances are of a slice or a volume: a patient has several volumes")
    store = f.store
    return analysis.surface_table(store.prediction, store.label, store.class_names, applicable=f.applicable, by=f.per)


def _dice_mean(f: Findings) -> pd.DataFrame:
    return analysis.dice_mean_table(f.confusion, over=f.over, applicable=f.applicable, resamples=f.resamples)


def _layers(f: Findings) -> pd.DataFrame:
    return analysis.layers_table(
        f.network["mad"], f.standardised, f.network_rank, applicable=f.applicable, resamples=f.resamples
    )


def _relative(f: Findings) -> pd.DataFrame:
    return analysis.relative_table(
        f.network["mad"], f.standardised, f.network_rank, applicable=f.applicable, resamples=f.resamples
    )


def _certainty(f: Findings) -> pd.DataFrame:
    return analysis.certainty_table(f.score, f.top, f.most, applicable=f.applicable, resamples=f.resamples)


def _stability(f: Findings) -> pd.DataFrame:
    mosts = sorted({f.top, f.most})
    return analysis.stability_table(f.score, f.top, mosts, applicable=f.applicable, resamples=f.resamples)


def _sensitivity(f: Findings) -> pd.DataFrame:
    return analysis.sensitivity_table(f.score, reference=(f.top, f.most), applicable=f.applicable)


def _comparison(f: Findings) -> pd.DataFrame:
    return analysis.comparison_table(f.member, f.most, applicable=f.applicable, resamples=f.resamples)


def _general_specific(f: Findings) -> pd.DataFrame:
    if not (f.cases != "").any():
        raise Unanswerable("no prediction has a kind of failure: no perturbation applies to any sample")
    return analysis.general_specific_table(f.member, f.cases, f.most)


def _controls(f: Findings) -> pd.DataFrame:
    f.need("control")
    return analysis.controls_table(f.network["mad"], rescaled=f.rescaling != 1)


def _noise(f: Findings) -> pd.DataFrame:
    f.need("repeat")
    return analysis.noise_table(f.network["mad"])


def _dose(f: Findings) -> pd.DataFrame:
    f.need("dose")
    return analysis.dose_table(f.averaged_dice, applicable=f.applicable, resamples=f.resamples)


def _dose_half(f: Findings) -> pd.DataFrame:
    f.need("dose")
    return analysis.dose_half_table(f.averaged_dice, applicable=f.applicable, resamples=f.resamples)


def _dose_channels(f: Findings) -> pd.DataFrame:
    f.need("dose")
    return analysis.dose_channels_table(f.network["mad"], analysis.pooled_std(f.network), applicable=f.applicable)


def _dose_cases(f: Findings) -> pd.DataFrame:
    f.need("dose")
    return analysis.dose_cases_table(f.cases, applicable=f.applicable)


def _association(f: Findings) -> pd.DataFrame:
    size = analysis.class_size(f.confusion)
    return analysis.association_table(f.network["mad"], f.dice, f.member, size=size, applicable=f.applicable)


#: Table name to what makes it.
TABLES: dict[str, Callable[[Findings], pd.DataFrame]] = {
    "top-channels": lambda f: analysis.top_channels_table(f.layers, f.top, applicable=f.applicable, metric=f.metric),
    "frequency": _frequency,
    "dice": lambda f: analysis.dice_table(f.confusion, applicable=f.applicable),
    "cases": lambda f: analysis.cases_table(f.confusion, f.store.case_rules, applicable=f.applicable),
    "mad": _mad,
    "segmentation": _segmentation,
    "surface": _surface,
    "dice-mean": _dice_mean,
    "layers": _layers,
    "relative": _relative,
    "certainty": _certainty,
    "stability": _stability,
    "sensitivity": _sensitivity,
    "comparison": _comparison,
    "general-specific": _general_specific,
    "heterogeneity": lambda f: analysis.heterogeneity_table(f.score, f.top, applicable=f.applicable),
    "leave-one-out": lambda f: analysis.leave_one_out_table(f.score, f.top, f.most, applicable=f.applicable),
    "regions": lambda f: analysis.regions_table(f.regions),
    "controls": _controls,
    "rescaling": lambda f: analysis.rescaling_table(f.rescaling, applicable=f.applicable),
    "noise": _noise,
    "dose": _dose,
    "dose-half": _dose_half,
    "dose-channels": _dose_channels,
    "dose-cases": _dose_cases,
    "association": _association,
}
