"""Types of values that the spec's tables share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from actstore.errors import StoreError
from actstore.paths import expanded, is_url
from actstore.store.files import writable_at

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return float(value)


def _usable_path(value: Any) -> Any:
    if isinstance(value, str | Path):
        if not str(value) or "\0" in str(value):
            raise ValueError("must be the path of a file or folder")
        try:
            return expanded(value)
        except StoreError as error:
            raise ValueError(
                "must not start with a home that this machine does not know: write the path out"
            ) from error
    return value


def _usable_location(value: Any) -> Any:
    if not isinstance(value, str) or not is_url(value):
        return _usable_path(value)
    try:
        return writable_at(value).location
    except StoreError as error:
        raise ValueError(str(error)) from error


def _label_values(value: Any, info: ValidationInfo) -> int | tuple[int, ...]:
    """A label, or the labels of a region; which sets of labels are possible, `Labels` checks.

    Of images, which have no background, a class may be 0.
    """
    images = isinstance(info.data, dict) and info.data.get("format") == "images"
    for label in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(label, int) or isinstance(label, bool):
            raise PydanticCustomError("int_type", "Input should be a valid integer")
    if isinstance(value, list | tuple):
        return tuple(value)
    if value < (0 if images else 1):
        raise PydanticCustomError("greater_than", f"Input should be {'0 or more' if images else 'greater than 0'}")
    number: int = value
    return number


def _two_or_three(size: tuple[int, ...]) -> tuple[int, ...]:
    if len(size) not in (2, 3):
        raise ValueError("must hold 2 numbers (y, x) for a 2D network or 3 (z, y, x) for a 3D one")
    return size


def without_none(dump: dict[str, Any], *names: str) -> dict[str, Any]:
    """``dump`` without those of ``names`` that are not set: stores from before these keys existed have none either."""
    return {name: value for name, value in dump.items() if name not in names or value is not None}


def _group_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a group: use letters, digits, - and _")
    return name


class TomlTable(BaseModel):
    """A table of a spec: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def check_names(table: str, names: Iterable[str]) -> None:
    """Refuse two tables ``[[table]]`` of one name."""
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{count} tables of {table} have the name {name!r}: give each its own")


def check_known(where: str, names: Iterable[str], known: Sequence[str], what: str, there: str) -> None:
    """Refuse one of ``names`` that is none of the ``known``: "``where`` names the ``what`` …: ``there`` …"."""
    for name in names:
        if name not in known:
            raise ValueError(f"{where} names the {what} {name!r}: {there} {', '.join(known)}")


LocalPath = Annotated[Path, BeforeValidator(_usable_path)]
StoreLocation = Annotated[Path | str, BeforeValidator(_usable_location)]
Text = Annotated[StrictStr, Field(min_length=1)]
#: Of a group in the store, which is a folder.
GroupName = Annotated[StrictStr, AfterValidator(_group_name)]
Positive = Annotated[StrictInt, Field(gt=0)]
SpatialSize = Annotated[tuple[Positive, ...], AfterValidator(_two_or_three)]
LabelValues = Annotated[
    int | tuple[int, ...],
    PlainValidator(_label_values),
    PlainSerializer(lambda value: list(value) if isinstance(value, tuple) else value, return_type=Any),
]
Strength = Annotated[StrictFloat, Field(ge=0), AfterValidator(_finite)]
Finite = Annotated[StrictFloat, AfterValidator(_finite)]


def resolved(folder: Path, path: Path) -> Path:
    """``path`` resolved against ``folder``."""
    return (folder / path).resolve()
