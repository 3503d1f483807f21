"""Finds images that have one class each: a folder a class, a CSV, or an NPZ; and groups them to blocks."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from actstore.conditions import ONE_CHANNEL
from actstore.data.folders import scan
from actstore.data.image_csv import list_csv
from actstore.data.image_labels import class_number
from actstore.data.image_npz import list_npz
from actstore.data.names import NIFTI, is_companion, is_hidden, is_system
from actstore.data.pairing import Discovery
from actstore.data.pictures import DICOM, FLAT, NPZ, Picture, channels_of, dicom_patient, digest_of
from actstore.data.volume import VolumeFile, VolumeHeader, VolumeKey
from actstore.errors import DataError
from actstore.spec.toml_tables import Data, Split
from actstore.units import counted, first_few, listed, shown

#: Names of the channels of colour images.
COLOURS = ("red", "green", "blue")
TEST, TRAIN = "test", "train"


@dataclass(frozen=True)
class ImageGroup:
    """The images of one patient, or some of unknown patients: what one block holds."""

    key: VolumeKey
    pictures: tuple[Picture, ...]
    phase: str = ""
    group: str = ""

    @property
    def images(self) -> tuple[Path, ...]:
        """Its files, each once."""
        return tuple(dict.fromkeys(picture.path for picture in self.pictures))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over names, classes and contents of the images: 32 bytes."""
        return self.digest_with(map(digest_of, self.pictures))

    def digest_with(self, contents: Iterable[bytes]) -> bytes:
        """As `digest`, with the digests of the images."""
        digest = hashlib.sha256()
        for picture, content in zip(self.pictures, contents, strict=True):
            digest.update(f"{picture.name}\n{picture.label}\n".encode() + content)
        return digest.digest()


@dataclass(frozen=True)
class GroupHeader(VolumeHeader):
    """What the headers say about the images of a group; ``shape`` holds them all beside each other."""

    #: Of each image, (1 or z, y, x) and millimetres.
    sizes: tuple[tuple[int, int, int], ...] = ()
    spacings: tuple[tuple[float, float, float], ...] = ()


#: Where the data of one block lie.
BlockFiles = VolumeFile | ImageGroup


def find(data: Data) -> Discovery:
    """The blocks of images that ``data`` asks for, sorted by patient and name.

    Raises
    ------
    DataError
        if the root is missing or holds no image; if two images have one name, a label is none of the classes, a patient
        is in both splits or a requested one is missing; if the first image cannot be read.
    """
    root = Path(data.root)
    if root.is_dir():
        pictures, left_out = _of_folders(root, data)
    elif root.suffix.lower() == ".csv":
        pictures, left_out = list_csv(root, data), []
    elif root.suffix.lower() in NPZ:
        pictures, left_out = list_npz(root, data), []
    else:
        raise DataError(f"{shown(root)}: images lie in a folder, or are named by a .csv or .npz: correct data.root")
    if not pictures:
        raise DataError(f"{shown(root)}: no image of {listed(data.classes)}; correct data.root or data.classes")
    for name, count in Counter(picture.name for picture in pictures).items():
        if count > 1:
            raise DataError(f"{shown(root)}: {count} images have the name {name!r}: give each a name of its own")
    patients = len({_whose(picture) for picture in pictures})
    chosen = _split(_of_patients(pictures, data, root), data.split, root)
    dims = len(data.preprocess.size)
    count = channels_of(chosen[0], dims, data.images.colour)
    names = COLOURS if count == 3 else ONE_CHANNEL
    if data.channels is not None and len(data.channels) != count:
        raise DataError(
            f"{shown(chosen[0].path)}: {counted(count, 'channel')}, data.channels names {len(data.channels)} "
            f"({listed(data.channels)}): correct one of the two"
        )
    return Discovery(
        tuple(_groups(chosen, data.images.group)), patients, tuple(left_out), channels=data.channels or names
    )


def _whose(picture: Picture) -> str:
    """Its patient, or its name where that is unknown."""
    return picture.patient or picture.name


def _of_folders(root: Path, data: Data) -> tuple[list[Picture], list[str]]:
    """Images below a folder for each class."""
    endings = (*NIFTI, *NPZ) if len(data.preprocess.size) == 3 else FLAT
    found, left_out, unknown, seen = list[Picture](), list[str](), dict[str, int](), dict[str, Path]()
    for entry in scan(root):
        if is_system(entry.name):
            continue
        if entry.kind == "neither":
            raise DataError(f"{shown(entry.path)}: {entry.problem}")
        if entry.kind == "file":
            if not is_companion(entry.name):
                left_out.append(entry.name)
            continue
        images, others = _below(entry.path, endings, seen)
        left_out += [str(path.relative_to(root)) for path in others]
        if entry.name not in data.classes:
            unknown[entry.name] = len(images)
            continue
        for path, ending in images:
            name = path.relative_to(root).as_posix()[: -len(ending)]
            patient = dicom_patient(path) if ending in DICOM else ""
            found.append(Picture(name, path, class_number(data, entry.name), patient))
    if any(unknown.values()):
        folder, count = next((name, count) for name, count in unknown.items() if count)
        raise DataError(
            f"{shown(root / folder)}: {counted(count, 'image')} of {folder!r}, which data.classes does not have "
            f"({listed(data.classes)}): add the class, or move the folder away"
        )
    missing = [name for name in data.classes if not (root / name).is_dir()]
    if missing:
        raise DataError(f"{shown(root)}: no folder {listed(missing)}: each class has a folder of its name")
    return found, sorted(left_out)


def _below(folder: Path, endings: Sequence[str], seen: dict[str, Path]) -> tuple[list[tuple[Path, str]], list[Path]]:
    """Images below a folder with their endings, and other files that are no companions of images.

    ``seen`` has the folders that were read before, by their real paths, and takes those that are now.
    """
    images, others = [], []
    for where, folders, names in os.walk(folder, followlinks=True):
        first = seen.setdefault(os.path.realpath(where), Path(where))
        if first != Path(where):
            raise DataError(
                f"{shown(where)}: is the folder {shown(first)} once more, by a link: its images would count twice; "
                "take the link away"
            )
        folders[:] = sorted(name for name in folders if not is_system(name))
        for name in sorted(names):
            ending = next((e for e in endings if name.lower().endswith(e)), "")
            if is_hidden(name) or (not ending and is_companion(name)):
                continue
            if ending:
                images.append((Path(where) / name, ending))
            else:
                others.append(Path(where) / name)
    return images, others


def _of_patients(pictures: list[Picture], data: Data, root: Path) -> list[Picture]:
    if data.patients is None:
        return pictures
    known = {_whose(picture) for picture in pictures}
    if missing := [patient for patient in data.patients if patient not in known]:
        raise DataError(
            f"{shown(root)}: no patient {listed(missing)}; there are {first_few(sorted(known), count=True)}"
        )
    return [picture for picture in pictures if _whose(picture) in data.patients]


def _split(pictures: list[Picture], split: Split | None, root: Path) -> list[Picture]:
    """The pictures of the split that is captured, each with the name of its split."""
    if split is None:
        return pictures
    if split.column is None:
        test = set(split.test) if split.test is not None else _drawn(pictures, split)
        if missing := sorted(test - {_whose(picture) for picture in pictures}):
            raise DataError(
                f"{shown(root)}: data.split.test names {first_few(missing, count=True)}, which is not there"
            )
        pictures = [replace(p, split=TEST if _whose(p) in test else TRAIN) for p in pictures]
    within: dict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        within[_whose(picture)].add(picture.split)
    if both := [patient for patient, splits in within.items() if len(splits) > 1 and TEST in splits]:
        others = sorted(within[both[0]] - {TEST})
        raise DataError(
            f"{shown(root)}: patient {both[0]!r} is in the splits {TEST} and {listed(others)}"
            f"{f' (and {len(both) - 1} more patients are)' if len(both) > 1 else ''}: nobody of the test split may be "
            "trained on; correct the split"
        )
    chosen = [p for p in pictures if split.use == "all" or (p.split == TEST) == (split.use == "test")]
    if not chosen:
        raise DataError(f"{shown(root)}: no image is of the split {split.use!r}; correct data.split")
    return chosen


def _drawn(pictures: Sequence[Picture], split: Split) -> set[str]:
    """Patients of the test split: of each class ``split.share`` of those whose first image has it, one at least."""
    first: dict[str, int] = {}
    for picture in sorted(pictures, key=lambda p: p.name):
        first.setdefault(_whose(picture), picture.label)
    generator = np.random.default_rng(split.seed)
    drawn: set[str] = set()
    for label in sorted(set(first.values())):
        whose = sorted(patient for patient, own in first.items() if own == label)
        count = max(1, round((split.share or 0) * len(whose)))
        drawn.update(np.asarray(whose, object)[generator.permutation(len(whose))[:count]].tolist())
    return drawn


def _groups(pictures: Sequence[Picture], size: int) -> Iterable[ImageGroup]:
    """One group a patient; then groups of up to ``size`` images of unknown patients."""
    of_patient: dict[str, list[Picture]] = defaultdict(list)
    for picture in sorted(pictures, key=lambda p: p.name):
        of_patient[picture.patient].append(picture)
    unknown = of_patient.pop("", [])
    for patient in sorted(of_patient):
        yield ImageGroup(VolumeKey(patient, 0), tuple(of_patient[patient]))
    for first in range(0, len(unknown), size):
        own = tuple(unknown[first : first + size])
        # What lies in a group decides its name, so that a run with other images is another run.
        checksum = hashlib.sha256("\n".join(f"{p.name} {p.label}" for p in own).encode()).hexdigest()[:8]
        last = f"–{first + len(own) - 1}" if len(own) > 1 else ""
        yield ImageGroup(VolumeKey(f"images {first}{last} ({checksum})", 0), own)


def header_of(shapes: Sequence[VolumeHeader]) -> GroupHeader:
    """The header of a group from those of its images."""
    sizes = tuple(header.shape for header in shapes)
    shape = (sum(z for z, _, _ in sizes), max(y for _, y, _ in sizes), max(x for _, _, x in sizes))
    caveats = {caveat.kind: caveat for header in reversed(shapes) for caveat in header.caveats}
    return GroupHeader(
        shape, shapes[0].spacing, tuple(caveats.values()), sizes=sizes, spacings=tuple(h.spacing for h in shapes)
    )
