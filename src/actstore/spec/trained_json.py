"""Reads the JSON files of trained networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from actstore.errors import ModelError, one_line
from actstore.units import shown


def read_json(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises
    ------
    ModelError
        if the file is missing, unreadable, or no JSON object; ``what`` says what it belongs to.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(
            f"{shown(path)}: no such file, {what} needs it; copy it there or correct the folder"
        ) from error
    except OSError as error:
        raise ModelError(f"{shown(path)}: cannot be read: {error.strerror or error}; check its permissions") from error
    except ValueError as error:
        raise ModelError(
            f"{shown(path)}: is no JSON: {one_line(error)}; restore it from the training machine"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{shown(path)}: holds a {type(content).__name__}, not an object; restore it")
    return content
