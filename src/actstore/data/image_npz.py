"""Lists images that are the rows of an NPZ, each with its class."""

from __future__ import annotations

from pathlib import Path

from actstore.data.image_labels import class_number
from actstore.data.pictures import Picture, rows_of
from actstore.errors import DataError
from actstore.spec.toml_tables import Data
from actstore.units import listed, shown


def list_npz(path: Path, data: Data) -> list[Picture]:
    """The rows of an NPZ: image (n, …), label (n,) as names, or numbers into names; patient, name and a split (n,).

    Raises
    ------
    DataError
        naming the file, the array or image, and what to correct.
    """
    arrays = rows_of(path)
    column = data.split.column if data.split else None
    for wanted in ("image", "label", *filter(None, [column])):
        if wanted not in arrays:
            raise DataError(f"{shown(path)}: no array {wanted!r}; there are {listed(arrays)}: add it")
    count = len(arrays["image"])
    for name in ("label", "patient", "name", *filter(None, [column])):
        if name in arrays and arrays[name].shape != (count,):
            raise DataError(f"{shown(path)}: {name} has shape {arrays[name].shape}, image {count} rows: give one a row")
    labels = arrays["label"].tolist()
    if "names" in arrays and arrays["label"].dtype.kind in "iu":
        known = arrays["names"].tolist()
        if outside := [label for label in labels if not 0 <= label < len(known)]:
            raise DataError(f"{shown(path)}: label {outside[0]}, names has {len(known)}: correct one of the two")
        labels = [known[label] for label in labels]

    def each(name: str | None) -> list[str]:
        return [str(value) for value in arrays[name]] if name and name in arrays else [""] * count

    digits = len(str(max(count - 1, 0)))
    names, patients, splits = each("name"), each("patient"), each(column)
    return [
        Picture(
            names[row] or f"{row:0{digits}d}",
            path,
            class_number(data, str(labels[row]), f"{shown(path)}, image {row}"),
            patients[row],
            splits[row],
            row,
        )
        for row in range(count)
    ]
