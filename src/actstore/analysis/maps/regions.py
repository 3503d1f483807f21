"""How much a channel changes inside the perturbed class, in a rim around it, and outside of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, require_dims, require_original_first
from actstore.analysis.evidence import perturbations, targets_of
from actstore.analysis.grouping import samples_and_patients
from actstore.analysis.maps.masks import around, averaged_within, near, seen
from actstore.analysis.members import Regions, mask_of
from actstore.geometry import Grid
from actstore.measures.kernel import reduce_chunk

REGIONS = ("inside", "rim", "outside")

#: Width of the rim in millimetres: one pixel of a layer of stride 8 at the in-plane spacing of cardiac cine MRI.
RIM = 10.0

Floats = NDArray[np.floating]


def regional_mad(
    activation: xr.DataArray,
    label: xr.DataArray,
    *,
    class_names: Sequence[str],
    regions: Regions | None = None,
    rim: float = RIM,
    grid: Grid | None = None,
) -> xr.Dataset:
    """MAD inside the perturbed class, in a rim around it and outside of both, at the layer's own resolution; lazy.

    A pixel of the layer belongs to a region by the share of its area that the region covers in the network's input,
    where ``grid`` places it. Beyond the input's edge, its outermost pixels go on. Areas and shares are of the layer's
    map: what of a region lies in no pixel of the layer, as at the border where convolutions are unpadded, counts
    nowhere, and ``seen`` says how much of the class does count.

    Parameters
    ----------
    activation
        (sample, condition, channel, [z,] y, x), the original first, with the coordinate ``target`` along condition.
    label
        (sample, [z,] y, x) class index at the network's input size. With the coordinates ``spacing_z``, ``spacing_y``,
        ``spacing_x`` along sample, in millimetres; without them, or where one is NaN, a pixel counts as 1 mm.
    class_names
        what the indices of ``label`` mean, background first.
    regions
        names and class indices of what targets may be, as ``store.members`` lists them; by default every class.
    rim
        width of the rim in millimetres.
    grid
        where the layer's pixels lie, as ``store.grids`` lists it; where left out, the outer edges of map and input are
        taken to coincide.

    Returns
    -------
    xarray.Dataset
        ``inside``, ``rim``, ``outside`` float64 (sample, condition, channel): Σ w·|b − a| / Σ w over the pixels of the
        map, w the share of a pixel that the region covers; ``inside_area``, ``rim_area``, ``outside_area`` float64
        (sample, condition), which sum to 1, so that Σ area·MAD is the MAD of the whole map; ``seen`` float64 (sample,
        condition), the share of the class that lies in any pixel of the layer; ``stride`` and ``start`` (axis), the
        grid's step and start in pixels of the input. NaN where the condition is not applicable, for the original,
        controls and repeats, and in a region without area.

    Raises
    ------
    AnalysisError
        if dimensions do not fit, a target is no class, ``rim`` is not positive, or ``grid`` has other axes.

    Examples
    --------
    >>> where = analysis.regional_mad(store["L01"], store.label, class_names=store.class_names)
    >>> list(where)
    ['inside', 'rim', 'outside', 'inside_area', 'rim_area', 'outside_area', 'seen', 'stride', 'start']
    """
    require_original_first(activation)
    space = _space(activation, label)
    if not rim > 0:
        raise AnalysisError(f"rim = {rim!r}: give a width in millimetres above 0")
    size = tuple(activation.sizes[d] for d in space)
    if grid is None:
        grid = Grid.between_edges(size, [label.sizes[d] for d in space])
    if len(grid.step) != len(space):
        raise AnalysisError(f"grid has {len(grid.step)} axes: give start and step of each of {', '.join(space)}")
    before = {d: f"{d}_input" for d in space}
    parts: xr.DataArray = apply_lazily(
        _parts,
        (activation.drop_vars(activation.coords), ["condition", *space]),
        (label.drop_vars(label.coords).rename(before), list(before.values())),
        (_spacing(label, space), ["axis"]),
        output_dims=[["condition", "part"]],
        dtypes=[np.float64],
        output_sizes={"part": 2 * len(REGIONS) + 1},
        targets=_targets(activation, class_names, regions),
        rim=float(rim),
        size=size,
        grid=grid,
    ).transpose("sample", "condition", "channel", "part")
    labels = {str(n): c for n, c in activation.coords.items() if {*c.dims} <= {"sample", "condition", "channel"}}
    found = {name: parts.isel(part=i) for i, name in enumerate(REGIONS)}
    found |= {f"{name}_area": parts.isel(channel=0, part=i) for i, name in enumerate(REGIONS, len(REGIONS))}
    found["seen"] = parts.isel(channel=0, part=2 * len(REGIONS))
    found |= {name: xr.DataArray(list(of), dims="axis") for name, of in (("stride", grid.step), ("start", grid.start))}
    return xr.Dataset(found).assign_coords(labels)


def mean_regions(regional: xr.Dataset) -> xr.Dataset:
    """The result of :func:`regional_mad`, averaged over samples: (condition, channel), lazy where that is.

    Returns
    -------
    xarray.Dataset
        ``mad`` of the whole map and of each region ``inside``, ``rim``, ``outside``; ``inside_share``, ``rim_share``,
        ``outside_share``, the mean share of a map's whole change that lies there, which sum to 1, all float64
        (condition, channel); ``samples`` and ``patients`` int64 (condition, channel) that they rest on; ``stride``
        float64, of the last axis, in pixels of the input; ``seen`` float64 (condition), the mean share of the class
        that lies in any pixel of the layer.

    Examples
    --------
    >>> regional = analysis.regional_mad(store["L01"], store.label, class_names=store.class_names)
    >>> list(analysis.mean_regions(regional))[:5]
    ['mad', 'inside', 'rim', 'outside', 'inside_share']
    """
    require_dims(regional, ["sample", "condition", "channel"])
    areas = {name: regional[f"{name}_area"] for name in REGIONS}
    # Only a region without area is nothing; a map with NaN has no mean.
    weighed = {name: regional[name].where(areas[name] != 0, 0.0) * areas[name] for name in REGIONS}
    whole = sum(weighed.values(), start=xr.DataArray(0.0))
    found = {"mad": whole.mean("sample")}
    found |= {name: regional[name].mean("sample") for name in REGIONS}
    found |= {f"{name}_share": (part / whole.where(whole > 0)).mean("sample") for name, part in weighed.items()}
    rests = samples_and_patients(whole.notnull())
    found |= {name: rests[name] for name in ("samples", "patients")}
    found["stride"] = regional["stride"].isel(axis=-1)
    found["seen"] = regional["seen"].mean("sample")
    return xr.Dataset(found)


def _space(activation: xr.DataArray, label: xr.DataArray) -> tuple[str, ...]:
    require_dims(activation, ["sample", "condition", "channel"])
    space = tuple(str(d) for d in activation.dims if d not in ("sample", "condition", "channel"))
    require_dims(label, ["sample", *space])
    if label.sizes["sample"] != activation.sizes["sample"]:
        raise AnalysisError(
            f"label has {label.sizes['sample']} samples, {activation.name or 'activation'} "
            f"{activation.sizes['sample']}: select the same samples of both"
        )
    return space


def _targets(
    activation: xr.DataArray, class_names: Sequence[str], regions: Regions | None
) -> tuple[tuple[int, ...], ...]:
    """The class indices of every perturbation's target, none for all other conditions."""
    perturbed = set(perturbations(activation).tolist())
    return tuple(t if c in perturbed else () for c, t in enumerate(targets_of(activation, class_names, regions)))


def _spacing(label: xr.DataArray, space: Sequence[str]) -> xr.DataArray:
    """Millimetres a pixel: float64 (sample, axis)."""
    names = [f"spacing_{d}" for d in space]
    ones = np.ones(label.sizes["sample"])
    values = [np.asarray(label.coords[n].values, dtype=float) if n in label.coords else ones for n in names]
    spacing = np.stack(values, axis=-1)
    return xr.DataArray(np.where(np.isfinite(spacing) & (spacing > 0), spacing, 1.0), dims=("sample", "axis"))


def _parts(
    activation: NDArray[Any],
    label: NDArray[Any],
    spacing: Floats,
    targets: tuple[tuple[int, ...], ...],
    rim: float,
    size: tuple[int, ...],
    grid: Grid,
) -> NDArray[np.float64]:
    """MAD of each region, its share of the area, then what of the mask is seen: (sample, channel, condition, part)."""
    # The channel that labels and spacing lack.
    label, spacing = label[:, 0], spacing[:, 0]
    samples, channels, conditions = activation.shape[:3]
    found = np.full((samples, channels, conditions, 2 * len(REGIONS) + 1), np.nan)
    pixels, every = math.prod(size), slice(None)
    (mad,) = reduce_chunk(activation, ("mad",))
    for s in range(samples):
        for target in {t for t in targets if mask_of(label[s], t).any()}:
            mask = mask_of(label[s], target)
            box = near(mask, rim, spacing[s])
            part, weights = averaged_within([mask, around(mask, rim, spacing[s])], box, size, grid)
            area = weights.reshape(len(weights), -1).sum(axis=1)
            area = np.append(area, pixels - area.sum())
            original = activation[s, :, 0][every, *part].astype(np.float64)
            for c in (c for c, t in enumerate(targets) if t == target):
                change = np.abs(activation[s, :, c][every, *part] - original)
                close = np.einsum("kp,rp->kr", change.reshape(channels, -1), weights.reshape(len(weights), -1))
                away = np.maximum(mad[s, :, c] * pixels - close.sum(axis=1), 0)
                sums = np.column_stack([close, away])
                found[s, :, c, : len(REGIONS)] = np.divide(sums, area, out=np.full_like(sums, np.nan), where=area > 0)
                found[s, :, c, len(REGIONS) :] = [*area / pixels, seen(mask, box, size, grid)]
    return found
