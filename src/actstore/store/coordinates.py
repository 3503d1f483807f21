"""Names of a store's coordinates, by the version of its format."""

from __future__ import annotations

#: Along ``sample``. Those of schema 4: which patch of a volume the sample is, where its voxel (0, 0, 0) lies in the
#: volume, negative where the input is padded, and the box of voxels that it owns, ``owned_start`` to ``owned_stop``;
#: origin and box are (sample, axis) in voxels.
SAMPLE_COORDINATES = (
    *("patient", "frame", "slice", "phase", "group", "block", "valid", "depth", "height", "width", "spacing"),
    *("patch", "origin", "owned_start", "owned_stop"),
)
CONDITION_COORDINATES = ("transform", "target", "strength", "perturbation_source", "region")
#: Along an axis of their own name.
INDEXES = ("condition", "true_class", "predicted_class", "axis", "input_channel")
#: The first schema with a coordinate, where that is not the oldest.
_SINCE = {"region": 3, "patch": 4, "origin": 4, "owned_start": 4, "owned_stop": 4, "input_channel": 4}


def stored(names: tuple[str, ...], schema: int) -> tuple[str, ...]:
    """Those of ``names`` that a store of that schema has."""
    return tuple(name for name in names if schema >= _SINCE.get(name, 0))


def root_coordinates(schema: int) -> tuple[str, ...]:
    """Every coordinate in the root of a store of that schema."""
    return stored((*SAMPLE_COORDINATES, *CONDITION_COORDINATES, *INDEXES), schema)


def statistic_coordinates(schema: int) -> tuple[str, ...]:
    """Every coordinate in the group ``statistics``."""
    return ("statistic", "layer", "channel") if schema > 3 else ()
