"""The raw layout of nnU-Net: ``imagesTr/CASE_0000.nii.gz`` and ``labelsTr/CASE.nii.gz``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from actstore.data.pairing import Found, files_in, pair, stem
from actstore.data.volume import VolumeFile, VolumeKey

LAYOUT = "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz"

_CHANNEL = re.compile(r"(?P<case>.*)_(?P<channel>[0-9]{4})", re.DOTALL)
_FRAME = re.compile(r"(?P<patient>.+)_frame(?P<frame>[0-9]{1,9})", re.DOTALL)


def key_of(case: str) -> VolumeKey:
    """The key of a case: ``patient001_frame01`` is frame 1 of patient001, any other name is a patient's frame 0.

    >>> key_of("patient001_frame01")
    VolumeKey(patient='patient001', frame=1)
    >>> key_of("la_007")
    VolumeKey(patient='la_007', frame=0)
    """
    match = _FRAME.fullmatch(case)
    return VolumeKey(match["patient"], int(match["frame"])) if match else VolumeKey(case, 0)


def find(root: Path, patients: Sequence[str] | None) -> tuple[VolumeFile, ...]:
    """The volumes below ``root``, sorted by key; only those of ``patients`` where it is given.

    Raises
    ------
    DataError
        if the layout is not nnU-Net's, or files are missing, doubled or of a further modality.
    """
    return pair([*_images(root / "imagesTr"), *_masks(root / "labelsTr")], root=root, patients=patients, layout=LAYOUT)


def _images(folder: Path) -> Iterator[Found]:
    for path in files_in(folder):
        name = stem(path.name)
        if name is None:
            continue
        match = _CHANNEL.fullmatch(name)
        if match is None:
            yield Found(key_of(name), "image", path, "the name of an image ends in _0000 and the suffix; rename it")
        elif match["channel"] != "0000":
            problem = "a further modality; one image (_0000) is read for each case: move this one out of imagesTr"
            yield Found(key_of(match["case"]), "image", path, problem)
        else:
            yield Found(key_of(match["case"]), "image", path)


def _masks(folder: Path) -> Iterator[Found]:
    for path in files_in(folder):
        if (name := stem(path.name)) is not None:
            yield Found(key_of(name), "mask", path)
