"""What a number rests on: patients, samples, and p-values corrected for how many were looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims
from actstore.conditions import CONTROL
from actstore.units import counted

#: Patients below which neither an interval nor a test over patients is given: the number stands, with a note.
FEWEST_PATIENTS = 5


def patients_of(array: xr.DataArray | xr.Dataset) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """The patient of each sample, as a number, and the patients' names in order of appearance.

    Raises
    ------
    AnalysisError
        if there is no coordinate ``patient`` along sample.
    """
    require_dims(array, ["sample"])
    if "patient" not in array.coords or array.coords["patient"].dims != ("sample",):
        raise AnalysisError("no coordinate 'patient' along sample: assign it with assign_coords(patient=('sample', …))")
    names, first, code = np.unique(
        np.asarray(array.coords["patient"].values, dtype=str), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[code], names[order]


def note(patients: Any, what: str = "interval") -> NDArray[np.str_]:
    """What a reader must be told of each number that rests on ``patients``: "" or "3 patients: too few for …"."""
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
    if "target" not in array.coords or array.coords["target"].dims != ("condition",):
        raise AnalysisError("no coordinate 'target' along condition: assign the perturbed class of every condition")
    changed = np.asarray(array.coords["target"].values, dtype=str) != ""
    if "region" in array.coords:
        changed &= np.asarray(array.coords["region"].values, dtype=str) != CONTROL
    return np.flatnonzero(changed)


def corrected(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """p-values of any shape adjusted over all that are not NaN, to control the false discovery rate.

    Benjamini & Hochberg, J. R. Stat. Soc. B 57 (1995), 289.
    """
    from scipy import stats

    adjusted = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p[tested], method="bh")
    return adjusted
