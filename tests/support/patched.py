"""Stores whose volumes are covered by overlapping patches, with several input channels, written by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.cluster.versions import versions
from actstore.geometry import Grid
from actstore.jobs.blocks import condition_coordinates
from actstore.jobs.out import Out
from actstore.measures.names import ORIGINAL_STATISTICS
from actstore.spec.spec import Spec
from actstore.store.files import storage_at
from actstore.store.fingerprint import Fingerprint
from actstore.store.opening import open_store
from actstore.store.schema import SCHEMA_VERSION, Coordinate, Layer, StoreLayout
from actstore.store.store import Store
from actstore.store.template import files_of

#: (z, y, x) of the volumes of each patient. The second is smaller than a patch along y, and in 3D along z.
SHAPES = ((11, 20, 28), (6, 12, 28), (9, 20, 16))
FRAMES = (1, 7)
CHANNELS = ("T1", "T2")
SPACING = (3.0, 1.5, 1.25)


@dataclass
class Volume:
    """A whole volume's maps, and how patches cover it."""

    patient: str
    frame: int
    shape: tuple[int, int, int]
    #: int (patch, 3): first voxel of each patch, and start and stop of the box that it owns.
    origin: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    #: (z, y, x), (condition, z, y, x) and (condition, input channel, z, y, x).
    label: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    image: NDArray[np.float32]
    #: bool (patch, condition).
    applicable: NDArray[np.bool_]
    #: Of each layer (patch, condition, channel, *space), NaN where not applicable.
    activations: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def patch_numbers(self) -> NDArray[np.int64]:
        """Number of each patch among those of its slice, in 2D, or of the volume."""
        if (self.stop[:, 0] - self.start[:, 0] == 1).all():
            return np.array([int((self.origin[:i, 0] == z).sum()) for i, z in enumerate(self.origin[:, 0])])
        return np.arange(len(self.origin))

    def box(self, patch: int) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start[patch], self.stop[patch], strict=True))

    def cut(self, whole: NDArray[Any], patch: int, size: tuple[int, ...]) -> NDArray[Any]:
        """A patch of (…, z, y, x), 0 outside of the volume; voxel by voxel."""
        found = np.zeros((*whole.shape[:-3], *size), whole.dtype)
        for at in product(*map(range, size)):
            voxel = [int(o) + i for o, i in zip(self.origin[patch], at, strict=True)]
            if all(0 <= v < n for v, n in zip(voxel, self.shape, strict=True)):
                found[(..., *at)] = whole[(..., *voxel)]
        return found


def origins_along(length: int, size: int) -> list[int]:
    """First voxel of the patches that cover an axis, at steps of at most half a patch."""
    if length <= size:
        return [-((size - length) // 2)]
    count = -(-(length - size) // max(size // 2, 1)) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def owned_along(length: int, size: int, origins: list[int]) -> list[tuple[int, int]]:
    """The voxels whose nearest patch centre is that of each patch."""
    owner = [
        min((abs(v + 0.5 - (o + size / 2)), i) for i, o in enumerate(origins) if o <= v < o + size)[1]
        for v in range(length)
    ]
    return [(owner.index(i), owner.index(i) + owner.count(i)) for i in range(len(origins))]


def _volume(patient: str, frame: int, shape: tuple[int, int, int], spec: Spec, rng: np.random.Generator) -> Volume:
    space = tuple(spec.data.preprocess.size)
    size = (1, *space)[-3:]
    along = [origins_along(n, s) for n, s in zip(shape, size, strict=True)]
    owned = [owned_along(n, s, o) for n, s, o in zip(shape, size, along, strict=True)]
    origin = np.array(list(product(*along)))
    boxes = np.array(list(product(*owned)))
    label = np.zeros(shape, np.uint8)
    # RV in the first corner only, LV in the middle: some patches own neither.
    middle = [slice(n // 3, 2 * n // 3) for n in shape]
    label[tuple(middle)] = 3
    label[: shape[0] // 2, 2:6, 2:7] = 1
    names = list(spec.class_names)
    prediction = np.stack([label] * len(spec.conditions))
    noise = rng.random(prediction.shape)
    prediction = np.where(noise < 0.1, rng.integers(0, len(names), prediction.shape), prediction).astype(np.uint8)
    image = rng.normal(size=(len(spec.conditions), len(CHANNELS), *shape)).astype(np.float32)
    applicable = np.ones((len(origin), len(spec.conditions)), bool)
    found = Volume(patient, frame, shape, origin, boxes[..., 0], boxes[..., 1], label, prediction, image, applicable)
    for c, condition in enumerate(spec.conditions):
        if condition.target:
            target = label == names.index(condition.target)
            applicable[:, c] = [target[found.box(p)].any() for p in range(len(origin))]
            if not applicable[:, c].any():
                prediction[c] = 0
    return found


def layers_of(space: tuple[int, ...]) -> list[tuple[Layer, Grid]]:
    half = tuple(n // 2 for n in space)
    n = len(space)
    return [
        (Layer("L01", "body.0", "InstanceNorm", 0, "", 4, space), Grid((0.0,) * n, (1.0,) * n, ("geometry",) * n)),
        (Layer("L02", "body.1", "InstanceNorm", 0, "", 6, half), Grid((0.5,) * n, (2.0,) * n, ("geometry",) * n)),
    ]


def patched_store(folder: Path, space: tuple[int, ...] = (16, 16), *, seed: int = 0) -> tuple[Store, list[Volume]]:
    """A finished store of overlapping patches of ``space``, two input channels and six volumes, and these volumes.

    As a capture fills it: predictions and labels are crops of the whole volume's, confusion counts the box that a patch
    owns, in every condition that applies to some patch of its volume.
    """
    rng = np.random.default_rng(seed)
    axes = {"axes": "simpleitk"} if len(space) == 3 else {}
    spec = Spec.from_mapping(
        {
            "data": {
                "format": "nnunet",
                "root": "data",
                "preprocess": {"size": list(space)},
                "classes": {"RV": 1, "MYO": 2, "LV": 3},
                **axes,
            },
            "model": {"factory": "networks:tiny_unet", "layers": ["*"]},
            "perturb": [{"transform": "brightness", "targets": ["LV", "RV"], "strengths": [0.1]}],
            "store": {"path": str(folder / "patched.zarr")},
        },
        folder=folder,
    )
    volumes = [
        _volume(f"patient{i + 1:03d}", frame, shape, spec, rng) for i, shape in enumerate(SHAPES) for frame in FRAMES
    ]
    layers, grids = zip(*layers_of(space), strict=True)
    for volume in volumes:
        for layer in layers:
            shape = (*volume.applicable.shape, layer.channels, *layer.space)
            values = rng.normal(size=shape).astype(np.float32)
            values[~volume.applicable] = np.nan
            volume.activations.append(values)
    layout = StoreLayout(
        blocks=len(volumes),
        slots=max(len(volume.origin) for volume in volumes),
        conditions=len(spec.conditions),
        classes=len(spec.class_names),
        space=space,
        dtype="float32",
        layers=layers,
        input_channels=CHANNELS,
    )
    names = [f"{volume.patient} frame {volume.frame}" for volume in volumes]
    identity = spec.identity()
    fingerprint = Fingerprint.of("0" * 64, identity, layers, names)
    attributes = {
        "schema": SCHEMA_VERSION,
        "spec": spec.model_dump(mode="json"),
        "folder": str(folder),
        "identity": identity,
        "fingerprint": fingerprint.as_json(),
        "layers": [layer.as_json() for layer in layers],
        "grid": [grid.as_json() for grid in grids],
        "input_channels": list(CHANNELS),
        "classes": list(spec.class_names),
        "blocks": names,
        "discovery": {},
        "caveats": [],
        "slots": layout.slots,
        "batch_size": 1,
        "repeatable": {
            "changed": [],
            "again": True,
            "after_another": True,
            "in_a_batch": True,
            "difference": 0.0,
            "layer": "",
            "draws": [],
        },
        "applies": "changed",
        "versions": versions(),
    }
    storage = storage_at(folder / "patched.zarr")
    coordinates = {"": _coordinates(spec, layout, volumes), "statistics": layout.statistic_coordinates()}
    storage.create(files_of(layout.capture, coordinates, attributes))
    for block, volume in enumerate(volumes):
        _write(Out(storage, layout.capture, block, len(volume.origin), fingerprint.token), layout, volume)
    return open_store(folder / "patched.zarr"), volumes


def _coordinates(spec: Spec, layout: StoreLayout, volumes: list[Volume]) -> tuple[Coordinate, ...]:
    slots = layout.slots

    def along(values: list[Any], fill: Any = 0) -> NDArray[Any]:
        """One entry a slot: values of each volume's patches, then ``fill``."""
        first = np.asarray(values[0])
        found = np.full((len(volumes), slots, *first.shape[1:]), fill, dtype=first.dtype)
        for row, own in zip(found, values, strict=True):
            row[: len(own)] = own
        return found.reshape(-1, *first.shape[1:])

    def whole(values: list[Any]) -> NDArray[Any]:
        return np.repeat(np.asarray(values), slots, axis=0)

    two = len(layout.space) == 2
    sample = {
        "patient": whole([v.patient for v in volumes]),
        "frame": whole([v.frame for v in volumes]),
        "slice": along([v.origin[:, 0] if two else np.zeros(len(v.origin), np.int64) for v in volumes]),
        "phase": whole([""] * len(volumes)),
        "group": whole([""] * len(volumes)),
        "block": whole(list(range(len(volumes)))),
        "valid": along([np.ones(len(v.origin), bool) for v in volumes]),
        "depth": whole([v.shape[0] for v in volumes]),
        "height": whole([v.shape[1] for v in volumes]),
        "width": whole([v.shape[2] for v in volumes]),
        "spacing": whole([SPACING for _ in volumes]),
        "patch": along([v.patch_numbers for v in volumes]),
        "origin": along([v.origin for v in volumes]),
        "owned_start": along([v.start for v in volumes]),
        "owned_stop": along([v.stop for v in volumes]),
    }
    indexes = {
        "true_class": np.asarray(spec.class_names),
        "predicted_class": np.asarray(spec.class_names),
        "axis": np.asarray(["z", "y", "x"]),
        "input_channel": np.asarray(layout.input_channels),
    }
    conditions = condition_coordinates(spec.conditions, layout.input_channels)
    return (
        *(Coordinate(name, ("sample", "axis")[: values.ndim], values) for name, values in sample.items()),
        *(Coordinate(name, ("condition",), values) for name, values in conditions.items()),
        *(Coordinate(name, (name,), values) for name, values in indexes.items()),
    )


def _write(out: Out, layout: StoreLayout, volume: Volume) -> None:
    space, size = layout.space, (1, *layout.space)[-3:]
    patches = range(len(volume.origin))

    def crops(whole: NDArray[Any]) -> NDArray[Any]:
        cut = np.stack([volume.cut(whole, patch, size) for patch in patches])
        return cut.reshape(*cut.shape[:-3], *space)

    image = crops(volume.image)
    image[~volume.applicable] = np.nan
    out.put("inputs/image", image)
    out.put("inputs/label", crops(volume.label))
    out.put("outputs/prediction", crops(volume.prediction))
    out.put("applicable", volume.applicable)
    out.put("source", np.zeros((1, 32), np.uint8))
    confusion = np.zeros((*volume.applicable.shape, layout.classes, layout.classes), np.int64)
    for patch in patches:
        for c in np.flatnonzero(volume.applicable.any(axis=0)):
            box = volume.box(patch)
            np.add.at(confusion[patch, c], (volume.label[box], volume.prediction[c][box]), 1)
    out.put("confusion", confusion)
    for layer, values in zip(layout.layers, volume.activations, strict=True):
        out.put(f"layers/{layer.name}/activation", values)
    out.put("statistics/value", np.concatenate([_statistics(layout, v) for v in volume.activations], axis=-1))
    out.commit()


def _statistics(layout: StoreLayout, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(sample, statistic, condition, channel)."""
    maps = values.astype(np.float64).reshape(*values.shape[:3], -1)
    change = maps - maps[:, :1]
    found = {
        "mad": np.abs(change).mean(-1),
        "mse": (change**2).mean(-1),
        "mean": maps.mean(-1),
        "max": maps.max(-1),
        "std": maps.std(-1),
    }
    for name in ORIGINAL_STATISTICS:
        if name in found:
            found[name][:, 1:] = np.nan
    return np.stack([found[name] for name in layout.statistic_names], axis=1)
