"""Code that a spec names: ``module:callable``. Importing it runs it, so a spec is to be trusted like a program."""

from __future__ import annotations

import hashlib
import importlib
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from actstore.errors import SpecError, one_line

#: The spec's folder that this module put on ``sys.path``.
_added: list[Path] = []


def add_folder(folder: Path) -> None:
    """Let modules beside a spec be imported, after everything that is installed.

    One spec's folder is there at a time: modules beside another spec are forgotten, for they may have the same names.
    """
    for other in [path for path in _added if path != folder]:
        _added.remove(other)
        if str(other) in sys.path:
            sys.path.remove(str(other))
        for name in [name for name, module in sys.modules.copy().items() if _lies_in(other, name, module)]:
            del sys.modules[name]
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
        _added.append(folder)


def _lies_in(folder: Path, name: str, module: Any) -> bool:
    """Whether ``module`` is a file in ``folder``, or part of a package that is."""
    top = name.partition(".")[0]
    # Not getattr: modules that load lazily would load.
    file = getattr(sys.modules.get(top, module), "__dict__", {}).get("__file__")
    return isinstance(file, str) and Path(file) in (folder / f"{top}.py", folder / top / "__init__.py")


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
    except (Exception, SystemExit) as error:
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


def code_digests(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the source file of each imported ``module:callable`` that is not installed, by module name.

    Such code, beside a spec or on the path, decides stored numbers as the spec does and has no version of its own. What
    is installed is left out: its versions are in the store's attributes.
    """
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
    installed.append(Path(__file__).resolve().parent)
    digests = {}
    for module_name in {name.partition(":")[0] for name in names if ":" in name}:
        file = getattr(sys.modules.get(module_name), "__file__", None)
        if file is not None and not any(Path(file).resolve().is_relative_to(folder) for folder in installed):
            digests[module_name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return digests
