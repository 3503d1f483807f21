"""Handles code that changed since this process imported it: reimports it if it lies next to the spec, else refuses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import psutil

from actstore.code.closure import FoundModule
from actstore.code.imports import forget, lies_beside, loaded_beside
from actstore.code.loading import loaded_digest, sha256
from actstore.errors import SpecError


def refuse_changed(module: FoundModule, digest: str) -> None:
    """Refuse a module whose file may have changed since this process imported it."""
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


def refuse_another(folder: Path, module: FoundModule) -> None:
    """Refuse a module that hides a module of the same name next to the spec."""
    if module.is_namespace or lies_beside(folder, module.name, module.file):
        return
    own = folder.joinpath(*module.name.split("."))
    for file in (own / "__init__.py", own.with_name(f"{own.name}.py")):
        if not file.is_file() or (module.file is not None and sha256(file.read_bytes()) == module.digest()):
            continue
        place = (
            "part of Python, which comes first"
            if module.file is None
            else f"{module.file}, which comes first on the path"
        )
        raise SpecError(f"{module.name!r} is {place}, and not {file} beside the spec: rename one of them")


def is_reloadable(folder: Path, module: FoundModule) -> bool:
    return lies_beside(folder, module.name, module.file) and not _is_compiled(module.file)


def _is_compiled(file: Path | None) -> bool:
    return file is not None and file.name.endswith(tuple(EXTENSION_SUFFIXES))


def import_anew(folder: Path, modules: Iterable[FoundModule]) -> None:
    """Forget the ``modules`` that lie next to the spec, and all other modules from there.

    Their next import runs the current files.

    Raises
    ------
    SpecError
        if a compiled library, which cannot be unloaded, may use a changed module.
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
    # Also modules of the same name from a folder that is no longer on the path.
    forget({module.name for module in modules if is_reloadable(folder, module)})


@cache
def _process_start() -> float:
    """Start of this process in seconds since the epoch, by the clock of file times.

    Computed from the time since boot, because `psutil` knows the boot time only to the second.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return psutil.Process().create_time()
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
