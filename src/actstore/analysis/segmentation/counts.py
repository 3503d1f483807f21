"""Pixels of classes and regions, from confusion counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, is_original, require_dims
from actstore.analysis.members import Regions, members_of

#: The class dims of confusion counts.
CLASSES = ["true_class", "predicted_class"]


class Pixels(NamedTuple):
    """Pixels of the intersection, of both masks and of the image, of every class or region: (…, class_name)."""

    both: NDArray[np.integer]
    true: NDArray[np.integer]
    predicted: NDArray[np.integer]
    image: NDArray[np.integer]


def class_names(confusion: xr.DataArray) -> list[str]:
    """The class names of ``confusion`` (…, true_class, predicted_class) in order, background first.

    Raises
    ------
    AnalysisError
        if a dimension or its coordinate is missing, or the two name different classes.
    """
    require_dims(confusion, CLASSES)
    for dim in CLASSES:
        if dim not in confusion.coords:
            raise AnalysisError(f"confusion has no class names along {dim!r}: assign them as its coordinate")
    true, predicted = (confusion.coords[dim].values.tolist() for dim in CLASSES)
    if true != predicted:
        raise AnalysisError(f"confusion has true classes {true} but predicted classes {predicted}: reindex one")
    return [str(name) for name in true]


def has_prediction(confusion: xr.DataArray) -> xr.DataArray:
    """Where a prediction was made: bool (sample, condition), False where a matrix is all zeros; lazy."""
    require_dims(confusion, CLASSES)
    return (confusion != 0).any(CLASSES)


def class_size(confusion: xr.DataArray, *, regions: Regions | None = None) -> xr.DataArray:
    """True pixels of every foreground class: int64 (sample, class_name), lazy.

    From the original's counts (sample, condition, true_class, predicted_class), which every sample has; ``regions`` as
    in :func:`actstore.analysis.dice`.

    Raises
    ------
    AnalysisError
        if there is no original among the conditions, or as :func:`actstore.analysis.dice`.

    Examples
    --------
    >>> size = analysis.class_size(store.confusion)
    >>> size.dims, size["class_name"].values.tolist()
    (('sample', 'class_name'), ['RV', 'MYO', 'LV'])
    """
    original = np.flatnonzero(is_original(confusion).values)
    if not len(original):
        raise AnalysisError("no original among the conditions: it has the true pixels of every sample, keep it")
    true = true_pixels(confusion.isel(condition=int(original[0])), regions)
    along = {name: coord for name, coord in confusion.coords.items() if coord.dims == ("sample",)}
    sizes = true.reset_coords(drop=True).assign_coords(along)
    return sizes.transpose("sample", "class_name").rename("size")


def true_pixels(confusion: xr.DataArray, regions: Regions | None = None) -> xr.DataArray:
    """True pixels of every foreground class, or of ``regions``: (…, class_name) for counts (…, true, predicted); lazy.

    Raises
    ------
    AnalysisError
        as :func:`actstore.analysis.dice`.
    """
    return measured(lambda n: n.true, confusion, regions, np.int64)


def voxel_volume(confusion: xr.DataArray) -> xr.DataArray:
    """Volume of one pixel in cubic millimetres, from the coordinates spacing_z, spacing_y and spacing_x: (sample).

    Raises
    ------
    AnalysisError
        naming the spacing that is missing.
    """
    for axis in "zyx":
        name = f"spacing_{axis}"
        if name not in confusion.coords or confusion.coords[name].dims not in ((), ("sample",)):
            raise AnalysisError(
                f"no coordinate {name!r} along sample: assign the size of a pixel in millimetres, or pool only samples "
                "of one spacing"
            )
    z, y, x = (confusion.coords[f"spacing_{axis}"].reset_coords(drop=True) for axis in "zyx")
    volume: xr.DataArray = z * y * x
    return volume


def measured(
    measure: Callable[[Pixels], NDArray[Any]], confusion: xr.DataArray, regions: Regions | None, dtype: Any
) -> xr.DataArray:
    """A measure of the pixels of every foreground class, or of ``regions``: (…, class_name) of type ``dtype``; lazy."""
    members = members_of(class_names(confusion), regions)
    values: xr.DataArray = apply_lazily(
        lambda counts: measure(_pixels(counts, list(members.values()))),
        (confusion, CLASSES),
        output_dims=[["class_name"]],
        dtypes=[dtype],
        output_sizes={"class_name": len(members)},
    )
    return values.assign_coords(class_name=list(members))


def _pixels(confusion: NDArray[np.integer], members: Sequence[tuple[int, ...]]) -> Pixels:
    rows, columns = confusion.sum(axis=-1), confusion.sum(axis=-2)
    both = [confusion[..., np.array(m)[:, None], np.array(m)].sum(axis=(-2, -1)) for m in members]
    true, predicted = ([sums[..., list(m)].sum(axis=-1) for m in members] for sums in (rows, columns))
    image = rows.sum(axis=-1)[..., None]
    return Pixels(np.stack(both, -1), np.stack(true, -1), np.stack(predicted, -1), image)
