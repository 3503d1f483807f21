"""A synthetic short-axis cardiac cine data set in ACDC's layout, for demos and tests without patients' data.

A volume depends only on ``(seed, patient number)``, not on the number of patients.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray

from actstore.data.phantom.body import draw_body, paint_body, slice_grid
from actstore.data.phantom.heart import draw_shape, paint_heart
from actstore.data.phantom.patient import Patient, draw_patient, patient_name
from actstore.data.phantom.signal import draw_coil, scan
from actstore.errors import DataError
from actstore.paths import given
from actstore.units import counted

#: Increased whenever the same seed gives other images than before.
VERSION: Final = 1
#: File next to the patients that identifies the phantom.
MARKER: Final = "phantom.json"

_ED_FRAME: Final = 1


@dataclass(frozen=True)
class PhantomFrame:
    """One phase of one patient."""

    #: "ED" or "ES".
    phase: str
    frame: int
    #: (slice, row, column), int16, from base to apex.
    image: NDArray[np.int16]
    #: (slice, row, column), uint8: 0 background, 1 RV, 2 MYO, 3 LV.
    label: NDArray[np.uint8]


@dataclass(frozen=True)
class PhantomPatient:
    """One patient: its parameters, and its end-diastolic and end-systolic volume, in this order."""

    patient: Patient
    frames: tuple[PhantomFrame, PhantomFrame]


def generate(index: int, *, seed: int) -> PhantomPatient:
    """Make patient number ``index`` (from 1: ``generate(1, seed=7)`` is ``patient001`` of seed 7) in memory.

    Raises
    ------
    DataError
        if ``index`` is below 1 or ``seed`` is negative.
    """
    _check(index, seed, "patient number")
    root = np.random.SeedSequence([seed, index])
    for_patient, for_body, for_texture, for_ed, for_es = (np.random.default_rng(s) for s in root.spawn(5))
    patient = draw_patient(index, for_patient)
    body = draw_body(patient, for_body)
    shape = draw_shape(patient, for_body)
    coil = draw_coil(patient, for_body)

    phases = (("ED", _ED_FRAME, patient.ed, for_ed), ("ES", patient.es_frame, patient.es, for_es))
    images = np.zeros((2, patient.slices, *patient.matrix), dtype=np.int16)
    labels = np.zeros(images.shape, dtype=np.uint8)
    for z in range(patient.slices):
        depth = patient.first_depth + z * patient.spacing
        grid = slice_grid(patient, body, depth)
        still = paint_body(patient, body, grid, depth, for_texture)
        for i, (_, _, heart, rng) in enumerate(phases):
            signal = still.copy()
            labels[i, z] = paint_heart(patient, shape, heart, grid, signal, depth, rng)
            images[i, z] = scan(patient, coil, grid, signal, rng)
    ed, es = (PhantomFrame(phase, frame, images[i], labels[i]) for i, (phase, frame, _, _) in enumerate(phases))
    return PhantomPatient(patient, (ed, es))


def write_phantom(root: str | Path, *, patients: int, seed: int) -> list[Path]:
    """Write patients 1 to ``patients`` of ``seed`` under ``root`` and return their folders in order.

    The layout is ACDC's: ``patient001/patient001_frame01.nii.gz`` (int16), ``…_gt.nii.gz`` (uint8) for the
    end-diastolic and the end-systolic frame, and ``Info.cfg``. ``root`` appears whole or not at all. A ``root`` that
    already holds this phantom, with at least as many patients, stays unchanged. The images depend only on ``seed`` and
    the patient's number; so do the files' bytes, for one version of zlib.

    Raises
    ------
    DataError
        if ``patients`` is below 1, ``seed`` is negative, ``root`` holds anything else, or cannot be written.
    """
    _check(patients, seed, "number of patients")
    root = given(root, DataError)
    place = Path(os.path.abspath(root))
    scratch = place.parent / f".{place.name}.{uuid.uuid4().hex}.part"
    try:
        if not _is_there(root, patients, seed):
            scratch.mkdir(parents=True)
            for index, folder in enumerate(_folders(scratch, patients), start=1):
                _write_patient(folder, generate(index, seed=seed))
            _write_text(scratch / MARKER, json.dumps(_identity(seed) | {"patients": patients}) + "\n")
            _move(scratch, place, patients, seed)
    except OSError as error:
        raise DataError(f"{root}: cannot write the phantom here: {error}; make room or name another folder") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return _folders(root, patients)


def _check(count: int, seed: int, what: str) -> None:
    if count < 1:
        raise DataError(f"phantom: {what} {count} is too small: patients count from 1")
    if seed < 0:
        raise DataError(f"phantom: seed {seed} is negative: use 0 or more")


def _identity(seed: int) -> dict[str, object]:
    return {"generator": "actstore phantom", "version": VERSION, "seed": seed}


def _folders(root: Path, patients: int) -> list[Path]:
    return [root / patient_name(index) for index in range(1, patients + 1)]


def check_seed(root: Path, seed: int) -> None:
    """Refuse a phantom of another seed or version; accept a folder without a marker as the user's own data.

    Raises
    ------
    DataError
        naming both.
    """
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
        found.pop("patients", None)
    except (OSError, ValueError, AttributeError):
        return
    if found != _identity(seed):
        raise DataError(
            f"{root}: holds another phantom, {found}, not {_identity(seed)}: correct data.phantom.seed or data.root"
        )


def _is_there(root: Path, patients: int, seed: int) -> bool:
    """Whether ``root`` already holds this phantom; ``False`` if it is empty or missing.

    Raises
    ------
    DataError
        if it holds something else, or fewer patients.
    """
    if root.is_file():
        raise DataError(f"{root}: is a file: name a folder for the phantom")
    if not root.is_dir() or not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / MARKER).read_text(encoding="utf-8"))
        count = int(found.pop("patients"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{root}: not empty and not a phantom: name an empty or new folder for the phantom") from error
    if found != _identity(seed):
        raise DataError(
            f"{root}: holds another phantom, {found}, not {_identity(seed)}: delete it or name a new folder"
        )
    if count < patients:
        raise DataError(
            f"{root}: holds {counted(count, 'patient')} of this phantom, not {patients}: delete it or name a new folder"
        )
    for folder in _folders(root, patients):
        if len(list(folder.glob("*.nii.gz"))) != 4 or not (folder / "Info.cfg").is_file():
            raise DataError(f"{folder}: files of this phantom are missing: delete {root} and write it again")
    return True


def _move(scratch: Path, root: Path, patients: int, seed: int) -> None:
    """Move the finished folder to its place, unless another process was faster."""
    try:
        if root.is_dir():
            root.rmdir()
        os.rename(scratch, root)
    except OSError:
        if not _is_there(root, patients, seed):
            raise


def _write_patient(folder: Path, made: PhantomPatient) -> None:
    folder.mkdir()
    patient = made.patient
    for frame in made.frames:
        stem = f"{patient.name}_frame{frame.frame:02d}"
        write_nifti(folder / f"{stem}.nii.gz", frame.image, patient)
        write_nifti(folder / f"{stem}_gt.nii.gz", frame.label, patient)
    info = {
        "ED": made.frames[0].frame,
        "ES": made.frames[1].frame,
        "Group": patient.group,
        "Height": patient.height_cm,
        "NbFrame": patient.frames,
        "Weight": patient.weight_kg,
    }
    _write_text(folder / "Info.cfg", "".join(f"{name}: {value}\n" for name, value in info.items()))


def _write_text(path: Path, text: str) -> None:
    """Write text as the same bytes on every system."""
    path.write_text(text, encoding="utf-8", newline="\n")


def write_nifti(path: Path, volume: NDArray[np.int16] | NDArray[np.uint8], patient: Patient) -> None:
    """Write a (slice, row, column) volume as NIfTI (row, column, slice) with the zooms in mm; no time stamp inside."""
    array = np.ascontiguousarray(volume.transpose(1, 2, 0))
    zooms = (patient.pixel, patient.pixel, patient.spacing)
    # ACDC's headers flip the two in-plane axes and leave the origin at 0.
    affine = np.diag([-zooms[0], -zooms[1], zooms[2], 1.0])
    image: Any = nibabel.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))
