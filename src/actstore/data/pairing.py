"""Images and masks found on a disk become volumes: one image and one mask each, or a refusal that names the files."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actstore.data.volume import VolumeFile, VolumeKey
from actstore.errors import DataError

#: Control characters, lone surrogates (bytes that are no UTF-8), line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_SUFFIXES = (".nii.gz", ".nii")
_SHOWN = 8


@dataclass(frozen=True)
class Found:
    """One NIfTI file that a data set's layout gives a meaning to."""

    key: VolumeKey
    kind: Literal["image", "mask"]
    path: Path
    #: Why the file cannot be used, with the mend; empty where it can.
    problem: str = ""


def stem(name: str) -> str | None:
    """``name`` without ``.nii`` or ``.nii.gz``; ``None`` for hidden files and files of another kind."""
    if name.startswith("."):
        return None
    return next((name.removesuffix(s) for s in _SUFFIXES if name.endswith(s)), None)


def shown(text: object) -> str:
    """``text`` for a message: as it is where printable, escaped where not."""
    plain = str(text)
    return plain if plain.isprintable() else repr(plain)


def listed(items: Iterable[object]) -> str:
    """The first few ``items`` joined by commas, and how many more there are."""
    texts = [shown(item) for item in items]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def files_in(folder: Path) -> list[Path]:
    """The files directly in ``folder``, by name."""
    return _entries(folder, os.DirEntry.is_file)


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in ``folder``, by name, hidden ones left out."""
    return [path for path in _entries(folder, os.DirEntry.is_dir) if not path.name.startswith(".")]


def _entries(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if wanted(entry))
    except FileNotFoundError as error:
        raise DataError(f"{shown(folder)}: no such folder; correct data.root or data.format") from error
    except NotADirectoryError as error:
        raise DataError(f"{shown(folder)}: not a folder; data.root names the folder of a data set") from error
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be listed: {error.strerror}; check its permissions") from error


def pair(found: Sequence[Found], *, root: Path, patients: Sequence[str] | None, layout: str) -> tuple[VolumeFile, ...]:
    """One ``VolumeFile`` for each key in ``found`` that ``patients`` asks for, sorted by key.

    Files of patients that are not asked for are not looked at, so that a damaged data set can be used in part.

    Raises
    ------
    DataError
        if nothing was found, a patient is missing or badly named, a file cannot be used, an image has no mask, a mask
        has no image, or a volume has two of either.
    """
    if not found:
        raise DataError(f"{shown(root)}: no volume found; expected {layout}: correct data.root or data.format")
    chosen = _of_patients(found, root, patients)
    for patient in sorted({f.key.patient for f in chosen}):
        _check_name(patient, root)
    for item in chosen:
        if item.problem:
            raise DataError(f"{shown(item.path)}: {item.problem}")
    images = _by_key(chosen, "image")
    masks = _by_key(chosen, "mask")
    lone_images = [images[key] for key in sorted(images.keys() - masks.keys())]
    lone_masks = [masks[key] for key in sorted(masks.keys() - images.keys())]
    if lone_images or lone_masks:
        problems = [
            f"{len(paths)} {what}: {listed(p.relative_to(root) for p in paths)}"
            for what, paths in (("image(s) without a mask", lone_images), ("mask(s) without an image", lone_masks))
            if paths
        ]
        raise DataError(
            f"{shown(root)}: {'; '.join(problems)}; add the missing files or leave the patients out of data.patients"
        )
    return tuple(VolumeFile(key, images[key], masks[key]) for key in sorted(images))


def _of_patients(found: Sequence[Found], root: Path, patients: Sequence[str] | None) -> list[Found]:
    if patients is None:
        return list(found)
    # Some file systems hand out decomposed names: "é" typed into a spec must match them.
    wanted = {unicodedata.normalize("NFC", patient): patient for patient in patients}
    chosen = [f for f in found if unicodedata.normalize("NFC", f.key.patient) in wanted]
    there = {unicodedata.normalize("NFC", f.key.patient) for f in chosen}
    if missing := [patient for name, patient in wanted.items() if name not in there]:
        known = sorted({f.key.patient for f in found})
        raise DataError(
            f"{shown(root)}: no patient {listed(missing)}; there are {len(known)} ({listed(known)}): "
            "correct data.patients"
        )
    return chosen


def _check_name(patient: str, root: Path) -> None:
    if not patient.strip() or patient == ".":
        why = "is empty"
    elif any(unicodedata.category(c) in _REFUSED_CATEGORIES for c in patient):
        why = "holds a control character or bytes that are not UTF-8"
    elif ".." in patient or "/" in patient or "\\" in patient:
        why = "holds a path separator or '..'"
    else:
        return
    raise DataError(f"{shown(root)}: the patient name {patient!r} {why}; rename its files or leave it out")


def _by_key(found: Iterable[Found], kind: Literal["image", "mask"]) -> dict[VolumeKey, Path]:
    groups: defaultdict[VolumeKey, list[Path]] = defaultdict(list)
    for item in found:
        if item.kind == kind:
            groups[item.key].append(item.path)
    for key, paths in sorted(groups.items()):
        if len(paths) > 1:
            raise DataError(f"{shown(key)}: {len(paths)} files for one {kind}: {listed(paths)}; keep one of them")
    return {key: paths[0] for key, paths in groups.items()}
