"""Sees files of code that are opened: read and executed, or loaded by their path, which no import statement shows."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

from actstore.code.loading import holds_installed

#: Called with the path of code before it is opened, in this thread.
watch: ContextVar[Callable[[str], None] | None] = ContextVar("watch", default=None)
_installed = False


def install_hook() -> None:
    """Let `watch` be called from now on. A hook stays as long as the process."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[object, ...]) -> None:
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
    # What is opened in here is no code of the run's.
    token = watch.set(None)
    try:
        see(name)
    finally:
        watch.reset(token)


def key_below(folder: Path, file: str) -> str | None:
    """Path relative to ``folder``, as ``./lib/x.py``, of code that lies below it and is not installed.

    No module has such a name.
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
    """Let Python's own loader read the source of a file below ``folder``, not the bytecode that it keeps of it.

    That may be of another source of the same size and second.

    Raises
    ------
    FileNotFoundError
        for such bytecode: the loader then compiles the source.
    """
    try:
        source = importlib.util.source_from_cache(file)
    except (ValueError, NotImplementedError):
        return
    if key_below(folder, source) is not None:
        raise FileNotFoundError(f"{file}: its source is read instead")


def is_file_key(name: str) -> bool:
    """Whether a name among the digests is `key_below` rather than a module's."""
    return name.startswith("./")


def is_looked_up() -> bool:
    """Whether lines of source are being read to show them, or by a function's frame: code that already runs."""
    return "linecache" in _callers()


def is_shown() -> bool:
    """Whether lines of source are being read to show them with a warning or a traceback."""
    return not {"warnings", "traceback", "logging"}.isdisjoint(_callers())


def _callers() -> set[str]:
    """Names of the modules whose functions are running in this thread."""
    found, frame = set(), sys._getframe(1)
    while frame is not None:
        found.add(str(frame.f_globals.get("__name__")))
        frame = frame.f_back  # type: ignore[assignment]
    return found
