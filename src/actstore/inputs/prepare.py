"""What the network sees of a volume under every condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.maps.equality import differs, stretch
from actstore.conditions import Applies
from actstore.data import Volume
from actstore.geometry import image_window
from actstore.inputs.perturb import apply
from actstore.inputs.placement import control_regions
from actstore.inputs.preprocess import Scaling, fit, normalize, scalings
from actstore.spec.spec import Spec


class Prepared(NamedTuple):
    """What the network sees of a volume, and which conditions say something about it."""

    #: (sample, condition, *space) float32, NaN where not applicable.
    inputs: NDArray[np.float32]
    #: (sample, *space) uint8 class index.
    label: NDArray[np.uint8]
    #: (sample, condition) bool: the original and its repeats everywhere, others where the target class lies in the
    #: network's input and the perturbation changed that input; controls only where there is a place for them.
    applicable: NDArray[np.bool_]
    #: (sample, condition) bool: the target, or the control's place, is there, and the input stayed as it was.
    unchanged: NDArray[np.bool_]
    #: (sample, condition) float64: by how much normalisation stretched the contrast of pixels that the perturbation did
    #: not touch, 1 where these stayed as they were, NaN where not applicable or where they show no contrast.
    stretched: NDArray[np.float64]


def prepare(spec: Spec, volume: Volume, *, applies: Applies = "changed") -> Prepared:
    """What the network sees of a volume: perturbed, normalised, padded or cropped.

    A condition applies where the input "changed" beyond rounding or, with the other ``applies``, wherever its target
    is "present".
    """
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
    image = image_window(volume.image.shape, size)
    space = tuple(range(1, label.ndim))
    controlled = sorted({names.index(condition.target) for condition in conditions if condition.is_control})
    regions = control_regions(volume.image, volume.label, controlled, size)
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
        )
        if condition.is_original:
            original = scalings(changed, method)
        scaled = original if condition.is_original or spec.window == "original" else scalings(changed, method)
        seen = fit(normalize(changed, method, scaled), size)
        seen = seen[None] if volumetric else seen
        if not condition.is_original and applies == "changed":
            # Only here is known what normalisation, float32 and the image itself leave of a perturbation.
            for sample in np.flatnonzero(applicable[:, c]):
                unchanged[sample, c] = not differs(seen[sample], inputs[sample, 0])
            applicable[:, c] &= ~unchanged[:, c]
        inputs[applicable[:, c], c] = seen[applicable[:, c]]
        if condition.is_original:
            stretched[:, c] = 1
            continue
        touched = label == names.index(condition.target) if region is None else fit(region, size).reshape(label.shape)
        # By slice where both samples and scalings are, else of the whole volume.
        alike = np.array([a == b for a, b in zip(scaled, original, strict=True)])
        alike = alike if len(alike) == len(label) else np.full(len(label), alike.all())
        stretched[applicable[:, c] & alike, c] = 1
        for sample in np.flatnonzero(applicable[:, c] & ~alike):
            pair = inputs[sample, 0][image], seen[sample][image]
            stretched[sample, c] = _stretched(*pair, ~touched[sample][image])
    return Prepared(inputs, label, applicable, unchanged, stretched)


def _stretched(before: NDArray[np.float32], after: NDArray[np.float32], untouched: NDArray[np.bool_]) -> float:
    return stretch(before, after, untouched) if differs(before[untouched], after[untouched]) else 1.0
