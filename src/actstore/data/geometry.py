"""Checks that image and mask lie on one grid and that slices lie along its third axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from actstore.data.headers import SIZE_TOLERANCE, Geometry, Remark, apart, length_text, sizes_text
from actstore.data.volume import Caveat, VolumeHeader, VolumeKey
from actstore.errors import DataError
from actstore.units import shown

#: A slice is a strip if one of its sides has at most this share of the voxels of every other axis.
STRIP = 0.25
#: Voxels are longest along an axis if they are at least this many times as long as along both others.
LONGEST = 1.5
IGNORE = 'data.geometry = "ignore"'

#: The file's axes (0, 1, 2 for i, j, k) in the order in which an array has them.
Order = tuple[int, int, int]
#: (slice, row, column)
BY_SLICE: Order = (2, 0, 1)

T = TypeVar("T")


def volume_header(
    key: VolumeKey,
    files: Sequence[tuple[Path, Geometry]],
    *,
    geometry: str = "check",
    sliced: bool = False,
    order: Order = BY_SLICE,
) -> VolumeHeader:
    """Combine the headers of a volume's files, the first image first.

    Parameters
    ----------
    geometry
        "check", or "ignore" to accept everything but different shapes with a caveat.
    sliced
        whether a 2D network sees the volume slice by slice, so that slices must lie along the third axis.
    order
        the file's axes in the order of the arrays that are read, and of the header's values.

    Raises
    ------
    DataError
        if shapes differ, or the headers contradict themselves or one another.
    """
    (_, image), *others = files
    for path, other in others:
        if other.shape != image.shape:
            raise DataError(
                f"{shown(key)}: the image is {ordered(image.shape)} and {shown(path.name)} {ordered(other.shape)} "
                f"(slice, row, column) in shape: {shown(path)} belongs to another image or was resampled; replace it"
            )
    caveats: dict[str, Caveat] = {}
    for subject, remark in _remarks(files, sliced):
        if remark.mend and geometry == "check":
            raise DataError(f"{subject}{remark.text}; {remark.mend}, or accept it as it is with {IGNORE}")
        caveats.setdefault(remark.kind, Caveat(remark.kind, f"{subject}{remark.text}"))
    return VolumeHeader(ordered(image.shape, order), ordered(image.spacing, order), tuple(caveats.values()))


def ordered(values: tuple[T, T, T], order: Order = BY_SLICE) -> tuple[T, T, T]:
    """Values along (i, j, k), which is (row, column, slice), along the axes of ``order``."""
    return values[order[0]], values[order[1]], values[order[2]]


def _remarks(files: Sequence[tuple[Path, Geometry]], sliced: bool) -> Iterator[tuple[str, Remark]]:
    """Each remark, after the text that precedes it: one file's name, or "" if the remark names both files."""
    for path, geometry in files:
        for remark in geometry.remarks:
            yield f"{shown(path)}: ", remark
    for other in files[1:]:
        for remark in _against(files[0], other):
            yield "", remark
    if sliced:
        for remark in _slice_axis(files[0][1]):
            yield f"{shown(files[0][0])}: ", remark


def _against(first: tuple[Path, Geometry], second: tuple[Path, Geometry]) -> Iterator[Remark]:
    (path, a), (other_path, b) = first, second
    one, other = shown(path), shown(other_path)
    if (a.affine is None) != (b.affine is None):
        silent, speaking = (one, other) if a.affine is None else (other, one)
        yield Remark(
            "silent",
            f"{silent} states no orientation (neither qform nor sform), {speaking} does "
            f"({(b if a.affine is None else a).orientation})",
            "give it the affine of the other (qform, sform and their codes; not the type of its pixels)",
        )
        return
    far = apart(a, b)
    # The thickness of a single slice does not affect its pixels.
    sizes = np.array([a.spacing, b.spacing])[:, : 2 if a.shape[2] == 1 else 3]
    resized = (np.abs(sizes[0] - sizes[1]) > SIZE_TOLERANCE * sizes.min(axis=0)).any()
    if far is None and not resized:
        return
    texts = [f"{one} ({a.orientation}) and {other} ({b.orientation}) do not lie on one grid"]
    if resized:
        texts.append(f"their voxels are of {sizes_text(a.spacing)} and {sizes_text(b.spacing)}")
    if far is not None:
        texts.append(f"their corners are {length_text(far[0])} mm apart (tolerance {far[1]:.2g} mm)")
    name = shown(other_path.name)
    mend = (
        f"if the headers are right, reorient or resample {name} onto the grid of the image; else correct the wrong one"
    )
    yield Remark("grid", ": ".join([texts[0], ", ".join(texts[1:])]), mend)


def _slice_axis(image: Geometry) -> Iterator[Remark]:
    """Remark if slices seem to be stacked along i or j instead of k."""
    shape, spacing = np.array(image.shape), np.array(image.spacing)
    if shape[2] == 1:
        return
    few, long = int(np.argmin(shape)), int(np.argmax(np.nan_to_num(spacing)))
    strips = few < 2 and bool((shape[few] <= STRIP * np.delete(shape, few)).all())
    thick = long < 2 and bool((spacing[long] >= LONGEST * np.delete(spacing, long)).all())
    if not (strips or thick):
        return
    axis = few if strips else long
    text = (
        f"its third axis gives {shape[2]} slices of {shape[0]} × {shape[1]} pixels, with voxels of "
        f"{sizes_text(spacing)} along i, j and k: "
    )
    if strips and (shape[few] == 1 or (thick and few == long)):
        name = "ij"[axis]
        mend = f"make {name} the third axis (k) of image and mask, in pixels and headers"
        yield Remark("slices", f"{text}they seem to be stacked along {name}", mend)
    else:
        yield Remark("slices", f"{text}are slices stacked along its third axis?")
