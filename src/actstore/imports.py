"""Code that a spec names: ``module:callable``. Importing it runs it, so a spec is to be trusted like a program."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actstore.errors import SpecError, one_line


def add_folder(folder: Path) -> None:
    """Let modules beside a spec be imported, after everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def resolve_callable(name: str, what: str) -> Callable[..., Any]:
    """Import ``module:callable``; ``what`` names its role in messages.

    Raises
    ------
    SpecError
        if the module cannot be imported or holds no such callable.
    """
    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise SpecError(
            f"{what} {name!r}: cannot import {module_name!r} ({one_line(error)}); correct the name, install the "
            "module or put it beside the spec"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise SpecError(f"{what} {name!r}: {module_name!r} has no {attribute!r}; correct the name")
        found = getattr(found, part)
    if not callable(found):
        raise SpecError(f"{what} {name!r} is a {type(found).__name__}, not callable; name a function or class")
    resolved: Callable[..., Any] = found
    return resolved
