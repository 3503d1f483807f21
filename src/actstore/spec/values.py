"""Types of values that the spec's tables share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from actstore.errors import StoreError
from actstore.paths import expanded, is_url
from actstore.store.files import storage_at


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
        return storage_at(value).location
    except StoreError as error:
        raise ValueError(str(error)) from error


class Table(BaseModel):
    """A table of a spec: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


LocalPath = Annotated[Path, BeforeValidator(_usable_path)]
StoreLocation = Annotated[Path | str, BeforeValidator(_usable_location)]
Text = Annotated[StrictStr, Field(min_length=1)]
Positive = Annotated[StrictInt, Field(gt=0)]
Strength = Annotated[StrictFloat, Field(ge=0), AfterValidator(_finite)]


def resolved(folder: Path, path: Path) -> Path:
    """``path`` resolved against ``folder``."""
    return (folder / path).resolve()
