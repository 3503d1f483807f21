"""Tables of classifiers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.classification import accuracy, class_cases
from actstore.analysis.segmentation.cases import NO_CASE
from actstore.tables.rows import RESTS_ON, channel_frame, sample_rows
from actstore.tables.segmentation import CASES_COLUMNS

ACCURACY_COLUMNS = ("condition", "target", "class_name", *RESTS_ON, "accuracy", "low", "high", "note")


def accuracy_table(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """The part classified right of all samples and of each class, in columns :data:`ACCURACY_COLUMNS`.

    Values and errors as for :func:`actstore.analysis.accuracy`; classes without a sample are left out.

    Examples
    --------
    >>> list(analysis.accuracy_table(classified.confusion, applicable=classified.applicable))
    ['condition', 'target', 'class_name', 'samples', 'patients', 'accuracy', 'low', 'high', 'note']
    """
    found = accuracy(confusion, applicable=applicable)
    along = {name: coord for name, coord in confusion.coords.items() if coord.dims == ("condition",)}
    every = np.arange(confusion.sizes["condition"])
    return channel_frame(found.assign_coords(along), ACCURACY_COLUMNS, keep=found["samples"] > 0, conditions=every)


def class_cases_table(confusion: xr.DataArray, *, applicable: xr.DataArray | None = None) -> pd.DataFrame:
    """What a perturbation makes of each sample's class, in columns :data:`CASES_COLUMNS`."""
    found = class_cases(confusion, applicable=applicable)
    return sample_rows(confusion, {"case": found}, CASES_COLUMNS, found != NO_CASE)
