"""Interventions of a store: the groups that `actstore intervene` filled, and how well their passes predict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.interventions.effects import differences, overlaps, quantity_of
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
    """The overlaps of an intervention's passes, in memory, over the samples of its committed blocks."""

    one: Intervention
    over: Literal["present", "all"]

    @cached_property
    def differences(self) -> xr.Dataset:
        """What effects are made of, as :func:`actstore.analysis.interventions.effects.differences`."""
        return differences(self.edited, self.unedited, self._donor, self.one.quantities)

    @cached_property
    def edited(self) -> xr.DataArray:
        """(sample, condition, edit, class_name)."""
        group = self.one.group
        return self._overlaps(group["confusion"], group["edited"])

    @cached_property
    def unedited(self) -> xr.DataArray:
        """(sample, condition, class_name) of the same conditions."""
        return self._of_store(self.one.conditions)

    @property
    def _donor(self) -> xr.DataArray | None:
        donor = self.one.donor
        return None if donor is None else self._of_store([donor]).isel(condition=0, drop=True)

    def _of_store(self, conditions: list[str]) -> xr.DataArray:
        store = self.one.store
        at = {"sample": self.one.samples, "condition": [list(store.conditions.index).index(c) for c in conditions]}
        return self._overlaps(store.confusion.isel(at), store.applicable.isel(at))

    def _overlaps(self, confusion: xr.DataArray, applicable: xr.DataArray) -> xr.DataArray:
        store = self.one.store
        regions = None if store.classified else store.members
        found = overlaps(confusion, applicable=applicable, over=self.over, regions=regions, classified=store.classified)
        return found.compute()


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
