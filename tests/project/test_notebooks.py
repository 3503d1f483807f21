"""The notebooks: paired with their scripts, run to the end, and tidy as they are committed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import jupytext
import nbformat
import pytest
from jupyter_client.provisioning import local_provisioner
from nbformat import NotebookNode

from forked import KERNEL, Forked, forked

pytestmark = pytest.mark.docs

FOLDER = Path(__file__).parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))
#: Those that show the phantom, and are committed with what they show.
SHOWN = [script for script in SCRIPTS if script.stem != "02_cardiac_study"]
STUDY = FOLDER / "02_cardiac_study.py"
LARGEST = 10**6
#: As a kernel itself says to matplotlib, which here is imported before there is one.
INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
#: Of the notebooks' spec, when they run here.
SMALLER = {
    "size = [128, 128]": "size = [64, 64]",
    "patients = 5": "patients = 2",
    "channels = [0, 1, 2, 3, 4, 5, 6, 7]": "channels = [0, 1, 2]",
    "steps = 64": "steps = 4",
    "top = 25": "top = 7",
}


@pytest.fixture(scope="module")
def kernels() -> Iterator[None]:
    """Each notebook in a kernel of its own, forked from a process that has imported what notebooks import."""

    def launch(command: list[str], *, env: dict[str, str], cwd: str, **_: object) -> Forked:
        assert command[1:3] == ["-m", "ipykernel_launcher"]
        with Path(os.devnull).open("wb") as null:
            return forked(*command[2:], environment={**env, **INLINE}, output=null, modules=KERNEL, folder=cwd)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in INLINE.items():
            patch.setenv(name, value)
        patch.setattr(local_provisioner, "launch_kernel", launch)
        yield


@pytest.fixture(scope="module")
def build(kernels: None) -> ModuleType:
    """What writes the notebooks."""
    spec = spec_from_file_location("build_notebooks", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebooks' folder, copied: they write into the folder above it. The study is smaller than where they ran."""
    copy = Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("study") / "notebooks"))
    spec = (copy / "phantom.toml").read_text(encoding="utf-8")
    for theirs, mine in SMALLER.items():
        assert spec.count(theirs) == 1
        spec = spec.replace(theirs, mine)
    (copy / "phantom.toml").write_text(spec, encoding="utf-8")
    return copy


def committed(script: Path) -> NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def kinds(notebook: NotebookNode) -> set[str]:
    """Types of what the outputs show."""
    return {kind for output in outputs(notebook) for kind in output.get("data", {})}


def printed(notebook: NotebookNode) -> str:
    return "".join(output.text for output in outputs(notebook) if output.get("name") == "stdout")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebook_is_its_script(script: Path) -> None:
    """`make notebooks` writes them again."""
    mine, theirs = jupytext.read(script), committed(script)
    assert [(cell.cell_type, cell.source) for cell in theirs.cells] == [(c.cell_type, c.source) for c in mine.cells]
    assert script.with_suffix(".ipynb").stat().st_size < LARGEST


def test_notebooks_have_a_script_each() -> None:
    assert len(SCRIPTS) >= 3
    assert [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] == [script.stem for script in SCRIPTS]


@pytest.mark.parametrize("script", SHOWN, ids=lambda script: script.stem)
def test_what_is_committed_reads_well(script: Path) -> None:
    """Ran in order and to the end, shows figures, and nothing of the machine it ran on."""
    notebook = committed(script)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    assert counts == list(range(1, len(counts) + 1))
    assert "image/png" in kinds(notebook)
    assert kinds(notebook) <= {"image/png", "text/plain", "text/html"}
    for output in outputs(notebook):
        assert output.output_type in ("stream", "display_data", "execute_result")
        assert output.get("name") != "stderr"
        shown = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
        for text in shown:
            assert not re.search(r"(?<![\w.])/(home|root|tmp|work|usr|opt|var|mnt|Users)/|PosixPath|localhost", text)


def test_patients_data_are_not_committed() -> None:
    assert outputs(committed(STUDY)) == []


@pytest.mark.parametrize("script", SHOWN, ids=lambda script: script.stem)
def test_notebook_runs(script: Path, folder: Path, build: ModuleType) -> None:
    """One after another; the first to run captures, the others find its store."""
    notebook = build.run(folder / script.name, folder)
    assert kinds(notebook) == kinds(committed(script))


def test_study_without_data_says_what_to_do(tmp_path: Path, build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTSTORE_STORE", str(tmp_path / "none.zarr"))
    notebook = build.run(STUDY, tmp_path)
    assert "Follow the three steps above" in printed(notebook)
    assert len(outputs(notebook)) == 1


@pytest.mark.skipif("ACTSTORE_REFERENCE" not in os.environ, reason="ACTSTORE_REFERENCE names no folder with real data")
def test_study_runs_on_real_data(
    tmp_path: Path, build: ModuleType, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only where there are data.
    monkeypatch.setenv("ACTSTORE_STORE", str(request.getfixturevalue("reference_store")))
    notebook = build.run(STUDY, tmp_path)
    assert "40 slices of 2 patients, 21 layers" in printed(notebook)
    assert len([kind for output in outputs(notebook) for kind in output.get("data", {}) if kind == "image/png"]) == 2
