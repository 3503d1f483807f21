"""Loads code that is not installed, and remembers the digest of the exact bytes that ran.

Python's own loader runs cached bytecode if a file's time and size are unchanged, so that after two edits within a
second it may run the old code.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from importlib.machinery import (
    BuiltinImporter,
    ExtensionFileLoader,
    FrozenImporter,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

#: Called with name, file and digest of code before it runs, when only known code may run.
guard: ContextVar[Callable[[str, str, str], None] | None] = ContextVar("guard", default=None)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class RecordedSource(SourceFileLoader):
    """Compiles the source without the bytecode cache, and remembers its digest."""

    content: bytes | None = None

    def get_code(self, fullname: str) -> CodeType:
        return self._compiled(fullname, self.get_data(self.get_filename(fullname)))

    def exec_module(self, module: ModuleType) -> None:
        content = self.get_data(self.get_filename(module.__name__))
        _remember(self, module.__name__, content)
        self.content = content
        exec(self._compiled(module.__name__, content), module.__dict__)

    def _compiled(self, fullname: str, content: bytes) -> CodeType:
        code: CodeType = self.source_to_code(content, self.get_filename(fullname))
        return code


class Bytecode(SourcelessFileLoader):
    """A ``.pyc`` without its source."""

    def exec_module(self, module: ModuleType) -> None:
        _remember(self, module.__name__, self.get_data(self.get_filename(module.__name__)))
        super().exec_module(module)


class Extension(ExtensionFileLoader):
    """A compiled library, which a process loads only once."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _remember(self, spec.name, Path(self.path).read_bytes())
        return super().create_module(spec)


_LOADERS: Mapping[type, type[RecordedSource] | type[Bytecode] | type[Extension]] = {
    SourceFileLoader: RecordedSource,
    SourcelessFileLoader: Bytecode,
    ExtensionFileLoader: Extension,
}
#: By module name: the module's loader, and the digest of what it loaded.
_loaded: dict[str, tuple[object, str]] = {}


def _remember(loader: RecordedSource | Bytecode | Extension, name: str, content: bytes) -> None:
    digest = sha256(content)
    if check := guard.get():
        check(name, str(loader.path), digest)
    _loaded[name] = loader, digest


class Finder:
    """Finds what `PathFinder` finds, but only code that is not installed."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name):
            return None
        found = PathFinder.find_spec(name, path, target)  # type: ignore[arg-type]
        if found is None or is_installed(found):
            return None
        loader = _LOADERS.get(type(found.loader))
        if loader is None or found.origin is None:
            return None
        found.loader = loader(name, found.origin)
        return found


def install_finder() -> None:
    """From now on, import code that is not installed with the loaders above."""
    if Finder not in sys.meta_path:
        # Before the finder that it replaces, after finders that change how modules are loaded.
        place = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
        sys.meta_path.insert(place, Finder)


def loaded_digest(name: str) -> str | None:
    """SHA-256 of the loaded module's code; None if another loader loaded it."""
    known = _loaded.get(name)
    if known is None or name not in sys.modules:
        return None
    # A module may put another object in its place, which need not have a spec.
    spec = vars_of(sys.modules[name]).get("__spec__")
    return known[1] if spec is None or spec.loader is known[0] else None


def loaded_source(name: str) -> bytes | None:
    """The source that ran, if known."""
    if loaded_digest(name) is None:
        return None
    loader = _loaded[name][0]
    return loader.content if isinstance(loader, RecordedSource) else None


def loaded_names() -> list[str]:
    """Modules in this process whose code is known."""
    return [name for name in list(_loaded) if loaded_digest(name) is not None]


def vars_of(module: object) -> Mapping[str, Any]:
    """The module's ``__dict__``; attribute access would trigger lazy imports."""
    found: Mapping[str, Any] = getattr(module, "__dict__", {})
    return found


def entry_of(name: str, file: Path) -> Path:
    """The path entry from which the module of that name and file was imported."""
    return entry_above(str(file.parent), name.count(".") + (file.name.partition(".")[0] == "__init__"))


@cache
def entry_above(folder: str, depth: int) -> Path:
    """The path entry of a module in ``folder``, so many packages deep."""
    folders = Path(folder), *Path(folder).parents
    return folders[min(depth, len(folders) - 1)]


def is_installed(spec: ModuleSpec) -> bool:
    """Whether a module comes with Python, with actstore or from an installed package."""
    if not spec.has_location or spec.origin is None:
        return spec.submodule_search_locations is None
    file = Path(spec.origin)
    return any(_is_installed(place, entry_of(spec.name, place)) for place in {file, file.resolve()})


def holds_installed(folder: Path, file: Path) -> bool:
    """Whether a file below ``folder`` belongs to an installed package, judged by its location."""
    entries = [entry for entry in file.parents if entry != folder and entry.is_relative_to(folder)] or [file.parent]
    return any(_is_installed(place, entry) for place in {file, file.resolve()} for entry in entries)


#: The spec's folder, which never counts as a place for installed packages.
beside: Path | None = None


def _is_installed(file: Path, entry: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(file.parts) or any(file.is_relative_to(f) for f in _installed()):
        return True
    return entry != beside and _holds_packages(entry)


@cache
def _installed() -> tuple[Path, ...]:
    schemes = ("stdlib", "platstdlib", "purelib", "platlib")
    return (*(Path(sysconfig.get_path(name)).resolve() for name in schemes), Path(__file__).resolve().parents[1])


@cache
def _holds_packages(entry: Path) -> bool:
    """Whether ``pip install --target`` wrote to ``entry``."""
    return any(entry.glob("*.dist-info"))
