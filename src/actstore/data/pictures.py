"""Reads single images: PNG, JPEG, TIFF, DICOM, NPZ, and NIfTI for 3D networks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from actstore.data.geometry import Order
from actstore.data.names import NIFTI
from actstore.data.nifti import read_bytes, read_image
from actstore.data.volume import Volume, VolumeHeader, VolumeKey
from actstore.errors import DataError, needing, one_line
from actstore.units import shown

Colour = Literal["keep", "grey"]

#: Endings of images that Pillow reads.
PILLOW = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM = (".dcm",)
NPZ = (".npz",)
#: Endings of the images of a 2D network; a 3D one takes NIfTI, and NPZ too.
FLAT = (*PILLOW, *DICOM, *NPZ)
#: ITU-R 601, as Pillow's mode "L".
LUMINANCE = (0.299, 0.587, 0.114)
#: Modes of Pillow that are one number a pixel.
_GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 274
_RESTORE = "restore the file from its source, or leave it out"


@dataclass(frozen=True)
class Picture:
    """One image of a data set, and what is known of it."""

    #: Its path below the root without the ending, "/" between folders; unique.
    name: str
    path: Path
    #: Number of the class among the network's outputs.
    label: int
    #: Its patient; "" if unknown.
    patient: str = ""
    #: Which split it belongs to; "" if the run has none.
    split: str = ""
    #: Its index in an NPZ of many images.
    row: int | None = None


@dataclass(frozen=True)
class Reading:
    """How the images of a run are read."""

    #: Axes of space: 2, or 3 for volumes.
    dims: int
    #: Input channels that every image must have.
    channels: int
    colour: Colour = "keep"
    #: The file's axes in the order in which a 3D network has them.
    order: Order = (0, 1, 2)
    geometry: str = "check"


def channels_of(picture: Picture, dims: int, colour: Colour) -> int:
    """How many input channels an image has: 1, or 3 for a colour image.

    Raises
    ------
    DataError
        if it cannot be read.
    """
    return len(_decoded(picture, Reading(dims, 0, colour)))


def read_picture(picture: Picture, reading: Reading) -> Volume:
    """An image as a volume of one slice, or a whole one: (channel, [z or 1,] y, x), and its class in every voxel.

    Float32, or float64 where float32 would round. Values are those of the file; of DICOM after its rescale slope and
    intercept.

    Raises
    ------
    DataError
        if the file is missing, damaged or of another kind; has other channels than the run, an alpha channel that hides
        something, several frames, or an orientation that readers apply or not.
    """
    spacing = (math.nan, math.nan, math.nan)
    if picture.row is None and picture.path.name.lower().endswith(NIFTI):
        image, header = read_image(picture.path, geometry=reading.geometry, order=reading.order)
        spacing = header.spacing
    else:
        image = _decoded(picture, reading)
    found = len(image)
    if found != reading.channels:
        kind = "a colour image" if found == 3 else f"an image of {found} channel{'s' if found > 1 else ''}"
        mend = (
            'set data.images.colour = "grey" to take luminance' if found == 3 and reading.channels == 1 else "convert"
        )
        raise DataError(
            f"{_where(picture)}: {kind}, where the run's input has {reading.channels}: {mend}"
            f"{' the image' if mend == 'convert' else ''}, or leave it out"
        )
    if not np.isfinite(image).all():
        raise DataError(
            f"{_where(picture)}: {int((~np.isfinite(image)).sum())} pixels are NaN or infinite; repair them"
        )
    label = np.full(image.shape[1:], picture.label, np.uint8)
    return Volume(VolumeKey(picture.name, 0), image, label, digest_of(picture), spacing)


def picture_header(picture: Picture, reading: Reading) -> VolumeHeader:
    """Shape (1 or z, y, x) and spacing (mm) of an image.

    Raises
    ------
    DataError
        as `read_picture`, as far as a header shows it.
    """
    name = picture.path.name.lower()
    if picture.row is None and name.endswith(NIFTI):
        _check_dims(picture, 3, reading.dims)
        return read_image(picture.path, geometry=reading.geometry, order=reading.order)[1]
    if picture.row is None and name.endswith(PILLOW):
        _check_dims(picture, 2, reading.dims)
        width, height = _opened(picture, lambda image: image.size)
        return VolumeHeader((1, height, width), (math.nan,) * 3)
    _, z, y, x = _decoded(picture, reading).shape
    return VolumeHeader((z, y, x), (math.nan,) * 3)


def digest_of(picture: Picture) -> bytes:
    """SHA-256 over an image's file, or over its row of an NPZ of many: 32 bytes.

    Raises
    ------
    DataError
        if it cannot be read.
    """
    if picture.row is None:
        return hashlib.sha256(read_bytes(picture.path)).digest()
    row = np.ascontiguousarray(rows_of(picture.path)["image"][picture.row])
    return hashlib.sha256(f"{row.dtype.str} {row.shape}\n".encode() + row.tobytes()).digest()


def rows_of(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ.

    Raises
    ------
    DataError
        if it cannot be read, or holds Python objects.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror or error}; {_RESTORE}") from error
    return _arrays(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _arrays(path: Path, changed: int, size: int) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds
        raise DataError(f"{shown(path)}: not an NPZ that can be read ({one_line(error)}); {_RESTORE}") from error


def _decoded(picture: Picture, reading: Reading) -> NDArray[np.floating]:
    """The pixels of an image: (channel, z or 1, y, x)."""
    name = picture.path.name.lower()
    if picture.row is not None:
        values = rows_of(picture.path)["image"][picture.row]
    elif name.endswith(NPZ):
        values = _only_array(picture)
    elif name.endswith(PILLOW):
        values = _opened(picture, lambda image: _pillow(picture, image, reading.colour))
    elif name.endswith(DICOM):
        values = _dicom(picture)
    elif name.endswith(NIFTI):
        return read_image(picture.path, geometry=reading.geometry, order=reading.order)[0]
    else:
        raise DataError(f"{_where(picture)}: not PNG, JPEG, TIFF, DICOM, NPZ or NIfTI; convert it, or leave it out")
    return _channels_first(picture, values, reading)


def _channels_first(picture: Picture, values: NDArray[Any], reading: Reading) -> NDArray[np.floating]:
    """([z,] y, x) or ([z,] y, x, 3) as (channel, z or 1, y, x)."""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{_where(picture)}: pixels of type {values.dtype}; store real numbers")
    if not values.size:
        raise DataError(f"{_where(picture)}: has no pixel, shape {values.shape}; {_RESTORE}")
    if values.ndim == reading.dims:
        values = values[None]
    elif values.ndim == reading.dims + 1 and values.shape[-1] == 3:
        values = np.moveaxis(values, -1, 0)
    else:
        axes = "z, y, x" if reading.dims == 3 else "y, x"
        raise DataError(
            f"{_where(picture)}: has shape {values.shape}: an image of this run is ({axes}), or ({axes}, 3) in colour"
        )
    exact = np.can_cast(values.dtype, np.float32)
    image = values.astype(np.float32 if exact else np.float64)
    if len(image) == 3 and reading.colour == "grey":
        image = np.tensordot(np.asarray(LUMINANCE, image.dtype), image, 1)[None]
    return np.ascontiguousarray(image[:, None] if reading.dims == 2 else image)


def _only_array(picture: Picture) -> NDArray[Any]:
    arrays = rows_of(picture.path)
    if "image" not in arrays and len(arrays) != 1:
        raise DataError(
            f"{_where(picture)}: holds {', '.join(arrays) or 'nothing'}; an image is the array named image, or the "
            "only one"
        )
    return arrays["image"] if "image" in arrays else next(iter(arrays.values()))


def _opened(picture: Picture, read: Callable[[Any], Any]) -> Any:
    from PIL import Image

    try:
        with Image.open(picture.path) as image:
            return read(image)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{_where(picture)}: the file is gone; {_RESTORE}") from error
    except Exception as error:  # decoders raise many kinds
        raise DataError(f"{_where(picture)}: cannot be decoded ({one_line(error)}); {_RESTORE}") from error


def _pillow(picture: Picture, image: Any, colour: Colour) -> NDArray[Any]:
    """(y, x) or (y, x, 3), as Pillow decodes it."""
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"{_where(picture)}: holds {frames} frames; write one image a file")
    if (turned := image.getexif().get(_ORIENTATION, 1)) not in (0, 1):
        raise DataError(
            f"{_where(picture)}: is to be turned by its EXIF orientation {turned}, which some readers do and others do "
            "not: apply it (PIL.ImageOps.exif_transpose) and save it without"
        )
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{_where(picture)}: has an alpha channel that hides pixels: save it without")
        image = image.convert(image.mode[:-1])
    if image.mode == "RGB" and colour == "grey":
        image = image.convert("L")
    if image.mode != "RGB" and image.mode not in _GREY:
        raise DataError(f"{_where(picture)}: has colours of mode {image.mode}: convert it to grey or RGB")
    return np.asarray(image)


def _dicom(picture: Picture) -> NDArray[Any]:
    """(y, x) or (y, x, 3), after the rescale slope and intercept."""
    with needing("a DICOM image"):
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut

    try:
        found = pydicom.dcmread(picture.path)
        interpretation, frames = found.PhotometricInterpretation, int(getattr(found, "NumberOfFrames", 1) or 1)
        values = apply_modality_lut(found.pixel_array, found) if frames == 1 else np.zeros(0)
    except Exception as error:  # pydicom and its decoders raise many kinds
        raise DataError(f"{_where(picture)}: cannot be read as DICOM ({one_line(error)}); {_RESTORE}") from error
    if frames > 1:
        raise DataError(f"{_where(picture)}: holds {frames} frames; write one image a file")
    if interpretation not in ("MONOCHROME2", "RGB"):
        raise DataError(
            f"{_where(picture)}: has the photometric interpretation {interpretation}: convert it to MONOCHROME2 or "
            "RGB, as the network was trained"
        )
    return np.asarray(values)


def dicom_patient(path: Path) -> str:
    """The PatientID of a DICOM file, "" if it has none or cannot be read."""
    with needing("a DICOM image"):
        import pydicom

    try:
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
    except Exception:  # reading the image says what is wrong with it
        return ""
    return str(found.get("PatientID", "") or "").strip()


def _check_dims(picture: Picture, found: int, wanted: int) -> None:
    if found != wanted:
        raise DataError(
            f"{_where(picture)}: a {found}D file, where data.preprocess.size makes the network a {wanted}D one: "
            "correct one of the two"
        )


def _where(picture: Picture) -> str:
    row = f", image {picture.row}" if picture.row is not None else ""
    return f"{shown(picture.path)}{row}"
