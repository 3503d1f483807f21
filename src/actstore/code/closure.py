"""Finds in the source which uninstalled modules a module imports, also inside functions, and recursively."""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from actstore.code.loading import is_installed, loaded_source, sha256, vars_of


@dataclass(frozen=True)
class FoundModule:
    """A module as found on the path now, whatever is loaded."""

    name: str
    spec: ModuleSpec

    @property
    def file(self) -> Path | None:
        """The file of its code; None for a package without ``__init__``."""
        return Path(self.spec.origin) if self.spec.has_location and self.spec.origin else None

    @property
    def is_package(self) -> bool:
        return self.spec.submodule_search_locations is not None

    @property
    def is_namespace(self) -> bool:
        """Whether it is a package without ``__init__``."""
        return self.is_package and self.file is None

    def read(self) -> bytes:
        """Bytes of the file, which may be inside an archive."""
        read = getattr(self.spec.loader, "get_data", None)
        content: bytes = read(self.spec.origin) if read else Path(str(self.spec.origin)).read_bytes()
        return content

    def digest(self) -> str:
        return sha256(self.read())


class Modules:
    """Looks up modules on the path without importing them; caches each name."""

    def __init__(self) -> None:
        importlib.invalidate_caches()
        self._known: dict[str, FoundModule | None] = {}
        #: Installed modules that `closure` met and did not follow.
        self.installed: dict[str, FoundModule] = {}

    def find(self, name: str) -> FoundModule | None:
        """The module of that name, if it exists and is not installed."""
        found = self.locate(name)
        return None if found is None or is_installed(found.spec) else found

    def locate(self, name: str) -> FoundModule | None:
        """The module of that name, if it exists."""
        if name not in self._known:
            self._known[name] = self._located(name)
        return self._known[name]

    def _located(self, name: str) -> FoundModule | None:
        parent = name.rpartition(".")[0]
        folders: Sequence[str] | None = None
        if parent:
            package = self.locate(parent)
            if package is None or not package.is_package:
                return None
            folders = _folders(package)
        for finder in sys.meta_path:
            find: Any = getattr(finder, "find_spec", None)
            spec = find(name, folders) if find else None
            if spec is not None:
                return FoundModule(name, spec)
        return None

    def closure(self, roots: Iterable[str], *, loaded: bool = False) -> dict[str, FoundModule]:
        """``roots`` and everything that they import, recursively, that is not installed and has a file.

        ``loaded`` follows the imports of the loaded code, which may differ from the files.
        """
        seen: dict[str, FoundModule | None] = {}
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            parts = name.split(".")
            for n in range(1, len(parts) + 1):
                part = ".".join(parts[:n])
                if part in seen:
                    if seen[part] is None:
                        break
                    continue
                seen[part] = found = self.find(part)
                if found is None:
                    installed = self.locate(part)
                    if installed is not None:
                        self.installed[part] = installed
                    break
                if found.file is not None and found.file.suffix == ".py":
                    content = (loaded_source(part) if loaded else None) or found.read()
                    waiting += imported_names(content, part, is_package=found.is_package)
        return {name: found for name, found in seen.items() if found is not None and found.file is not None}


def _folders(package: FoundModule) -> Sequence[str] | None:
    """Folders with a package's modules; the package may have added some when it was imported."""
    own = vars_of(sys.modules.get(package.name)).get("__path__") if package.file else None
    folders = package.spec.submodule_search_locations
    return list(dict.fromkeys([*(folders or ()), *(own if isinstance(own, list) else ())]))


@lru_cache(256)
def imported_names(source: bytes, name: str, *, is_package: bool) -> tuple[str, ...]:
    """Dotted names that a module's source may import anywhere; some may be names inside modules.

    ``name`` is the module's own name, which resolves relative imports.
    """
    return tuple(_imported(source, name, is_package))


def _imported(source: bytes, name: str, is_package: bool) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            if base is not None:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            value = node.args[0].value
            if called in ("import_module", "__import__") and isinstance(value, str):
                base = _absolute(value, package)
                if base:
                    yield base


def _absolute(name: str, package: str) -> str | None:
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return None
