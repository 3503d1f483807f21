"""Imports code that a spec names as ``module:callable``. This runs it, so only use specs that you trust."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from actstore.code import loading
from actstore.code.loading import entry_above, entry_of, guard, install_finder, loaded_digest, vars_of
from actstore.errors import ActstoreError, SpecError, one_line

#: Whether this module put the spec's folder on ``sys.path``.
_added = False
_importing: ContextVar[bool] = ContextVar("importing", default=False)


def add_folder(folder: Path) -> None:
    """Make modules next to a spec importable, after all installed ones.

    The path holds one spec's folder at a time. Modules next to another spec are forgotten, since names may collide.
    """
    global _added
    folder = folder.resolve()
    install_finder()
    other = loading.beside
    if other is not None and other != folder:
        if _added and str(other) in sys.path:
            sys.path.remove(str(other))
        _added = False
        forget(loaded_beside(other))
    loading.beside = folder
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
        _added = True


def resolve_callable(name: str, what: str) -> Callable[..., Any]:
    """Import ``module:callable``; ``what`` names its role in messages.

    Raises
    ------
    SpecError
        if the module cannot be imported, has no such callable, or is not the one that the run was planned with.
    """
    module_name, _, attribute = name.partition(":")
    if module_name == "__main__":
        raise SpecError(
            f"{what} {name!r}: workers cannot import what a running script or notebook defines; put it into a file "
            "beside the spec"
        )
    importing = _importing.set(True)
    try:
        found: Any = importlib.import_module(module_name)
    except ActstoreError:
        raise
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"{what} {name!r}: cannot import {module_name!r} ({one_line(error)}); correct the name, install the "
            "module or put it beside the spec"
        ) from error
    finally:
        _importing.reset(importing)
    check, digest = guard.get(), loaded_digest(module_name)
    if check and digest:
        check(module_name, str(vars_of(found).get("__file__")), digest)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise SpecError(f"{what} {name!r}: {module_name!r} has no {attribute!r}; correct the name")
        found = getattr(found, part)
    if not callable(found):
        raise SpecError(f"{what} {name!r} is a {type(found).__name__}, not callable; name a function or class")
    resolved: Callable[..., Any] = found
    return resolved


def is_importing() -> bool:
    """Whether code that a spec names is being imported right now."""
    return _importing.get()


def lies_beside(folder: Path, name: str, file: Path | None) -> bool:
    """Whether the module of that name is imported from ``folder`` as an entry of the path."""
    return (
        file is not None
        and entry_of(name, file).resolve() == folder.resolve()
        and name not in ("__main__", "__mp_main__")
    )


def loaded_beside(folder: Path) -> dict[str, Path | None]:
    """File of each loaded module that lies in ``folder``; None for a package without ``__init__``."""
    found: dict[str, Path | None] = {}
    # Thousands of modules lie in some hundred packages of a few path entries: look at each of these once.
    is_folder: dict[Path, bool] = {}
    in_folder: dict[tuple[str, int], bool] = {}
    own_folder = folder.resolve()
    for name, module in sys.modules.copy().items():
        names = vars_of(module)
        file, portions = names.get("__file__"), names.get("__path__")
        if isinstance(file, str):
            place, _, own_name = file.rpartition(os.sep)
            kind = place, name.count(".") + (own_name.partition(".")[0] == "__init__")
            if kind not in in_folder:
                entry = entry_above(*kind)
                if entry not in is_folder:
                    is_folder[entry] = entry.resolve() == own_folder
                in_folder[kind] = is_folder[entry]
            if in_folder[kind] and lies_beside(folder, name, Path(file)) and not _is_installed(module):
                found[name] = Path(file)
        elif portions is not None and not isinstance(portions, list):
            own = own_folder.joinpath(*name.split("."))
            inside = [Path(portion).resolve() == own for portion in portions]
            if inside and all(inside):
                found[name] = None
    return found


def _is_installed(module: object) -> bool:
    spec: Any = vars_of(module).get("__spec__")
    return spec is not None and loading.is_installed(spec)


def forget(names: Iterable[str]) -> None:
    """Remove modules from this process, so that their next import runs the current files."""
    for name in names:
        module = sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        # If the package stays loaded, `from package import child` would find the old module in it.
        held = vars_of(sys.modules.get(parent))
        if held.get(child) is module and module is not None:
            delattr(sys.modules[parent], child)
    importlib.invalidate_caches()
