"""The raw layout of nnU-Net: ``imagesTr/CASE_0000.nii.gz`` and ``labelsTr/CASE.nii.gz``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from actstore.data.dataset_json import DatasetJson, read_dataset_json
from actstore.data.folders import Entry, images_below, scan
from actstore.data.names import (
    NIFTI,
    folded,
    is_companion,
    is_hidden,
    is_system,
    looks_like_image,
    mend_of,
    split,
    stem,
)
from actstore.data.pairing import Channels, Discovery, FileKind, FoundFile, Stray, pair
from actstore.data.volume import VolumeKey
from actstore.errors import DataError
from actstore.units import counted, listed, shown

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


def find(root: Path, patients: Sequence[str] | None, channels: Sequence[str] | None = None) -> Discovery:
    """The volumes below ``root``, of ``patients`` only if given.

    Parameters
    ----------
    channels
        names of all input channels in the order of their numbers, or those of ``dataset.json`` that are wanted, in the
        order that is wanted; ``None`` for those of ``dataset.json``.

    Raises
    ------
    DataError
        if the layout is not nnU-Net's; if ``dataset.json`` is damaged or contradicts ``channels``; if files are
        missing, duplicated, unreachable or of a channel without a name.
    """
    entries = scan(root)
    dataset = read_dataset_json(root)
    named = _channels(dataset, channels)
    ending = "" if dataset.file_ending.lower() in NIFTI else dataset.file_ending
    items = [
        *(
            _of_channel(item, named, dataset, channels)
            for item in _in_folder(_searched(root, _IMAGES, entries), "image", ending)
        ),
        *_in_folder(_searched(root, _LABELS, entries), "mask", ending),
        *_beside(entries),
    ]
    found = [item for item in items if isinstance(item, FoundFile)]
    strays = [item for item in items if isinstance(item, Stray)]
    layout = LAYOUT.replace(".nii.gz", ending or ".nii.gz")
    discovery = pair(found, strays, root=root, patients=patients, layout=layout, channels=named)
    return replace(discovery, lacking=tuple(_announced(dataset, len({f.key for f in found if f.kind == "image"}))))


def _channels(dataset: DatasetJson, wanted: Sequence[str] | None) -> Channels:
    known = dataset.channels
    if wanted is None:
        # A single channel is called "image", whatever its modality, as in every store from before channels had names.
        return Channels(known, tuple(range(len(known)))) if len(known) > 1 else Channels()
    if {*wanted} <= {*known}:
        return Channels(tuple(wanted), tuple(known.index(name) for name in wanted))
    if known and len(known) != len(wanted):
        raise DataError(
            f"{shown(dataset.path)}: names {counted(len(known), 'channel')} ({listed(known)}), data.channels "
            f"{len(wanted)} ({listed(wanted)}): choose from the names there, or give each channel a name"
        )
    for number, name in enumerate(wanted):
        if name in known and known.index(name) != number:
            raise DataError(
                f"{shown(dataset.path)}: names its channels {listed(known)}, data.channels {listed(wanted)}: "
                f"{name!r} is channel {known.index(name)} there and {number} here, and not all names are known there; "
                "use its names, in any order, or names of your own for all"
            )
    return Channels(tuple(wanted), tuple(range(len(wanted))))


def _of_channel(
    item: FoundFile | Stray, named: Channels, dataset: DatasetJson, wanted: Sequence[str] | None
) -> FoundFile | Stray:
    """``item``, refused if its channel has no name, or left out if it is not wanted."""
    if isinstance(item, Stray) or item.problem or item.channel in named.numbers:
        return item
    if item.channel < len(dataset.channels):
        note = f"channel {dataset.channels[item.channel]}, not in data.channels"
        return Stray(item.path, note=note, owner=item.key.patient)
    if wanted is None and not dataset.channels:
        example = ", ".join(f'"NAME {number}"' for number in range(item.channel + 1))
        problem = (
            f"a further input channel, and nothing names the channels: name them all in the order of their numbers, "
            f"data.channels = [{example}], or move this file out of imagesTr"
        )
    else:
        names = wanted or dataset.channels
        who = f"data.channels names {len(names)}" if wanted else f"dataset.json names {len(names)}"
        problem = (
            f"input channel number {item.channel}, and {who} ({listed(names)}): name it there, or move this file out "
            "of imagesTr"
        )
    return replace(item, problem=problem)


def _searched(root: Path, name: str, entries: Sequence[Entry]) -> Path:
    for entry in entries:
        if entry.name == name and entry.problem:
            raise DataError(f"{shown(entry.path)}: {entry.problem}")
    if all(entry.name != name for entry in entries):
        for entry in entries:
            if folded(entry.name) == name.lower() and entry.kind == "folder":
                raise DataError(f"{shown(entry.path)}: nearly a name of the layout; rename it to {name}")
    return root / name


def _in_folder(folder: Path, kind: FileKind, ending: str) -> Iterator[FoundFile | Stray]:
    named = _image if kind == "image" else _mask
    for entry in scan(folder):
        item = named(entry.path, ending)
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


def _image(path: Path, ending: str) -> FoundFile | Stray | None:
    """Classify a file in ``imagesTr`` by its name; ``None`` for a companion."""
    name = stem(path.name, ending)
    if name is None:
        return _near(path, "image", ending)
    match = _CHANNEL.fullmatch(name)
    if match is None:
        return FoundFile(key_of(name), "image", path, "the name of an image ends in _0000 and the suffix; rename it")
    return FoundFile(key_of(match["case"]), "image", path, channel=int(match["channel"]))


def _mask(path: Path, ending: str) -> FoundFile | Stray | None:
    name = stem(path.name, ending)
    return _near(path, "mask", ending) if name is None else FoundFile(key_of(name), "mask", path)


def _near(path: Path, kind: FileKind, read: str) -> Stray | None:
    if is_companion(path.name):
        return None
    if is_hidden(path.name):
        return Stray(path) if looks_like_image(path.name) else None
    name, ending = split(path.name)
    match = _CHANNEL.fullmatch(name) if kind == "image" else None
    if match or looks_like_image(path.name):
        case = match["case"] if match else name
        number = f"_{match['channel'] if match else '0000'}" if kind == "image" else ""
        wanted = f"{case}{number}{read or '.nii.gz'}"
        return Stray(path, key_of(case), kind, mend_of(path.name, shown(wanted), read))
    return Stray(path) if ending else None


def _deep(folder: Path, kind: FileKind) -> Iterator[Stray]:
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
            kind: FileKind = "image" if folded(name) == _IMAGES.lower() else "mask"
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


def _twin(folder: Path, kind: FileKind) -> Iterator[Stray]:
    """Files of a folder whose name differs from the layout's only in case."""
    wanted = _IMAGES if kind == "image" else _LABELS
    for entry in images_below(folder):
        case, _ = split(entry.name)
        match = _CHANNEL.fullmatch(case) if kind == "image" else None
        problem = f"lies in {shown(folder.name)} beside {wanted}; move it into {wanted}, or away"
        yield Stray(entry.path, key_of(match["case"] if match else case), kind, problem)


def _announced(dataset: DatasetJson, images: int) -> Iterator[str]:
    """A note if ``dataset.json`` announces more cases than there are images."""
    if dataset.training is not None and dataset.training > images:
        yield f"dataset.json names {dataset.training} training cases (numTraining), imagesTr holds {images}"
