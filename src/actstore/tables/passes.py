"""Interventions of a store: the groups that `actstore intervene` filled, and how well their passes predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.interventions.effects import differences, overlaps, quantity_of, whole_counts
from actstore.tables.catalogue import Unanswerable
from actstore.tables.job_groups import JobGroup, Kind

#: Orders of edits: each channel alone, a whole layer, the most frequent ones, and sets that are given.
EACH, LAYER, TOP, GIVEN = "each", "layer", "top", "given"
#: All but growing sets.
SINGLE = (EACH, LAYER, TOP, GIVEN)


@dataclass(frozen=True)
class Intervention(JobGroup):
    """One intervention of an open store; its settings are the resolved table ``[[intervene]]`` of the spec."""

    @property
    def conditions(self) -> list[str]:
        """Names of the conditions whose passes are edited."""
        return [str(name) for name in self.group["condition"].values]

    @property
    def donor(self) -> str | None:
        """The condition whose maps are put in; None of other edits."""
        donor = self.settings.get("donor")
        return None if donor is None else str(donor)

    @property
    def quantities(self) -> list[str]:
        """What the effect is, of each condition."""
        targets = self.store.conditions["target"]
        perturbed = set(targets.index[targets != ""])
        edit = str(self.settings["edit"])
        return [quantity_of(edit, name, self.donor, perturbed) for name in self.conditions]

    @property
    def perturbations(self) -> list[str]:
        """Of each condition the perturbation that is undone or put in, "" where there is none."""
        targets = self.store.conditions["target"]
        return [
            next((one for one in (name, self.donor) if one is not None and targets[one]), "")
            for name in self.conditions
        ]

    @cached_property
    def orders(self) -> NDArray[np.str_]:
        """The order of each edit."""
        return np.asarray(self.group["order"].values, dtype=str)

    def having(self, orders: Iterable[str]) -> NDArray[np.intp]:
        """Positions of the edits of these ``orders``."""
        return np.flatnonzero(np.isin(self.orders, list(orders)))


@dataclass(frozen=True)
class Passes:
    """The overlaps of an intervention's passes, in memory, over the samples that it edited.

    Where samples are patches, counts are summed over those of a slice, or of a volume for a network of three dims.
    """

    one: Intervention
    over: Literal["present", "all"]

    @cached_property
    def differences(self) -> xr.Dataset:
        """What effects are made of, as :func:`actstore.analysis.interventions.effects.differences`."""
        return differences(self.edited, self.unedited, self._donor, self.one.quantities)

    @cached_property
    def edited(self) -> xr.DataArray:
        """(sample, condition, edit, class_name)."""
        return self._overlaps(self.one.group["confusion"])

    @cached_property
    def unedited(self) -> xr.DataArray:
        """(sample, condition, class_name) of the same conditions."""
        return self._of_store(self.one.conditions)

    @property
    def _donor(self) -> xr.DataArray | None:
        donor = self.one.donor
        return None if donor is None else self._of_store([donor] * len(self.one.conditions))

    def _of_store(self, conditions: list[str]) -> xr.DataArray:
        store = self.one.store
        at = {"sample": self.one.samples, "condition": [list(store.conditions.index).index(c) for c in conditions]}
        return self._overlaps(store.confusion.isel(at).assign_coords(condition=self.one.conditions))

    @cached_property
    def _applicable(self) -> xr.DataArray:
        """bool (sample, condition): what was edited."""
        return self.one.group["edited"].compute()

    def _overlaps(self, confusion: xr.DataArray) -> xr.DataArray:
        store, applicable = self.one.store, self._applicable
        counts = confusion.compute()
        if store.patched:
            by = ("patient", "frame", *(("slice",) if len(store.layout.space) == 2 else ()))
            counts, applicable = whole_counts(counts, applicable, by)
        regions = None if store.classified else store.members
        return overlaps(counts, applicable=applicable, over=self.over, regions=regions, classified=store.classified)


INTERVENTIONS = Kind(Intervention, "intervention", "interventions/", "intervene", "actstore intervene SPEC")


def having(found: Sequence[Passes], orders: Sequence[str], setting: str) -> list[Passes]:
    """Those of interventions with edits of any of ``orders``.

    Raises
    ------
    Unanswerable
        if there is none, naming the ``setting`` that makes them.
    """
    if kept := [passes for passes in found if len(passes.one.having(orders))]:
        return kept
    names = ", ".join(passes.one.name for passes in found)
    raise Unanswerable(f"{names}: made without {setting}; set it below [[intervene]] under another name")
