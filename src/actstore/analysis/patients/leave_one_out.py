"""The channels most often on top, without one patient at a time."""

from __future__ import annotations

import xarray as xr

from actstore.analysis.arrays import require_positive
from actstore.analysis.channels.frequency import among_most, top_counts
from actstore.analysis.evidence import patients_of
from actstore.measures.names import MOST


def leave_one_out(member: xr.DataArray, most: int = MOST, *, applicable: xr.DataArray | None = None) -> xr.Dataset:
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

    Examples
    --------
    >>> list(analysis.leave_one_out(findings.member, applicable=findings.applicable))
    ['all', 'without', 'samples', 'left_out']
    """
    most = require_positive("most", most)
    count, samples = top_counts(member, applicable)
    every = count.sum("patient")
    found = {
        "all": among_most(every, most),
        "without": among_most((every - count).transpose(*count.dims), most),
        "samples": (samples.sum("patient") - samples).transpose("patient", "condition"),
        "left_out": samples,
    }
    return xr.Dataset(found).assign_coords(patient=patients_of(member)[1])
