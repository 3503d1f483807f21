"""The raw layout of nnU-Net: ``imagesTr/CASE_0000.nii.gz`` and ``labelsTr/CASE.nii.gz``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from actstore.data.folders import Entry, images_below, scan
from actstore.data.names import folded, is_companion, is_hidden, is_system, looks_like_image, mend_of, split, stem
from actstore.data.pairing import Discovery, Found, Kind, Stray, pair
from actstore.data.volume import VolumeKey
from actstore.errors import DataError
from actstore.units import shown

LAYOUT = "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz"

_IMAGES, _LABELS = "imagesTr", "labelsTr"
_CHANNEL = re.compile(r"(?P<case>.*)_(?P<channel>[0-9]{4})", re.DOTALL)
_FRAME = re.compile(r"(?P<patient>.+)_frame(?P<frame>[0-9]{1,9})", re.DOTALL)


def key_of(case: str) -> VolumeKey:
    """The key of a case: ``patient001_frame01`` is frame 1 of patient001; any other name is frame 0 of that patient.

    >>> key_of("patient001_frame01")
    VolumeKey(patient='patient001', frame=1)
    >>> key_of("la_007")
    VolumeKey(patient='la_007', frame=0)
    """
    match = _FRAME.fullmatch(case)
    return VolumeKey(match["patient"], int(match["frame"])) if match else VolumeKey(case, 0)


def find(root: Path, patients: Sequence[str] | None) -> Discovery:
    """The volumes below ``root``, of ``patients`` only if given.

    Raises
    ------
    DataError
        if the layout is not nnU-Net's; if files are missing, duplicated, unreachable or of a second modality.
    """
    entries = scan(root)
    items = [
        *_in_folder(_searched(root, _IMAGES, entries), "image"),
        *_in_folder(_searched(root, _LABELS, entries), "mask"),
        *_beside(entries),
    ]
    found = [item for item in items if isinstance(item, Found)]
    strays = [item for item in items if isinstance(item, Stray)]
    discovery = pair(found, strays, root=root, patients=patients, layout=LAYOUT)
    return replace(discovery, lacking=tuple(_announced(root, len({f.key for f in found if f.kind == "image"}))))


def _searched(root: Path, name: str, entries: Sequence[Entry]) -> Path:
    for entry in entries:
        if entry.name == name and entry.problem:
            raise DataError(f"{shown(entry.path)}: {entry.problem}")
    if all(entry.name != name for entry in entries):
        for entry in entries:
            if folded(entry.name) == name.lower() and entry.kind == "folder":
                raise DataError(f"{shown(entry.path)}: nearly a name of the layout; rename it to {name}")
    return root / name


def _in_folder(folder: Path, kind: Kind) -> Iterator[Found | Stray]:
    named = _image if kind == "image" else _mask
    for entry in scan(folder):
        item = named(entry.path)
        if entry.kind == "folder":
            if item is None or is_hidden(entry.name):
                yield from () if is_system(entry.name) else _deep(entry.path, kind)
            else:
                yield replace(item, problem="a folder, not a file; move the image in it up, or move the folder away")
        elif entry.kind == "neither":
            if item is not None:
                yield replace(item, problem=entry.problem)
            elif not is_companion(entry.name):
                yield Stray(entry.path, note=entry.problem.partition(";")[0])
        elif item is not None:
            yield item


def _image(path: Path) -> Found | Stray | None:
    """Classify a file in ``imagesTr`` by its name; ``None`` for a companion."""
    name = stem(path.name)
    if name is None:
        return _near(path, "image")
    match = _CHANNEL.fullmatch(name)
    if match is None:
        return Found(key_of(name), "image", path, "the name of an image ends in _0000 and the suffix; rename it")
    problem = "a further modality; one image (_0000) is read for each case: move this one out of imagesTr"
    return Found(key_of(match["case"]), "image", path, "" if match["channel"] == "0000" else problem)


def _mask(path: Path) -> Found | Stray | None:
    name = stem(path.name)
    return _near(path, "mask") if name is None else Found(key_of(name), "mask", path)


def _near(path: Path, kind: Kind) -> Stray | None:
    if is_companion(path.name):
        return None
    if is_hidden(path.name):
        return Stray(path) if looks_like_image(path.name) else None
    name, ending = split(path.name)
    match = _CHANNEL.fullmatch(name) if kind == "image" else None
    if match or looks_like_image(path.name):
        case = match["case"] if match else name
        wanted = f"{case}_0000.nii.gz" if kind == "image" else f"{case}.nii.gz"
        return Stray(path, key_of(case), kind, mend_of(path.name, shown(wanted)))
    return Stray(path) if ending else None


def _deep(folder: Path, kind: Kind) -> Iterator[Stray]:
    for entry in images_below(folder):
        if entry.problem:
            yield Stray(entry.path, note=entry.problem.partition(";")[0])
            continue
        name, _ = split(entry.name)
        match = _CHANNEL.fullmatch(name) if kind == "image" else None
        problem = f"lies too deep, the layout is {LAYOUT}; move it up, or away"
        yield Stray(entry.path, key_of(match["case"] if match else name), kind, problem, deep=True)


def _beside(entries: Sequence[Entry]) -> Iterator[Stray]:
    """Strays next to ``imagesTr`` and ``labelsTr``."""
    for entry in entries:
        name = entry.name
        if name in (_IMAGES, _LABELS) or is_system(name):
            continue
        if entry.kind == "folder" and folded(name) in (_IMAGES.lower(), _LABELS.lower()):
            kind: Kind = "image" if folded(name) == _IMAGES.lower() else "mask"
            yield from _twin(entry.path, kind)
        elif entry.kind == "folder":
            if count := sum(1 for _ in images_below(entry.path)):
                yield Stray(entry.path, note=f"{count} {'image' if count == 1 else 'images'}")
        elif entry.kind == "neither":
            if not is_companion(name):
                yield Stray(entry.path, note=entry.problem.partition(";")[0])
        elif looks_like_image(name):
            case, _ = split(name)
            match = _CHANNEL.fullmatch(case)
            problem = f"lies beside {_IMAGES} and {_LABELS}; move it into one of them, or away"
            yield Stray(entry.path, key_of(match["case"]) if match else None, problem=problem)


def _twin(folder: Path, kind: Kind) -> Iterator[Stray]:
    """Files of a folder whose name differs from the layout's only in case."""
    wanted = _IMAGES if kind == "image" else _LABELS
    for entry in images_below(folder):
        case, _ = split(entry.name)
        match = _CHANNEL.fullmatch(case) if kind == "image" else None
        problem = f"lies in {shown(folder.name)} beside {wanted}; move it into {wanted}, or away"
        yield Stray(entry.path, key_of(match["case"] if match else case), kind, problem)


def _announced(root: Path, images: int) -> Iterator[str]:
    """A note if the number of cases in ``dataset.json`` differs from the number of images."""
    try:
        content = json.loads((root / "dataset.json").read_text(encoding="utf-8-sig"))
        announced = content["numTraining"]
    except (OSError, ValueError, KeyError, TypeError):
        # nothing else of this file is used, and nnU-Net itself checks it
        return
    if isinstance(announced, int) and announced > images:
        yield f"dataset.json names {announced} training cases (numTraining), imagesTr holds {images}"
