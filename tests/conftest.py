"""Fixtures that several test modules share: a tiny data set, a tiny network's spec and a captured tiny store."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from actstore.data.phantom import write_phantom

TESTS = Path(__file__).parent
#: Modules that tests share, and the networks that specs name as ``networks:…``.
SUPPORT = TESTS / "support"
#: Of ``study_store``.
PATIENTS = 5
#: A browser of the system, for where `playwright install chromium` brought none.
CHROMIUM = os.environ.get("ACTSTORE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

#: Of the user's environment: what makes programs draw, colour or wrap otherwise, and what leads to other servers and
#: devices. Processes that tests start inherit what is left.
FOREIGN = (
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("PYTHONWARNINGS", "MPLBACKEND", "SLOW_NETWORK_PAUSE", "SLOW_NETWORK_HELD", "HUNGRY_INPUTS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
)
FOREIGN_BEGIN = ("AWS_", "DASK_", "BOKEH_", "PANEL_")
for _name in list(os.environ):
    if _name.upper() in FOREIGN or _name.startswith(FOREIGN_BEGIN):
        del os.environ[_name]
# The same examples at every run, however slow or busy the machine is: `--hypothesis-profile=search` looks for others.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("search"), derandomize=True)
settings.load_profile("steady")

#: Modules that take a minute or more: begun first, so that at the end no process waits for the other's.
LONG = ("test_kills", "test_report", "test_explorer_browser", "test_notebooks", "test_report_browser", "test_interrupt")


def pytest_configure(config: pytest.Config) -> None:
    # Bits are compared between captures, some of which choose their device: on a GPU they would be others.
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


class WriteSpec(Protocol):
    """Writes ``spec.toml`` into a folder. ``data__patients=[…]`` sets ``data.patients``; ``None`` takes a key out."""

    def __call__(self, folder: Path, /, **changes: Any) -> Path: ...


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients, four volumes, in ACDC's layout. Not to be changed: ``phantom_copy`` is."""
    root = tmp_path_factory.mktemp("phantom") / "acdc"
    write_phantom(root, patients=2, seed=7)
    return root


@pytest.fixture
def phantom_copy(phantom_root: Path, tmp_path: Path) -> Path:
    """The data set, once more, to damage."""
    return Path(shutil.copytree(phantom_root, tmp_path / "phantom"))


@pytest.fixture(scope="session")
def write_spec(phantom_root: Path) -> WriteSpec:
    """A spec of the tiny network at 64 x 64 on the tiny data set, with changes."""

    def write(folder: Path, /, **changes: Any) -> Path:
        content: dict[str, Any] = {
            "data": {
                "format": "acdc",
                "root": str(phantom_root),
                "preprocess": {"size": [64, 64]},
                "classes": {"RV": 1, "MYO": 2, "LV": 3},
            },
            "model": {"factory": "networks:tiny_unet", "layers": ["type:InstanceNorm2d"]},
            "perturb": [{"transform": "brightness", "targets": ["LV", "RV"], "strengths": [0.1]}],
            "store": {"path": "tiny.zarr"},
            "run": {"threads": 1, "retries": 0},
        }
        for name, value in changes.items():
            *tables, key = name.split("__")
            table = content
            for part in tables:
                table = table.setdefault(part, {})
            if value is None:
                table.pop(key, None)
            else:
                table[key] = str(value) if isinstance(value, Path) else value
        path = folder / "spec.toml"
        path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in content.items()), encoding="utf-8")
        return path

    return write


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


@pytest.fixture(scope="session")
def tiny_spec(write_spec: WriteSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of ``tiny_store``."""
    return write_spec(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_store(tiny_spec: Path) -> Path:
    """A captured store of four blocks. Not to be changed: ``tiny_copy`` is."""
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    summary = capture(load_spec(tiny_spec), cluster="inline", device="cpu")
    assert summary.complete
    return summary.store


@pytest.fixture
def tiny_copy(tiny_store: Path, tmp_path: Path) -> Path:
    """The captured store, once more, to damage."""
    return Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))


@pytest.fixture(scope="session")
def study_store(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Path:
    """Five patients, LV and RV at three strengths each, their controls, and repeats: it answers every question."""
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    folder = tmp_path_factory.mktemp("study")
    write_phantom(folder / "data", patients=PATIENTS, seed=3)
    spec = write_spec(
        folder,
        data__root=folder / "data",
        perturb=[{"transform": "brightness", "targets": ["LV", "RV"], "strengths": [0.1, 0.5, 1.5]}],
        controls={"region": True, "noise": True},
    )
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return Path(summary.store)


@pytest.fixture(scope="session")
def volume_store(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec) -> Path:
    """A 3D network's store of two volumes of 8 x 32 x 32; its second layer has 4 slices."""
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    spec = write_spec(
        tmp_path_factory.mktemp("volumes"),
        data__patients=["patient001"],
        data__preprocess__size=[8, 32, 32],
        model__factory="networks:Volumes",
        model__layers=["type:InstanceNorm3d"],
    )
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed
    return Path(summary.store)


@pytest.fixture(scope="session")
def study_report(study_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of ``study_store``, its data beside it."""
    from actstore.store.store import open_store
    from actstore.views.report.write import write_report

    return write_report(open_store(study_store), tmp_path_factory.mktemp("study_report") / "report.html")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser without a window.

    Not for the whole session: playwright's event loop runs as long as it does, and no other can run beside it.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install '.[dev]'")
    with playwright.sync_playwright() as started:
        own = Path(started.chromium.executable_path)
        if not own.exists() and CHROMIUM is None:
            pytest.skip("no Chromium: run `playwright install chromium`, or name one in ACTSTORE_CHROMIUM")
        path = None if own.exists() else CHROMIUM
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to ``sys.path`` goes with it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
