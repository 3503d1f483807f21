"""From arrays to rows: each row of a table picks its values at positions along the dims of the arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, coordinate
from actstore.analysis.evidence import perturbations
from actstore.analysis.layers import layer_slices
from actstore.analysis.patches import PATCH, is_patched
from actstore.store.coordinates import CHANNELS

SAMPLE_COLUMNS = ("patient", "frame", "slice")
CONDITION_COLUMNS = ("condition", "transform", "target", "strength")
LAYER_COLUMNS = ("layer", "module")
#: A row of each layer, or of each channel of a layer, and perturbation.
PERTURBATION_COLUMNS = (*LAYER_COLUMNS, "condition", "target")
#: On how many a number rests.
RESTS_ON = ("samples", "patients")

#: Positions along each dim, one a row.
Positions = Mapping[str, NDArray[np.integer]]
#: How ``values[index]`` becomes a column.
Take = Callable[[Any, NDArray[np.integer]], Any]


def take(values: Any, index: NDArray[np.integer]) -> Any:
    """``values[index]`` as a pandas column; text in pandas' own text type, whose ``take`` is fast."""
    values = np.asarray(values)
    return pd.Series(values.tolist()).array.take(index) if values.dtype.kind in "UOT" else values.take(index)


def take_categories(values: Any, index: NDArray[np.integer]) -> Any:
    """``values[index]`` as a pandas column; text as categories, in order of appearance."""
    values = np.asarray(values)
    if values.dtype.kind not in "UOT":
        return values.take(index)
    codes, found = pd.factorize(values.astype(object))
    small = codes.astype(np.min_scalar_type(-len(found) - 1))
    return pd.Categorical.from_codes(small.take(index), categories=found.tolist())


def build_rows(
    columns: Mapping[str, xr.DataArray | NDArray[Any]], at: Positions, *, rows: int = 0, take: Take = take
) -> pd.DataFrame:
    """A table of ``columns``: arrays with dims, indexed at the position of each row, or ready columns.

    ``rows`` is how many there are where no column has a dim.
    """
    made = {name: _column(array, at, rows, take) for name, array in columns.items()}
    return pd.DataFrame(made, copy=False)


def _column(array: xr.DataArray | NDArray[Any], at: Positions, rows: int, take: Take) -> Any:
    if not isinstance(array, xr.DataArray):
        return array
    if array.ndim < 2:
        return take(array.values.ravel(), at[str(array.dims[0])] if array.dims else np.zeros(rows, dtype=np.intp))
    return take(array.values.ravel(), np.ravel_multi_index(tuple(at[str(d)] for d in array.dims), array.shape))


def sample_columns(samples: pd.DataFrame) -> list[str]:
    """The columns of ``samples`` that name a sample: ``patient, frame, slice`` and, of patches, ``patch``."""
    return [*SAMPLE_COLUMNS, *([PATCH] if PATCH in samples else [])]


def with_patch(columns: Iterable[str], labels: xr.Dataset | xr.DataArray) -> list[str]:
    """``columns``, with ``patch`` after ``slice`` where the samples of ``labels`` are patches."""
    order = list(columns)
    if is_patched(labels) and "slice" in order:
        order.insert(order.index("slice") + 1, PATCH)
    return order


def with_channels(columns: Iterable[str], labels: xr.Dataset | xr.DataArray) -> list[str]:
    """``columns`` and, where the conditions of ``labels`` change chosen input channels, ``channels``.

    It follows the strength or, in a table without strengths, the target.
    """
    names = list(columns)
    after = next((name for name in ("strength", "target") if name in names), None)
    if CHANNELS in labels.coords and CHANNELS not in names and after is not None:
        names.insert(names.index(after) + 1, CHANNELS)
    return names


def coordinate_columns(labels: xr.Dataset | xr.DataArray, names: Iterable[str]) -> dict[str, xr.DataArray]:
    """Those of ``names`` that describe a sample or a condition, from the coordinates of ``labels``."""
    sample = dict.fromkeys((*SAMPLE_COLUMNS, PATCH), "sample")
    dims = sample | dict.fromkeys((*CONDITION_COLUMNS, "region", CHANNELS), "condition")
    return {name: coordinate(labels, name, dims[name]) for name in names if name in dims}


def sample_rows(
    labels: xr.Dataset | xr.DataArray,
    variables: Mapping[str, xr.DataArray],
    columns: Sequence[str],
    keep: xr.DataArray,
) -> pd.DataFrame:
    """Rows by sample and condition: ``columns`` of ``variables``, and of the coordinates of ``labels``.

    Columns as of :func:`with_channels`; samples that are patches get the column ``patch``. ``keep`` is bool
    (sample, condition, …): which cells get a row.
    """
    columns = with_channels(with_patch(columns, labels), labels)
    arrays = coordinate_columns(labels, columns) | dict(variables)
    dataset = xr.Dataset({name: array.variable for name, array in arrays.items()})
    every = np.arange(dataset.sizes["condition"])
    return channel_frame(dataset, columns, keep=keep, conditions=every, dims=("sample", "condition"))


def channel_frame(
    dataset: xr.Dataset,
    columns: Sequence[str],
    *,
    keep: xr.DataArray | None = None,
    conditions: NDArray[np.intp] | None = None,
    dims: Sequence[str] = (),
) -> pd.DataFrame:
    """``dataset`` as a table with ``columns`` in that order, computed in one go where lazy.

    Parameters
    ----------
    dataset
        Variables and coordinates over any of its dimensions, for example (condition, channel) with the coordinates
        ``layer``, ``module`` and ``channel`` of :func:`actstore.analysis.stack_layers`, or (layer, condition, most).
    columns
        Names of variables or coordinates. Each is repeated along the dimensions that it lacks; a dimension without
        coordinate counts from 0. With ``channels`` beside them, as :func:`with_channels`.
    keep
        bool over any of the dimensions: the cells that get a row; all by default.
    conditions
        Positions along ``condition`` that get rows; by default :func:`actstore.analysis.evidence.perturbations`.
    dims
        Dimensions that rows are sorted by before any other.

    Returns
    -------
    pandas.DataFrame
        One row a cell of the dimensions that the columns have: by layer, then by ``dims``, then by the dimensions in
        the order of the columns that are named after them, then by any other. Text in pandas' own text type.

    Raises
    ------
    AnalysisError
        for a column that is neither a variable nor a coordinate.

    Examples
    --------
    >>> frame = analysis.channel_frame(store.statistics("L01"), ["patient", "condition", "channel", "mad"])
    >>> list(frame)
    ['patient', 'condition', 'channel', 'mad']
    """
    columns = with_channels(columns, dataset)
    arrays = {name: _array(dataset, name) for name in columns}
    if keep is not None:
        arrays[""] = keep.reset_coords(drop=True)
    axes = dict.fromkeys(name for name in (*dims, *columns) if name in dataset.dims)
    axes |= dict.fromkeys(str(d) for array in arrays.values() for d in array.dims)
    variables = {f"v{i}": array.variable for i, array in enumerate(arrays.values())}
    values = dict(zip(arrays, xr.Dataset(variables).compute().data_vars.values(), strict=True))
    cells = np.ones([dataset.sizes[d] for d in axes], dtype=bool)
    if "condition" in axes:
        chosen = perturbations(dataset) if conditions is None else conditions
        cells &= _spread(np.isin(np.arange(dataset.sizes["condition"]), chosen), ["condition"], axes)
    if keep is not None:
        cells &= _spread(values[""].values.astype(bool), values.pop("").dims, axes)
    at = dict(zip(axes, np.nonzero(np.atleast_1d(cells)), strict=False))
    if "channel" in at:
        starts = [where.start for where in layer_slices(dataset).values()]
        layer = np.searchsorted(starts, at["channel"], side="right")
        order = np.argsort(layer, kind="stable")
        at = {dim: index[order] for dim, index in at.items()}
    return build_rows({name: values[name] for name in columns}, at, rows=int(cells.sum()))


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
