"""Prepares the network's inputs of a volume under every condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.maps.equality import differs, stretch
from actstore.conditions import Applies
from actstore.data.volume import Volume
from actstore.geometry import image_window
from actstore.inputs.perturb import apply
from actstore.inputs.placement import control_regions
from actstore.inputs.preprocess import Scaling, fit, normalize, scalings
from actstore.spec.spec import Spec


class Prepared(NamedTuple):
    """The network's inputs of a volume, and the conditions that apply."""

    #: (sample, condition, *space) float32, NaN where not applicable.
    inputs: NDArray[np.float32]
    #: (sample, *space) uint8 class index.
    label: NDArray[np.uint8]
    #: (sample, condition) bool: the original and its repeats always; others if the target class lies in the network's
    #: input and the perturbation changed that input; controls only if there is a place for them.
    applicable: NDArray[np.bool_]
    #: (sample, condition) bool: the target, or the control's place, exists, but the input did not change.
    unchanged: NDArray[np.bool_]
    #: (sample, condition) float64: factor by which normalisation stretched the contrast of unperturbed pixels; 1 if
    #: they did not change, NaN where not applicable or without contrast.
    stretched: NDArray[np.float64]


def prepare(spec: Spec, volume: Volume, *, applies: Applies = "changed") -> Prepared:
    """Perturb, normalise, and pad or crop a volume for the network.

    A condition applies where the input "changed" beyond rounding, or where its target is "present", as ``applies``
    says.
    """
    if len(volume.image) != 1:
        raise ValueError(f"{volume.key}: {len(volume.image)} input channels; one is prepared")
    size = spec.data.preprocess.size
    volumetric = len(size) == 3
    names, conditions = spec.class_names, spec.conditions
    label = fit(volume.label, size)
    label = label[None] if volumetric else label
    inputs = np.full((len(label), len(conditions), *size), np.nan, dtype=np.float32)
    applicable = np.zeros((len(label), len(conditions)), dtype=bool)
    unchanged = np.zeros_like(applicable)
    stretched = np.full(applicable.shape, np.nan)
    method = spec.data.preprocess.normalize
    original: Sequence[Scaling] = ()
    image = image_window(volume.label.shape, size)
    space = tuple(range(1, label.ndim))
    controlled = sorted({names.index(condition.target) for condition in conditions if condition.is_control})
    regions = control_regions(volume.image, volume.label, controlled, size, slices=spec.slice_axis)
    for c, condition in enumerate(conditions):
        if condition.is_untouched and c:
            inputs[:, c], applicable[:, c], stretched[:, c] = inputs[:, 0], True, 1
            continue
        applicable[:, c] = condition.is_original or (label == names.index(condition.target)).any(axis=space)
        region = regions[names.index(condition.target)] if condition.is_control else None
        if region is not None:
            applicable[:, c] &= region.any(axis=None if volumetric else space)
        if not applicable[:, c].any():
            continue
        changed = apply(
            condition,
            volume.image,
            volume.label,
            names,
            seed=spec.run.seed,
            key=volume.key,
            volumetric=volumetric,
            region=region,
            input_channels=spec.input_channels,
        )[0]
        if condition.is_original:
            original = scalings(changed, method, slices=spec.slice_axis)
        kept = condition.is_original or spec.window == "original"
        scaled = original if kept else scalings(changed, method, slices=spec.slice_axis)
        seen = fit(normalize(changed, method, scaled, slices=spec.slice_axis), size)
        seen = seen[None] if volumetric else seen
        if not condition.is_original and applies == "changed":
            # Normalisation, float32 or the image itself may have cancelled the perturbation.
            for sample in np.flatnonzero(applicable[:, c]):
                unchanged[sample, c] = not differs(seen[sample], inputs[sample, 0])
            applicable[:, c] &= ~unchanged[:, c]
        inputs[applicable[:, c], c] = seen[applicable[:, c]]
        if condition.is_original:
            stretched[:, c] = 1
            continue
        touched = label == names.index(condition.target) if region is None else fit(region, size).reshape(label.shape)
        # By slice if both samples and scalings are by slice, else for the whole volume.
        alike = np.array([a == b for a, b in zip(scaled, original, strict=True)])
        alike = alike if len(alike) == len(label) else np.full(len(label), alike.all())
        stretched[applicable[:, c] & alike, c] = 1
        for sample in np.flatnonzero(applicable[:, c] & ~alike):
            pair = inputs[sample, 0][image], seen[sample][image]
            stretched[sample, c] = _stretched(*pair, ~touched[sample][image])
    return Prepared(inputs, label, applicable, unchanged, stretched)


def _stretched(before: NDArray[np.float32], after: NDArray[np.float32], untouched: NDArray[np.bool_]) -> float:
    return stretch(before, after, untouched) if differs(before[untouched], after[untouched]) else 1.0
