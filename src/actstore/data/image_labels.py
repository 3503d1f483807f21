"""Which class the label of an image means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actstore.errors import DataError
from actstore.spec.toml_tables import Data
from actstore.units import listed


def class_number(data: Data, label: str, where: str = "") -> int:
    """The number of a class, given by its name or by that number.

    Raises
    ------
    DataError
        naming ``where`` the label stands, if it is none of the classes.
    """
    classes: Mapping[str, Any] = data.classes
    label = label.strip()
    if label in classes:
        return int(classes[label])
    if label.isdecimal() and int(label) in classes.values():
        return int(label)
    raise DataError(
        f"{where}: label {label!r} is none of data.classes ({listed(classes)}): add the class, or correct the label"
    )
