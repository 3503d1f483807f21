"""Data types of the readers: keys, files, headers and volumes."""

from __future__ import annotations

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
    """Paths of one volume's image and mask, and its entries in the data set."""

    key: VolumeKey
    image: Path
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

    #: (slice, height, width)
    shape: tuple[int, int, int]
    #: (slice, row, column) in millimetres; NaN if no header says
    spacing: tuple[float, float, float]
    #: At most one per kind.
    caveats: tuple[Caveat, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A volume in memory, as (slice, row, column)."""

    key: VolumeKey
    #: Raw intensities (slice, y, x), float32, or float64 if float32 would round.
    image: NDArray[np.floating]
    #: Class index (slice, y, x), uint8: 0 background, then the classes by rising label value.
    label: NDArray[np.uint8]
    #: SHA-256 over both files' bytes, 32 bytes.
    digest: bytes
