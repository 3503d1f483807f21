"""Digests of the code that a run imports, so that the store records what ran on every worker.

If a file changed, modules next to the spec are imported again. Other changed modules are refused, since other
code in the process may use them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from actstore.code.changed import import_anew, is_reloadable, refuse_another, refuse_changed
from actstore.code.closure import FoundModule, Modules
from actstore.code.imports import add_folder, lies_beside
from actstore.code.loading import guard, loaded_digest, loaded_names, sha256, vars_of
from actstore.code.opened import (
    install_hook,
    is_file_key,
    is_looked_up,
    is_shown,
    key_below,
    refuse_bytecode,
    watch,
)
from actstore.errors import SpecError


@dataclass
class _Planned:
    """The code of the last plan of this process."""

    #: Folder, roots and arguments of the factory; these decide which modules are imported.
    key: tuple[Path, tuple[str, ...], str]
    #: Digest of each module that the sources name, from the files before they were imported.
    files: dict[str, str]
    #: Digest of each code file below the folder that was opened since, by its path.
    opened: dict[str, str] = field(default_factory=dict)
    #: Digest of each module and each other file, once the run is planned.
    code: dict[str, str] | None = None


_planned: _Planned | None = None
#: Digest of each code file below a spec's folder, as this process last opened it for a run.
_read: dict[Path, str] = {}


def load_code(folder: Path, names: Iterable[str], arguments: Mapping[str, Any]) -> None:
    """Let the modules of ``names`` be imported from their current files. `code_digests` returns what was imported.

    Until then, record code files below ``folder`` that this thread opens, to load them by path or to execute them.
    Forget all modules next to the spec, unless they are unchanged since this process imported them for the same
    ``names``.

    Raises
    ------
    SpecError
        if a file that is not next to the spec, or is a compiled library, changed since this process imported it; if
        another module hides one next to the spec.
    """
    global _planned
    add_folder(folder)
    roots = tuple(sorted({name.partition(":")[0] for name in names if ":" in name}))
    modules = Modules()
    found = modules.closure(roots)
    key = (folder, roots, json.dumps(arguments, sort_keys=True, default=repr))
    files = {name: module.digest() for name, module in found.items()}
    for module in (*found.values(), *modules.installed.values()):
        refuse_another(folder, module)
    for name, module in found.items():
        if name in sys.modules and not is_reloadable(folder, module):
            refuse_changed(module, files[name])
    code = _planned.code if _planned is not None and (_planned.key, _planned.files) == (key, files) else None
    if code is None or any(_is_stale(folder, modules, name, digest) for name, digest in code.items()):
        _planned = None
        import_anew(folder, found.values())
        _planned = _Planned(key, files)
    install_hook()
    watch.set(_noting(folder, _planned) if _planned is not None and _planned.code is None else None)


def _noting(folder: Path, planned: _Planned) -> Callable[[str], None]:
    def see(file: str) -> None:
        refuse_bytecode(folder, file)
        key = key_below(folder, file)
        if key is None or is_looked_up():
            return
        digest = _opened(folder, key)
        if planned.opened.setdefault(key, digest) != digest:
            raise SpecError(f"{file} changed while the run was planned: plan again")

    return see


def _opened(folder: Path, key: str) -> str:
    """Digest of a file before it is opened."""
    file = folder.resolve() / key
    digest = sha256(file.read_bytes())
    if file.suffix != ".py" and _read.get(file, digest) != digest:
        raise SpecError(f"{file} changed since this process loaded it: restart the kernel, or the worker")
    _read[file] = digest
    return digest


def code_digests() -> dict[str, str]:
    """SHA-256 of the source of each module that the planned run imports and that is not installed, by module name.

    Other code below the spec's folder that was opened during planning is listed by path, as ``./lib/x.py``.

    Such code decides stored numbers as the spec does and has no version number. Installed packages are left out: their
    versions are in the store's attributes.

    Raises
    ------
    SpecError
        if it is unknown what the process imported.
    """
    watch.set(None)
    if _planned is None:
        return {}
    if _planned.code is None:
        folder, roots, _ = _planned.key
        modules = Modules()
        found = modules.closure(roots, loaded=True)
        for name in loaded_names():
            # Imported by a name computed at run time.
            module = None if name in found else modules.find(name)
            if module is not None and lies_beside(folder, name, module.file):
                found |= modules.closure([name], loaded=True)
        code = {name: _digest(module) for name, module in found.items()}
        others = _planned.opened | _still_loaded(folder)
        for key in _keys(folder, found.values()):
            others.pop(key, None)
        _planned.code = dict(sorted((code | others).items()))
    return dict(_planned.code)


def _still_loaded(folder: Path) -> dict[str, str]:
    """Files that an earlier plan opened and that stay loaded as modules, since they are not next to the spec."""
    found = {}
    for name in loaded_names():
        file, digest = vars_of(sys.modules.get(name)).get("__file__"), loaded_digest(name)
        key = key_below(folder, file) if isinstance(file, str) else None
        if key is not None and digest is not None and folder.resolve() / key in _read:
            found[key] = digest
    return found


def _keys(folder: Path, modules: Iterable[FoundModule]) -> dict[str, str]:
    """Name of each module whose file lies below ``folder``, by that file's key."""
    keys = ((key_below(folder, str(module.file)), module.name) for module in modules)
    return {key: name for key, name in keys if key is not None}


@contextmanager
def known_code(folder: Path, code: Mapping[str, str]) -> Iterator[None]:
    """Let this thread import or open only the ``code`` of the plan, as `code_digests` returned it.

    Raises
    ------
    SpecError
        if other code is imported or opened; on exit, if the importing code caught that error.
    """
    refused: list[SpecError] = []

    def refuse(message: str) -> NoReturn:
        refused.append(SpecError(message))
        raise refused[-1]

    def check(name: str, file: str, digest: str) -> None:
        if name in code and digest != code[name]:
            refuse(_is_another(file, digest, code[name]))
        if name not in code and lies_beside(folder, name, Path(file)):
            refuse(_is_unplanned(file))

    @cache
    def of_modules() -> dict[str, str]:
        modules = Modules()
        return _keys(folder, filter(None, (modules.locate(name) for name in code if not is_file_key(name))))

    def see(file: str) -> None:
        refuse_bytecode(folder, file)
        key = key_below(folder, file)
        if key is None or is_shown():
            return
        planned = code.get(key) or code.get(of_modules().get(key, ""))
        if planned is None:
            if not is_looked_up():
                refuse(_is_unplanned(file))
            return
        digest = sha256((folder.resolve() / key).read_bytes())
        if digest != planned:
            refuse(_is_another(file, digest, planned))
        _opened(folder, key)

    install_hook()
    token, watching = guard.set(check), watch.set(see)
    try:
        yield
    finally:
        guard.reset(token)
        watch.reset(watching)
    if refused:
        raise refused[0]


def require_code(folder: Path, code: Mapping[str, str]) -> None:
    """Check that this process has, or will import, the ``code`` that a run was planned with.

    Raises
    ------
    SpecError
        naming the first file that differs.
    """
    add_folder(folder)
    modules = Modules()
    stale: list[FoundModule] = []
    files = {name: planned for name, planned in code.items() if is_file_key(name)}
    for name, planned in files.items():
        file = folder.resolve() / name
        if not file.is_file():
            raise SpecError(f"{file} that the run was planned with is not there: put it there on every machine")
        digest = sha256(file.read_bytes())
        if digest != planned:
            raise SpecError(_is_another(str(file), digest, planned))
        if _read.get(file, planned) != planned:
            # Any module may still hold what it once read there.
            stale += modules.closure(name for name in code if name not in files).values()
    for name, planned in code.items():
        if name in files or loaded_digest(name) == planned:
            continue
        module = modules.find(name)
        if module is None or module.file is None:
            raise SpecError(
                f"module {name!r} that the run was planned with is not found on this worker: put it beside the spec, "
                "or where it is on the path, on every machine"
            )
        digest = module.digest()
        if digest != planned:
            raise SpecError(_is_another(str(module.file), digest, planned))
        if name in sys.modules:
            if not is_reloadable(folder, module):
                refuse_changed(module, digest)
            else:
                stale.append(module)
    if stale:
        import_anew(folder, stale)


def _is_unplanned(file: str) -> str:
    return (
        f"{file} is imported or opened while the run computes, and was not while it was planned, so that its digest is "
        "not stored: import or load it at the top of the module that needs it"
    )


def _is_another(file: str, digest: str, planned: str) -> str:
    return (
        f"{file} on this worker is not the file the run was planned with: sha256 {digest[:12]}, planned "
        f"{planned[:12]}; restore it, or capture to another store"
    )


def _digest(module: FoundModule) -> str:
    """Digest of the code that was or will be imported."""
    known = loaded_digest(module.name)
    if known is not None:
        return known
    digest = module.digest()
    if module.name in sys.modules:
        refuse_changed(module, digest)
    return digest


def _is_stale(folder: Path, modules: Modules, name: str, digest: str) -> bool:
    """Whether a loaded or importable module next to the spec, or a file, differs from the plan."""
    if is_file_key(name):
        file = folder.resolve() / name
        return not file.is_file() or sha256(file.read_bytes()) != digest
    module = modules.find(name)
    if module is None or module.file is None:
        return True
    if not lies_beside(folder, name, module.file):
        return False
    return module.digest() != digest or (name in sys.modules and loaded_digest(name) != digest)
