"""The phantom as a data set of two input channels, in nnU-Net's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actstore.data.phantom import PhantomFrame, generate, write_nifti
from actstore.errors import DataError
from actstore.units import shown

#: Names of the channels, in order.
CHANNELS: Final = ("MRI", "CT")
#: Added to the second channel by class, background first: there the wall of the heart is darkest, and both cavities
#: differ.
_CONTRAST: Final = (0.0, 60.0, -50.0, 110.0)
_NOISE: Final = 6.0


def second_channel(frame: PhantomFrame, *, seed: int, number: int) -> NDArray[np.int16]:
    """The second channel of a frame of patient ``number``, (slice, row, column): flat tissue, other contrast."""
    rng = np.random.default_rng([seed, number, frame.frame, 1])
    tissue = 20.0 * np.sqrt(frame.image.astype(np.float64)) + np.take(_CONTRAST, frame.label)
    noisy = tissue + _NOISE * rng.standard_normal(frame.image.shape)
    raw: NDArray[np.int16] = np.rint(np.clip(noisy, 0, 32767)).astype(np.int16)
    return raw


def write_channels(root: Path, *, patients: int, seed: int) -> None:
    """Write patients 1 to ``patients`` of ``seed`` with two channels and a ``dataset.json`` to the new folder ``root``.

    The first channel and the labels are those of `actstore.data.phantom.write_phantom`.

    Raises
    ------
    DataError
        if ``root`` is there already.
    """
    if root.exists():
        raise DataError(f"{shown(root)}: is there already; name a new folder")
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for number in range(1, patients + 1):
        made = generate(number, seed=seed)
        for frame in made.frames:
            case = f"{made.patient.name}_frame{frame.frame:02d}"
            write_nifti(root / "imagesTr" / f"{case}_0000.nii.gz", frame.image, made.patient)
            second = second_channel(frame, seed=seed, number=number)
            write_nifti(root / "imagesTr" / f"{case}_0001.nii.gz", second, made.patient)
            write_nifti(root / "labelsTr" / f"{case}.nii.gz", frame.label, made.patient)
    content = {
        "channel_names": {str(i): name for i, name in enumerate(CHANNELS)},
        "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
        "numTraining": 2 * patients,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
