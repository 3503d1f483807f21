"""``Info.cfg`` of an ACDC patient: which frames are ED and ES, and the diagnosis group."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from actstore.data.folders import scan
from actstore.data.names import folded
from actstore.errors import DataError
from actstore.spec.encoding import encoding_of
from actstore.units import listed, shown

NAME = "Info.cfg"
#: Keys of ACDC's files.
_KEYS = ("ED", "ES", "Group", "Height", "NbFrame", "Weight")
_LINE = re.compile(
    rf"[\s\"'*\-]*(?P<key>{'|'.join(_KEYS)})[\"']?\s*(?:[:=]|(?<=\s))\s*(?P<value>.*)", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class Info:
    """The content of a patient's ``Info.cfg``. ``ed`` and ``es`` are frame numbers."""

    ed: int | None = None
    es: int | None = None
    group: str = ""

    def phase(self, frame: int) -> str:
        """Phase of a frame: ``ED``, ``ES``, or empty for any other."""
        if frame == self.ed:
            return "ED"
        return "ES" if frame == self.es else ""

    def lacks(self, frames: Collection[int]) -> Iterator[str]:
        """What is missing for a patient with these ``frames``."""
        for name, frame in (("ED", self.ed), ("ES", self.es)):
            if frame is None:
                yield f"says no {name}"
            elif frame not in frames:
                yield f"names frame {frame:02d} as {name}, which is not there"


def is_info(name: str) -> bool:
    """Whether ``name`` is ``Info.cfg`` in any case, or resembles it: ``Info.cfg.txt``, ``Info (1).cfg``."""
    plain = folded(name)
    return plain in ("info", "info.txt", "info.ini") or (plain.startswith("info") and "cfg" in plain)


def info_in(folder: Path) -> Path | None:
    """The ``Info.cfg`` in ``folder``, in any case, or ``None``.

    Raises
    ------
    DataError
        if there are two, the file is a broken link, or its name only resembles ``Info.cfg``.
    """
    near = [entry for entry in scan(folder) if is_info(entry.name) and entry.kind != "folder"]
    exact = [entry for entry in near if folded(entry.name) == NAME.lower()]
    if len(exact) > 1:
        raise DataError(f"{listed(entry.path for entry in exact)}: {len(exact)} files for one {NAME}; keep one of them")
    if not exact and near:
        raise DataError(f"{shown(near[0].path)}: nearly a name of the layout; rename it to {NAME}, or move it away")
    if exact and exact[0].problem:
        raise DataError(f"{shown(exact[0].path)}: {exact[0].problem}")
    return exact[0].path if exact else None


def read_info(path: Path) -> Info:
    """Read an ``Info.cfg`` in UTF-8 or UTF-16, with or without a byte order mark; other bytes are read as Latin-1.

    Raises
    ------
    DataError
        if the file cannot be read or decoded; if it holds no known key, or one key twice; if ED or ES is not a frame
        number.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror}; check its permissions") from error
    found: dict[str, str] = {}
    for line in _decoded(content, path).splitlines():
        if match := _LINE.fullmatch(line):
            key, value = match["key"].lower(), match["value"].strip().rstrip(",;").strip("\"' \t")
            if found.setdefault(key, value) != value:
                raise DataError(f"{shown(path)}: {match['key']} is {found[key]!r} and {value!r}; keep one of them")
    if not found:
        what = "is empty" if not content.strip() else "holds none of " + ", ".join(_KEYS)
        raise DataError(
            f"{shown(path)}: {what}; write a line for each, such as 'ED: 1', or remove the file: frames then have no "
            "phase"
        )
    info = Info(_frame(found, "ed", path), _frame(found, "es", path), found.get("group", ""))
    if info.ed is not None and info.ed == info.es:
        raise DataError(f"{shown(path)}: ED and ES are both frame {info.ed}; correct one of them or take it out")
    return info


def _decoded(content: bytes, path: Path) -> str:
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(f"{shown(path)}: damaged {encoding.upper()} ({error.reason}); save it as UTF-8") from error
        text = content.decode("latin-1")
    # Normalise full-width letters and colons and no-break spaces; drop invisible marks and joiners.
    plain = unicodedata.normalize("NFKC", text)
    return "".join(c for c in plain if unicodedata.category(c) != "Cf" and c != "\0")


def _frame(content: dict[str, str], name: str, path: Path) -> int | None:
    text = content.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise DataError(f"{shown(path)}: {name.upper()} = {text!r} is not a frame number; correct it or take it out")
    return int(text)
