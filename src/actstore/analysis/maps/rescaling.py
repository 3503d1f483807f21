"""By how much normalisation rescaled pixels that were not perturbed, found from the stored inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import (
    apply_lazily,
    require_dims,
    require_original_first,
    require_same_sizes,
)
from actstore.analysis.evidence import targets_of
from actstore.analysis.maps.equality import differing, fitted, never_1, on_line, stretch, three_values, unclipped
from actstore.analysis.maps.masks import near
from actstore.analysis.members import Regions, mask_of
from actstore.analysis.patches import image_boxes
from actstore.conditions import CONTROL

#: The dim of the modalities of an input; without it there is one.
INPUT_CHANNEL = "input_channel"

_Mask = NDArray[np.bool_]
_Floats = NDArray[np.float64]

#: Pixels among which a line is looked for, and lines that are tried, each through two pixels of values far apart.
PIXELS = 1024
LINES = 32
#: Times that a line is fitted anew to those of the pixels tried that lie on it, before it is to all.
FITS = 3
#: A line through two pixels passes by the others at so many times the rounding of one.
LOOSE = 8.0


def rescaling(
    image: xr.DataArray, label: xr.DataArray, class_names: Sequence[str], regions: Regions | None = None
) -> xr.DataArray:
    """By how much normalisation stretched the contrast of pixels that were not perturbed; lazy.

    Parameters
    ----------
    image
        (sample, condition, [input_channel,] [z,] y, x), the inputs as the network saw them, the original first, NaN
        where not applicable; ``target`` along condition, and where there are controls ``region``. With ``height``,
        ``width`` and, in 3D, ``depth`` along sample, the padding is left out. The pixels of all input channels are
        taken together.
    label
        (sample, [z,] y, x) class index at the network's input size.
    class_names
        what the indices of ``label`` mean, background first.
    regions
        names and class indices of what targets may be, as ``store.members`` lists them; by default every class.

    Returns
    -------
    xarray.DataArray
        float64 (sample, condition): 1 where no such pixel differs from the original's by more than float32 rounds
        (2⁻²² of its value), else the slope of the least-squares line through the pixels' values, which is the
        original's scale over the condition's; for a shift alone, the float64 next to 1. NaN where the condition is not
        applicable, and where such pixels differ by an unknown factor: they all have one value, or are clipped.

    Raises
    ------
    AnalysisError
        if dimensions do not fit, the first condition is not the original, or a target is no class.

    Notes
    -----
    A perturbation touches the target's pixels and no others. Where a control lies is not stored, but it has the size
    and shape of the target and does not overlap it. Its factor is the slope of the line on which most pixels that are
    not clipped lie up to rounding, provided that the target's are among them and that the others fit into the target's
    box; where there is no such line, it is NaN. It is 1 where none of the target's pixels differs and what differs
    elsewhere fits into that box.

    Examples
    --------
    >>> factor = analysis.rescaling(store.image.isel(input_channel=0), store.label, store.class_names)
    >>> factor.dims
    ('sample', 'condition')
    """
    require_original_first(image)
    space = [str(d) for d in image.dims if d not in ("sample", "condition", INPUT_CHANNEL)]
    if INPUT_CHANNEL not in image.dims:
        image = image.expand_dims(INPUT_CHANNEL)
    require_dims(image, ["sample"])
    require_dims(label, ["sample", *space])
    require_same_sizes(("sample", *space), image=image, label=label)
    region = image.coords["region"].values if "region" in image.coords else np.full(image.sizes["condition"], "")
    factor: xr.DataArray = apply_lazily(
        _factors,
        (image.drop_vars(image.coords), ["condition", INPUT_CHANNEL, *space]),
        (label.drop_vars(label.coords), space),
        (xr.DataArray(image_boxes(image, space), dims=("sample", "axis", "end")), ["axis", "end"]),
        output_dims=[["condition"]],
        dtypes=[np.float64],
        targets=targets_of(image, class_names, regions),
        control=(region == CONTROL).tolist(),
    ).transpose("sample", "condition")
    labels = {str(n): c for n, c in image.coords.items() if {*c.dims} <= {"sample", "condition"}}
    return factor.assign_coords(labels).rename("factor")


def _factors(
    image: NDArray[np.float32],
    label: NDArray[np.integer],
    boxes: NDArray[np.int64],
    targets: Sequence[tuple[int, ...]],
    control: Sequence[bool],
) -> NDArray[np.float64]:
    """(sample, condition)."""
    found = np.full(image.shape[:2], np.nan)
    for s in range(len(image)):
        inside = tuple(slice(*ends) for ends in boxes[s].tolist())
        before, true = image[s, 0][:, *inside], label[s][inside]
        for c, (target, is_control) in enumerate(zip(targets, control, strict=True)):
            after = image[s, c][:, *inside]
            if not np.isnan(after).any():
                mask = np.broadcast_to(mask_of(true, target), before.shape)
                found[s, c] = _factor(before, after, mask, is_control)
    return found


def _factor(before: NDArray[np.float32], after: NDArray[np.float32], target: _Mask, is_control: bool) -> float:
    untouched = target if is_control else ~target
    changed = differing(before, after)
    if not changed[untouched].any() and (not is_control or _fits(changed, target)):
        return 1.0
    if not is_control:
        return stretch(before, after, untouched)
    for mask in (changed & unclipped(before, after), np.ones(changed.shape, bool)):
        slope = _common(before, after, mask, target)
        if slope is not None:
            return never_1(slope)
    return float("nan")


def _common(before: NDArray[np.float32], after: NDArray[np.float32], mask: _Mask, target: _Mask) -> float | None:
    """Slope of the line on which pixels of ``mask`` lie that a control did not touch; None if there is no such line.

    All but the control's pixels lie on it up to rounding: the target's are among these, and the others fit into the
    target moved to another place and are fewer.
    """
    x, y = before[mask].astype(np.float64), after[mask].astype(np.float64)
    line = _line(x, y)
    if line is None:
        return None
    own = on_line(x, y, *line)
    outside = np.zeros(mask.shape, dtype=bool)
    outside[mask] = ~own
    if 2 * np.count_nonzero(own) <= len(own) or not three_values(x[own]):
        return None
    return None if (outside & target).any() or not _fits(outside, target) else line[0]


def _line(x: _Floats, y: _Floats) -> tuple[float, float] | None:
    """Slope and intercept of the line with the most points, None where all that are tried are vertical."""
    some = np.linspace(0, len(x) - 1, min(len(x), PIXELS)).astype(np.intp)
    some = some[np.argsort(x[some], kind="stable")]
    half = len(some) // 2
    first = np.unique(np.linspace(0, half - 1, LINES).astype(np.intp)) if half else np.zeros(0, np.intp)
    low, high = some[first], some[first + len(some) - half]
    steep = x[high] > x[low]
    low, high = low[steep], high[steep]
    if not len(low):
        return None
    slope = (y[high] - y[low]) / (x[high] - x[low])
    intercept = y[low] - slope * x[low]
    near = on_line(x[some], y[some], slope[:, None], intercept[:, None], within=LOOSE)
    best = int(near.sum(axis=1).argmax())
    line = float(slope[best]), float(intercept[best])
    for xs, ys in [(x[some], y[some])] * FITS + [(x, y)]:
        own = on_line(xs, ys, *line, within=LOOSE)
        if not own.any() or np.ptp(xs[own]) == 0:
            return None
        line = fitted(xs[own], ys[own])
    return line


def _fits(changed: _Mask, target: _Mask) -> bool:
    """Whether what changed may all lie in the target moved to another place."""
    if not changed.any():
        return True
    if not target.any() or np.count_nonzero(changed) > np.count_nonzero(target):
        return False
    boxes = [near(mask, 0, np.ones(mask.ndim)) for mask in (changed, target)]
    return all(a.stop - a.start <= b.stop - b.start for a, b in zip(*boxes, strict=True))
