"""Reads NIfTI-1 and NIfTI-2 files as volumes: digests and checks them, and maps labels to class indices."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from actstore.conditions import BACKGROUND
from actstore.data.geometry import volume_header
from actstore.data.headers import Geometry, geometry_of
from actstore.data.volume import Volume, VolumeFile, VolumeHeader
from actstore.errors import DataError
from actstore.units import counted, listed, shown

_GZIP_MAGIC = b"\x1f\x8b"
#: ``sizeof_hdr``, the first field of a file, distinguishes NIfTI-1 from NIfTI-2.
_HEADERS: Mapping[int, Any] = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_HEADER_BYTES = max(_HEADERS)
#: Largest distance of a label from a whole number. Slope and intercept in the header (scl_slope) shift it by some 1e-7
#: of its value, interpolation by far more.
LABEL_TOLERANCE = 1e-3
_RESTORE = "restore the file from its source or leave the patient out of data.patients"

# nibabel logs its header repairs to stderr; this logger silences them.
_silent = logging.Logger("actstore.nifti")
_silent.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class _Layout:
    """Offset, shape and dtype of a file's pixels."""

    #: In the order of the file's two or three axes.
    shape: tuple[int, ...]
    geometry: Geometry
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float

    @property
    def scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: VolumeFile, *, geometry: str = "check", sliced: bool = False) -> VolumeHeader:
    """Shape (slice, row, column) and spacing (mm) of ``file``'s image, read from the two headers only.

    Parameters
    ----------
    geometry
        "check", or "ignore" to accept contradictory headers with a caveat.
    sliced
        whether a 2D network sees the volume slice by slice, so that slices must lie along the third axis.

    Raises
    ------
    DataError
        if a file is missing, not NIfTI, or not 2D or 3D; if image and mask differ in shape or grid; if a header
        contradicts itself.
    """
    layouts = [(path, _layout(_head(path), path).geometry) for path in (*file.images, file.label)]
    return volume_header(file.key, layouts, geometry=geometry, sliced=sliced)


def read_volume(
    file: VolumeFile, classes: Mapping[str, int], *, geometry: str = "check", sliced: bool = False
) -> Volume:
    """Read ``file`` into memory: raw intensities (channel, slice, y, x) and class indices (slice, y, x).

    Intensities are ``get_fdata().transpose(2, 0, 1)`` of nibabel, float32 where that is exact for the stored dtype and
    float64 elsewhere. ``classes`` maps class name to label value; index 0 is the background, then the classes by rising
    label value. ``geometry`` and ``sliced`` are those of `read_header`.

    Raises
    ------
    DataError
        if a file is missing, truncated, damaged or not NIfTI; if `read_header` would refuse the headers; if the image
        is constant or holds NaN or infinity; if the mask holds a value that is neither 0 nor in ``classes``.
    """
    digest = hashlib.sha256()
    images: list[NDArray[np.floating]] = []
    layouts: list[tuple[Path, Geometry]] = []
    for path in (*file.images, file.label):
        content = _read(path)
        digest.update(content)
        pixels, of_file = _pixels(content, path)
        images.append(pixels)
        layouts.append((path, of_file))
    label = images.pop()
    header = volume_header(file.key, layouts, geometry=geometry, sliced=sliced)
    for image, path in zip(images, file.images, strict=True):
        check_intensities(image, path)
    indices = class_indices(label, classes, file.label)
    return Volume(
        file.key, images[0][None] if len(images) == 1 else np.stack(images), indices, digest.digest(), header.spacing
    )


def digest_files(file: VolumeFile) -> bytes:
    """SHA-256 over the bytes of the images, then of the mask, as in ``read_volume`` but without decoding: 32 bytes.

    Raises
    ------
    DataError
        if a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in (*file.images, file.label):
        digest.update(_read(path))
    return digest.digest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)}: the file is gone; {_RESTORE}") from error
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror or error}; check the file and disk") from error


def _head(path: Path) -> bytes:
    """The first bytes of ``path``, decompressed: enough for a header."""
    try:
        with path.open("rb") as raw:
            start = raw.read(len(_GZIP_MAGIC))
            raw.seek(0)
            if start != _GZIP_MAGIC:
                return raw.read(_HEADER_BYTES)
            with gzip.GzipFile(fileobj=raw) as packed:
                return packed.read(_HEADER_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)}: the file is gone; {_RESTORE}") from error
    except (EOFError, zlib.error, OSError) as error:
        raise _unpackable(path, error) from error


def _unpack(content: bytes, path: Path) -> bytes:
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, OSError) as error:
        raise _unpackable(path, error) from error


def _unpackable(path: Path, error: Exception) -> DataError:
    if isinstance(error, EOFError):
        return DataError(f"{shown(path)}: truncated, the compressed data end early; {_RESTORE}")
    return DataError(f"{shown(path)}: damaged, cannot be unpacked ({error}); {_RESTORE}")


def _layout(content: bytes, path: Path) -> _Layout:
    """Interpret the header at the start of ``content``; repair it as nibabel does."""
    size = next((n for n in _HEADERS for order in ("little", "big") if _sizeof_hdr(content, order) == n), None)
    if size is None:
        raise DataError(f"{shown(path)}: not a NIfTI file ({len(content)} bytes read, no NIfTI header); {_RESTORE}")
    if len(content) < size:
        raise DataError(f"{shown(path)}: truncated, {len(content)} of the header's {size} bytes; {_RESTORE}")
    try:
        header = _HEADERS[size](content[:size], check=False)
        if header["magic"].item() != header.single_magic:
            raise DataError(f"{shown(path)}: not a single-file NIfTI (header and pixels in one .nii or .nii.gz file)")
        pixdim = header["pixdim"].copy()
        header.check_fix(logger=_silent, error_level=40)
        slope, inter = header.get_slope_inter()
        shape = _axes(tuple(int(n) for n in header.get_data_shape()), path)
        layout = _Layout(
            shape=shape,
            geometry=geometry_of(header, pixdim, shape),
            dtype=header.get_data_dtype(),
            offset=header.get_data_offset() or header.single_vox_offset,
            slope=1.0 if slope is None else slope,
            inter=0.0 if inter is None else inter,
        )
    except (HeaderDataError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(f"{shown(path)}: damaged header ({error}); {_RESTORE}") from error
    if layout.dtype.kind not in "iuf":
        raise DataError(f"{shown(path)}: pixels of type {layout.dtype}; convert them to one real number a pixel")
    return layout


def _sizeof_hdr(content: bytes, order: Any) -> int:
    return int.from_bytes(content[:4], order)


def _axes(shape: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """The two or three axes of a file's ``shape``, without trailing axes of length 1 that some writers append."""
    what = f"{shown(path)}: {len(shape)}D of shape {shape}"
    if len(shape) < 2 or min(shape) < 1:
        raise DataError(f"{what}; a volume is one 2D or 3D image: {_RESTORE}")
    further = [axis for axis, length in enumerate(shape) if axis > 2 and length > 1]
    if not further:
        return shape[:3]
    if len(further) > 1 or shape[2] > 1:
        raise DataError(f"{what}; a volume is one 2D or 3D image: split a series into one file a frame")
    raise DataError(
        f"{what}; slices are the third axis, which has length 1 here: if axis {further[0] + 1} holds slices, make it "
        "the third one; if it holds frames, split the series into one file a frame"
    )


def _pixels(content: bytes, path: Path) -> tuple[NDArray[np.floating], Geometry]:
    """Decode a file: pixels (slice, y, x), float32 where exact, else float64, C order."""
    unpacked = _unpack(content, path)
    layout = _layout(unpacked, path)
    if len(unpacked) < layout.offset + layout.nbytes:
        raise DataError(
            f"{shown(path)}: truncated, {max(len(unpacked) - layout.offset, 0)} of {layout.nbytes} bytes of pixels; "
            f"{_RESTORE}"
        )
    proxy: Any = ArrayProxy(
        io.BytesIO(unpacked), (layout.shape, layout.dtype, layout.offset, layout.slope, layout.inter), mmap=False
    )  # type: ignore[no-untyped-call]
    exact = not layout.scaled and np.can_cast(layout.dtype, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.asarray(proxy.get_unscaled() if exact else np.asanyarray(proxy, dtype=np.float64))
    by_slice = stored.reshape((*layout.shape, 1)[:3]).transpose(2, 0, 1)
    return np.ascontiguousarray(by_slice, dtype=np.float32 if exact else np.float64), layout.geometry


def check_intensities(image: NDArray[np.floating], path: Path) -> None:
    """Refuse an ``image`` (slice, y, x) that is constant, or holds NaN or infinity."""
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        broken = ~np.isfinite(image)
        first = tuple(int(i) for i in np.argwhere(broken)[0])
        raise DataError(
            f"{shown(path)}: {np.count_nonzero(broken)} pixels are NaN or infinite, the first at {first} "
            "(slice, row, column); repair them or leave the patient out of data.patients"
        )
    if low == high:
        raise DataError(
            f"{shown(path)}: constant, every pixel is {low:g}, so there is nothing to perturb; "
            "leave the patient out of data.patients"
        )


def class_indices(
    raw: NDArray[np.floating],
    classes: Mapping[str, int],
    path: Path,
    mend: str = "add it to data.classes or correct the mask",
) -> NDArray[np.uint8]:
    """Map label values (slice, y, x) to class indices, uint8. Rounds values within `LABEL_TOLERANCE`.

    ``mend`` is what to do about a value that ``classes`` lacks.
    """
    ordered = sorted(classes.items(), key=lambda item: item[1])
    values, counts = np.unique(raw, return_counts=True)
    nearest = np.rint(values)
    with np.errstate(invalid="ignore"):
        whole = np.abs(values - nearest) <= LABEL_TOLERANCE
    unexpected = whole & ~np.isin(nearest, [0, *(value for _, value in ordered)])
    finite = np.isfinite(values)
    between = finite & ~whole
    problems = []
    if between.any():
        problems.append(
            f"label value {_counted(values[between], counts[between])} is not a whole number: resampled with "
            "interpolation, or probabilities? resample the labels with nearest neighbours"
        )
    if not finite.all():
        problems.append(f"label value {_counted(values[~finite], counts[~finite])} is no number; correct the mask")
    if unexpected.any():
        known = ", ".join(f"{name} = {value}" for name, value in [(BACKGROUND, 0), *ordered])
        problems.append(f"label value {_counted(nearest[unexpected], counts[unexpected])} is none of {known}; {mend}")
    if problems:
        raise DataError(f"{shown(path)}: {'; '.join(problems)}")
    if (values != nearest).any():
        raw = np.rint(raw)
    indices = np.zeros(raw.shape, np.uint8)
    for index, (_, value) in enumerate(ordered, start=1):
        indices[raw == value] = index
    return indices


def _counted(values: NDArray[np.floating], counts: NDArray[np.integer]) -> str:
    """Values with all digits, and the number of pixels with each."""
    return listed(f"{str(v).removesuffix('.0')} ({counted(n, 'pixel')})" for v, n in zip(values, counts, strict=True))
