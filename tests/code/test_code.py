"""Which code a run imports: what ran is what is digested, with all that it imports, and workers run no other."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import actstore
from actstore.code import loading
from actstore.code.digests import code_digests, known_code, load_code, require_code
from actstore.code.imports import add_folder, resolve_callable
from actstore.errors import SpecError, StoreError
from actstore.jobs.capture import capture
from actstore.jobs.plan.plan import Plan, make_plan
from actstore.jobs.runner import run_unit
from actstore.spec.spec import load_spec
from actstore.store.fingerprint import differences
from attended import prepare_store
from conftest import WriteSpec
from processes import loopback

TRANSFORM = """
from {helper} import factor
def dim(image, mask, *, strength, **_):
    result = image.copy()
    result[mask] *= factor
    return result
"""


@pytest.fixture(autouse=True)
def _forget_folder(tmp_path: Path) -> Iterator[None]:
    yield
    add_folder(tmp_path / "nothing")


def sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def planned(folder: Path, *roots: str, **arguments: Any) -> dict[str, str]:
    """What a run would record of ``roots``, which are imported as planning does."""
    load_code(folder, [f"{root}:f" for root in roots], arguments)
    for root in roots:
        importlib.import_module(root)
    return code_digests()


def plan_of(spec: Path, **more: Any) -> Plan:
    return make_plan(load_spec(spec), device="cpu", timing=False, **more)


class TestOneProcess:
    def test_an_edited_file_runs_anew_whatever_its_time_and_size(self, tmp_path: Path) -> None:
        """Bytecode that Python cached is valid by the file's time in whole seconds and its size."""
        file = tmp_path / "mine.py"
        file.write_text("value = 1\n")
        status = file.stat()
        sys.path.append(str(tmp_path))
        assert importlib.import_module("mine").value == 1, "by Python's own loader, with its bytecode"
        file.write_text("value = 2\n")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert planned(tmp_path, "mine") == {"mine": sha(file)}
        assert sys.modules["mine"].value == 2
        file.write_text("value = 3\n")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert planned(tmp_path, "mine") == {"mine": sha(file)}
        assert sys.modules["mine"].value == 3

    def test_unchanged_code_is_imported_once(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("import helper\n")
        (tmp_path / "helper.py").write_text("")
        first = planned(tmp_path, "mine")
        module = sys.modules["mine"]
        assert planned(tmp_path, "mine") == first
        assert sys.modules["mine"] is module

    def test_whoever_imports_an_edited_helper_is_imported_anew(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("from package.part import value\n")
        (tmp_path / "package").mkdir()
        part = tmp_path / "package" / "part.py"
        for value in (1, 2):
            part.write_text(f"value = {value}\n")
            assert planned(tmp_path, "mine") == {"mine": sha(tmp_path / "mine.py"), "package.part": sha(part)}
            assert sys.modules["mine"].value == value
        (tmp_path / "package" / "__init__.py").write_text("")
        assert "package" in planned(tmp_path, "mine")

    def test_a_package_that_takes_a_modules_place_is_seen(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("import helper\n")
        (tmp_path / "helper.py").write_text("value = 1\n")
        planned(tmp_path, "mine")
        (tmp_path / "helper").mkdir()
        (tmp_path / "helper" / "__init__.py").write_text("value = 2\n")
        assert planned(tmp_path, "mine")["helper"] == sha(tmp_path / "helper" / "__init__.py")
        assert sys.modules["helper"].value == 2

    def test_a_module_from_a_folder_that_left_the_path_is_no_longer_used(self, tmp_path: Path) -> None:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "mine.py").write_text(f"place = {name!r}\n")
        sys.path.append(str(tmp_path / "first"))
        importlib.import_module("mine")
        sys.path.pop()
        assert planned(tmp_path / "second", "mine") == {"mine": sha(tmp_path / "second" / "mine.py")}
        assert sys.modules["mine"].place == "second"

    def test_modules_found_only_by_running_are_digested(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("import importlib\nimportlib.import_module('hel' + 'per')\n")
        (tmp_path / "helper.py").write_text("import further\n")
        (tmp_path / "further.py").write_text("")
        (tmp_path / "other.py").write_text("")
        assert planned(tmp_path, "mine").keys() == {"mine", "helper", "further"}
        importlib.import_module("other")
        assert planned(tmp_path, "mine").keys() == {"mine", "helper", "further"}
        # Loaded by another run of this process, it is found all the same.
        assert planned(tmp_path, "helper").keys() == {"helper", "further"}
        assert planned(tmp_path, "mine").keys() == {"mine", "helper", "further"}

    def test_what_is_installed_has_no_digest(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text("import json, numpy, actstore.inputs.perturb\n")
        installed = tmp_path / ".venv" / "lib" / "site-packages"
        installed.mkdir(parents=True)
        (installed / "of_venv.py").write_text("")
        sys.path.append(str(installed))
        (tmp_path / "second.py").write_text("import of_venv\n")
        assert planned(tmp_path, "mine", "second").keys() == {"mine", "second"}
        assert planned(tmp_path, "actstore.models") == {}

    def test_bytecode_without_its_source_is_digested(self, tmp_path: Path) -> None:
        import py_compile

        source = tmp_path / "mine.py"
        source.write_text("value = 1\n")
        py_compile.compile(str(source), cfile=str(tmp_path / "mine.pyc"), doraise=True)
        source.unlink()
        assert planned(tmp_path, "mine") == {"mine": sha(tmp_path / "mine.pyc")}

    def test_a_module_elsewhere_on_the_path_is_refused_once_it_changed(self, tmp_path: Path) -> None:
        project, folder = tmp_path / "project", tmp_path / "spec"
        project.mkdir()
        folder.mkdir()
        (project / "far.py").write_text("import farther\n")
        (project / "farther.py").write_text("value = 1\n")
        sys.path.append(str(project))
        try:
            first = planned(folder, "far")
            assert first == {name: sha(project / f"{name}.py") for name in ("far", "farther")}
            (project / "farther.py").write_text("value = 2\n")
            with pytest.raises(
                SpecError, match=r"farther\.py changed since this process imported it: restart the kern"
            ):
                planned(folder, "far")
        finally:
            for name in ("far", "farther"):
                del sys.modules[name]
        # Imported by Python's own loader, after the process began: nothing says whether the file is what ran.
        place = sys.meta_path.index(loading.Finder)
        del sys.meta_path[place]
        try:
            importlib.import_module("far")
            with pytest.raises(SpecError, match=r"far\.py may have changed since this process imported it.*restart"):
                planned(folder, "far")
        finally:
            sys.meta_path.insert(place, loading.Finder)
            for name in ("far", "farther"):
                sys.modules.pop(name, None)

    def test_a_module_that_hides_one_beside_the_spec_is_refused(self, tmp_path: Path) -> None:
        first, folder = tmp_path / "first", tmp_path / "spec"
        for place in (first, folder):
            place.mkdir()
            (place / "mine.py").write_text(f"place = {place.name!r}\n")
        sys.path.insert(0, str(first))
        with pytest.raises(
            SpecError, match=r"'mine' is \S*first/mine\.py, which comes first on the path, and not \S*spec"
        ):
            planned(folder, "mine")
        (folder / "json.py").write_text("")
        with pytest.raises(SpecError, match=r"'json' is .*rename one of them"):
            planned(folder, "json")

    def test_the_running_script_is_no_module_of_workers(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        with pytest.raises(SpecError, match="workers cannot import what a running script or notebook defines"):
            plan_of(write_spec(tmp_path, model__factory="__main__:network"))

    def test_a_module_that_captures_when_it_is_imported_is_refused(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        spec = write_spec(tmp_path, model__factory="study:network")
        (tmp_path / "study.py").write_text(
            f"import actstore\nactstore.capture(actstore.load_spec({str(spec)!r}), cluster='inline')\n"
        )
        with pytest.raises(SpecError, match=r"'study:network' .*put that behind `if __name__ == \"__main__\":`"):
            capture(load_spec(spec), cluster="inline", device="cpu")


class TestWorkers:
    def test_code_that_changed_after_planning_does_not_run(self, tmp_path: Path) -> None:
        """A worker that starts late: nothing is loaded there, and the file is another."""
        file = tmp_path / "mine.py"
        file.write_text("value = 1\n")
        code = planned(tmp_path, "mine")
        file.write_text("value = 2\n")
        require_code(tmp_path, code)  # This process runs what was planned.
        add_folder(tmp_path / "nothing")
        with pytest.raises(
            SpecError, match=rf"mine\.py on this worker is not the file .*: sha256 {sha(file)[:12]}, pla"
        ):
            require_code(tmp_path, code)
        file.unlink()
        with pytest.raises(SpecError, match="module 'mine' that the run was planned with is not found on this worker"):
            require_code(tmp_path, code)

    def test_a_worker_that_lives_on_imports_the_planned_code(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text("def f(): return 1\n")
        planned(tmp_path, "mine")
        file.write_text("def f(): return 2\n")
        code = {"mine": sha(file)}
        with pytest.raises(SpecError, match="on this worker is not the file"), known_code(tmp_path, code):
            resolve_callable("mine:f", "transform")
        require_code(tmp_path, code)
        with known_code(tmp_path, code):
            assert resolve_callable("mine:f", "transform")() == 2

    def test_a_module_imported_in_a_function_is_checked_when_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(
            "def f(name='helper'):\n    import importlib\n    import helper\n    return importlib.import_module(name)\n"
        )
        (tmp_path / "helper.py").write_text("value = 1\n")
        (tmp_path / "other.py").write_text("")
        code = planned(tmp_path, "mine")
        assert code.keys() == {"mine", "helper"}
        require_code(tmp_path, code)
        (tmp_path / "helper.py").write_text("value = 2\n")
        with known_code(tmp_path, code):
            f = resolve_callable("mine:f", "transform")
        with pytest.raises(SpecError, match=r"helper\.py on this worker is not the file"), known_code(tmp_path, code):
            f()
        (tmp_path / "helper.py").write_text("value = 1\n")
        with (
            pytest.raises(SpecError, match=r"other\.py is imported or opened while the run computes.*is not stored"),
            known_code(tmp_path, code),
        ):
            f("other")
        assert f("other").__name__ == "other", "elsewhere it is imported as ever"

    def test_an_edit_during_a_run_gives_no_store_of_two_codes(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(TRANSFORM.format(helper="helper"))
        (tmp_path / "helper.py").write_text("factor = 0.5\n")
        perturb = [{"transform": "mine:dim", "targets": ["LV"], "strengths": [1.0]}]
        plan, todo = prepare_store(plan_of(write_spec(tmp_path, perturb=perturb)))
        assert plan.job.code.keys() == {"mine", "helper", "networks"}
        add_folder(tmp_path / "nothing")  # Another process.
        (tmp_path / "helper.py").write_text("factor = 0.9\n")
        report = run_unit(plan.task, todo[0])
        assert "helper.py on this worker is not the file the run was planned with" in report.error
        other = replace(plan.task, job=replace(plan.job, code={}))
        assert run_unit(other, todo[0]).failed


@pytest.fixture(params=["inline", "long-lived worker"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "inline":
        yield "inline"
        return
    with loopback(tmp_path / "dask", workers=1) as dask:
        yield dask.address


@pytest.mark.process
def test_a_second_capture_in_one_process_runs_the_edited_helper(
    write_spec: WriteSpec, tmp_path: Path, cluster: str
) -> None:
    (tmp_path / "mine.py").write_text(TRANSFORM.format(helper="helper"))
    (tmp_path / "networks_here.py").write_text(
        "import torch\nfrom networks import TinyUNet\ndef network():\n    torch.manual_seed(1)\n    return TinyUNet()\n"
    )
    helper = tmp_path / "helper.py"
    found = {}
    for name, factor in (("a", 0.1), ("b", 0.9)):
        helper.write_text(f"factor = {factor}\n")
        spec = write_spec(
            tmp_path,
            data__patients=["patient001"],
            model__factory="networks_here:network",
            store__keep="statistics",
            perturb=[
                {"transform": "mine:dim", "targets": ["LV"], "strengths": [1.0]},
                {"transform": "brightness", "targets": ["LV"], "strengths": [factor]},
            ],
        )
        store = tmp_path / f"{name}.zarr"
        assert capture(load_spec(spec), store=store, cluster=cluster, device="cpu").complete
        opened = actstore.open(store)
        mad = opened.statistics("L01")["mad"].values
        assert np.nanmax(mad) > 0
        np.testing.assert_allclose(mad[:, 1], mad[:, 2], rtol=1e-3, err_msg="the built-in one of that factor")
        found[name] = opened.attributes["identity"]["code"]
        assert found[name]["helper"] == sha(helper)
        assert set(found[name]) == {"mine", "helper", "networks_here", "networks"}
    assert {key for key in found["a"] if found["a"][key] != found["b"][key]} == {"helper"}
    helper.write_text("factor = 0.3\n")
    with pytest.raises(StoreError, match=r"b\.zarr belongs to another run: another spec \(code\.helper: "):
        capture(load_spec(spec), store=store, cluster=cluster, device="cpu")


def test_a_module_that_an_older_store_did_not_record_is_named_so() -> None:
    new, old = "1" * 64, "2" * 64
    found = differences({"code": {"mine": old, "gone": old}}, {"code": {"mine": new, "helper": new, "./lib/x.py": new}})
    assert list(found) == [
        "code.lib/x.py: not recorded when the store was made, now sha256 111111111111",
        "code.gone: sha256 222222222222 → no longer imported or opened",
        "code.helper: not recorded when the store was made, now sha256 111111111111",
        "code.mine: sha256 222222222222 → 111111111111",
    ]


LOADED = {
    "from its place": """
import importlib.util
_spec = importlib.util.spec_from_file_location("helper", {file!r})
helper = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(helper)
factor = helper.factor
""",
    "as text": "from pathlib import Path\nexec(Path({file!r}).read_text())\n",
    "as bytes": "with open({file!r}, 'rb') as _file:\n    exec(compile(_file.read(), 'x', 'exec'))\n",
    "as a script": "import runpy\nfactor = runpy.run_path({file!r})['factor']\n",
    "by another path": "import sys, importlib\nsys.path.insert(0, {folder!r})\n"
    "try:\n    factor = importlib.import_module('hel' + 'per').factor\nfinally:\n    sys.path.pop(0)\n",
}


class TestFilesThatNoImportShows:
    """Code below the spec's folder that is loaded by its path, or read and executed."""

    @pytest.fixture(autouse=True)
    def _forget_helper(self) -> Iterator[None]:
        yield
        sys.modules.pop("helper", None)

    def write(self, folder: Path, form: str, factor: float, *, later: bool = False) -> Path:
        helper = folder / "lib" / "helper.py"
        helper.parent.mkdir(exist_ok=True)
        helper.write_text(f"factor = {factor}\n")
        code = LOADED[form].format(file=str(helper), folder=str(helper.parent))
        if later:
            code = "def f():\n" + "".join(f"    {line}\n" for line in code.splitlines() if line)
        (folder / "mine.py").write_text(code)
        return helper

    @pytest.mark.parametrize("form", LOADED)
    def test_they_are_digested_and_an_edit_runs_anew(self, tmp_path: Path, form: str) -> None:
        helper = self.write(tmp_path, form, 1)
        code = {"mine": sha(tmp_path / "mine.py"), "./lib/helper.py": sha(helper)}
        assert planned(tmp_path, "mine") == code
        assert planned(tmp_path, "mine") == code, "and when nothing is imported anew"
        assert planned(tmp_path, "mine", width=1) == code
        if form != "by another path":
            status = helper.stat()
            helper.write_text("factor = 2\n")
            # Bytecode of the same time and size.
            os.utime(helper, ns=(status.st_atime_ns, status.st_mtime_ns))
            assert planned(tmp_path, "mine") == code | {"./lib/helper.py": sha(helper)}
            assert sys.modules["mine"].factor == 2

    @pytest.mark.parametrize("form", LOADED)
    def test_a_worker_runs_no_other(self, tmp_path: Path, form: str) -> None:
        helper = self.write(tmp_path, form, 1)
        code = planned(tmp_path, "mine")
        require_code(tmp_path, code)
        helper.write_text("factor = 2\n")
        with pytest.raises(SpecError, match=r"helper\.py on this worker is not the file .*restore it"):
            require_code(tmp_path, code)
        for name in ("mine", "helper"):
            sys.modules.pop(name, None)
        with (
            pytest.raises(SpecError, match=r"helper\.py on this worker is not the file"),
            known_code(tmp_path, code),
        ):
            importlib.import_module("mine")
        helper.unlink()
        with pytest.raises(SpecError, match=r"helper\.py that the run was planned with is not there"):
            require_code(tmp_path, code)

    def test_a_worker_that_lives_on_runs_the_planned_file(self, tmp_path: Path) -> None:
        helper = self.write(tmp_path, "as text", 1)
        code = planned(tmp_path, "mine")
        helper.write_text("factor = 2\n")
        code["./lib/helper.py"] = sha(helper)
        require_code(tmp_path, code)
        with known_code(tmp_path, code):
            assert importlib.import_module("mine").factor == 2

    @pytest.mark.parametrize("form", LOADED)
    @pytest.mark.parametrize("caught", [False, True])
    def test_a_file_that_planning_did_not_meet_is_refused(self, tmp_path: Path, form: str, caught: bool) -> None:
        self.write(tmp_path, form, 1, later=True)
        code = planned(tmp_path, "mine")
        assert code.keys() == {"mine"}
        f = sys.modules["mine"].f
        with (
            pytest.raises(SpecError, match=r"helper\.py is imported or opened while the run computes"),
            known_code(tmp_path, code),
            contextlib.suppress(Exception if caught else ()),
        ):
            f()
        f()

    def test_what_is_installed_shown_or_written_is_none(self, tmp_path: Path) -> None:
        packages = tmp_path / ".venv" / "lib" / "site-packages"
        target = tmp_path / "target"
        for folder in (packages, target):
            folder.mkdir(parents=True)
            (folder / "x.py").write_text("")
        (target / "x-1.dist-info").mkdir()
        (tmp_path / "run.py").write_text("def g(): raise ValueError\n")
        (tmp_path / "data.json").write_text("1")
        (tmp_path / "mine.py").write_text(f"""
import traceback
from pathlib import Path
here = Path({str(tmp_path)!r})
def f():
    for file in {[str(packages / "x.py"), str(target / "x.py")]}:
        exec(Path(file).read_text())
    (here / "data.json").read_text()
    (here / "new.py").write_text("")
    names = {{}}
    exec(compile("def g(): raise ValueError", str(here / "run.py"), "exec"), names)
    try:
        names["g"]()
    except ValueError:
        return traceback.format_exc()
f()
""")
        code = planned(tmp_path, "mine")
        assert code.keys() == {"mine"}
        with known_code(tmp_path, code):
            assert "def g(): raise ValueError" in sys.modules["mine"].f()

    def test_continuing_with_an_edited_helper_is_refused(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        helper = tmp_path / "helper.py"
        helper.write_text("factor = 0.5\n")
        body = TRANSFORM.replace("from {helper} import factor", LOADED["from its place"].format(file=str(helper)))
        (tmp_path / "mine.py").write_text(body)
        perturb = [{"transform": "mine:dim", "targets": ["LV"], "strengths": [1.0]}]
        spec = write_spec(tmp_path, perturb=perturb, data__patients=["patient001"])
        store = tmp_path / "a.zarr"
        assert capture(load_spec(spec), store=store, cluster="inline", device="cpu").complete
        assert actstore.open(store).attributes["identity"]["code"]["./helper.py"] == sha(helper)
        old = sha(helper)[:12]
        helper.write_text("factor = 0.9\n")
        with pytest.raises(StoreError, match=rf"another spec \(code\.helper\.py: sha256 {old} → {sha(helper)[:12]}\)"):
            capture(load_spec(spec), store=store, cluster="inline", device="cpu")


@pytest.mark.parametrize("name", ["statistics", "numpy", "time", "os"])
@pytest.mark.parametrize("form", ["import {name}", "def f():\n    from {name} import *x"])
def test_a_file_that_loses_against_an_installed_module_is_refused(tmp_path: Path, name: str, form: str) -> None:
    (tmp_path / "mine.py").write_text(form.format(name=name).replace("*x", "mean"))
    folder = tmp_path / name
    folder.mkdir()
    assert planned(tmp_path, "mine").keys() == {"mine"}, "a folder of data"
    (tmp_path / "colorsys.py").write_text("")
    assert planned(tmp_path, "mine").keys() == {"mine"}, "that nothing imports"
    for file in (folder / "__init__.py", tmp_path / f"{name}.py"):
        file.write_text("mean = 1\n")
        with pytest.raises(SpecError, match=rf"'{name}' is .* first.*, and not {file} beside the spec: rename one"):
            planned(tmp_path, "mine")
        file.unlink()


NAMES = ("a", "b", "c", "d", "e")
FORMS = (
    "import {name}",
    "from {name} import value as v",
    "def later():\n    import {name}",
    "class C:\n    def f(self):\n        from {name} import value",
    "try:\n    import {name}\nexcept ImportError:\n    pass",
    "import importlib\nimportlib.import_module('{name}')",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {name}",
)
RELATIVE = (
    "from . import {name}",
    "from .{name} import value as v",
    "def later():\n    from . import {name}",
    "import package.{name}",
    "from package import {name}",
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_digests_change_where_an_edited_file_is_reached_and_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("graph").resolve()
    in_package = data.draw(st.booleans(), label="in a package")
    # Imports lead to later names, so that none goes round in a circle.
    edges = {
        name: data.draw(
            st.lists(st.tuples(st.sampled_from(NAMES[i + 1 :]), st.sampled_from(RELATIVE if in_package else FORMS)))
            if i + 1 < len(NAMES)
            else st.just([]),
            label=name,
        )
        for i, name in enumerate(NAMES)
    }
    place = folder / "package" if in_package else folder
    place.mkdir(exist_ok=True)
    if in_package and data.draw(st.booleans(), label="with __init__"):
        (place / "__init__.py").write_text("")
    for name, imports in edges.items():
        lines = [form.format(name=other) for other, form in imports]
        (place / f"{name}.py").write_text("\n".join(["value = 1", *lines, ""]))
    reached, waiting = set(), ["a"]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [other for other, _ in edges[name]]
    root = "package.a" if in_package else "a"
    before = planned(folder, root)
    assert {name.rpartition(".")[2] for name in before} - {"package"} == reached
    victim = data.draw(st.sampled_from(NAMES), label="edited")
    edited = place / f"{victim}.py"
    edited.write_text(edited.read_text().replace("value = 1", "value = 2"))
    after = planned(folder, root)
    assert (before != after) == (victim in reached)
    for name, digest in after.items():
        if name != "package":
            assert digest == sha(place / f"{name.rpartition('.')[2]}.py")
            assert name not in sys.modules or sys.modules[name].value == (2 if name.endswith(victim) else 1)
    add_folder(folder / "nothing")


#: Opens a file when the names of the hook's module are gone, as finalizers at exit do.
OPENED_AT_EXIT = """
import actstore.code.opened as opened
opened.install_hook()
class Last:
    def __del__(self, open=open, name=opened.__file__):
        with open(name):
            print("opened")
opened.last_of_all = Last()
"""


@pytest.mark.process
def test_a_file_opened_at_exit_is_no_error() -> None:
    done = subprocess.run([sys.executable, "-c", OPENED_AT_EXIT], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("opened\n", "")
