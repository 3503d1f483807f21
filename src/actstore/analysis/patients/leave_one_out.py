"""The channels most often on top, without one patient at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import apply_lazily, require_positive
from actstore.analysis.channels.frequency import applicable_samples, most_often
from actstore.analysis.evidence import patients_of
from actstore.analysis.grouping import Bools, count_by
from actstore.analysis.layers import layer_slices


def leave_one_out(member: xr.DataArray, most: int = 7, *, applicable: xr.DataArray | None = None) -> xr.Dataset:
    """The ``most`` channels of each layer most often on top, with all patients and without each; lazy.

    Parameters
    ----------
    member
        bool (sample, condition, channel), as for :func:`actstore.analysis.heterogeneity`.
    most
        How many; beyond a layer's channels, all that are ever on top. Ties as in
        :func:`actstore.analysis.most_frequent`.
    applicable
        As for :func:`actstore.analysis.heterogeneity`.

    Returns
    -------
    xarray.Dataset
        bool ``all`` (condition, channel) and ``without`` (patient, condition, channel), patients in order of
        appearance; int64 ``samples`` (patient, condition), those of the others, and ``left_out`` (patient, condition),
        the patient's own.

    Raises
    ------
    AnalysisError
        if ``patient`` or a dimension is missing, or ``most`` is below 1.
    """
    valid = applicable_samples(member, applicable)
    patient, names = patients_of(member)
    whole = ["sample", "condition", "channel"]
    sets = apply_lazily(
        _leave_one_out,
        (member, whole),
        (valid, whole[:2]),
        output_dims=[whole[1:], ["patient", *whole[1:]], ["patient", "condition"], ["patient", "condition"]],
        dtypes=[bool, bool, np.int64, np.int64],
        output_sizes={"patient": len(names)},
        patient=patient,
        most=require_positive("most", most),
        layers=list(layer_slices(member).values()),
    )
    found = xr.Dataset(dict(zip(("all", "without", "samples", "left_out"), sets, strict=True)))
    return found.assign_coords(patient=names)


def _leave_one_out(
    member: Bools, valid: Bools, patient: NDArray[np.intp], most: int, layers: list[slice]
) -> tuple[NDArray[Any], ...]:
    counts, sizes = count_by(member.astype(bool) & valid[..., None], patient), count_by(valid, patient)
    every = counts.sum(axis=0)
    return most_often(every, most, layers), most_often(every - counts, most, layers), sizes.sum(axis=0) - sizes, sizes
