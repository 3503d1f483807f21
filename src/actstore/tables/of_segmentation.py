"""How good segmentations are, as tables: one row for every applicable condition and class, the original included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.pooling import VOLUME, any_of, grouped, slice_position
from actstore.analysis.segmentation import counted, segmentation_metrics
from actstore.analysis.surface import NAMES, surface_distances
from actstore.tables.of_samples import _SAMPLE, _frame, take

METRIC_NAMES = (
    "dice",
    "jaccard",
    "sensitivity",
    "specificity",
    "precision",
    "volume_difference",
    "relative_volume_difference",
)
SEGMENTATION_COLUMNS = (*_SAMPLE, "condition", "target", "class_name", *METRIC_NAMES, "position")
SURFACE_COLUMNS = (*_SAMPLE, "condition", "target", "class_name", *NAMES)


def segmentation_table(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """Every overlap, rate and volume of a segmentation, in columns :data:`SEGMENTATION_COLUMNS`.

    Volumes are in millilitres, ``position`` runs from 0 at the base to 1 at the apex
    (:func:`actstore.analysis.slice_position`). Of a :func:`actstore.analysis.pooled` confusion, columns that its groups
    do not have are left out: ``slice`` and ``position`` of volumes, ``frame`` too of patients.

    Arguments and errors as in :func:`actstore.analysis.segmentation_metrics`; a missing coordinate is an AnalysisError
    too.
    """
    along = _along_sample(confusion)
    order = _present(SEGMENTATION_COLUMNS, along)
    valid = counted(confusion) if applicable is None else applicable
    found = segmentation_metrics(confusion, applicable=applicable).assign(valid=valid.reset_coords(drop=True))
    if "slice" in along:
        found = found.assign(position=slice_position(confusion).reset_coords(drop=True))
    found = found.transpose("sample", "condition", "class_name").compute()
    s, c, k = _rows(found["valid"].values, found.sizes["class_name"])
    columns = {name: found[name].values[s, c, k] for name in METRIC_NAMES}
    if "slice" in along:
        columns["position"] = found["position"].values[s]
    columns["class_name"] = take(found["class_name"].values, k)
    return _frame(confusion, s, c, columns, order, take)


def surface_table(
    prediction: xr.DataArray,
    label: xr.DataArray,
    class_names: Sequence[str],
    *,
    applicable: xr.DataArray | None = None,
    by: Literal["slice", "volume"] = "slice",
) -> pd.DataFrame:
    """Surface distances in millimetres, in columns :data:`SURFACE_COLUMNS`, without ``slice`` where ``by`` = "volume".

    Arguments and errors as in :func:`actstore.analysis.surface_distances`; a missing coordinate is an AnalysisError
    too.
    """
    lazy = surface_distances(prediction, label, class_names, applicable=applicable, by=by)
    order = _present(SURFACE_COLUMNS, _along_sample(lazy))
    found = lazy.compute()
    shape = (prediction.sizes["sample"], prediction.sizes["condition"])
    valid = np.ones(shape, bool) if applicable is None else applicable.transpose("sample", "condition").values
    if by == "volume":
        valid = any_of(valid, grouped(prediction, VOLUME)[0])
    s, c, k = _rows(valid, found.sizes["class_name"])
    columns = {name: found[name].values[s, c, k] for name in NAMES}
    columns["class_name"] = take(found["class_name"].values, k)
    return _frame(found, s, c, columns, order, take)


def _rows(valid: Any, classes: int) -> tuple[Any, Any, Any]:
    s, c = np.nonzero(valid)
    return np.repeat(s, classes), np.repeat(c, classes), np.tile(np.arange(classes), len(s))


def _along_sample(labels: xr.DataArray | xr.Dataset) -> set[str]:
    return {str(name) for name, coord in labels.coords.items() if coord.dims == ("sample",)}


def _present(order: Sequence[str], along: set[str]) -> list[str]:
    """``order`` without what a pooled sample does not have; an unpooled one must have all."""
    if "samples" not in along and (gone := [name for name in _SAMPLE if name not in along]):
        raise AnalysisError(
            f"no coordinate {gone[0]!r} along sample: assign it with assign_coords({gone[0]}=('sample', …))"
        )
    needs = {name: name for name in _SAMPLE} | {"position": "slice"}
    return [name for name in order if name not in needs or needs[name] in along]
