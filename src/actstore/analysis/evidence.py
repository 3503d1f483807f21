"""The evidence behind a number: its patients and samples, and p-values corrected for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, coordinate, require_dims
from actstore.analysis.members import Regions, members_of
from actstore.conditions import CONTROL
from actstore.units import counted

#: With fewer patients there is neither an interval nor a test over patients: the number has a note instead.
FEWEST_PATIENTS = 5
#: Coordinates along condition that make a perturbation, whatever its strength; ``channels`` where any are chosen.
PERTURBATION = ("transform", "target", "perturbation_source", "channels")
#: Coordinates along condition by which families of tests differ.
_FAMILY = (*PERTURBATION, "region")


def patients_of(array: xr.DataArray | xr.Dataset) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """The patient of each sample, as a number, and the patients' names in order of appearance.

    Raises
    ------
    AnalysisError
        if there is no coordinate ``patient`` along sample.
    """
    require_dims(array, ["sample"])
    patient = np.asarray(coordinate(array, "patient", "sample").values, dtype=str)
    names, first, code = np.unique(patient, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[code], names[order]


def volumes_of(array: xr.DataArray | xr.Dataset) -> NDArray[np.intp]:
    """The volume of each sample, as a number: samples that share patient and, where there is one, ``frame``.

    Numbers rise with the patient of :func:`patients_of`, then with the frame.

    Raises
    ------
    AnalysisError
        as :func:`patients_of`.
    """
    patient, _ = patients_of(array)
    if "frame" not in array.coords or array.coords["frame"].dims != ("sample",):
        return patient
    frame = np.unique(np.asarray(array.coords["frame"].values), return_inverse=True)[1]
    return np.unique(np.stack([patient, frame]), axis=1, return_inverse=True)[1].reshape(-1)


def note(patients: Any, what: str = "interval") -> NDArray[np.str_]:
    """The note on each number that rests on ``patients``: "" or "3 patients: too few for …"."""
    counts = np.asarray(patients)
    text = [
        f"{counted(n, 'patient')}: too few for {'an' if what[0] in 'aeiou' else 'a'} {what}"
        for n in counts.ravel().tolist()
    ]
    few = (counts < FEWEST_PATIENTS).ravel()
    return np.where(few, text, "").reshape(counts.shape)


def perturbations(array: xr.DataArray | xr.Dataset) -> NDArray[np.intp]:
    """Conditions that change a target class: positions along condition, without original, controls and repeats.

    Raises
    ------
    AnalysisError
        if there is no coordinate ``target`` along condition.
    """
    require_dims(array, ["condition"])
    target = coordinate(array, "target", "condition", "assign the perturbed class of every condition")
    changed = np.asarray(target.values, dtype=str) != ""
    if "region" in array.coords:
        changed &= np.asarray(array.coords["region"].values, dtype=str) != CONTROL
    return np.flatnonzero(changed)


def targets_of(
    array: xr.DataArray | xr.Dataset, class_names: Sequence[str], regions: Regions | None = None
) -> tuple[tuple[int, ...], ...]:
    """The class indices of every condition's target, none for the original and its repeats.

    A target is one of ``regions``, by default a class other than the background.

    Raises
    ------
    AnalysisError
        if there is no coordinate ``target`` along condition, or a target is no foreground class.
    """
    perturbations(array)
    members = members_of(class_names, regions)
    found = [str(target) for target in array.coords["target"].values]
    for target in found:
        if target and target not in members:
            raise AnalysisError(f"target {target!r} is no foreground class: class_names has {', '.join(members)}")
    return tuple(members[target] if target else () for target in found)


def families(array: xr.DataArray | xr.Dataset) -> NDArray[np.intp]:
    """The number of the family of tests that each condition belongs to: int (condition).

    Conditions of one transform, target, source and choice of input channels form a family, whatever their strength;
    controls form their own. A new class or transform in a run therefore leaves the q-values of other families as they
    are.

    Raises
    ------
    AnalysisError
        if the dimension condition is missing.
    """
    require_dims(array, ["condition"])
    keys = [
        np.asarray(array.coords[name].values, dtype=str)
        for name in _FAMILY
        if name in array.coords and array.coords[name].dims == ("condition",)
    ]
    if not keys:
        return np.zeros(array.sizes["condition"], dtype=np.intp)
    return np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)


def corrected(p: NDArray[np.floating], family: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """p-values (condition, …) adjusted to control the false discovery rate within each family of conditions.

    Returns q of the shape of ``p``, NaN where it is, and how many tests (condition) the family of a condition has.

    Benjamini & Hochberg, J. R. Stat. Soc. B 57 (1995), 289.
    """
    from scipy import stats

    adjusted = np.full(p.shape, np.nan)
    tests = np.zeros(len(p), dtype=np.int64)
    for one in np.unique(family):
        own = family == one
        tested = own.reshape(-1, *[1] * (p.ndim - 1)) & ~np.isnan(p)
        tests[own] = tested.sum()
        if tested.any():
            adjusted[tested] = stats.false_discovery_control(p[tested], method="bh")
    return adjusted, tests
