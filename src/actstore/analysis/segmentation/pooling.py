"""Confusion counts of whole volumes or patients, and where in the heart a slice lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, require_original_first
from actstore.analysis.grouping import VOLUME, any_by, grouped, sum_by
from actstore.analysis.patches import PATCH, is_patched
from actstore.analysis.segmentation.counts import class_names, has_prediction

BASAL, MID, APICAL = "basal", "mid", "apical"


def pooled(
    confusion: xr.DataArray, by: str | Sequence[str] = VOLUME, *, applicable: xr.DataArray | None = None
) -> xr.DataArray:
    """Confusion counts summed over the samples of each group, so that every metric of them is the group's; lazy.

    Parameters
    ----------
    confusion
        (sample, condition, true_class, predicted_class), pixel counts, the original first along condition.
    by
        Coordinates along sample: ("patient", "frame") for volumes, "patient" for patients.
    applicable
        bool (sample, condition). Without it, a matrix of zeros counts as not applicable.

    Returns
    -------
    xarray.DataArray
        int64 (sample, condition, true_class, predicted_class), one entry along sample for each group in order of
        appearance, with the coordinates that are constant within every group, the spacings, NaN where they are not,
        and ``samples``, how many each holds.
        Where a condition is not applicable to a sample, its input is the original's: it counts with the original's
        prediction. Patches that overlap have counts of their own there, since the perturbation of one reaches into the
        prediction of its neighbours. Zeros where a condition is applicable to no sample of the group.

    Raises
    ------
    AnalysisError
        if a coordinate is missing, the first condition is not the original, or as :func:`actstore.analysis.dice`.

    Examples
    --------
    >>> volumes = analysis.pooled(store.confusion, applicable=store.applicable)
    >>> volumes.sizes["sample"], len(store.attributes["blocks"])
    (10, 10)
    """
    class_names(confusion)
    require_original_first(confusion)
    code, labels = grouped(confusion, by)
    valid = (has_prediction(confusion) if applicable is None else applicable).reset_coords(drop=True)
    own = has_prediction(confusion).reset_coords(drop=True) if is_patched(confusion) else valid
    plain = confusion.drop_vars([name for name, coord in confusion.coords.items() if "sample" in coord.dims])
    result: xr.DataArray = apply_lazily(
        _pool,
        (plain, ["sample", "condition", "true_class", "predicted_class"]),
        (valid, ["sample", "condition"]),
        (own, ["sample", "condition"]),
        output_dims=[["sample", "condition", "true_class", "predicted_class"]],
        dtypes=[np.int64],
        output_sizes={"sample": len(labels["samples"])},
        exclude_dims={"sample"},
        code=code,
    )
    return result.assign_coords({name: ("sample", values) for name, values in labels.items()}).rename("confusion")


def _pool(
    confusion: NDArray[np.int64], applicable: NDArray[np.bool_], own: NDArray[np.bool_], code: NDArray[np.intp]
) -> NDArray[np.int64]:
    filled = np.where((applicable | own)[..., None, None], confusion, confusion[:, :1])
    return sum_by(filled.astype(np.int64), code).astype(np.int64) * any_by(applicable, code)[..., None, None]


def slice_position(confusion: xr.DataArray) -> xr.DataArray:
    """Where along the heart's long axis a slice lies: float64 (sample), 0 most basal, 1 most apical; lazy.

    Of the slices of one volume, by the coordinates patient and frame, those with any true foreground count, in the
    order of ``slice``; NaN for the others. Patches of one slice lie where it does. The heart is wider at its base: of
    the two halves of the labelled slices, the middle one left out, the half with more labelled pixels is the basal one;
    where both have as many, the first.
    The only labelled slice of a volume lies at 0.

    Raises
    ------
    AnalysisError
        if the coordinate patient, frame or slice is missing, or as :func:`actstore.analysis.dice`.

    Examples
    --------
    >>> position = analysis.slice_position(store.confusion)
    >>> position.dims, float(position.min()), float(position.max())
    (('sample',), 0.0, 1.0)
    """
    class_names(confusion)
    own, _ = grouped(confusion, [*VOLUME, "slice"])
    parts = grouped(confusion, [*VOLUME, "slice", PATCH])[0] if is_patched(confusion) else own
    if len(np.unique(parts)) < len(parts):
        what = ("frame", "slice", "patch") if is_patched(confusion) else ("frame", "slice")
        raise AnalysisError(
            f"two samples have one patient, {', '.join(what[:-1])} and {what[-1]}: select one store's samples once"
        )
    code, _ = grouped(confusion, VOLUME)
    # The truth is the same in every condition; the original has been counted in every sample.
    true = confusion.isel(condition=0) if "condition" in confusion.dims else confusion
    labelled = true.isel(true_class=slice(1, None)).sum(["true_class", "predicted_class"])
    found: xr.DataArray = apply_lazily(
        _positions,
        (labelled, ["sample"]),
        output_dims=[["sample"]],
        dtypes=[np.float64],
        code=code,
        own=own,
        number=np.asarray(confusion.coords["slice"].values),
    )
    along = {name: coord for name, coord in confusion.coords.items() if coord.dims == ("sample",)}
    return found.reset_coords(drop=True).assign_coords(along).rename("position")


def _positions(
    labelled: NDArray[np.integer], code: NDArray[np.intp], own: NDArray[np.intp], number: NDArray[np.integer]
) -> NDArray[np.float64]:
    """``own`` numbers the slice of each sample, in order of appearance."""
    first = np.unique(own, return_index=True)[1]
    return _slice_positions(sum_by(labelled, own), code[first], number[first])[own]


def _slice_positions(
    labelled: NDArray[np.integer], code: NDArray[np.intp], number: NDArray[np.integer]
) -> NDArray[np.float64]:
    found = np.full(labelled.shape, np.nan)
    for group in np.unique(code):
        at = np.flatnonzero((code == group) & (labelled > 0))
        if len(at) == 0:
            continue
        at = at[np.argsort(number[at])]
        half = len(at) // 2
        basal, apical = number[at[0]], number[at[-1]]
        if labelled[at[len(at) - half :]].sum() > labelled[at[:half]].sum():
            basal, apical = apical, basal
        found[at] = (number[at] - basal) / (apical - basal or 1)
    return found


def thirds(position: xr.DataArray) -> xr.DataArray:
    """The third of the heart that a slice lies in: str (sample), "basal", "mid" or "apical"; "" where NaN; lazy.

    ``position`` is of :func:`slice_position`. Three equal parts of the long axis: Cerqueira et al., Circulation 105
    (2002), 539 (American Heart Association). The apex beyond the cavity, a segment of its own there, is not separated.

    Examples
    --------
    >>> third = analysis.thirds(analysis.slice_position(store.confusion))
    >>> sorted(set(third.values.tolist()) - {""})
    ['apical', 'basal', 'mid']
    """
    found: xr.DataArray = apply_lazily(_third, (position, []), dtypes=[f"U{len(APICAL)}"])
    return found.rename("third")


def _third(position: NDArray[np.float64]) -> NDArray[np.str_]:
    names = np.select([position < 1 / 3, position <= 2 / 3, position > 2 / 3], [BASAL, MID, APICAL], "")
    return names.astype(f"U{len(APICAL)}")
