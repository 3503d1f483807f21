"""The layout of ACDC: ``patientXXX/patientXXX_frameYY.nii.gz``, its mask ``…_gt.nii.gz``, and ``Info.cfg``.

Bernard et al., IEEE TMI 37(11), 2018, doi 10.1109/TMI.2018.2837502.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actstore.data.pairing import Found, files_in, folders_in, pair, shown, stem
from actstore.data.volume import VolumeFile, VolumeKey
from actstore.errors import DataError

LAYOUT = "patientXXX/patientXXX_frameYY.nii.gz and …_gt.nii.gz, also in folders training and testing"

_SPLITS = ("training", "testing")
_NAME = re.compile(r"(?P<patient>.+)_frame(?P<frame>[0-9]{1,9})(?P<mask>_gt)?", re.DOTALL)


@dataclass(frozen=True)
class Info:
    """What ``Info.cfg`` says of a patient. ``ed`` and ``es`` are frame numbers."""

    ed: int | None = None
    es: int | None = None
    group: str = ""

    def phase(self, frame: int) -> str:
        """Of a frame: ``ED``, ``ES``, or empty for any other."""
        if frame == self.ed:
            return "ED"
        return "ES" if frame == self.es else ""


def find(root: Path, patients: Sequence[str] | None) -> tuple[VolumeFile, ...]:
    """The volumes below ``root``, sorted by key; only those of ``patients`` where it is given.

    Raises
    ------
    DataError
        if the layout is not ACDC's, files are missing, doubled or in another patient's folder, or an ``Info.cfg``
        holds something else than frame numbers.
    """
    folders: list[Path] = []
    for folder in folders_in(root):
        folders.extend(folders_in(folder) if folder.name in _SPLITS else [folder])
    found = [item for folder in folders for item in _frames(folder)]
    volumes = pair(found, root=root, patients=patients, layout=LAYOUT)
    infos = {folder: read_info(folder / "Info.cfg") for folder in sorted({v.image.parent for v in volumes})}
    return tuple(
        replace(v, phase=infos[v.image.parent].phase(v.key.frame), group=infos[v.image.parent].group) for v in volumes
    )


def _frames(folder: Path) -> Iterator[Found]:
    for path in files_in(folder):
        match = _NAME.fullmatch(stem(path.name) or "")
        if match is None:
            continue
        misplaced = f"lies in the folder {shown(folder.name)}; move it to {shown(match['patient'])} or rename it"
        yield Found(
            VolumeKey(folder.name, int(match["frame"])),
            "mask" if match["mask"] else "image",
            path,
            "" if match["patient"] == folder.name else misplaced,
        )


def read_info(path: Path) -> Info:
    """Read an ``Info.cfg``; a file that is not there says nothing.

    Raises
    ------
    DataError
        if the file cannot be read or ED or ES is no frame number.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return Info()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror}; check its permissions") from error
    pairs = (line.partition(":") for line in lines)
    content = {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
    return Info(_frame(content, "ed", path), _frame(content, "es", path), content.get("group", ""))


def _frame(content: dict[str, str], name: str, path: Path) -> int | None:
    text = content.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise DataError(f"{shown(path)}: {name.upper()} = {text!r} is not a frame number; correct it or take it out")
    return int(text)
