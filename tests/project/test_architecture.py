"""The page and the picture of the rooms, held against the folders and against the contract of imports."""

from __future__ import annotations

import ast
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import actstore

ROOT = Path(__file__).parents[2]
PACKAGE = Path(actstore.__file__).parent
ROOMS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
MODULES = {path.stem for path in PACKAGE.glob("*.py")}


def layers() -> list[list[str]]:
    """Rooms of the contract, each floor's names, the top floor first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    floors = settings["contracts"][0]["layers"]
    return [[name.removeprefix("actstore.") for name in floor.split(" | ")] for floor in floors]


def test_the_contract_names_every_room_and_every_shared_word() -> None:
    named = {name for floor in layers() for name in floor}
    assert named == ROOMS | (MODULES - {"__init__", "models"})
    assert len(MODULES) <= 8


def test_the_picture_shows_the_rooms_in_the_order_of_the_contract() -> None:
    picture = (ROOT / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")
    shown = re.findall(r'<text [^>]*y="(\d+)"[^>]*><tspan font-weight="600">(\w+)</tspan>', picture)
    heights = {name: int(height) for height, name in shown}
    floors = layers()
    assert heights.keys() == {name for floor in floors for name in floor}
    for above, below in pairwise(floors):
        assert max(heights[name] for name in above) <= min(heights[name] for name in below)


def test_the_page_describes_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    for room in ROOMS:
        assert any(f"`{room}/`" in row.split("|")[1] for row in rows), room
    for module in MODULES - {"__init__"}:
        assert f"`{module}`" in page, module


def test_modules_that_the_pages_name_are_there() -> None:
    for name in ("docs/architecture.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(
            r"`((?:store|jobs|tables|views|measures|inputs|networks|tests)/[\w/]+(?:\.py)?)/?`", text
        ):
            found = (ROOT if path.startswith("tests/") else PACKAGE) / path
            assert found.exists() or found.with_suffix(".py").exists(), f"{name}: {path}"


def test_tests_that_the_makefile_names_are_there() -> None:
    paths = re.findall(r"\btests/[\w/]+(?:\.py)?", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_no_module_imports_through_a_facade() -> None:
    """A package's ``__init__`` that only passes on names of its modules serves users, not the package."""
    facades = {
        ".".join(init.parent.relative_to(PACKAGE.parent).parts)
        for init in PACKAGE.rglob("__init__.py")
        if not _defined(ast.parse(init.read_text(encoding="utf-8")))
    }
    assert {"actstore", "actstore.analysis", "actstore.views"} <= facades
    through = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in facades:
                folder = PACKAGE.parent.joinpath(*node.module.split("."))
                through += [
                    f"{path.relative_to(PACKAGE)}: {node.module}.{alias.name}"
                    for alias in node.names
                    if not ((folder / alias.name).is_dir() or (folder / f"{alias.name}.py").exists())
                    or f"{node.module}.{alias.name}" in facades
                ]
    assert [line for line in through if not line.endswith("actstore.__version__")] == []


def _defined(module: ast.Module) -> list[str]:
    """Functions and classes of ``module`` but ``__getattr__`` and ``__dir__``, which pass names on."""
    defined = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in defined if name not in ("__getattr__", "__dir__")]


def test_modules_of_tests_have_names_of_their_own() -> None:
    """pytest imports them by their bare names, and refuses the second of a name that the same process has met."""
    names = [path.stem for path in (ROOT / "tests").rglob("test_*.py")]
    assert [name for name in set(names) if names.count(name) > 1] == []
