"""Plain `pip install actstore`, without the libraries of any extra: stores are read, and commands say what to add."""

from __future__ import annotations

import io
import json
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path

import pytest

from actstore.errors import EXTRAS, ActstoreError, MissingError, needing
from actstore.store.opening import open_store
from actstore.tables.build import build_table, write_table
from actstore.tables.findings import TABLES

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Runs first in a process, where libraries can then not be imported.
HIDE = """
import sys

class Hidden:
    names = {names}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""
READ = """
import io
import json
import warnings
import actstore
warnings.simplefilter("error")
store = actstore.open(sys.argv[1])
opened = [name for name in sys.modules if name.startswith(("actstore.spec", "actstore.data", "actstore.cluster"))]
assert not opened, opened
assert len(store.layers) and len(store.samples) and len(store.conditions) and store.tree

from actstore import analysis
mad = analysis.mad(store["L01"])
assert mad.chunks and mad.compute().shape == mad.shape

from actstore.tables.build import build_table, write_table
from actstore.tables.findings import TABLES
tables = {}
for name in (name for name, table in TABLES.items() if "classes" not in table.needs):
    text = io.BytesIO()
    write_table(build_table(store, name), text)
    tables[name] = text.getvalue().decode()
print(json.dumps(tables))
"""
COMMAND = "from actstore.cli.commands import main; main(sys.argv[1:])"

COMMANDS = """
from actstore.cli.commands import main
for name, *more in ["status"], ["verify"], ["reduce"], ["table", "surface"]:
    try:
        main([name, sys.argv[1], *more])
    except SystemExit as ended:
        assert not ended.code, name
"""


def without(libraries: Collection[str], code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``code`` prints in a process that does not find ``libraries``."""
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(names=set(libraries)) + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.process
def test_a_store_is_read_and_every_table_is_written_without_an_extra(study_store: Path) -> None:
    """But for neighbours, which scikit-learn searches."""
    plain = without({*EXTRAS} - {"sklearn"}, READ, study_store)
    assert plain.returncode == 0, plain.stderr
    tables = json.loads(plain.stdout)
    assert tables.keys() == {name for name, table in TABLES.items() if "classes" not in table.needs}
    assert all(text.count("\n") > 1 for text in tables.values())
    store = open_store(study_store)
    for name in ("dice", "frequency", "segmentation", "association"):
        text = io.BytesIO()
        write_table(build_table(store, name), text)
        assert text.getvalue().decode() == tables[name], name


@pytest.mark.process
def test_commands_that_only_read_a_store_need_no_extra(tiny_copy: Path) -> None:
    finished = without(EXTRAS, COMMANDS, tiny_copy)
    assert finished.returncode == 0, finished.stderr


#: What a command needs, and what it says without: command, subject, library, extra.
LACKING = [
    ("capture SPEC", "capture", "torch", "capture"),
    ("plan SPEC", "plan", "torch", "capture"),
    ("layers SPEC", "layers", "torch", "capture"),
    ("demo --folder NEW", "demo", "torch", "capture"),
    ("demo --folder NEW", "demo", "bokeh", "views"),
    ("phantom NEW", "phantom", "nibabel", "capture"),
    ("report STORE -o NEW", "report", "jinja2", "views"),
    ("explore STORE", "explore", "panel", "views"),
    ("table STORE neighbours -o NEW.csv", "the search for neighbours", "sklearn", "representations"),
    ("table STORE dice -o NEW.parquet", "a .parquet file", "pyarrow", "parquet"),
    ("status s3://bucket/a.zarr", "a store at a URL", "obstore", "s3"),
]
#: Each command in a child of its own, which lacks one library; what a plain installation has is loaded before, without
#: any extra.
LACK = """
import contextlib
import io
import json
import os
import traceback
import warnings
import actstore.cli.commands
import actstore.store.opening
# NumPy's threads rest.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

for number, (library, *words) in enumerate(json.loads(sys.argv[1])):
    if not (child := os.fork()):
        ended, output, errors = None, io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            Hidden.names = {library}
            try:
                actstore.cli.commands.main(words)
            except SystemExit as exit:
                ended = exit.code
            except BaseException:
                traceback.print_exc()
        with open(os.path.join(sys.argv[2], f"{number}.json"), "w", encoding="utf-8") as file:
            json.dump([ended, output.getvalue(), errors.getvalue()], file)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, words
"""


@pytest.fixture(scope="module")
def lacking(tiny_store: Path, tiny_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with status, output and errors of each command of ``LACKING``, and with what it wrote."""
    folder = tmp_path_factory.mktemp("lacking")
    tasks = []
    for number, (command, _, library, _) in enumerate(LACKING):
        (folder / f"{number}").mkdir()
        named = {"SPEC": str(tiny_spec), "STORE": str(tiny_store), "NEW": str(folder / f"{number}" / "new")}
        words = [re.sub("SPEC|STORE|NEW", lambda found, named=named: named[found[0]], word) for word in command.split()]
        tasks.append([library, *words])
    finished = without(EXTRAS, LACK, json.dumps(tasks), folder)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    return folder


@pytest.mark.process
@pytest.mark.parametrize("number", range(len(LACKING)), ids=[f"{case[0]}-{case[2]}" for case in LACKING])
def test_a_command_says_which_extra_it_lacks(lacking: Path, number: int) -> None:
    _, subject, library, extra = LACKING[number]
    said = f"actstore: {subject} needs {library}, which is not installed: pip install 'actstore[{extra}]'\n"
    assert json.loads((lacking / f"{number}.json").read_text(encoding="utf-8")) == [1, "", said]
    assert not list((lacking / f"{number}").iterdir())


@pytest.mark.parametrize(
    ("kind", "library"), [("slurm", "dask_jobqueue"), ("cuda", "dask_cuda"), ("kubernetes", "dask_kubernetes")]
)
def test_a_cluster_says_which_extra_it_lacks(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, library: str
) -> None:
    from actstore.jobs.capture import capture
    from actstore.spec.spec import load_spec

    # Another test may have imported its modules, and what imports them.
    for name in [library, *(name for name in sys.modules if name.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "actstore.cluster.slurm", raising=False)
    text = tiny_spec.read_text(encoding="utf-8")
    manifest = tmp_path / "cluster.yaml"
    manifest.touch()
    spec = tmp_path / "spec.toml"
    spec.write_text(f'{text}[cluster.kubernetes]\nmanifest = "{manifest}"\n', encoding="utf-8")
    message = f"cluster '{kind}' needs {library}, which is not installed: pip install 'actstore[{kind}]'"
    with pytest.raises(MissingError, match=re.escape(message)):
        capture(load_spec(spec), store=tmp_path / "a.zarr", cluster=kind, device="cpu")


@pytest.mark.process
def test_from_python_too() -> None:
    code = "import actstore\ntry:\n    actstore.capture\nexcept ImportError as error:\n    print(error)"
    assert without(["torch"], code).stdout == (
        "actstore.capture needs torch, which is not installed: pip install 'actstore[capture]'\n"
    )


def test_the_error_is_of_both_kinds_and_survives_pickling() -> None:
    with pytest.raises(MissingError, match="this needs torch, which") as failed, needing("this"):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert isinstance(failed.value, ActstoreError)
    assert str(pickle.loads(pickle.dumps(failed.value))) == str(failed.value)


def test_what_no_extra_brings_is_left_as_it_was() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'mine'"), needing("this"):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")


def test_every_library_of_an_extra_is_known_by_it() -> None:
    with PYPROJECT.open("rb") as file:
        project = tomllib.load(file)["project"]
    plain = {_module(requirement) for requirement in project["dependencies"]}
    extras = {name: set(map(_module, some)) for name, some in project["optional-dependencies"].items()}
    for library, extra in EXTRAS.items():
        assert library in extras[extra], library
        assert library not in plain, library
    users = set().union(*(extras[name] for name in set(EXTRAS.values())))
    assert users - set(EXTRAS) == {"actstore"}


def _module(requirement: str) -> str:
    name = re.split(r"[\[<>=;~ ]", requirement)[0].replace("-", "_")
    return {"scikit_image": "skimage", "scikit_learn": "sklearn", "pillow": "PIL"}.get(name, name)
