"""How far the surface of a predicted mask lies from that of the true one, in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import (
    AnalysisError,
    apply_lazily,
    coordinate,
    one_chunk,
    require_dims,
    require_original_first,
    require_same_sizes,
)
from actstore.analysis.grouping import VOLUME, any_by, grouped
from actstore.analysis.maps.mosaic import mosaic
from actstore.analysis.members import Regions, mask_of, members_of
from actstore.analysis.patches import is_patched, owned_boxes, whole_prediction

#: Percentile of the Hausdorff distance.
PERCENTILE = 95
NAMES = ("hd95", "assd")


def surface_distances(
    prediction: xr.DataArray,
    label: xr.DataArray,
    class_names: Sequence[str],
    *,
    applicable: xr.DataArray | None = None,
    regions: Regions | None = None,
    by: Literal["slice", "volume"] = "slice",
) -> xr.Dataset:
    """Distances between the surfaces of predicted and true masks, of every foreground class; lazy.

    Parameters
    ----------
    prediction
        (sample, condition, [z,] y, x), class numbers, the original first along condition, with the coordinates
        spacing_y, spacing_x and, where there is a third axis, spacing_z along sample: millimetres, NaN where no header
        states them. With height, width
        and, in 3D, depth, the size of the image before it was padded, what is predicted in the padding is left out.
    label
        (sample, [z,] y, x), true class numbers.
    class_names
        Of class 0, the background, and all others.
    applicable
        bool (sample, condition); without it, every condition is applicable to every sample.
    regions
        names along class_name, and the indices of the classes that each is made of, as ``store.members`` lists them. By
        default every class but the background.
    by
        "slice" measures every sample on its own; of a patch, the box of voxels that it owns. "volume" puts the slices
        of one patient and frame together in the order of the coordinate ``slice``, or patches as
        :func:`actstore.analysis.mosaic` does; where a condition is not applicable to one, its input is the original's,
        and so is its prediction.

    Returns
    -------
    xarray.Dataset
        "hd95", the larger of the 95th percentiles of the distances from each surface to the other, and "assd", the mean
        of all these distances (average symmetric surface distance), both float64 (sample, condition, class_name) in
        millimetres, as :func:`monai.metrics.compute_hausdorff_distance` and
        :func:`monai.metrics.compute_average_surface_distance` measure them: between centres of pixels at the edge of a
        mask, which have a neighbour along an axis outside of it. 0 where both masks are empty, as Dice is 1 there. NaN
        where one is empty, since no distance measures how much was missed or invented; where a spacing is NaN and
        neither mask is empty; and where the condition is not applicable (by volume: to no slice of it). By volume,
        ``sample`` lies along volumes, with the coordinates that their slices share.

    Raises
    ------
    AnalysisError
        if a dimension or coordinate is missing, the first condition is not the original, prediction and label differ in
        size, ``by`` is unknown, or slices of a volume are missing.

    Examples
    --------
    >>> distances = analysis.surface_distances(store.prediction, store.label, store.class_names)
    >>> list(distances)
    ['hd95', 'assd']
    """
    if by not in ("slice", "volume"):
        raise AnalysisError(f"by = {by!r}: give 'slice' or 'volume'")
    require_original_first(prediction)
    space = [d for d in prediction.dims if d not in ("sample", "condition")]
    require_dims(prediction, ["sample"])
    require_dims(label, ["sample", *space])
    require_same_sizes(("sample", *space), prediction=prediction, label=label)
    every = np.ones((prediction.sizes["sample"], prediction.sizes["condition"]), bool)
    valid = xr.DataArray(every, dims=("sample", "condition")) if applicable is None else applicable
    members = members_of([str(name) for name in class_names], regions)
    if by == "volume" and is_patched(prediction):
        return _result(*_of_mosaics(prediction, label, valid, members), prediction, members)
    if by == "volume" and "z" in space:
        raise AnalysisError("by = 'volume', but every sample is a volume already: leave 'volume' out")
    order, volumes, labels = _slices(prediction, by)
    spacing = _spacing(prediction, 3 if by == "volume" else len(space))
    arrays = [
        one_chunk(prediction.transpose("sample", "condition", *space), ["condition", *space]),
        one_chunk(label.transpose("sample", *space), space),
        one_chunk(valid.transpose("sample", "condition"), ["condition"]),
        xr.DataArray(spacing, dims=("sample", "axis")),
        xr.DataArray(owned_boxes(prediction, space), dims=("sample", "size", "end")),
    ]
    axes = "".join(map(str, space))
    values = _of_blocks(
        partial(_volume if by == "volume" else _measure, members=tuple(members.values())),
        [array.isel(sample=order).data for array in arrays],
        [f"sc{axes}", f"s{axes}", "sc", "sa", "seb"],
        volumes,
        len(members),
    )
    return _result(values, labels, prediction, members)


def _result(
    values: Any, labels: Mapping[str, Any], prediction: xr.DataArray, members: Mapping[str, tuple[int, ...]]
) -> xr.Dataset:
    coords: dict[str, Any] = {name: ("sample", along) for name, along in labels.items()}
    coords |= {str(name): coord for name, coord in prediction.coords.items() if coord.dims in ((), ("condition",))}
    dims = ("sample", "condition", "class_name")
    found = {name: (dims, values[..., i], {"units": "mm"}) for i, name in enumerate(NAMES)}
    return xr.Dataset(found, coords={**coords, "class_name": list(members)})


def _of_mosaics(
    prediction: xr.DataArray, label: xr.DataArray, applicable: xr.DataArray, members: Mapping[str, tuple[int, ...]]
) -> tuple[Any, dict[str, Any]]:
    """Distances of whole volumes of patches, one task each, and the coordinates of the volumes."""
    code, labels = grouped(prediction, VOLUME)
    valid = xr.DataArray(applicable.transpose("sample", "condition").values.astype(bool), dims=("sample", "condition"))
    places = {
        name: prediction.coords[name] for name in prediction.coords if prediction.coords[name].dims == ("sample",)
    }
    spacing = _spacing(prediction, 3)
    found = []
    for volume, used in enumerate(any_by(valid.values, code)):
        at = np.flatnonzero(code == volume)
        filled = whole_prediction(prediction.isel(sample=at), valid.isel(sample=at))
        maps = mosaic(filled), mosaic(label.assign_coords(places).isel(sample=at))
        distances = apply_lazily(
            _whole,
            (maps[0].reset_coords(drop=True), ["condition", *"zyx"]),
            (maps[1].reset_coords(drop=True), [*"zyx"]),
            output_dims=[["condition", "class_name", "name"]],
            dtypes=[np.float64],
            output_sizes={"class_name": len(members), "name": len(NAMES)},
            applicable=used,
            spacing=spacing[at[0]],
            members=tuple(members.values()),
        )
        found.append(distances.drop_vars(list(distances.coords)))
    return xr.concat(found, "sample").data, labels


def _whole(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    applicable: NDArray[np.bool_],
    spacing: NDArray[np.float64],
    members: Sequence[tuple[int, ...]],
) -> NDArray[np.float64]:
    """As `_measure`, of one volume that has no padding."""
    box = np.stack([np.zeros(3, np.int64), label.shape], axis=-1)
    found: NDArray[np.float64] = _measure(
        prediction[None], label[None], applicable[None], spacing[None], box[None], members
    )[0]
    return found


def _slices(prediction: xr.DataArray, by: str) -> tuple[NDArray[np.intp], tuple[int, ...] | None, dict[str, Any]]:
    """The order in which samples lie together, how many each volume has if any, and the coordinates of the result."""
    if by == "slice":
        along = {str(n): coord.values for n, coord in prediction.coords.items() if coord.dims == ("sample",)}
        return np.arange(prediction.sizes["sample"]), None, along
    code, labels = grouped(prediction, VOLUME)
    grouped(prediction, "slice")  # refuses samples without it
    number = np.asarray(prediction.coords["slice"].values)
    order = np.lexsort((number, code))
    inside = np.diff(code[order]) == 0
    if (np.diff(number[order])[inside] != 1).any():
        at = order[int(np.flatnonzero(inside & (np.diff(number[order]) != 1))[0])]
        patient, frame = (prediction.coords[name].values[at] for name in VOLUME)
        raise AnalysisError(
            f"slice {number[at]} of {patient} frame {frame} is not followed by slice {number[at] + 1}: select all "
            "slices of a volume, each once"
        )
    return order, tuple(labels["samples"].tolist()), labels


def _spacing(prediction: xr.DataArray, axes: int) -> NDArray[np.float64]:
    """Millimetres between pixels: (sample, axis), the last ``axes`` of z, y and x."""
    mend = "assign the distance of pixels in millimetres"
    columns = [coordinate(prediction, f"spacing_{axis}", "sample", mend).values for axis in "zyx"[-axes:]]
    return np.stack(columns, axis=-1).astype(np.float64)


def _of_blocks(
    function: Callable[..., NDArray[np.float64]],
    arrays: list[Any],
    axes: list[str],
    volumes: tuple[int, ...] | None,
    classes: int,
) -> Any:
    """``function`` of each volume, or each block of samples, one task each: (sample, condition, class_name, name)."""
    if not any(isinstance(array, da.Array) for array in arrays):
        stops = np.cumsum(volumes or [len(arrays[0])])[:-1]
        parts = zip(*(np.split(array, stops) for array in arrays), strict=True)
        return np.concatenate([function(*part) for part in parts])
    sizes = volumes or da.asarray(arrays[0]).chunks[0]
    lazy = [da.asarray(array).rechunk((sizes, *((n,) for n in array.shape[1:]))) for array in arrays]
    return da.blockwise(
        function,
        "sckn",
        *(item for pair in zip(lazy, axes, strict=True) for item in pair),
        new_axes={"k": classes, "n": len(NAMES)},
        adjust_chunks={"s": lambda n: 1} if volumes else None,
        concatenate=True,
        dtype=np.float64,
        meta=np.empty((0, 0, 0, 0)),
    )


def _volume(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    applicable: NDArray[np.bool_],
    spacing: NDArray[np.float64],
    boxes: NDArray[np.int64],
    members: Sequence[tuple[int, ...]],
) -> NDArray[np.float64]:
    """As `_measure`, of all samples as the slices of one volume."""
    filled = np.where(applicable[..., None, None], prediction, prediction[:, :1])
    valid = any_by(applicable, np.zeros(len(applicable), np.intp))
    whole = np.concatenate([[[[0, len(label)]]], boxes[:1]], axis=1)
    return _measure(filled.swapaxes(0, 1)[None], label[None], valid, spacing[:1], whole, members)


def _measure(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    applicable: NDArray[np.bool_],
    spacing: NDArray[np.float64],
    boxes: NDArray[np.int64],
    members: Sequence[tuple[int, ...]],
) -> NDArray[np.float64]:
    """Both distances of every sample, condition and foreground class: (sample, condition, class_name, name)."""
    found = np.full((*prediction.shape[:2], len(members), len(NAMES)), np.nan)
    for s in np.flatnonzero(applicable.any(axis=1)):
        image = tuple(slice(*ends) for ends in boxes[s].tolist())
        for k, indices in enumerate(members):
            true = _Surface(mask_of(label[s][image], indices), spacing[s])
            # Repeats, and conditions that change other classes, predict the same mask.
            known: dict[bytes, tuple[float, float]] = {}
            for c in np.flatnonzero(applicable[s]):
                mask = mask_of(prediction[s, c][image], indices)
                key = np.packbits(mask).tobytes()
                if key not in known:
                    known[key] = _distances(_Surface(mask, spacing[s]), true)
                found[s, c, k] = known[key]
    return found


class _Surface:
    """The pixels at the edge of a mask, searched once however many others are measured against it."""

    def __init__(self, mask: NDArray[np.bool_], spacing: NDArray[np.float64]) -> None:
        self._mask = mask
        self._spacing = spacing
        self.empty = not mask.any()
        self.measurable = bool((np.isfinite(spacing) & (spacing > 0)).all())

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(point, axis), millimetres."""
        from scipy import ndimage

        # What lies outside the mask's box counts as background, as what lies outside the image does.
        ends = [(at.min(), at.max() + 1) for at in np.nonzero(self._mask)]
        inside = self._mask[tuple(slice(*each) for each in ends)]
        edge = np.argwhere(inside ^ ndimage.binary_erosion(inside)) + [first for first, _ in ends]
        return np.asarray(edge * self._spacing)

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import KDTree

        return KDTree(self.points, balanced_tree=False, compact_nodes=False)

    def nearest(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance of each of ``points`` to this surface, in float32's steps as MONAI has it."""
        return np.asarray(self._tree.query(points)[0], np.float32).astype(np.float64)


def _distances(predicted: _Surface, true: _Surface) -> tuple[float, float]:
    if predicted.empty or true.empty:
        return (0.0, 0.0) if predicted.empty and true.empty else (np.nan, np.nan)
    if not true.measurable:
        return np.nan, np.nan
    there, back = true.nearest(predicted.points), predicted.nearest(true.points)
    farthest = max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))
    return float(farthest), float(np.concatenate([there, back]).mean())
