"""The digests of the code that a run imports: what ran is what the store records, on every worker.

Modules beside the spec are imported anew where a file changed. Others are refused then: more than
the run may hold on to them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import psutil

from actstore.code.closure import Found, Modules
from actstore.code.imports import add_folder, forget, lies_beside, loaded_beside
from actstore.code.loading import guard, loaded_digest, loaded_names, sha256
from actstore.errors import SpecError


@dataclass
class _Planned:
    """The code of the last plan of this process."""

    #: Folder, roots and arguments of the factory: what decides which modules are imported.
    key: tuple[Path, tuple[str, ...], str]
    #: Digest of each module that the sources name, by the files as they were before they were imported.
    files: dict[str, str]
    #: Digest of each module, once the run is planned.
    code: dict[str, str] | None = None


_planned: _Planned | None = None


def load_code(folder: Path, names: Iterable[str], arguments: Mapping[str, Any]) -> None:
    """Let the modules of ``names`` be imported as their files are now. `code_digests` then says what was imported.

    Everything beside the spec is forgotten unless it is what this process imported for the same ``names`` before.

    Raises
    ------
    SpecError
        if a file that is not beside the spec, or is a compiled library, changed since this process imported it; if
        another module hides one that lies beside the spec.
    """
    global _planned
    add_folder(folder)
    roots = tuple(sorted({name.partition(":")[0] for name in names if ":" in name}))
    modules = Modules()
    found = modules.closure(roots)
    key = (folder, roots, json.dumps(arguments, sort_keys=True, default=repr))
    files = {name: module.digest() for name, module in found.items()}
    for module in (*found.values(), *filter(None, map(modules.locate, roots))):
        _refuse_another(folder, module)
    for name, module in found.items():
        if name in sys.modules and not _is_reloadable(folder, module):
            _refuse_changed(module, files[name])
    code = _planned.code if _planned is not None and (_planned.key, _planned.files) == (key, files) else None
    if code is None or any(_is_stale(folder, modules, name, digest) for name, digest in code.items()):
        _planned = None
        _import_anew(folder, found.values())
        _planned = _Planned(key, files)


def code_digests() -> dict[str, str]:
    """SHA-256 of the source of each module that the planned run imports and that is not installed, by module name.

    Such code, beside the spec or on the path, decides stored numbers as the spec does and has no version of its own.
    What is installed is left out: its versions are in the store's attributes.

    Raises
    ------
    SpecError
        if it cannot be known what the process imported.
    """
    if _planned is None:
        return {}
    if _planned.code is None:
        folder, roots, _ = _planned.key
        modules = Modules()
        found = modules.closure(roots, loaded=True)
        for name in loaded_names():
            # Imported by a name that only running shows.
            module = None if name in found else modules.find(name)
            if module is not None and lies_beside(folder, name, module.file):
                found |= modules.closure([name], loaded=True)
        _planned.code = {name: _digest(module) for name, module in sorted(found.items())}
    return dict(_planned.code)


@contextmanager
def known_code(folder: Path, code: Mapping[str, str]) -> Iterator[None]:
    """Import, in this thread, only the ``code`` that a run was planned with, as `code_digests` returned it.

    Raises
    ------
    SpecError
        where a module is another one.
    """

    def check(name: str, file: str, digest: str) -> None:
        if name in code and digest != code[name]:
            raise SpecError(_is_another(file, digest, code[name]))
        if name not in code and lies_beside(folder, name, Path(file)):
            raise SpecError(
                f"{file} is imported while the run computes, by a name that planning did not meet, so that its digest "
                "is not stored: import it at the top of the module that needs it"
            )

    token = guard.set(check)
    try:
        yield
    finally:
        guard.reset(token)


def require_code(folder: Path, code: Mapping[str, str]) -> None:
    """See that this process has, or will import, the ``code`` that a run was planned with.

    Raises
    ------
    SpecError
        naming the first file that is another.
    """
    add_folder(folder)
    modules = Modules()
    stale: list[Found] = []
    for name, planned in code.items():
        if loaded_digest(name) == planned:
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
            if not _is_reloadable(folder, module):
                _refuse_changed(module, digest)
            else:
                stale.append(module)
    if stale:
        _import_anew(folder, stale)


def _is_another(file: str, digest: str, planned: str) -> str:
    return (
        f"{file} on this worker is not the file the run was planned with: sha256 {digest[:12]}, planned "
        f"{planned[:12]}; restore it, or capture to another store"
    )


def _digest(module: Found) -> str:
    """Of what was imported, or will be."""
    known = loaded_digest(module.name)
    if known is not None:
        return known
    digest = module.digest()
    if module.name in sys.modules:
        _refuse_changed(module, digest)
    return digest


def _refuse_changed(module: Found, digest: str) -> None:
    """Refuse a module of which this process imported, or may have imported, other code than the file has now."""
    known = loaded_digest(module.name)
    if known is not None and known != digest:
        raise SpecError(f"{module.file} changed since this process imported it: restart the kernel, or the worker")
    if known is None and module.file is not None and module.file.is_file():
        status = module.file.stat()
        if max(status.st_mtime, status.st_ctime) > _process_start():
            raise SpecError(
                f"{module.file} may have changed since this process imported it, for it was written after the process "
                "began: restart the kernel, or the worker"
            )


def _refuse_another(folder: Path, module: Found) -> None:
    """Refuse a module that hides one of its name beside the spec."""
    if module.file is None or lies_beside(folder, module.name, module.file):
        return
    own = folder.joinpath(*module.name.split("."))
    for file in (own / "__init__.py", own.with_name(f"{own.name}.py")):
        if file.is_file() and sha256(file.read_bytes()) != module.digest():
            raise SpecError(
                f"{module.name!r} is {module.file}, which comes first on the path, and not {file} beside the spec: "
                "rename one of them"
            )


def _is_stale(folder: Path, modules: Modules, name: str, digest: str) -> bool:
    """Whether a module beside the spec is not, or would not be imported, as it was planned."""
    module = modules.find(name)
    if module is None or module.file is None:
        return True
    if not lies_beside(folder, name, module.file):
        return False
    return module.digest() != digest or (name in sys.modules and loaded_digest(name) != digest)


def _is_reloadable(folder: Path, module: Found) -> bool:
    return lies_beside(folder, module.name, module.file) and not _is_compiled(module.file)


def _is_compiled(file: Path | None) -> bool:
    return file is not None and file.name.endswith(tuple(EXTENSION_SUFFIXES))


def _import_anew(folder: Path, modules: Iterable[Found]) -> None:
    """Forget what this process has of ``modules`` that lie beside the spec, and all else from there.

    Their next import runs the files as they are.

    Raises
    ------
    SpecError
        if a compiled library, which stays, may hold on to one that changed.
    """
    there = loaded_beside(folder)
    compiled = [file for file in there.values() if file is not None and _is_compiled(file)]
    if compiled:
        for name, file in there.items():
            if file is not None and file.is_file() and loaded_digest(name) != sha256(file.read_bytes()):
                raise SpecError(
                    f"{file} changed since this process imported it, and {compiled[0]} may use it, which a process "
                    "loads once: restart the kernel, or the worker"
                )
    forget({name for name, file in there.items() if not _is_compiled(file)})
    # Of the same name, from a folder that is no longer on the path.
    forget({module.name for module in modules if _is_reloadable(folder, module)})


@cache
def _process_start() -> float:
    """Seconds since the epoch when this process began, by the clock that files are dated with.

    By the time since boot, for `psutil` knows the moment of boot to the second only.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return psutil.Process().create_time()
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
