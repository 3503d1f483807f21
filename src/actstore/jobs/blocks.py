"""The blocks of a capture, one per volume, and their coordinates in the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.conditions import Condition
from actstore.data.volume import VolumeFile, VolumeHeader
from actstore.store.schema import Coordinate, StoreLayout


@dataclass(frozen=True)
class Block:
    """One block of a run: a volume and the slots it owns."""

    index: int
    file: VolumeFile
    #: ``None`` if the header could not be read; then this block fails and the others go on.
    header: VolumeHeader | None
    #: Samples it will hold: slices for a 2D network, 1 for a 3D one.
    samples: int

    @property
    def name(self) -> str:
        return str(self.file.key)


def root_coordinates(
    layout: StoreLayout, blocks: Sequence[Block], conditions: Sequence[Condition], class_names: Sequence[str]
) -> tuple[Coordinate, ...]:
    """All coordinates of a capture's arrays."""
    sample = sample_coordinates(blocks, layout.slots, layout.space)
    condition = condition_coordinates(conditions)
    indexes = {
        "true_class": np.asarray(class_names),
        "predicted_class": np.asarray(class_names),
        "axis": np.asarray(["z", "y", "x"]),
        "input_channel": np.asarray(layout.input_channels),
    }
    return (
        *(Coordinate(name, ("sample", "axis")[: values.ndim], values) for name, values in sample.items()),
        *(Coordinate(name, ("condition",), values) for name, values in condition.items()),
        *(Coordinate(name, (name,), values) for name, values in indexes.items()),
    )


def sample_coordinates(blocks: Sequence[Block], slots: int, space: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Coordinates along ``sample`` for every slot; unused slots are ``valid = False``.

    A sample is the only patch of its slice or volume and owns all of it.
    """
    n = len(blocks) * slots
    used = np.zeros(n, dtype=bool)
    volume = np.repeat(np.arange(len(blocks)), slots)
    position = np.tile(np.arange(slots), len(blocks))
    shape = np.zeros((len(blocks), 3), dtype=np.int64)
    spacing = np.full((len(blocks), 3), np.nan)
    for block in blocks:
        if block.header is not None:
            used[block.index * slots : block.index * slots + block.samples] = True
            shape[block.index] = block.header.shape
            spacing[block.index] = block.header.spacing
    origin, start, stop = _patches(shape[volume], position, space)
    unused = {"origin": origin, "owned_start": start, "owned_stop": stop}
    for values in unused.values():
        values[~used] = 0

    def per_block(values: Sequence[Any]) -> NDArray[Any]:
        return np.asarray(values)[volume]

    return {
        "patient": per_block([b.file.key.patient for b in blocks]),
        "frame": per_block([b.file.key.frame for b in blocks]).astype(np.int64),
        "slice": position.astype(np.int64),
        "phase": per_block([b.file.phase for b in blocks]),
        "group": per_block([b.file.group for b in blocks]),
        "block": volume.astype(np.int64),
        "valid": used,
        "depth": shape[volume, 0],
        "height": shape[volume, 1],
        "width": shape[volume, 2],
        "spacing": spacing[volume],
        "patch": np.zeros(n, dtype=np.int64),
        **unused,
    }


def _patches(
    shape: NDArray[np.int64], position: NDArray[np.int64], space: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Origin, start and stop of the owned box of each sample in voxels, int64 (sample, axis).

    The input is centred on the image, as `actstore.inputs.preprocess.fit` pads and crops it.
    """
    n = len(space)
    target, along = np.asarray(space), shape[:, 3 - n :]
    origin, start, stop = np.zeros_like(shape), np.zeros_like(shape), shape.copy()
    origin[:, 3 - n :] = np.where(along > target, (along - target) // 2, -((target - along) // 2))
    start[:, 3 - n :] = np.maximum(origin[:, 3 - n :], 0)
    stop[:, 3 - n :] = np.minimum(origin[:, 3 - n :] + target, along)
    if n == 2:
        origin[:, 0] = start[:, 0] = position
        stop[:, 0] = position + 1
    return origin, start, stop


def condition_coordinates(conditions: Sequence[Condition]) -> dict[str, NDArray[Any]]:
    """The index and the parts of every condition, along ``condition``."""
    return {
        "condition": np.asarray([c.name for c in conditions]),
        "transform": np.asarray([c.transform for c in conditions]),
        "target": np.asarray([c.target for c in conditions]),
        "strength": np.asarray([c.strength for c in conditions], dtype=np.float64),
        "perturbation_source": np.asarray([c.source or "" for c in conditions]),
        "region": np.asarray([c.region for c in conditions]),
    }
