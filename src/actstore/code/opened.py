"""Watches for code files that are opened to be executed or loaded by path, which no import statement shows."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

from actstore.code.loading import holds_installed

#: Called with the path of a code file before this thread opens it.
watch: ContextVar[Callable[[str], None] | None] = ContextVar("watch", default=None)
_installed = False


def install_hook() -> None:
    """Call `watch` from now on. Python cannot remove an audit hook."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[object, ...], watch: ContextVar[Callable[[str], None] | None] = watch) -> None:
    # At exit the names of this module are gone, and objects may still open files: `watch` is bound, and unset by then.
    if event not in ("open", "import", "ctypes.dlopen"):
        return
    see = watch.get()
    if see is None:
        return
    file = args[1] if event == "import" else args[0]
    if not isinstance(file, str | bytes | os.PathLike):
        return
    name = os.fsdecode(file)
    if event == "open":
        flags = args[2]
        is_written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) == os.O_WRONLY
        if is_written or not name.endswith((".py", ".pyc")):
            return
    # Files that the watcher itself opens are not the run's code.
    token = watch.set(None)
    try:
        see(name)
    finally:
        watch.reset(token)


def key_below(folder: Path, file: str) -> str | None:
    """Path relative to ``folder``, as ``./lib/x.py``, of uninstalled code below it.

    No module can have such a name.
    """
    folder = folder.resolve()
    given = os.path.abspath(file)
    for place in (given, os.path.realpath(given)):
        if Path(place).is_relative_to(folder):
            if holds_installed(folder, Path(place)) or not os.path.isfile(place):
                return None
            return f"./{Path(place).relative_to(folder).as_posix()}"
    return None


def refuse_bytecode(folder: Path, file: str) -> None:
    """Make Python's own loader read the source of a file below ``folder`` instead of its cached bytecode.

    The bytecode may belong to an earlier source of the same size, saved within the same second.

    Raises
    ------
    FileNotFoundError
        for such bytecode, so that the loader compiles the source.
    """
    try:
        source = importlib.util.source_from_cache(file)
    except (ValueError, NotImplementedError):
        return
    if key_below(folder, source) is not None:
        raise FileNotFoundError(f"{file}: its source is read instead")


def is_file_key(name: str) -> bool:
    """Whether a key of the digests is a path from `key_below`, not a module name."""
    return name.startswith("./")


def is_looked_up() -> bool:
    """Whether source lines are being read for display or for a function's frame; that code is already running."""
    return "linecache" in _callers()


def is_shown() -> bool:
    """Whether source lines are being read for a warning or a traceback."""
    return not {"warnings", "traceback", "logging"}.isdisjoint(_callers())


def _callers() -> set[str]:
    """Names of the modules on this thread's call stack."""
    found, frame = set(), sys._getframe(1)
    while frame is not None:
        found.add(str(frame.f_globals.get("__name__")))
        frame = frame.f_back  # type: ignore[assignment]
    return found
