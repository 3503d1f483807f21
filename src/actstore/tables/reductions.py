"""The reductions that tables, figures and the report share, each computed on first use and kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import xarray as xr
from dask.base import compute

from actstore.analysis.channels.ranking import in_top
from actstore.analysis.channels.relative import network_rank, standardised
from actstore.analysis.classification import class_cases
from actstore.analysis.evidence import perturbations
from actstore.analysis.layers import stack_layers
from actstore.analysis.maps.regions import mean_regions, regional_mad
from actstore.analysis.segmentation.cases import NO_CASE, cases
from actstore.analysis.segmentation.overlap import dice, dice_over
from actstore.analysis.strengths import doses
from actstore.analysis.uncertainty.resamples import RESAMPLES
from actstore.conditions import CONTROL, REPEAT
from actstore.errors import StoreError
from actstore.measures.names import MOST, TOP
from actstore.store.opening import require_committed
from actstore.tables.catalogue import Need, Unanswerable
from actstore.tables.curves import Part, curve_parts, score_parts
from actstore.tables.explanations import EXPLANATIONS
from actstore.tables.optima import open_optima
from actstore.tables.passes import INTERVENTIONS, Passes
from actstore.tables.representations import NEAREST
from actstore.units import first_few

if TYPE_CHECKING:
    from actstore.store.store import Store


#: Statistics that tables are made of: of the mean the original's, which stores of every schema persist.
IN_TABLES = ("mad", "mse", "mean", "std")


class Reductions:
    """The reductions of one store behind its tables; parameters as for :class:`actstore.tables.findings.Findings`."""

    def __init__(
        self,
        store: Store,
        *,
        top: int = TOP,
        most: int = MOST,
        metric: str = "mad",
        by: Sequence[str] = (),
        per: Literal["slice", "volume", "patient"] = "slice",
        over: Literal["present", "all"] = "present",
        of: str | None = None,
        layer: str | None = None,
        nearest: int = NEAREST,
        method: Literal["pca", "tsne"] = "pca",
        perplexity: float | None = None,
        resamples: int = RESAMPLES,
    ) -> None:
        require_committed(store)
        self.store: Store = store
        self.top: int = top
        self.most: int = most
        self.metric: str = metric
        self.by = tuple(by)
        self.per: Literal["slice", "volume", "patient"] = per
        self.over: Literal["present", "all"] = over
        self.of: str | None = of
        self.layer: str | None = layer
        self.nearest: int = nearest
        self.method: Literal["pca", "tsne"] = method
        self.perplexity: float | None = perplexity
        self.resamples: int = resamples

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
        return dice(self.confusion, applicable=self.applicable, regions=self.store.members)

    @cached_property
    def averaged_dice(self) -> xr.DataArray:
        """Dice of the samples that means count, NaN of others: float64 (sample, condition, class_name), in memory."""
        members = self.store.members
        return dice_over(self.confusion, over=self.over, applicable=self.applicable, regions=members)

    @cached_property
    def cases(self) -> xr.DataArray:
        """The kind of failure of each prediction: str (sample, condition), in memory."""
        if self.store.classified:
            return class_cases(self.confusion, applicable=self.applicable)
        rules, regions = self.store.case_rules, self.store.members
        return cases(self.confusion, rules, applicable=self.applicable, regions=regions)

    @property
    def keys(self) -> list[str | xr.DataArray]:
        """What groups samples: names of coordinates, and the kinds of failure for "case"."""
        return [self.cases.rename("case") if key == "case" else key for key in self.by]

    def groups_of_cells(self) -> tuple[str, ...]:
        """``by``, of coordinates along sample or condition.

        Raises
        ------
        StoreError
            naming everything that groups them.
        """
        coords = self.applicable.coords
        known = ["case", *(str(name) for name in coords if {*coords[name].dims} <= {"sample", "condition"})]
        if unknown := [key for key in self.by if key not in known]:
            raise StoreError(f"by = {unknown[0]!r} groups no samples or conditions: use {', '.join(known)}")
        return self.by

    @cached_property
    def curve_parts(self) -> list[Part]:
        """Counts of scores of each group, by patient, in memory."""
        self.need("scores")
        if self.store.classified:
            true = self.confusion.isel(condition=0).sum("predicted_class") > 0
            truth = true.rename(true_class="class_name").reset_coords(drop=True)
            return score_parts(self.store.score.compute(), truth, self.keys, applicable=self.applicable)
        return curve_parts(self.store.histogram, self.store.calibration, self.keys, applicable=self.applicable)

    @cached_property
    def layers(self) -> dict[str, xr.Dataset]:
        """Layer name to its statistics, in memory: those that tables are made of, and ``metric``."""
        names = list(dict.fromkeys([*IN_TABLES, self.metric]))
        return self.store.compute_statistics(names)

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
                regional_mad(
                    store[layer],
                    store.label,
                    class_names=store.class_names,
                    regions=store.members,
                    grid=store.grids[layer],
                )
            )
            for layer in store.layers.index
        }
        # In one go, since the layers share what is read.
        return stack_layers(dict(zip(lazy, compute(*lazy.values()), strict=True)))

    @cached_property
    def interventions(self) -> list[Passes]:
        """The passes of every intervention, or of the one named ``of``, each read on first use."""
        return [Passes(one, self.over) for one in INTERVENTIONS.all(self.store, self.of)]

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
        if what == "pixels" and self.store.classified:
            raise Unanswerable("the network classifies whole images: the table accuracy says how well")
        if what == "classes" and not self.store.classified:
            raise Unanswerable("the network segments: the tables dice and dice-mean say how well")
        if what == "perturbation" and not len(perturbations(self.confusion)):
            raise Unanswerable(
                "the store holds no perturbation: add [[perturb]] to the spec, and capture to another store"
            )
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
        if what == "points" and self.store.layout.version < 4 and not self.store.layout.keeps_all:
            raise Unanswerable(
                f"the points of samples need the maximum of each channel, which a store of schema "
                f"{self.store.layout.version} without tensors does not hold: capture it again"
            )
        if what == "scores" and not (self.store.layout.scored or self.store.classified):
            raise Unanswerable(self.store.no_scores)
        if what == "optima":
            open_optima(self.store, self.of)
        if what == "explanations":
            EXPLANATIONS.all(self.store, self.of)
        if what == "interventions":
            INTERVENTIONS.all(self.store, self.of)
        if what == "tensors" and (gone := [layer.name for layer in self.store.layout.layers if not layer.kept]):
            raise Unanswerable(
                f'where a map changes needs the tensors of {first_few(gone)}: capture with store.keep = "all"'
            )
