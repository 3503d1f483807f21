"""Which inputs normalisation rescaled where nothing was perturbed, found again from the inputs themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, image_extent, one_chunk, require_dims, require_original_first
from actstore.analysis.evidence import targets_of
from actstore.analysis.masks import near
from actstore.conditions import CONTROL
from actstore.equality import differing, stretch

_Mask = NDArray[np.bool_]


def rescaling(image: xr.DataArray, label: xr.DataArray, class_names: Sequence[str]) -> xr.DataArray:
    """By how much normalisation stretched the contrast of pixels that were not perturbed; lazy.

    Parameters
    ----------
    image
        (sample, condition, [z,] y, x), the inputs as the network saw them, the original first, NaN where not
        applicable; ``target`` along condition, and where there are controls ``region``. With ``height``, ``width`` and,
        in 3D, ``depth`` along sample, the padding is left out.
    label
        (sample, [z,] y, x) class index at the network's input size.
    class_names
        what the indices of ``label`` mean, background first.

    Returns
    -------
    xarray.DataArray
        float64 (sample, condition): 1 where no such pixel differs from the original's by more than float32 rounds
        (2⁻²² of its value), else the slope of the least-squares line through the pixels' values, which is the
        original's scale over the condition's; for a shift alone, the float64 next to 1. NaN where the condition is not
        applicable, and where such pixels differ but are all alike, so that they have no contrast.

    Raises
    ------
    AnalysisError
        if dimensions do not fit, the first condition is not the original, or a target is no class.

    Notes
    -----
    A perturbation touches the target's pixels and no others. Where a control lies is not stored, but it has the size
    and shape of the target and does not overlap it: its factor is of the target's own pixels, and where none of these
    differs it is 1 only if what differs elsewhere fits into the target's box.
    """
    require_original_first(image)
    space = [str(d) for d in image.dims if d not in ("sample", "condition")]
    require_dims(image, ["sample"])
    require_dims(label, ["sample", *space])
    for dim in ("sample", *space):
        if image.sizes[dim] != label.sizes[dim]:
            raise AnalysisError(
                f"image has {image.sizes[dim]} of {dim}, label {label.sizes[dim]}: select the same of both"
            )
    region = image.coords["region"].values if "region" in image.coords else np.full(image.sizes["condition"], "")
    arrays = [
        one_chunk(image.drop_vars(image.coords), ["condition", *space]),
        one_chunk(label.drop_vars(label.coords), space),
        xr.DataArray(image_extent(image, space), dims=("sample", "axis")),
    ]
    factor: xr.DataArray = xr.apply_ufunc(
        _factors,
        *arrays,
        kwargs={"targets": targets_of(image, class_names), "control": (region == CONTROL).tolist()},
        input_core_dims=[["condition", *space], space, ["axis"]],
        output_core_dims=[["condition"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        keep_attrs=False,
    ).transpose("sample", "condition")
    labels = {str(n): c for n, c in image.coords.items() if {*c.dims} <= {"sample", "condition"}}
    return factor.assign_coords(labels).rename("factor")


def _factors(
    image: NDArray[np.float32],
    label: NDArray[np.integer],
    extent: NDArray[np.int64],
    targets: Sequence[int],
    control: Sequence[bool],
) -> NDArray[np.float64]:
    """(sample, condition)."""
    from actstore.data.preprocess import image_window  # reads files too

    found = np.full(image.shape[:2], np.nan)
    for s in range(len(image)):
        inside = image_window(extent[s].tolist(), label.shape[1:])
        before, true = image[s, 0][inside], label[s][inside]
        for c, (target, is_control) in enumerate(zip(targets, control, strict=True)):
            after = image[s, c][inside]
            if not np.isnan(after).any():
                mask = true == target if target else np.zeros(true.shape, bool)
                found[s, c] = _factor(before, after, mask, is_control)
    return found


def _factor(before: NDArray[np.float32], after: NDArray[np.float32], target: _Mask, is_control: bool) -> float:
    untouched = target if is_control else ~target
    changed = differing(before, after)
    if not changed[untouched].any() and (not is_control or _fits(changed, target)):
        return 1.0
    return stretch(before, after, untouched)


def _fits(changed: _Mask, target: _Mask) -> bool:
    """Whether what changed may all lie in the target moved to another place."""
    if not changed.any():
        return True
    if not target.any() or np.count_nonzero(changed) > np.count_nonzero(target):
        return False
    boxes = [near(mask, 0, np.ones(mask.ndim)) for mask in (changed, target)]
    return all(a.stop - a.start <= b.stop - b.start for a, b in zip(*boxes, strict=True))
