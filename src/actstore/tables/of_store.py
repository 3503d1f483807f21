"""Reductions of an opened store that also depend on how it was captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from actstore.analysis.classification import class_cases
from actstore.analysis.maps.mosaic import mosaic as mosaic_of
from actstore.analysis.maps.rescaling import rescaling as rescaling_of
from actstore.analysis.patches import whole_prediction
from actstore.analysis.segmentation.cases import cases as cases_of
from actstore.case_rules import CaseRules
from actstore.store.attributes import trained_of, window_of
from actstore.units import first_few

if TYPE_CHECKING:
    import xarray as xr

    from actstore.store.store import Store


def case_rules(store: Store) -> CaseRules:
    """The thresholds of the run's spec for kinds of failure."""
    return CaseRules(**store.attributes["spec"].get("cases", {}))


def cases(store: Store) -> xr.DataArray:
    """The kind of failure of each prediction: str (sample, condition), "" where there is none; lazy."""
    if store.classified:
        return class_cases(store.confusion, applicable=store.applicable)
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


def mosaic(store: Store, name: str, patient: str, frame: int) -> xr.DataArray:
    """As :meth:`actstore.store.store.Store.mosaic`."""
    samples = store.samples
    at = np.flatnonzero((samples["patient"] == patient) & (samples["frame"] == frame))
    if not len(at):
        volumes = samples[["patient", "frame"]].drop_duplicates()
        known = [f"{p} frame {f}" for p, f in volumes.itertuples(index=False)]
        raise KeyError(f"no volume {patient!r} frame {frame}: there are {first_few(known, 4) or 'none'}")
    array = getattr(store, name) if name in ("image", "label", "prediction") else store[name]
    places = {column: ("sample", values.to_numpy()) for column, values in store.patches.items() if column != "patch"}
    # A block's samples follow each other, and a slice of a lazy array needs no copy.
    own = slice(int(at[0]), int(at[-1]) + 1)
    array = array.assign_coords(places).isel(sample=own)
    if name == "prediction":
        array = whole_prediction(array, store.applicable.isel(sample=own))
    return mosaic_of(array, grid=store.grids.get(name))
