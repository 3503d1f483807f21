"""Fixtures that several test modules share: a tiny data set, a tiny network's spec and a captured tiny store."""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

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
    *("PYTHONWARNINGS", "PYTHONUNBUFFERED", "MPLBACKEND", "SLOW_NETWORK_PAUSE", "SLOW_NETWORK_HELD", "HUNGRY_INPUTS"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"),
)
FOREIGN_BEGIN = ("AWS_", "DASK_", "BOKEH_", "PANEL_")
for _name in list(os.environ):
    if _name.upper() in FOREIGN or _name.startswith(FOREIGN_BEGIN):
        del os.environ[_name]
# Not on a machine that is there for its GPU and has little else.
if importlib.util.find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # The same examples at every run, however slow or busy the machine is: `--hypothesis-profile=search` looks for
    # others.
    settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("steady", settings.get_profile("search"), derandomize=True)
    settings.load_profile("steady")

#: Modules that take a quarter of a minute or more, the longest first: at the end no process waits for the other's.
LONG = (
    *("test_kills", "test_report", "test_explorer_browser", "test_explorer_accessible", "test_notebooks"),
    *("test_captured_trained", "test_memory", "test_docs", "test_views", "test_reference", "test_optima_views"),
    *("test_s3", "test_interrupt", "test_odd_stores", "test_main_guard", "test_captured_channels"),
    *("test_visualise", "test_metrics"),
    *(
        "test_explorer",
        "test_explorer_likeness",
        "test_golden",
        "test_persisted",
        "test_ring",
        "test_code",
        "test_explain",
    ),
    *("test_patched_views", "test_resume", "test_explorer_parts", "test_bad_input", "test_light", "test_rescaling"),
    *("test_terminals", "test_record", "test_cli", "test_planted", "test_verify", "test_models", "test_unchanged"),
    *("test_nnunet_pipeline", "test_store", "test_report_browser"),
)
#: A test is of the tier of what it takes.
FIXTURE_MARKERS = {"chromium": "browser", "study_report": "slow", "explained": "slow"}


def pytest_configure(config: pytest.Config) -> None:
    # Bits are compared between captures, some of which choose their device: on a GPU they would be others.
    if not re.search(r"(?<!not )\bgpu\b", config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Imports make millions of objects that stay: none of them is looked through."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name, marker in FIXTURE_MARKERS.items():
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(marker)
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


class WriteSpec(Protocol):
    """Writes ``spec.toml`` into a folder. ``data__patients=[…]`` sets ``data.patients``; ``None`` takes a key out."""

    def __call__(self, folder: Path, /, **changes: Any) -> Path: ...


class Once(Protocol):
    """Fills a folder of the given name, the first time in a run of the suite; returns the folder."""

    def __call__(self, name: str, fill: Callable[[Path], object], /) -> Path: ...


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Folders that the processes of a run share, so that none of them captures what another one has."""
    base = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each process a folder in that of the run.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def made(name: str, fill: Callable[[Path], object], /) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def phantom_root(once: Once) -> Path:
    """Two patients, four volumes, in ACDC's layout. Not to be changed: ``phantom_copy`` is."""
    return once("phantom", lambda folder: write_phantom(folder / "acdc", patients=2, seed=247)) / "acdc"


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
        size = changes.get("data__preprocess__size", (changes.get("data__preprocess") or {}).get("size", ()))
        if len(size) == 3:
            # Slices lie along the first axis, as in 2D.
            content["data"].setdefault("axes", "simpleitk")
        # The network is not trained, so that its predictions do not fit.
        content.setdefault("run", {}).setdefault("check", "off")
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


def _captured(spec: Path) -> None:
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete, summary.failed


@pytest.fixture(scope="session")
def tiny_spec(once: Once, write_spec: WriteSpec) -> Path:
    """The spec of ``tiny_store``."""
    return once("tiny", lambda folder: _captured(write_spec(folder))) / "spec.toml"


@pytest.fixture(scope="session")
def tiny_store(tiny_spec: Path) -> Path:
    """A captured store of four blocks. Not to be changed: ``tiny_copy`` is."""
    return tiny_spec.with_name("tiny.zarr")


@pytest.fixture
def tiny_copy(tiny_store: Path, tmp_path: Path) -> Path:
    """The captured store, once more, to damage."""
    return Path(shutil.copytree(tiny_store, tmp_path / "tiny.zarr"))


@pytest.fixture(scope="session")
def study_store(once: Once, write_spec: WriteSpec) -> Path:
    """Five patients, LV and RV at three strengths each, controls, repeats, and what each job adds: every answer."""
    from planted_optima import plant

    def fill(folder: Path) -> None:
        from actstore.jobs.explain import explain
        from actstore.jobs.intervene import intervene
        from actstore.spec.spec import load_spec

        explanations = [
            {"name": "slope", "method": "gradient", "targets": ["LV", "RV"], "deletion": 8, "randomisation": [1, 3]},
            {"name": "top", "method": "guided", "layers": ["bottom.1"], "top": 2, "randomisation": [1]},
        ]
        darkened = {"edit": "patch", "into": ["brightness(LV, 0.1)"]}
        interventions = [
            {"name": "restore", **darkened},
            {"name": "remove", "edit": "zero", "layers": ["bottom.1"], "samples": 4},
            {"name": "grow", **darkened, "channels": "cumulative", "samples": 4},
        ]
        write_phantom(folder / "data", patients=PATIENTS, seed=3)
        spec = write_spec(
            folder,
            data__root=folder / "data",
            perturb=[{"transform": "brightness", "targets": ["LV", "RV"], "strengths": [0.1, 0.5, 1.5]}],
            controls={"region": True, "noise": True},
            explain=explanations,
            intervene=interventions,
        )
        _captured(spec)
        plant(folder / "tiny.zarr")
        assert explain(load_spec(spec), cluster="inline", device="cpu")[-1].complete
        assert intervene(load_spec(spec), cluster="inline", device="cpu")[-1].complete

    return once("study", fill) / "tiny.zarr"


@pytest.fixture(scope="session")
def explained(once: Once, tiny_store: Path, write_spec: WriteSpec) -> Path:
    """The captured tiny store with explanations. Not to be changed."""

    def fill(folder: Path) -> None:
        from actstore.jobs.explain import explain
        from actstore.spec.spec import load_spec
        from explanations import EXPLANATIONS

        store = shutil.copytree(tiny_store, folder / "tiny.zarr")
        found = explain(
            load_spec(write_spec(folder, store__path=store, explain=EXPLANATIONS)), cluster="inline", device="cpu"
        )
        assert found[-1].complete, found[-1].failed[:1]
        assert [one.group for one in found] == [f"explain/{one['name']}" for one in EXPLANATIONS]
        assert all(one.done == 4 for one in found)

    return once("explained", fill) / "tiny.zarr"


@pytest.fixture(scope="session")
def classified_store(once: Once, write_spec: WriteSpec) -> Path:
    """A classifier's store: twelve images of three classes in two blocks, two classes perturbed. Not to be changed."""

    def fill(folder: Path) -> None:
        from classifiers import spec_tables, write_images

        write_images(folder / "images")
        tables = spec_tables(folder / "images", images={"group": 8})
        tables["perturb"] = [{"transform": "noise", "targets": ["ring", "disc"], "strengths": [0.5]}]
        explanations = [
            {"name": "slope", "method": "gradient", "deletion": 6, "randomisation": [1]},
            {"name": "back", "method": "deconvnet", "layers": ["second"], "top": 2, "randomisation": []},
        ]
        _captured(write_spec(folder, **tables, explain=explanations, run__batch_size=5))

    return once("classified", fill) / "tiny.zarr"


@pytest.fixture(scope="session")
def volume_store(once: Once, write_spec: WriteSpec) -> Path:
    """A 3D network's store of two volumes of 8 x 32 x 32; its second layer has 4 slices."""

    def fill(folder: Path) -> None:
        spec = write_spec(
            folder,
            data__patients=["patient001"],
            data__preprocess__size=[8, 32, 32],
            model__factory="networks:Volumes",
            model__layers=["type:InstanceNorm3d"],
        )
        _captured(spec)

    return once("volumes", fill) / "tiny.zarr"


@pytest.fixture(scope="session")
def study_report(once: Once, study_store: Path) -> Path:
    """The report of ``study_store``, its data beside it."""
    from actstore.store.opening import open_store
    from actstore.views.report.write import write_report

    folder = once("study_report", lambda folder: write_report(open_store(study_store), folder / "report.html"))
    return folder / "report.html"


@pytest.fixture(scope="session")
def reference_store(once: Once, write_spec: WriteSpec) -> Path:
    """Patients 001 and 002 of the reference data, the worked example, by the reference network."""
    from reference import capture_reference

    return once("reference", lambda folder: capture_reference(folder, write_spec, "nnunet")) / "tiny.zarr"


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
