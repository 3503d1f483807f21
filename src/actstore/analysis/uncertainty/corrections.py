"""Corrected p-values and notes of whole results, lazily."""

from __future__ import annotations

import numpy as np
import xarray as xr

from actstore.analysis.arrays import apply_lazily
from actstore.analysis.evidence import corrected, families, note

#: One width for all chunks: dask takes that of the first one and truncates the others.
_NOTE = np.dtype("U64")


def corrected_p(p: xr.DataArray) -> xr.Dataset:
    """``q``, that is ``p`` (condition, …) corrected within each family of conditions, and ``tests`` (condition); lazy.

    ``tests`` int64 says over how many tests q is corrected: :func:`actstore.analysis.evidence.corrected`, families
    as of :func:`actstore.analysis.evidence.families`.
    """
    family = families(p)
    dims = ("condition", *(d for d in p.dims if d != "condition"))
    q, tests = apply_lazily(
        corrected, (p, dims), output_dims=[dims, ["condition"]], dtypes=[np.float64, np.int64], family=family
    )
    return xr.Dataset({"q": q, "tests": tests})


def notes_on(patients: xr.DataArray, what: str) -> xr.DataArray:
    """:func:`actstore.analysis.evidence.note` on each number of ``patients``; lazy."""
    text: xr.DataArray = apply_lazily(lambda counts: note(counts, what).astype(_NOTE), (patients, []), dtypes=[_NOTE])
    return text
