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
from actstore.data.geometry import BY_SLICE, Order, ordered, volume_header
from actstore.data.headers import Geometry, geometry_of
from actstore.data.names import is_nifti
from actstore.data.volume import Volume, VolumeFile, VolumeHeader, VolumeKey
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
    #: Numbers a voxel: the input channels that the file holds along its last axis.
    components: int
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
        return math.prod(self.shape) * self.components * self.dtype.itemsize


def read_header(
    file: VolumeFile,
    *,
    geometry: str = "check",
    sliced: bool = False,
    order: Order = BY_SLICE,
    channels: int = 1,
) -> VolumeHeader:
    """Shape and spacing (mm) of ``file``'s image along the axes of ``order``, read from the headers only.

    Parameters
    ----------
    geometry
        "check", or "ignore" to accept contradictory headers with a caveat.
    sliced
        whether a 2D network sees the volume slice by slice, so that slices must lie along the third axis.
    order
        the file's axes in the order of the values returned, by default (slice, row, column).
    channels
        how many input channels there are: as many images, or one with a fourth axis of that length.

    Raises
    ------
    DataError
        if a file is missing, not NIfTI, not 2D or 3D, or has not that many channels; if images and mask differ in shape
        or grid; if a header contradicts itself.
    """
    layouts = [(path, _layout(_head(path), path, n).geometry) for path, n in _parts(file, channels)]
    return volume_header(file.key, layouts, geometry=geometry, sliced=sliced, order=order)


def read_volume(
    file: VolumeFile,
    classes: Mapping[str, int],
    *,
    geometry: str = "check",
    sliced: bool = False,
    order: Order = BY_SLICE,
    channels: int = 1,
) -> Volume:
    """Read ``file`` into memory: raw intensities (channel, slice, y, x) and class indices (slice, y, x).

    Intensities are ``get_fdata().transpose(order)`` of nibabel, float32 where that is exact for the stored dtype and
    float64 elsewhere. ``classes`` maps class name to label value; index 0 is the background, then the classes by rising
    label value. ``geometry``, ``sliced``, ``order`` and ``channels`` are those of `read_header`.

    Raises
    ------
    DataError
        if a file is missing, truncated, damaged or not NIfTI; if `read_header` would refuse the headers; if the image
        is constant or holds NaN or infinity; if the mask holds a value that is neither 0 nor in ``classes``.
    """
    digest = hashlib.sha256()
    images: list[NDArray[np.floating]] = []
    layouts: list[tuple[Path, Geometry]] = []
    for path, components in _parts(file, channels):
        content = read_bytes(path)
        digest.update(content)
        pixels, of_file = _pixels(content, path, components, order)
        images.append(pixels)
        layouts.append((path, of_file))
    (label,) = images.pop()
    header = volume_header(file.key, layouts, geometry=geometry, sliced=sliced, order=order)
    for of_path, path in zip(images, file.images, strict=True):
        for image in of_path:
            check_intensities(image, path, order)
    indices = class_indices(label, classes, file.label)
    image = images[0] if len(images) == 1 else np.concatenate(images)
    return Volume(file.key, image, indices, digest.digest(), header.spacing)


def read_image(
    path: Path, *, geometry: str = "check", order: Order = BY_SLICE
) -> tuple[NDArray[np.floating], VolumeHeader]:
    """One image without a mask: raw intensities (1, \\*order), as in `read_volume`, and its header.

    Raises
    ------
    DataError
        as `read_volume`, but for what concerns masks.
    """
    pixels, of_file = _pixels(read_bytes(path), path, 1, order)
    return pixels, volume_header(VolumeKey(path.name, 0), [(path, of_file)], geometry=geometry, order=order)


def _parts(file: VolumeFile, channels: int) -> list[tuple[Path, int]]:
    """The files of a volume, the mask last, and how many channels each holds."""
    for path in (*file.images, file.label):
        if not is_nifti(path.name):
            raise DataError(
                f"{shown(path)}: only .nii and .nii.gz are read without the trained network's own reader: name an "
                "nnU-Net in model.nnunet, or convert the data set to .nii.gz"
            )
    single = len(file.images) == 1
    if not single and len(file.images) != channels:
        raise DataError(f"{shown(file.key)}: {len(file.images)} images for {counted(channels, 'input channel')}")
    return [*((path, channels if single else 1) for path in file.images), (file.label, 1)]


def digest_files(file: VolumeFile) -> bytes:
    """SHA-256 over the bytes of the images, then of the mask, as in ``read_volume`` but without decoding: 32 bytes.

    Raises
    ------
    DataError
        if a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in (*file.images, file.label):
        digest.update(read_bytes(path))
    return digest.digest()


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises
    ------
    DataError
        if it cannot be read.
    """
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


def _layout(content: bytes, path: Path, components: int) -> _Layout:
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
        shape = _axes(tuple(int(n) for n in header.get_data_shape()), path, components)
        layout = _Layout(
            shape=shape,
            components=components,
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


def _axes(shape: tuple[int, ...], path: Path, components: int) -> tuple[int, ...]:
    """The two or three axes of a file's ``shape``, without trailing axes of length 1 that some writers append.

    A file of several ``components`` has them along its last axis, the fourth or a later one.
    """
    what = f"{shown(path)}: {len(shape)}D of shape {shape}"
    if len(shape) < 2 or min(shape) < 1:
        raise DataError(f"{what}; a volume is one 2D or 3D image: {_RESTORE}")
    further = [axis for axis, length in enumerate(shape) if axis > 2 and length > 1]
    if components > 1:
        if further and further[0] == len(shape) - 1 and shape[-1] == components:
            return shape[:3]
        raise DataError(
            f"{what}; one file of {components} input channels has them along its fourth and last axis: add the file of "
            "each further channel (_0001, …), or correct the names in data.channels"
        )
    if not further:
        return shape[:3]
    if len(further) > 1 or shape[2] > 1:
        raise DataError(
            f"{what}; a volume is one 2D or 3D image: split a series into one file a frame, or, if the last axis holds "
            "input channels, name them in data.channels"
        )
    raise DataError(
        f"{what}; slices are the third axis, which has length 1 here: if axis {further[0] + 1} holds slices, make it "
        "the third one; if it holds frames, split the series into one file a frame"
    )


def _pixels(content: bytes, path: Path, components: int, order: Order) -> tuple[NDArray[np.floating], Geometry]:
    """Decode a file: pixels (component, slice, y, x), float32 where exact, else float64, C order."""
    unpacked = _unpack(content, path)
    layout = _layout(unpacked, path, components)
    if len(unpacked) < layout.offset + layout.nbytes:
        raise DataError(
            f"{shown(path)}: truncated, {max(len(unpacked) - layout.offset, 0)} of {layout.nbytes} bytes of pixels; "
            f"{_RESTORE}"
        )
    proxy: Any = ArrayProxy(
        io.BytesIO(unpacked),
        ((*(*layout.shape, 1)[:3], components), layout.dtype, layout.offset, layout.slope, layout.inter),
        mmap=False,
    )  # type: ignore[no-untyped-call]
    exact = not layout.scaled and np.can_cast(layout.dtype, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.asarray(proxy.get_unscaled() if exact else np.asanyarray(proxy, dtype=np.float64))
    return np.ascontiguousarray(stored.transpose(3, *order), dtype=np.float32 if exact else np.float64), layout.geometry


def check_intensities(image: NDArray[np.floating], path: Path, order: Order = BY_SLICE) -> None:
    """Refuse an ``image`` with a file's axes in ``order`` that is constant, or holds NaN or infinity."""
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        broken = ~np.isfinite(image)
        at = dict(zip(order, np.argwhere(broken)[0].tolist(), strict=True))
        first = ordered((at[0], at[1], at[2]))
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

    Raises
    ------
    DataError
        naming the values that are no number, not whole, or not in ``classes``, and how many pixels have each.
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
