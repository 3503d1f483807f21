"""Lists a folder: files, folders, and entries that are neither because of a broken link or denied access."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actstore.data.names import is_system, looks_like_image
from actstore.errors import DataError
from actstore.units import shown

#: Levels below the layout's folders to search for misplaced images.
DEPTH = 3


@dataclass(frozen=True)
class Entry:
    """One entry of a folder, with links followed."""

    path: Path
    kind: Literal["file", "folder", "neither"]
    #: Why the entry is neither file nor folder, and the remedy.
    problem: str = ""

    @property
    def name(self) -> str:
        return self.path.name


def scan(folder: Path) -> list[Entry]:
    """All entries of ``folder``, sorted by name.

    Raises
    ------
    DataError
        if ``folder`` is missing, is not a folder, or cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((_entry(folder, entry) for entry in entries), key=lambda entry: entry.path)
    except OSError as error:
        if problem := broken_link(folder):
            raise DataError(f"{shown(folder)}: {problem}") from error
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{shown(folder)}: no such folder; correct data.root or data.format") from error
        if isinstance(error, NotADirectoryError):
            raise DataError(f"{shown(folder)}: not a folder; data.root names the folder of a data set") from error
        raise DataError(f"{shown(folder)}: cannot be listed: {error.strerror}; check its permissions") from error


def _entry(folder: Path, entry: os.DirEntry[str]) -> Entry:
    path = folder / entry.name
    try:
        if entry.is_dir():
            return Entry(path, "folder")
        if entry.is_file():
            return Entry(path, "file")
    except OSError as error:
        problem = broken_link(path) or f"cannot be reached: {error.strerror}; check permissions and disk"
        return Entry(path, "neither", problem)
    return Entry(path, "neither", broken_link(path) or "neither a file nor a folder; remove it or move it away")


def broken_link(path: Path) -> str:
    """Why the link ``path`` is broken, with its target and the remedy; empty for anything else."""
    try:
        target = os.readlink(path)
    except OSError:
        return ""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"a link that leads back to itself ({shown(target)}); remove it or correct its target"
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            gone = os.path.realpath(path)
            return (
                f"a link to nothing, {shown(gone)} is not there; fetch the file (git annex get), mount its disk, "
                "or remove the link"
            )
        return f"a link to {shown(target)}, which cannot be reached: {error.strerror}; check permissions and disk"
    return ""


def images_below(folder: Path, depth: int = DEPTH) -> Iterator[Entry]:
    """Images in ``folder`` and up to ``depth`` levels below, and folders there that cannot be listed.

    Skips hidden folders and Zarr stores. Searches a folder that is linked twice only once.
    """
    yield from _images_below(folder, depth, {os.path.realpath(folder)})


def _images_below(folder: Path, depth: int, seen: set[str]) -> Iterator[Entry]:
    try:
        entries = scan(folder)
    except DataError as error:
        yield Entry(folder, "neither", str(error).removeprefix(f"{shown(folder)}: "))
        return
    if any(entry.name == "zarr.json" for entry in entries):
        return
    for entry in entries:
        if entry.kind != "folder":
            if looks_like_image(entry.name) or (entry.problem and "." not in entry.name):
                yield entry
        elif not is_system(entry.name) and (real := os.path.realpath(entry.path)) not in seen:
            seen.add(real)
            if depth > 0:
                yield from _images_below(entry.path, depth - 1, seen)
