"""Tables of predictions against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.arrays import coordinate
from actstore.analysis.grouping import VOLUME, any_by, grouped
from actstore.analysis.members import Regions
from actstore.analysis.segmentation.cases import NO_CASE, cases
from actstore.analysis.segmentation.counts import has_prediction
from actstore.analysis.segmentation.overlap import Over, dice, dice_change, segmentation_metrics
from actstore.analysis.segmentation.pooling import slice_position
from actstore.analysis.segmentation.surface import NAMES, surface_distances
from actstore.analysis.uncertainty.bootstrap import Bootstrap
from actstore.case_rules import CaseRules
from actstore.tables.rows import RESTS_ON, SAMPLE_COLUMNS, channel_frame, sample_rows

DICE_COLUMNS = (*SAMPLE_COLUMNS, "condition", "target", "class_name", "dice")
CASES_COLUMNS = (*SAMPLE_COLUMNS, "condition", "target", "case")
METRIC_NAMES = (
    *("dice", "jaccard", "sensitivity", "specificity", "precision"),
    *("volume_difference", "relative_volume_difference"),
)
SEGMENTATION_COLUMNS = (*SAMPLE_COLUMNS, "condition", "target", "class_name", *METRIC_NAMES, "position")
SURFACE_COLUMNS = (*SAMPLE_COLUMNS, "condition", "target", "class_name", *NAMES)
DICE_MEAN_COLUMNS = (
    *("class_name", "condition", "target", *RESTS_ON),
    *(f"{name}{end}" for name in ("original", "perturbed", "change") for end in ("", "_low", "_high", "_error")),
    "note",
)


def segmentation_table(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> pd.DataFrame:
    """Every overlap, rate and volume of a segmentation, in columns :data:`SEGMENTATION_COLUMNS`.

    Volumes are in millilitres, ``position`` runs from 0 at the base to 1 at the apex
    (:func:`actstore.analysis.slice_position`). Of a :func:`actstore.analysis.pooled` confusion, columns that its groups
    do not have are left out: ``slice`` and ``position`` of volumes, ``frame`` too of patients.

    Arguments and errors as in :func:`actstore.analysis.segmentation_metrics`; a missing coordinate is an AnalysisError
    too.

    Examples
    --------
    >>> list(analysis.segmentation_table(store.confusion, applicable=store.applicable))[:8]
    ['patient', 'frame', 'slice', 'condition', 'target', 'class_name', 'dice', 'jaccard']
    """
    order = _present(SEGMENTATION_COLUMNS, confusion)
    valid = has_prediction(confusion) if applicable is None else applicable
    found = segmentation_metrics(confusion, applicable=applicable, regions=regions)
    variables = {name: found[name] for name in ("class_name", *METRIC_NAMES)}
    if "position" in order:
        variables["position"] = slice_position(confusion)
    return sample_rows(confusion, variables, order, valid)


def surface_table(
    prediction: xr.DataArray,
    label: xr.DataArray,
    class_names: Sequence[str],
    *,
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
    by: Literal["slice", "volume"] = "slice",
) -> pd.DataFrame:
    """Surface distances in millimetres, in columns :data:`SURFACE_COLUMNS`, without ``slice`` where ``by`` = "volume".

    Arguments and errors as in :func:`actstore.analysis.surface_distances`; a missing coordinate is an AnalysisError
    too.

    Examples
    --------
    >>> few = slice(0, 4)
    >>> table = analysis.surface_table(
    ...     store.prediction.isel(sample=few), store.label.isel(sample=few), store.class_names
    ... )
    >>> list(table)[:6]
    ['patient', 'frame', 'slice', 'condition', 'target', 'class_name']
    """
    found = surface_distances(prediction, label, class_names, applicable=applicable, regions=regions, by=by)
    order = _present(SURFACE_COLUMNS, found)
    dims = ("sample", "condition")
    shape = tuple(prediction.sizes[dim] for dim in dims)
    valid = np.ones(shape, bool) if applicable is None else applicable.transpose(*dims).values
    if by == "volume":
        valid = any_by(valid, grouped(prediction, VOLUME)[0])
    variables = {name: found[name] for name in ("class_name", *NAMES)}
    return sample_rows(found, variables, order, xr.DataArray(valid, dims=dims))


def dice_table(
    confusion: xr.DataArray, *, applicable: xr.DataArray | None = None, regions: Regions | None = None
) -> pd.DataFrame:
    """Dice of every foreground class, in columns :data:`DICE_COLUMNS`; target "" for the original and its repeats.

    Arguments and errors as in :func:`actstore.analysis.dice`; a missing coordinate is an AnalysisError too.

    Examples
    --------
    >>> list(analysis.dice_table(store.confusion, applicable=store.applicable))
    ['patient', 'frame', 'slice', 'condition', 'target', 'class_name', 'dice']
    """
    values = dice(confusion, applicable=applicable, regions=regions)
    return sample_rows(confusion, {"class_name": values["class_name"], "dice": values}, DICE_COLUMNS, values.notnull())


def dice_mean_table(
    confusion: xr.DataArray,
    *,
    over: Over = "present",
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
    **bootstrap: Unpack[Bootstrap],
) -> pd.DataFrame:
    """Mean Dice before and after each perturbation over the same samples, in columns :data:`DICE_MEAN_COLUMNS`.

    Arguments, values and errors as for :func:`actstore.analysis.dice_change`.

    Examples
    --------
    >>> list(analysis.dice_mean_table(store.confusion, applicable=store.applicable, resamples=50))[:5]
    ['class_name', 'condition', 'target', 'samples', 'patients']
    """
    found = dice_change(confusion, over=over, applicable=applicable, regions=regions, **bootstrap)
    return channel_frame(found, DICE_MEAN_COLUMNS)


def cases_table(
    confusion: xr.DataArray,
    rules: CaseRules | None = None,
    *,
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
) -> pd.DataFrame:
    """The case of every prediction under a perturbation, in columns :data:`CASES_COLUMNS`; controls have none.

    Arguments and errors as in :func:`actstore.analysis.cases`; a missing coordinate is an AnalysisError too.

    Examples
    --------
    >>> list(analysis.cases_table(store.confusion, applicable=store.applicable))
    ['patient', 'frame', 'slice', 'condition', 'target', 'case']
    """
    found = cases(confusion, rules, applicable=applicable, regions=regions)
    return sample_rows(confusion, {"case": found}, CASES_COLUMNS, found != NO_CASE)


def _present(order: Sequence[str], labels: xr.DataArray | xr.Dataset) -> list[str]:
    """``order`` without what a pooled sample does not have; an unpooled one must have all."""
    for name in SAMPLE_COLUMNS if "samples" not in labels.coords else ():
        coordinate(labels, name, "sample")
    along = {str(name) for name, coord in labels.coords.items() if coord.dims == ("sample",)}
    needs = {name: name for name in SAMPLE_COLUMNS} | {"position": "slice"}
    return [name for name in order if name not in needs or needs[name] in along]
