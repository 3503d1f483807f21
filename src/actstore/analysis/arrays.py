"""Checks that every reduction makes of its input: dimensions, and which condition is the original."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.conditions import ORIGINAL
from actstore.errors import ActstoreError


class AnalysisError(ActstoreError, ValueError):
    """An array or an argument that a reduction cannot use."""


def require_dims(array: xr.DataArray | xr.Dataset, dims: Iterable[Hashable]) -> None:
    """Refuse ``array`` if it lacks one of ``dims``.

    Raises
    ------
    AnalysisError
        naming the missing dimension and those that the array has.
    """
    name = array.name if isinstance(array, xr.DataArray) else None
    for dim in dims:
        if dim not in array.dims:
            raise AnalysisError(
                f"{name or 'array'} has no dimension {dim!r}, only {tuple(array.dims)}: "
                f"select with a list or a slice to keep {dim!r}"
            )


def require_same_sizes(dims: Iterable[Hashable], **arrays: xr.DataArray) -> None:
    """Refuse two arrays, given by the names that a message has for them, unless they are as long along ``dims``.

    Raises
    ------
    AnalysisError
        naming the dimension and both lengths.
    """
    (one, first), (two, second) = ((name.replace("_", " "), array) for name, array in arrays.items())
    for dim in dims:
        if first.sizes[dim] != second.sizes[dim]:
            raise AnalysisError(
                f"{one} has {first.sizes[dim]} of {dim}, {two} {second.sizes[dim]}: select the same of both"
            )


def coordinate(array: xr.DataArray | xr.Dataset, name: str, dim: str, mend: str = "") -> xr.DataArray:
    """The coordinate ``name``, which must lie along ``dim``.

    Raises
    ------
    AnalysisError
        naming both, and the ``mend``.
    """
    if name not in array.coords or array.coords[name].dims != (dim,):
        mend = mend or f"assign it with assign_coords({name}=({dim!r}, …))"
        raise AnalysisError(f"no coordinate {name!r} along {dim}: {mend}")
    return array.coords[name].reset_coords(drop=True)


def require_positive(name: str, value: int) -> int:
    """``value`` if it is an integer of at least 1.

    Raises
    ------
    AnalysisError
        naming the argument and its value.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise AnalysisError(f"{name} = {value!r}: give an integer of at least 1")
    return int(value)


def is_original(array: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Which conditions are the unperturbed original: bool (condition).

    Read from the coordinate ``condition``, or from ``transform`` where conditions are not named; without either, index
    0 is the original.
    """
    for name in ("condition", "transform"):
        if name in array.coords and array.coords[name].dtype.kind in "UOT":
            original: xr.DataArray = array.coords[name] == ORIGINAL
            return original.reset_coords(drop=True)
    require_dims(array, ["condition"])
    return xr.DataArray(np.arange(array.sizes["condition"]) == 0, dims="condition")


def require_original_first(array: xr.DataArray) -> None:
    """Refuse ``array`` unless condition 0 is the original, which differences are taken against.

    Raises
    ------
    AnalysisError
        naming the condition that is first instead.
    """
    require_dims(array, ["condition"])
    if array.sizes["condition"] == 0 or not bool(is_original(array).values[0]):
        first = array.coords["condition"].values[:1].tolist() if "condition" in array.coords else []
        raise AnalysisError(
            f"{array.name or 'array'}: the first condition is {first[0] if first else 'missing'!r}, not {ORIGINAL!r}: "
            f"keep {ORIGINAL!r} as the first condition of the selection"
        )


def of_original(array: xr.DataArray) -> xr.DataArray:
    """``array`` of the original, the first condition, without its coordinates; as it is where it has no conditions.

    Raises
    ------
    AnalysisError
        as :func:`require_original_first`.
    """
    if "condition" not in array.dims:
        return array
    require_original_first(array)
    along = [name for name, coord in array.coords.items() if "condition" in coord.dims]
    return array.drop_vars(along).isel(condition=0)


def image_extent(array: xr.DataArray, space: Iterable[Hashable]) -> NDArray[np.int64]:
    """Pixels of the image that was padded or cropped: (sample, axis); all of the array where that is not known."""
    columns = []
    for dim in space:
        name = {"z": "depth", "y": "height", "x": "width"}.get(str(dim), "")
        size = array.coords[name].values if name in array.coords else array.sizes[dim]
        columns.append(np.broadcast_to(size, array.sizes["sample"]).astype(np.int64))
    return np.stack(columns, axis=-1)


def one_chunk(array: xr.DataArray, dims: Iterable[Hashable]) -> xr.DataArray:
    """``array`` with one dask chunk along each of ``dims``; unchanged if NumPy-backed or so chunked already."""
    if array.chunks is None:
        return array
    split = {array.get_axis_num(d): -1 for d in dims if d in array.dims and len(array.chunksizes[d]) > 1}
    # DataArray.chunk would turn the coordinates along these dims into dask arrays too.
    return array.copy(data=array.data.rechunk(split)) if split else array


def apply_lazily(
    function: Callable[..., Any],
    *arrays: tuple[xr.DataArray, Sequence[Hashable]],
    dtypes: Sequence[Any],
    output_dims: Sequence[Sequence[Hashable]] = ((),),
    output_sizes: Mapping[Any, int] | None = None,
    exclude_dims: Iterable[Hashable] = (),
    **options: Any,
) -> Any:
    """``function`` of NumPy blocks, one task each: :func:`xarray.apply_ufunc` as all reductions call it.

    ``arrays`` come with the dims that a block holds whole, and has last; ``options`` go to ``function``.
    """
    return xr.apply_ufunc(
        function,
        *(one_chunk(array, dims) for array, dims in arrays),
        kwargs=options,
        input_core_dims=[list(dims) for _, dims in arrays],
        output_core_dims=[list(dims) for dims in output_dims],
        exclude_dims=set(exclude_dims),
        dask="parallelized",
        output_dtypes=list(dtypes),
        dask_gufunc_kwargs={"output_sizes": dict(output_sizes or {})},
        keep_attrs=False,
    )
