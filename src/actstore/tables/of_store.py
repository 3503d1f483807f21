"""Reductions of an opened store that also depend on how it was captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from actstore.analysis.maps.rescaling import rescaling as rescaling_of
from actstore.analysis.segmentation.cases import cases as cases_of
from actstore.case_rules import CaseRules
from actstore.store.attributes import trained_of, window_of

if TYPE_CHECKING:
    import xarray as xr

    from actstore.store.store import Store


def case_rules(store: Store) -> CaseRules:
    """The thresholds of the run's spec for kinds of failure."""
    return CaseRules(**store.attributes["spec"].get("cases", {}))


def cases(store: Store) -> xr.DataArray:
    """The kind of failure of each prediction: str (sample, condition), "" where there is none; lazy."""
    return cases_of(store.confusion, case_rules(store), applicable=store.applicable, regions=store.members)


def rescaling(store: Store) -> xr.DataArray:
    """By how much normalisation stretched what was not perturbed: float64 (sample, condition); lazy.

    As :func:`actstore.analysis.rescaling`; inputs are read only where the run's normalisation can rescale them.
    """
    identity = store.attributes["identity"]
    as_it_is = identity["preprocess"]["normalize"] == "none" or window_of(identity) == "original"
    if as_it_is and not trained_of(identity):
        return store.applicable.where(store.applicable).astype(np.float64).rename("factor")
    return rescaling_of(store.image, store.label, store.class_names, store.members)
