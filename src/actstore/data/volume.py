"""What a reader yields: keys, files, headers and volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, order=True)
class VolumeKey:
    """Names one volume, the unit of work: one frame of one patient."""

    patient: str
    #: The frame number in the file name, for example 1 for ``frame01``; 0 where file names carry none.
    frame: int

    def __str__(self) -> str:
        return f"{self.patient} frame {self.frame:02d}" if self.frame else self.patient


@dataclass(frozen=True)
class VolumeFile:
    """Where one volume's image and mask lie, and what its data set says of it."""

    key: VolumeKey
    image: Path
    label: Path
    #: "ED", "ES", or "" where the data set does not say.
    phase: str = ""
    #: Diagnosis group of the patient (ACDC: NOR, MINF, DCM, HCM, RV), or "".
    group: str = ""


@dataclass(frozen=True)
class Caveat:
    """Something in the headers of a volume that is taken with care."""

    #: The same for all volumes of which the same is to be said, whatever their values.
    kind: str
    #: File, values, and what counts.
    text: str


@dataclass(frozen=True)
class VolumeHeader:
    """What is known of a volume before its pixels are read."""

    #: (slice, height, width)
    shape: tuple[int, int, int]
    #: (slice, row, column) in millimetres; NaN where no header says
    spacing: tuple[float, float, float]
    #: At most one of a kind.
    caveats: tuple[Caveat, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A volume in memory, as (slice, row, column)."""

    key: VolumeKey
    #: Raw intensities (slice, y, x), float32 or float64 where float32 would round.
    image: NDArray[np.floating]
    #: Class index (slice, y, x), uint8: 0 background, then the classes by rising label value.
    label: NDArray[np.uint8]
    #: SHA-256 over both files' bytes, 32 bytes.
    digest: bytes
