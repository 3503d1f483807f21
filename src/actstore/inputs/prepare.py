"""Prepares the network's inputs of a volume under every condition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.maps.equality import differs, stretch
from actstore.analysis.members import mask_of
from actstore.conditions import Applies
from actstore.data.volume import Volume
from actstore.inputs.perturb import apply
from actstore.inputs.pipeline import Pipeline
from actstore.inputs.placement import control_regions
from actstore.inputs.windows import Windows
from actstore.spec.spec import Spec


@dataclass(frozen=True, eq=False)
class Prepared:
    """The network's inputs of a volume, and the conditions that apply. A sample is a patch of `windows`."""

    windows: Windows
    #: The network's input in voxels, (y, x) or (z, y, x).
    space: tuple[int, ...]
    #: Of each condition the preprocessed volume, float32 (channel, z, y, x); ``None`` if it applies nowhere.
    volumes: tuple[NDArray[np.float32] | None, ...]
    #: Class index in the voxels of the preprocessed volume, uint8 (z, y, x).
    classes: NDArray[np.uint8]
    #: (sample, condition) bool: the original and its repeats always; others if the sample owns voxels of the target
    #: class and the perturbation changed its input; controls only if there is a place for them.
    applicable: NDArray[np.bool_]
    #: (sample, condition) bool: the target, or the control's place, exists, but the input did not change.
    unchanged: NDArray[np.bool_]
    #: (sample, condition) bool: the input is the original's, bit for bit, or the condition applies to no sample.
    same: NDArray[np.bool_]
    #: (sample, condition) float64: factor by which normalisation stretched the contrast of unperturbed pixels; 1 if
    #: they did not change, NaN where not applicable or without contrast.
    stretched: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def label(self) -> NDArray[np.uint8]:
        """(sample, \\*space) uint8 class index, 0 outside of the volume."""
        cuts = [self.windows.cut(self.classes, sample) for sample in range(len(self.windows))]
        return np.stack(cuts).reshape(-1, *self.space)

    def images(self, samples: slice, wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Inputs (sample, condition, channel, \\*space), NaN where not ``wanted`` (sample, condition)."""
        numbers = range(len(self.windows))[samples]
        channels = next(len(volume) for volume in self.volumes if volume is not None)
        images = np.full((len(numbers), len(self.volumes), channels, *self.space), np.nan, np.float32)
        for i, sample in enumerate(numbers):
            for condition, volume in enumerate(self.volumes):
                if volume is not None and wanted[sample, condition]:
                    images[i, condition] = self.windows.cut(volume, sample).reshape(images.shape[2:])
        return images

    def name_of(self, sample: int) -> str:
        """For messages: which slice of the volume, and which patch of it."""
        patches, own = self.windows.origins, self.windows.origins[sample]
        z = own[0]
        if len(self.space) == 2:
            patches = patches[patches[:, 0] == z]
        patch = f"patch {int((patches == own).all(axis=1).argmax())}"
        if len(self.space) == 2:
            return f"slice {z}" if len(patches) == 1 else f"slice {z}, {patch}"
        return "the volume" if len(patches) == 1 else patch

    @property
    def inputs(self) -> NDArray[np.float32]:
        """Inputs of all samples, NaN where not applicable."""
        return self.images(slice(None), self.applicable)


def prepare(spec: Spec, pipeline: Pipeline, volume: Volume, *, applies: Applies = "changed") -> Prepared:
    """Perturb a raw volume and preprocess it for the network, under every condition.

    A condition applies where the input "changed" beyond rounding, or where its target is "present", as ``applies``
    says.
    """
    frame = pipeline.frame(volume)
    classes = pipeline.label(volume, frame)
    depth, height, width = classes.shape
    windows = pipeline.windows((depth, height, width))
    volumetric = len(pipeline.window) == 3
    conditions, members = spec.conditions, spec.labels.members
    applicable = np.zeros((len(windows), len(conditions)), dtype=bool)
    unchanged = np.zeros_like(applicable)
    same = np.ones_like(applicable)
    stretched = np.full(applicable.shape, np.nan)
    volumes: list[NDArray[np.float32] | None] = [None] * len(conditions)
    controlled = sorted({members[condition.target] for condition in conditions if condition.is_control})
    visible = pipeline.seen(volume.label.shape)
    regions = control_regions(volume.image, volume.label, controlled, visible, slices=pipeline.slice_axis)
    for c, condition in enumerate(conditions):
        if condition.is_untouched and c:
            volumes[c], applicable[:, c], stretched[:, c] = volumes[0], True, 1
            continue
        target = members.get(condition.target, ())
        touched = mask_of(classes, target)
        applicable[:, c] = condition.is_original or _owners(windows, touched)
        region = regions[target] if condition.is_control else None
        if region is not None:
            touched = pipeline.label(replace(volume, label=region.astype(np.uint8)), frame) > 0
            applicable[:, c] &= _owners(windows, touched)
        if not applicable[:, c].any():
            continue
        changed = apply(
            condition,
            volume.image,
            volume.label,
            spec.labels.names,
            members=members,
            seed=spec.run.seed,
            key=volume.key,
            input_channels=pipeline.channels,
            volumetric=volumetric,
            region=region,
        )
        volumes[c] = seen = pipeline.image(changed, frame)
        if condition.is_original:
            stretched[:, c] = 1
            continue
        before = volumes[0]
        assert before is not None
        for sample in range(len(windows)):
            there, _ = windows.visible(sample)
            pair = before[:, *there], seen[:, *there]
            same[sample, c] = np.array_equal(*pair)
            if not applicable[sample, c]:
                continue
            if applies == "changed" and not differs(*pair):
                # Normalisation, float32 or the image itself may have cancelled the perturbation.
                applicable[sample, c], unchanged[sample, c] = False, True
                continue
            stretched[sample, c] = _stretched(*pair, ~touched[there])
    return Prepared(windows, pipeline.window, tuple(volumes), classes, applicable, unchanged, same, stretched)


def _owners(windows: Windows, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which patches own voxels of ``mask`` (z, y, x)."""
    return np.array([mask[windows.box(patch)].any() for patch in range(len(windows))])


def _stretched(before: NDArray[np.float32], after: NDArray[np.float32], untouched: NDArray[np.bool_]) -> float:
    """The stretch of the input's channels (channel, z, y, x); of several, the one that is farthest from 1."""
    found = [
        stretch(old, new, untouched) if differs(old[untouched], new[untouched]) else 1.0
        for old, new in zip(before, after, strict=True)
    ]
    return max(found, key=lambda factor: np.inf if np.isnan(factor) else abs(factor - 1))
