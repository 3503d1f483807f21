"""The Examples of docstrings: every public function has one, and it gives what it says."""

from __future__ import annotations

import doctest
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import actstore
from actstore import Findings, Store, analysis, views
from conftest import WriteSpec

pytestmark = pytest.mark.slow


def public() -> Iterator[tuple[str, Any]]:
    for package in (actstore, analysis, views):
        for name in dir(package) if package is actstore else package.__all__:
            found = getattr(package, name)
            if callable(found) and not (inspect.isclass(found) and issubclass(found, Exception)):
                yield f"{package.__name__}.{name}", found
    for name, method in inspect.getmembers(Store, inspect.isfunction):
        if not name.startswith("_"):
            yield f"Store.{name}", method
    yield "Store.__getitem__", Store.__getitem__
    yield "Findings.table", Findings.table


PUBLIC = dict(public())


@pytest.fixture(scope="module")
def names(study_store: Path, classified_store: Path) -> dict[str, Any]:
    """What the reference says that examples start with."""
    store = actstore.open(study_store)
    return {
        "actstore": actstore,
        "analysis": analysis,
        "views": views,
        "xr": xr,
        "store": store,
        "classified": actstore.open(classified_store),
        "findings": Findings(store, resamples=50),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Path:
    """Where ``run.toml`` lies, and its store with one patient."""
    made = tmp_path_factory.mktemp("examples")
    spec = write_spec(
        made,
        data__patients=["patient001"],
        store__path="run.zarr",
        explain=[{"name": "slope", "method": "gradient", "targets": ["LV"], "randomisation": []}],
        intervene=[{"name": "restore", "edit": "patch", "into": ["brightness(LV, 0.1)"], "layers": ["down.1"]}],
        visualise={"layers": ["down.0"], "channels": [0], "steps": 2},
    )
    spec = spec.rename(made / "run.toml")
    assert actstore.capture(actstore.load_spec(spec), cluster="inline").complete
    return made


@pytest.mark.parametrize("name", PUBLIC)
def test_an_example_gives_what_it_says(
    name: str, names: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    text = inspect.getdoc(PUBLIC[name]) or ""
    example = doctest.DocTestParser().get_doctest(text, dict(names), name, None, None)
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append, clear_globs=False)
    assert not said, "".join(said)


SOURCES = Path(actstore.__file__).parent
#: Modules whose helpers have examples of their own.
HELPERS = ["actstore.data.nnunet", "actstore.geometry", "actstore.units"]


def test_helpers_with_examples_are_tested_here() -> None:
    homes = {found.__module__ for found in PUBLIC.values()}
    shown = {
        ".".join(("actstore", *path.relative_to(SOURCES).with_suffix("").parts))
        for path in SOURCES.rglob("*.py")
        if ">>>" in path.read_text(encoding="utf-8")
    }
    assert shown - homes == set(HELPERS)


@pytest.mark.parametrize("module", HELPERS)
def test_an_example_of_a_helper_gives_what_it_says(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
