"""The blocks of a capture, one per volume, and their coordinates in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.conditions import CHANNEL_SEPARATOR, Condition
from actstore.data.images import BlockFiles, GroupHeader, ImageGroup
from actstore.data.volume import VolumeHeader
from actstore.inputs.windows import Windows
from actstore.store.coordinates import CHANNELS, IMAGE_COORDINATES
from actstore.store.schema import Coordinate, StoreLayout

#: Volumes whose files are looked at at once, for headers or digests: more than there are cores, since a network file
#: system keeps each of them waiting.
FILES_AT_ONCE = 8


@dataclass(frozen=True)
class Block:
    """One block of a run: a volume and the slots it owns."""

    index: int
    file: BlockFiles
    #: ``None`` if the header could not be read; then this block fails and the others go on.
    header: VolumeHeader | None
    #: Samples it will hold: patches, of which a slice or volume that the network sees as a whole is one.
    samples: int

    @property
    def name(self) -> str:
        return str(self.file.key)


#: How patches cover a block of a header, as `actstore.inputs.adapters.covered`.
Covering = Callable[[VolumeHeader], list[Windows]]


def root_coordinates(
    layout: StoreLayout,
    blocks: Sequence[Block],
    conditions: Sequence[Condition],
    class_names: Sequence[str],
    covering: Covering,
) -> tuple[Coordinate, ...]:
    """All coordinates of a capture's arrays."""
    sample = sample_coordinates(blocks, layout.slots, len(layout.space), covering, class_names)
    condition = condition_coordinates(conditions, layout.input_channels)
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


def sample_coordinates(
    blocks: Sequence[Block], slots: int, dims: int, covering: Covering, class_names: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Coordinates along ``sample`` for every slot; unused slots are ``valid = False``.

    ``patch`` numbers the patches of a slice for a network of two ``dims``, of the volume for one of three. Of images,
    ``slice`` numbers those of a block.
    """
    n = len(blocks) * slots
    volume = np.repeat(np.arange(len(blocks)), slots)
    used = np.zeros(n, dtype=bool)
    number, patch = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    origin, start, stop = (np.zeros((n, 3), dtype=np.int64) for _ in range(3))
    shape = np.zeros((n, 3), dtype=np.int64)
    spacing = np.full((n, 3), np.nan)
    if dims == 2:
        number[:] = np.tile(np.arange(slots), len(blocks))
    for block in blocks:
        if block.header is None:
            continue
        windows = covering(block.header)
        every = slice(block.index * slots, (block.index + 1) * slots)
        shape[every], spacing[every] = block.header.shape, block.header.spacing
        own = slice(every.start, every.start + sum(map(len, windows)))
        used[own] = True
        origin[own] = np.concatenate([one.origins for one in windows])
        start[own], stop[own] = np.concatenate([one.owned for one in windows]).swapaxes(0, 1)
        if isinstance(block.header, GroupHeader):
            shape[own], spacing[own] = block.header.sizes, block.header.spacings
            number[own] = np.arange(len(windows))
            continue
        patch[own] = np.arange(own.stop - own.start)
        if dims == 2:
            number[own] = origin[own, 0]
            _, first, which = np.unique(number[own], return_index=True, return_inverse=True)
            patch[own] -= first[which]

    def per_block(values: Sequence[Any]) -> NDArray[Any]:
        return np.asarray(values)[volume]

    return {
        "patient": per_block([b.file.key.patient for b in blocks]),
        "frame": per_block([b.file.key.frame for b in blocks]).astype(np.int64),
        "slice": number,
        "phase": per_block([b.file.phase for b in blocks]),
        "group": per_block([b.file.group for b in blocks]),
        "block": volume.astype(np.int64),
        "valid": used,
        "depth": shape[:, 0],
        "height": shape[:, 1],
        "width": shape[:, 2],
        "spacing": spacing,
        "patch": patch,
        "origin": origin,
        "owned_start": start,
        "owned_stop": stop,
        **_of_images(blocks, slots, class_names),
    }


def _of_images(blocks: Sequence[Block], slots: int, class_names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Coordinates that only images have: their patients, names, classes and splits; a patient that is unknown has the
    image's name."""
    groups = [block.file for block in blocks if isinstance(block.file, ImageGroup)]
    if not groups:
        return {}
    found = {name: np.full((len(groups), slots), "", object) for name in ("patient", *IMAGE_COORDINATES)}
    for i, group in enumerate(groups):
        for k, picture in enumerate(group.pictures):
            found["patient"][i, k] = picture.patient or picture.name
            found["image_name"][i, k] = picture.name
            found["label"][i, k] = class_names[picture.label]
            found["split"][i, k] = picture.split
    return {name: values.reshape(-1).astype(str) for name, values in found.items()}


def condition_coordinates(conditions: Sequence[Condition], input_channels: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The index and the parts of every condition, along ``condition``.

    ``channels`` is among them only if a condition names input channels, so that other stores stay as they always were.
    """
    chosen = {}
    if any(c.channels for c in conditions):
        # In the network's order: however a spec lists them, the same channels are the same perturbation.
        order = list(input_channels).index
        names = [CHANNEL_SEPARATOR.join(sorted(c.channels, key=order)) for c in conditions]
        chosen = {CHANNELS: np.asarray(names)}
    return {
        "condition": np.asarray([c.name for c in conditions]),
        "transform": np.asarray([c.transform for c in conditions]),
        "target": np.asarray([c.target for c in conditions]),
        "strength": np.asarray([c.strength for c in conditions], dtype=np.float64),
        "perturbation_source": np.asarray([c.source or "" for c in conditions]),
        "region": np.asarray([c.region for c in conditions]),
        **chosen,
    }
