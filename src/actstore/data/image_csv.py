"""Lists images that a CSV names, each with its class."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from actstore.data.image_labels import class_number
from actstore.data.names import NIFTI
from actstore.data.pictures import DICOM, FLAT, Picture, dicom_patient
from actstore.errors import DataError
from actstore.spec.toml_tables import Data
from actstore.units import listed, shown


def list_csv(path: Path, data: Data) -> list[Picture]:
    """Images that a CSV lists: path (relative to the CSV), label, and, if known, patient.

    Raises
    ------
    DataError
        naming the file, the line or column, and what to correct.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{shown(path)}: cannot be read as CSV in UTF-8 ({error}); correct it") from error
    column = data.split.column if data.split else None
    _check_columns(path, columns, column)
    found, lines = list[Picture](), dict[str, int]()
    for line, row in rows:
        if None in row or None in row.values():
            raise DataError(f"{shown(path)}, line {line}: not {len(columns)} values as the first line: correct it")
        image = path.parent / row["path"]
        if not row["path"] or not image.is_file():
            mend = "separate its folders by /, not \\" if "\\" in row["path"] else "correct its path"
            raise DataError(f"{shown(path)}, line {line}: no file {shown(image)}: {mend}")
        if (earlier := lines.setdefault(os.path.normpath(image), line)) != line:
            raise DataError(f"{shown(path)}, line {line}: names the image of line {earlier} again: keep one of the two")
        ending = next((e for e in (*NIFTI, *FLAT) if image.name.lower().endswith(e)), image.suffix)
        name = Path(row["path"]).as_posix()
        found.append(
            Picture(
                name[: len(name) - len(ending)],
                image,
                class_number(data, row["label"], f"{shown(path)}, line {line}"),
                row.get("patient", "").strip() or (dicom_patient(image) if ending in DICOM else ""),
                row[column].strip() if column else "",
            )
        )
    return found


def _check_columns(path: Path, columns: Sequence[str], split: str | None) -> None:
    """Refuse a CSV without the columns that it needs, or with one that only looks like one of them."""
    known = ("path", "label", "patient", *filter(None, [split]))
    for name, count in Counter(columns).items():
        if count > 1 and name in known:
            raise DataError(f"{shown(path)}: {count} columns {name!r}: keep one")
    for wanted in known:
        if wanted in columns:
            continue
        if alike := [name for name in columns if name.strip().lower() == wanted.lower()]:
            raise DataError(f"{shown(path)}: column {alike[0]!r}: write {wanted!r}, without spaces and in this case")
        if wanted == "patient":
            continue
        separator = next((s for s in (";", "\t") if len(columns) == 1 and s in columns[0]), None)
        mend = f"separate columns by commas, not {separator!r}" if separator else "add it"
        raise DataError(f"{shown(path)}: no column {wanted!r}; there are {listed(columns) or 'none'}: {mend}")
