"""The layout of ACDC: ``patientXXX/patientXXX_frameYY.nii.gz``, its mask ``…_gt.nii.gz``, and ``Info.cfg``.

Bernard et al., IEEE TMI 37(11), 2018, doi 10.1109/TMI.2018.2837502.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from actstore.data.folders import Entry, images_below, scan
from actstore.data.info import Info, info_in, is_info, read_info
from actstore.data.names import (
    composed,
    folded,
    is_companion,
    is_hidden,
    is_system,
    looks_like_image,
    mend_of,
    shape,
    split,
    stem,
)
from actstore.data.pairing import Channels, Discovery, FileKind, FoundFile, Stray, pair
from actstore.data.volume import VolumeFile, VolumeKey
from actstore.errors import DataError
from actstore.units import listed, shown

LAYOUT = "patientXXX/patientXXX_frameYY.nii.gz and …_gt.nii.gz, also in folders training and testing"

_SPLITS = ("training", "testing")
_NAME = re.compile(r"(?P<patient>.+)_frame(?P<frame>[0-9]{1,9})(?P<mask>_gt)?", re.DOTALL)
_GAP = r"[\s_.\-()\[\]]*"
#: Names that a person reads as a frame or its mask: other case, separators, words for the mask, browser copies.
_NEARLY = re.compile(
    rf"(?P<patient>.*?){_GAP}frame{_GAP}(?P<frame>[0-9]{{1,9}}){_GAP}"
    rf"(?P<mask>gt|seg|segmentation|masks?|labels?|groundtruth|ground{_GAP}truth)?{_GAP}(copy|nii)?{_GAP}(gz|[0-9])?{_GAP}",
    re.DOTALL,
)


def find(root: Path, patients: Sequence[str] | None, channels: Sequence[str] | None = None) -> Discovery:
    """The volumes below ``root``, of ``patients`` only if given. Each image holds all ``channels``.

    Raises
    ------
    DataError
        if the layout is not ACDC's; if files are missing, duplicated, in another patient's folder or cannot be reached;
        if an ``Info.cfg`` cannot be parsed.
    """
    beside, folders = _places(root)
    contents = {folder: _contents(folder) for folder in folders}
    found = [item for item in beside if isinstance(item, FoundFile)]
    in_folders = [item for content in contents.values() for item in content if isinstance(item, FoundFile)]
    found.extend(in_folders)
    if all(item.problem for item in found) and all((root / name).is_dir() for name in ("imagesTr", "labelsTr")):
        raise DataError(f'{shown(root)}: imagesTr and labelsTr are of nnU-Net\'s layout; set data.format = "nnunet"')
    shapes = {shape(item.key.patient) for item in in_folders}
    names = {composed(item.key.patient) for item in found}
    strays = [s for item in beside if isinstance(item, Stray) for s in _file_of_patient(item, shapes, names)]
    for folder, content in contents.items():
        left = [item for item in content if isinstance(item, Stray)]
        if composed(folder.name) in names:
            left = [replace(stray, owner=folder.name) for stray in left]
        elif problem := _empty_patient(folder, left, shapes):
            found.append(FoundFile(VolumeKey(folder.name, 0), "image", folder, problem))
        strays.extend(_together(folder, left))
    named = Channels(tuple(channels), tuple(range(len(channels)))) if channels else Channels()
    discovery = pair(found, strays, root=root, patients=patients, layout=LAYOUT, channels=named)
    return _with_infos(discovery, root)


def _together(folder: Path, strays: list[Stray]) -> list[Stray]:
    """Merge the ``strays`` of ``folder`` into one if there are several and the folder belongs to no patient."""
    if len(strays) > 1 and not any(stray.patient for stray in strays):
        return [Stray(folder, note=f"{len(strays)} images")]
    return strays


def _places(root: Path) -> tuple[list[FoundFile | Stray], list[Path]]:
    """Files and strays where patients' folders are expected, and these folders."""
    items: list[FoundFile | Stray] = []
    folders: list[Path] = []
    places = [root]
    for place in places:
        try:
            entries = scan(place)
        except DataError as error:
            if place == root:
                raise
            items.append(_unreachable(place, str(error).removeprefix(f"{shown(place)}: ")))
            continue
        for entry in entries:
            if entry.kind == "folder" and entry.name in _SPLITS and place == root:
                places.append(entry.path)
            elif entry.kind == "folder":
                folders.extend([] if is_system(entry.name) else [entry.path])
            else:
                items.extend(_beside(entry))
    return items, folders


def _unreachable(path: Path, problem: str) -> FoundFile:
    """A folder of one or more patients that cannot be reached."""
    return FoundFile(VolumeKey(path.name, 0), "image", path, problem)


def _beside(entry: Entry) -> Iterator[FoundFile | Stray]:
    """Classify a file or dangling link next to the patients' folders."""
    name = entry.name
    if is_companion(name) or is_hidden(name):
        return
    near = _near(entry.path)
    if near is not None and near[0].patient:
        problem = f"lies beside the patients' folders; move it into {shown(near[0].patient)}, or away"
        yield Stray(entry.path, *near, entry.problem or problem)
    elif entry.problem and not looks_like_image(name):
        yield _unreachable(entry.path, entry.problem)
    else:
        yield Stray(entry.path, note=entry.problem.partition(";")[0])


def _file_of_patient(stray: Stray, shapes: set[str], names: set[str]) -> Iterator[Stray]:
    """``stray``, with a patient if it has a patient's name: an archive, or a link that git wrote as text."""
    name = stray.path.name.partition(".")[0]
    if stray.key is None and shape(name) in shapes and composed(name) not in names:
        problem = f"a file, where the patients are folders; unpack it to a folder {shown(name)}, or move it away"
        yield replace(stray, key=VolumeKey(name, 0), problem=problem)
    elif stray.key is not None or stray.note or split(stray.path.name).ending:
        yield stray


def _contents(folder: Path) -> list[FoundFile | Stray]:
    """Images and masks of one patient, and files that look like them."""
    try:
        entries = scan(folder)
    except DataError as error:
        return [_unreachable(folder, str(error).removeprefix(f"{shown(folder)}: "))]
    items: list[FoundFile | Stray] = []
    for entry in entries:
        item = None if is_info(entry.name) else _item(entry.path)
        if entry.kind == "folder":
            if item is None or is_hidden(entry.name):
                items.extend([] if is_system(entry.name) else _deep(entry.path))
            else:
                problem = "a folder, not a file; move the image in it up, or move the folder away"
                items.append(replace(item, problem=problem))
        elif entry.kind == "neither":
            if item is not None:
                items.append(replace(item, problem=entry.problem))
            elif not is_companion(entry.name):
                items.append(Stray(entry.path, note=entry.problem.partition(";")[0]))
        elif item is not None:
            items.append(item)
    is_store = any(entry.name == "zarr.json" for entry in entries)
    return items if not is_store or any(isinstance(item, FoundFile) for item in items) else []


def _item(path: Path) -> FoundFile | Stray | None:
    """Classify a file in a patient's folder by its name; ``None`` for a companion."""
    patient, name = path.parent.name, stem(path.name)
    if name is not None and (match := _NAME.fullmatch(name)):
        misplaced = f"lies in the folder {shown(patient)}; move it to {shown(match['patient'])} or rename it"
        return FoundFile(
            VolumeKey(patient, int(match["frame"])),
            "mask" if match["mask"] else "image",
            path,
            "" if composed(match["patient"]) == composed(patient) else misplaced,
        )
    # The whole series: ACDC also has its frames as separate files.
    if is_companion(path.name) or (name is not None and folded(name) == folded(f"{patient}_4d")):
        return None
    if is_hidden(path.name):
        return Stray(path) if looks_like_image(path.name) else None
    if (near := _near(path)) is not None:
        key, kind = near
        wanted = f"{patient}_frame{key.frame:02d}{'_gt' if kind == 'mask' else ''}.nii.gz"
        owner = patient if folded(key.patient) in ("", folded(patient)) else key.patient
        return Stray(path, VolumeKey(owner, key.frame), kind, mend_of(path.name, shown(wanted)))
    return Stray(path) if split(path.name).ending else None


def _near(path: Path) -> tuple[VolumeKey, FileKind] | None:
    """The frame and kind (image or mask) that a file name resembles."""
    match = _NEARLY.fullmatch(folded(split(path.name).stem))
    if match is None:
        return None
    # Spell the patient as in the file name.
    length = len(match["patient"])
    spelled = path.name[:length] if folded(path.name[:length]) == match["patient"] else match["patient"]
    return VolumeKey(spelled, int(match["frame"])), "mask" if match["mask"] else "image"


def _deep(folder: Path) -> Iterator[Stray]:
    for entry in images_below(folder):
        if entry.problem:
            yield Stray(entry.path, note=entry.problem.partition(";")[0])
        elif (near := _near(entry.path)) is None:
            yield Stray(entry.path, deep=True)
        else:
            problem = f"lies too deep, the layout is {LAYOUT}; move its folder up, correct data.root, or move it away"
            yield Stray(entry.path, *near, problem, deep=True)


def _empty_patient(folder: Path, strays: Sequence[Stray], shapes: set[str]) -> str:
    """Why ``folder``, which has no frame, still belongs to a patient, and the remedy; empty if it does not."""
    try:
        entries = [entry for entry in scan(folder) if entry.kind != "folder"]
    except DataError:
        return ""
    own = [e.name for e in entries if looks_like_image(e.name) and folded(e.name).startswith(folded(folder.name))]
    if not (own or any(is_info(e.name) for e in entries) or shape(folder.name) in shapes):
        return ""
    if any(stray.problem and not stray.deep for stray in strays):
        return ""
    there = listed(e.name for e in entries) or "no file"
    return (
        f"no frame of this patient ({there}), expected {shown(folder.name)}_frame01.nii.gz and so on; "
        "fetch the files, move the folder away, or leave the patient out of data.patients"
    )


def _with_infos(discovery: Discovery, root: Path) -> Discovery:
    """Add the content of every patient's ``Info.cfg`` to ``discovery``, and what it names but is missing."""
    folders = sorted({v.images[0].parent for v in discovery.volumes})
    infos: dict[Path, Info] = {}
    lacking: list[str] = []
    silent: list[str] = []
    for folder in folders:
        path = info_in(folder)
        infos[folder] = Info() if path is None else read_info(path)
        if path is None:
            silent.append(folder.name)
            continue
        there = {v.key.frame for v in discovery.volumes if v.images[0].parent == folder}
        lacking.extend(f"{shown(path.relative_to(root))} {text}" for text in infos[folder].lacks(there))
    if silent and len(silent) < len(folders):
        lacking.append(f"no Info.cfg of {listed(silent)}: no phase, no group")
    return replace(
        discovery,
        volumes=tuple(_with_info(v, infos[v.images[0].parent]) for v in discovery.volumes if isinstance(v, VolumeFile)),
        lacking=tuple(lacking),
    )


def _with_info(volume: VolumeFile, info: Info) -> VolumeFile:
    return replace(volume, phase=info.phase(volume.key.frame), group=info.group)
