"""Pairs images and masks to volumes, one of each, or raises an error that names the files."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from actstore.conditions import ONE_CHANNEL
from actstore.data.names import composed, folded
from actstore.data.volume import VolumeFile, VolumeKey
from actstore.errors import DataError
from actstore.units import listed, shown

if TYPE_CHECKING:
    from actstore.data.images import BlockFiles

#: Control characters, lone surrogates (bytes that are not UTF-8), line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: How many left-out files a store lists by name.
_KEPT = 100
FileKind = Literal["image", "mask"]


@dataclass(frozen=True)
class FoundFile:
    """A NIfTI file that is an image or mask in the data set's layout."""

    key: VolumeKey
    kind: FileKind
    path: Path
    #: Why the file cannot be used, and the remedy; empty if it can.
    problem: str = ""
    #: The number of its input channel in file names; 0 for a mask.
    channel: int = 0


@dataclass(frozen=True)
class Stray:
    """An entry that looks like data but is not part of the layout."""

    path: Path
    #: The volume that it seems to belong to; ``None`` if its name does not say.
    key: VolumeKey | None = None
    kind: FileKind = "image"
    #: Why it is not used, and the remedy; empty if no volume can get lost by leaving it out.
    problem: str = ""
    #: Whether it lies below the layout's folders, where only an image with a mask can be a volume.
    deep: bool = False
    #: Note in the list of left-out files.
    note: str = ""
    #: Its patient if ``key`` does not say; empty if it belongs to none.
    owner: str = ""

    @property
    def patient(self) -> str:
        return self.owner if self.key is None else self.key.patient


@dataclass(frozen=True)
class Channels:
    """The input channels of a data set."""

    names: tuple[str, ...] = ONE_CHANNEL
    #: The number of each in file names: 1 for ``CASE_0001``.
    numbers: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Discovery:
    """The volumes of a data set, and what was left out or is missing."""

    #: Sorted by key.
    volumes: tuple[BlockFiles, ...]
    #: Number of patients in the data set, including those that ``data.patients`` does not select.
    patients: int
    #: Entries that look like data but were not used, relative to the root, printable.
    left_out: tuple[str, ...] = ()
    #: Things that the data set names but lacks, for example a frame that ``Info.cfg`` calls ES.
    lacking: tuple[str, ...] = ()
    #: Names of the input channels.
    channels: tuple[str, ...] = ONE_CHANNEL

    def as_json(self) -> dict[str, object]:
        """For a store's attributes: number of patients, and number and first names of left-out and missing things."""
        return {
            "patients": self.patients,
            "left_out": {"count": len(self.left_out), "first": list(self.left_out[:_KEPT])},
            "lacking": {"count": len(self.lacking), "first": list(self.lacking[:_KEPT])},
        }


def pair(
    found: Sequence[FoundFile],
    strays: Sequence[Stray],
    *,
    root: Path,
    patients: Sequence[str] | None,
    layout: str,
    channels: Channels | None = None,
) -> Discovery:
    """One ``VolumeFile`` for each key in ``found`` that ``patients`` selects; refuse or leave out ``strays``.

    Its images are one file for each of ``channels``, or a single file if no volume has more: then it holds them all.

    Does not check files of other patients, so that a damaged data set can be used in part.

    Raises
    ------
    DataError
        if nothing was found; if a patient is missing or badly named; if a file cannot be used; if an image has no mask,
        a mask no image, a volume two of either, or an input channel no file; if a stray may be a volume that was not
        found.
    """
    if not found:
        there = f"; what looks like data there: {listed(_names(strays, root))}" if strays else ""
        raise DataError(f"{shown(root)}: no volume found; expected {layout}: correct data.root or data.format{there}")
    wanted = None if patients is None else {folded(patient) for patient in patients}
    near = [s for s in strays if wanted is None or not s.patient or folded(s.patient) in wanted]
    chosen = _of_patients(found, near, root, patients)
    for patient in sorted({f.key.patient for f in chosen}):
        _check_name(patient, root)
    _check_alike(chosen)
    if broken := [item for item in chosen if item.problem]:
        raise DataError(f"{shown(broken[0].path)}: {broken[0].problem}{_more(broken)}")
    channels = channels or Channels()
    every = _by_key(chosen, "image")
    images = {key: of_channel[min(of_channel)] for key, of_channel in every.items()}
    masks = {key: of_channel[0] for key, of_channel in _by_key(chosen, "mask").items()}
    _check_strays(near, {_folded(key) for key in images.keys() & masks.keys()})
    lone_images = [images[key] for key in sorted(images.keys() - masks.keys())]
    lone_masks = [masks[key] for key in sorted(masks.keys() - images.keys())]
    if lone_images or lone_masks:
        problems = [
            f"{len(files)} {what}: {listed(f.path.relative_to(root) for f in files)}"
            for what, files in (("image(s) without a mask", lone_images), ("mask(s) without an image", lone_masks))
            if files
        ]
        raise DataError(
            f"{shown(root)}: {'; '.join(problems)}; add the missing files or leave the patients out of data.patients"
        )
    files = {key: _files(of_channel, channels, every.values(), root) for key, of_channel in sorted(every.items())}
    # Use the first spelling of a name in several Unicode forms, so that all frames have the same patient.
    spelled: dict[str, str] = {}
    for image in images.values():
        spelled.setdefault(composed(image.key.patient), image.key.patient)
    keys = {key: VolumeKey(spelled[key.patient], key.frame) for key in images}
    volumes = (VolumeFile(keys[key], files[key], masks[key].path) for key in sorted(images, key=keys.__getitem__))
    return Discovery(
        tuple(volumes),
        len({composed(f.key.patient) for f in found}),
        tuple(_names(near, root)),
        channels=channels.names,
    )


def _files(
    of_channel: Mapping[int, FoundFile], channels: Channels, every: Collection[Mapping[int, FoundFile]], root: Path
) -> tuple[Path, ...]:
    """The files of one volume in the order of ``channels``, or its single file."""
    first = of_channel[min(of_channel)]
    if len(channels.numbers) > 1 and all({*other} == {0} for other in every):
        if list(channels.numbers) != list(range(len(channels.numbers))):
            raise DataError(
                f"{shown(first.path)}: one file for all input channels, of which data.channels chooses "
                f"{listed(channels.names)}: write one file a channel, or name all channels in the file's order"
            )
        return (first.path,)
    if missing := [i for i, number in enumerate(channels.numbers) if number not in of_channel]:
        lacking = listed(f"{channels.names[i]} (_{channels.numbers[i]:04d})" for i in missing)
        raise DataError(
            f"{shown(first.key)}: no file of the input channel {lacking} beside {shown(first.path.relative_to(root))}; "
            "add it, or leave the patient out of data.patients"
        )
    return tuple(of_channel[number].path for number in channels.numbers)


def _of_patients(
    found: Sequence[FoundFile], strays: Sequence[Stray], root: Path, patients: Sequence[str] | None
) -> list[FoundFile]:
    if patients is None:
        return list(found)
    # Some file systems return decomposed names; "é" in a spec must match them.
    wanted = {composed(patient): patient for patient in patients}
    chosen = [f for f in found if composed(f.key.patient) in wanted]
    there = {composed(f.key.patient) for f in chosen}
    if missing := [patient for name, patient in wanted.items() if name not in there]:
        _check_strays([s for s in strays if folded(s.patient) in map(folded, missing)], set())
        known = sorted({f.key.patient for f in found})
        raise DataError(
            f"{shown(root)}: no patient {listed(missing)}; there are {len(known)} ({listed(known)}): "
            "correct data.patients"
        )
    return chosen


def _names(strays: Sequence[Stray], root: Path) -> list[str]:
    return [
        shown(stray.path.relative_to(root)) + (f" ({stray.note})" if stray.note else "")
        for stray in sorted(strays, key=lambda stray: stray.path)
    ]


def _check_strays(strays: Sequence[Stray], taken: set[VolumeKey]) -> None:
    """Refuse strays that may be a volume, or part of one."""
    kinds: defaultdict[VolumeKey, set[str]] = defaultdict(set)
    for stray in strays:
        if stray.key is not None and stray.problem and _folded(stray.key) not in taken:
            kinds[_folded(stray.key)].add(stray.kind)
    lost = [
        stray
        for stray in sorted(strays, key=lambda stray: stray.path)
        if stray.key is not None
        and _folded(stray.key) in kinds
        and (not stray.deep or len(kinds[_folded(stray.key)]) == 2)
        and stray.problem
    ]
    if lost:
        raise DataError(f"{shown(lost[0].path)}: {lost[0].problem}{_more(lost)}")


def _more(items: Sequence[FoundFile | Stray]) -> str:
    """Names of all further items with a problem."""
    return f" (and {len(items) - 1} more: {listed(item.path.name for item in items[1:])})" if len(items) > 1 else ""


def _folded(key: VolumeKey) -> VolumeKey:
    return VolumeKey(folded(key.patient), key.frame)


def _check_alike(found: Iterable[FoundFile]) -> None:
    """Refuse patients whose names differ only in case, since they are probably one patient."""
    spelled: defaultdict[str, dict[str, FoundFile]] = defaultdict(dict)
    for item in found:
        spelled[folded(item.key.patient)].setdefault(composed(item.key.patient), item)
    for alike in spelled.values():
        if len(alike) > 1:
            raise DataError(
                f"{listed(f.path for f in alike.values())}: the patients {' and '.join(map(repr, sorted(alike)))} "
                "differ in case or spaces alone; give one patient one name, two patients two"
            )


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


def _by_key(found: Iterable[FoundFile], kind: FileKind) -> dict[VolumeKey, dict[int, FoundFile]]:
    """The files of one kind by key and channel. Patients are in composed Unicode form, so that image and mask match."""
    groups: defaultdict[tuple[VolumeKey, int], list[FoundFile]] = defaultdict(list)
    for item in found:
        if item.kind == kind:
            groups[VolumeKey(composed(item.key.patient), item.key.frame), item.channel].append(item)
    by_key: defaultdict[VolumeKey, dict[int, FoundFile]] = defaultdict(dict)
    for (key, channel), files in sorted(groups.items()):
        if len(files) > 1:
            paths = listed(file.path for file in files)
            raise DataError(f"{shown(key)}: {len(files)} files for one {kind}: {paths}; keep one of them")
        by_key[key][channel] = files[0]
    return dict(by_key)
