"""Numbers as they are shown, so that a threshold read off a page or a table includes the value it was read from."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.floating]", xr.DataArray)


def significant(values: Values, digits: int = 4) -> Values:
    """``values`` rounded to ``digits`` significant decimal digits: each the float64 that its decimal text is read as.

    Two sums of the same numbers in another order differ in their last bits, and so do processors. Compared after
    rounding, both lie on the same side of a limit that has no more digits. NaN and infinities stay as they are.

    Parameters
    ----------
    values
        of any shape; in memory.

    Examples
    --------
    >>> analysis.significant(0.66666667, 3), analysis.significant(12345.0, 2)
    (0.667, 12000.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    rounded = np.array([float(f"{value:.{digits}g}") for value in numbers.ravel()]).reshape(numbers.shape)
    if isinstance(values, xr.DataArray):
        return values.copy(data=rounded)
    return float(rounded) if isinstance(values, float) else rounded
