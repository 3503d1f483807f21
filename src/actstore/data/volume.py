"""Data types of the readers: keys, files, headers and volumes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, order=True)
class VolumeKey:
    """Identifies one volume, the unit of work: one frame of one patient."""

    patient: str
    #: The frame number in the file name, for example 1 for ``frame01``; 0 if file names have none.
    frame: int

    def __str__(self) -> str:
        return f"{self.patient} frame {self.frame:02d}" if self.frame else self.patient


@dataclass(frozen=True)
class VolumeFile:
    """Paths of one volume's images and mask, and its entries in the data set."""

    key: VolumeKey
    #: One file for each input channel in order, or one file that holds all of them along its last axis.
    images: tuple[Path, ...]
    label: Path
    #: "ED", "ES", or "" if unknown.
    phase: str = ""
    #: Diagnosis group of the patient (ACDC: NOR, MINF, DCM, HCM, RV), or "".
    group: str = ""


@dataclass(frozen=True)
class Caveat:
    """A doubtful entry in the headers of a volume."""

    #: Identifies the kind of fault; independent of the values.
    kind: str
    #: File, values, and which value is used.
    text: str


@dataclass(frozen=True)
class VolumeHeader:
    """What the headers say about a volume."""

    #: In the order of the arrays that are read: (slice, y, x) or (z, y, x).
    shape: tuple[int, int, int]
    #: The same in millimetres; NaN if no header says
    spacing: tuple[float, float, float]
    #: At most one per kind.
    caveats: tuple[Caveat, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A volume in memory. Its axes are in the order in which the network sees them, called (slice, y, x) here."""

    key: VolumeKey
    #: Raw intensities (channel, slice, y, x), float32, or float64 if float32 would round in any channel.
    image: NDArray[np.floating]
    #: Class index (slice, y, x), uint8: 0 background, then the classes by rising label value.
    label: NDArray[np.uint8]
    #: SHA-256 over the bytes of all files, images in the order of channels and then the mask, 32 bytes.
    digest: bytes
    #: (slice, y, x) in millimetres; NaN if no header says
    spacing: tuple[float, float, float] = (math.nan, math.nan, math.nan)
