"""Results as tables: one row for every cell of a Dataset's dimensions, in the columns that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.evidence import perturbations
from actstore.analysis.network import layer_slices
from actstore.tables.of_samples import take


def channel_frame(
    dataset: xr.Dataset,
    columns: Sequence[str],
    *,
    keep: xr.DataArray | None = None,
    conditions: NDArray[np.intp] | None = None,
) -> pd.DataFrame:
    """``dataset`` as a table with ``columns`` in that order, computed in one go where lazy.

    Parameters
    ----------
    dataset
        Variables and coordinates over any of its dimensions, for example (condition, channel) with the coordinates
        ``layer``, ``module`` and ``channel`` of :func:`actstore.analysis.stack_layers`, or (layer, condition, most).
    columns
        Names of variables or coordinates. Each is repeated along the dimensions that it lacks; a dimension without
        coordinate counts from 0.
    keep
        bool over any of the dimensions: the cells that get a row; all by default.
    conditions
        Positions along ``condition`` that get rows; by default :func:`actstore.analysis.evidence.perturbations`.

    Returns
    -------
    pandas.DataFrame
        One row a cell of the dimensions that the columns have: by layer, then by the dimensions in the order of the
        columns that are named after them, then by any other. Text in pandas' own text type.

    Raises
    ------
    AnalysisError
        for a column that is neither a variable nor a coordinate.
    """
    arrays = {name: _array(dataset, name) for name in columns}
    if keep is not None:
        arrays[""] = keep.reset_coords(drop=True)
    dims = dict.fromkeys(name for name in columns if name in dataset.dims)
    dims |= dict.fromkeys(str(d) for array in arrays.values() for d in array.dims)
    variables = {f"v{i}": array.variable for i, array in enumerate(arrays.values())}
    values = dict(zip(arrays, xr.Dataset(variables).compute().data_vars.values(), strict=True))
    cells = np.ones([dataset.sizes[d] for d in dims], dtype=bool)
    if "condition" in dims:
        chosen = perturbations(dataset) if conditions is None else conditions
        cells &= _spread(np.isin(np.arange(dataset.sizes["condition"]), chosen), ["condition"], dims)
    if keep is not None:
        cells &= _spread(values[""].values.astype(bool), values.pop("").dims, dims)
    at = dict(zip(dims, np.nonzero(cells), strict=True)) if dims else {}
    if "channel" in at:
        starts = [where.start for where in layer_slices(dataset).values()]
        layer = np.searchsorted(starts, at["channel"], side="right")
        order = np.argsort(layer, kind="stable")
        at = {dim: index[order] for dim, index in at.items()}
    return pd.DataFrame({name: _column(values[name], at, int(cells.sum())) for name in columns})


def _array(dataset: xr.Dataset, name: str) -> xr.DataArray:
    if name in dataset.variables:
        array = dataset[name]
    elif name in dataset.dims:
        array = xr.DataArray(np.arange(dataset.sizes[name]), dims=name)
    else:
        raise AnalysisError(
            f"no variable or coordinate {name!r} for the table, only {', '.join(map(str, dataset.variables))}: "
            f"assign it with assign_coords({name}=…)"
        )
    return array.reset_coords(drop=True)


def _spread(values: NDArray[np.bool_], own: Sequence[Any], dims: dict[str, None]) -> NDArray[np.bool_]:
    """``values`` along ``own`` dims with one axis for each of ``dims``, to broadcast."""
    order = [own.index(d) for d in dims if d in own]
    shape = iter(values.transpose(order).shape)
    return values.transpose(order).reshape([next(shape) if d in own else 1 for d in dims])


def _column(array: xr.DataArray, at: dict[str, NDArray[np.intp]], rows: int) -> Any:
    if not array.dims:
        flat = np.zeros(rows, dtype=np.intp)
    else:
        flat = np.ravel_multi_index(tuple(at[str(d)] for d in array.dims), array.shape)
    return take(array.values.ravel(), flat)
