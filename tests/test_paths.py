"""``~`` is the home wherever a path is given; what is no known home makes no folder."""

from __future__ import annotations

import os
from pathlib import Path

import holoviews as hv
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given as drawn
from hypothesis import strategies as st

import actstore
from actstore.cli.commands import main
from actstore.data.phantom import write_phantom
from actstore.errors import ActstoreError, DataError, SpecError, StoreError
from actstore.jobs.capture import capture
from actstore.paths import expanded, given
from actstore.spec.cluster import Cluster
from actstore.spec.spec import load_spec
from actstore.store.files import storage_at
from actstore.tables.build import write_table
from actstore.views import save
from actstore.views.report.write import write_report
from conftest import WriteSpec

UNKNOWN = "~nobody_such"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a working directory beside it, in which no ``~`` may appear."""
    here, there = tmp_path / "work", tmp_path / "home"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(there))
    return there


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


class TestTheRule:
    def test_by_value(self, home: Path) -> None:
        work = home.parent / "work"
        assert given("~") == given("~/") == home
        assert given("~/runs/a.zarr") == given(Path("~/runs/a.zarr")) == home / "runs" / "a.zarr"
        assert given("~root/x") == Path(os.path.expanduser("~root")) / "x"
        assert given("a/~/b") == Path("a/~/b")
        assert given("./~") == work / "~"
        assert given("./~/b") == given(given("./~/b")) == work / "~" / "b"
        assert expanded("./~/b") == Path("~/b"), "left to whoever knows what it is relative to"

    @drawn(
        st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1).map("~".__add__)
    )
    def test_no_relative_path_begins_with_a_tilde(self, name: str) -> None:
        for path in (name, f"{name}/x", f"./{name}"):
            try:
                found = given(path)
            except StoreError as error:
                assert "is no known home" in str(error)
            else:
                assert found.is_absolute()
                assert given(found) == found

    @pytest.mark.parametrize("path", [UNKNOWN, f"{UNKNOWN}/runs/a.zarr"])
    def test_an_unknown_user(self, path: str) -> None:
        with pytest.raises(StoreError, match=r"~nobody_such is no known home: there is no user 'nobody_such' here; "):
            given(path)

    @pytest.mark.parametrize("value", ["", "somewhere"])
    def test_no_home(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", value)
        with pytest.raises(
            StoreError, match=r"~/a: ~ is no known home: HOME is not set to a folder; write the path out"
        ):
            given("~/a")


class TestPython:
    def test_stores(self, home: Path, tiny_store: Path) -> None:
        (home / "s.zarr").symlink_to(tiny_store)
        assert actstore.open("~/s.zarr").path == actstore.open(Path("~/s.zarr")).path == tiny_store.resolve()
        assert storage_at("~/new.zarr").location == home / "new.zarr"
        assert storage_at("./~/new.zarr").location == home.parent / "work" / "~" / "new.zarr"

    def test_specs_and_what_they_name(self, home: Path, write_spec: WriteSpec) -> None:
        spec = write_spec(home, store__path="~/runs/a.zarr", cluster={"kind": "~/scheduler.json"})
        loaded = load_spec("~/spec.toml")
        assert spec == home / "spec.toml"
        assert loaded.store.path == home / "runs" / "a.zarr"
        assert loaded.cluster.kind == str(home / "scheduler.json")
        assert loaded.with_cluster("~/other.json").cluster.kind == str(home / "other.json")
        write_spec(home, store__path="./~/a.zarr", cluster={"kind": "./~/scheduler.json"})
        loaded = load_spec("~/spec.toml")
        assert loaded.store.path == home / "~" / "a.zarr"
        assert loaded.cluster.kind == str(home / "~" / "scheduler.json")
        assert Cluster(kind="./~/s.json").of_kind("./~/s.json").kind == "./~/s.json"

    def test_files_that_are_written(self, home: Path, tiny_store: Path) -> None:
        frame = pd.DataFrame({"a": [1]})
        write_table(frame, "~/t.csv")
        write_table(frame, Path("~/t.parquet"))
        assert save(hv.Curve([1, 2]), "~/curve.png") == home / "curve.png"
        write_phantom(Path("~/phantom"), patients=1, seed=1)
        assert sorted(path.name for path in home.iterdir()) == ["curve.png", "phantom", "t.csv", "t.parquet"]

    def test_an_unknown_home(self, home: Path, tiny_store: Path, write_spec: WriteSpec) -> None:
        spec, words = write_spec(home), "~nobody_such is no known home"
        frame = pd.DataFrame({"a": [1]})
        with pytest.raises(StoreError, match=words):
            actstore.open(UNKNOWN)
        with pytest.raises(StoreError, match=words):
            capture(load_spec(spec), store=f"{UNKNOWN}/a.zarr", cluster="inline")
        with pytest.raises(StoreError, match=words):
            write_report(actstore.open(tiny_store), f"{UNKNOWN}/r.html")
        with pytest.raises(StoreError, match=words):
            write_table(frame, f"{UNKNOWN}/t.csv")
        with pytest.raises(StoreError, match=words):
            save(hv.Curve([1, 2]), f"{UNKNOWN}/c.png")
        with pytest.raises(SpecError, match=words):
            load_spec(f"{UNKNOWN}/spec.toml")
        with pytest.raises(DataError, match=words):
            write_phantom(f"{UNKNOWN}/p", patients=1, seed=1)
        with pytest.raises(ActstoreError, match=words):
            load_spec(spec).with_cluster(f"{UNKNOWN}/s.json")
        write_spec(home, store__path=f"{UNKNOWN}/a.zarr")
        with pytest.raises(SpecError, match=r"store\.path = '~nobody_such/a\.zarr': must not start with a home that"):
            load_spec(spec)
        assert list((home.parent / "work").iterdir()) == []


class TestCommandLine:
    def test_every_command_that_takes_a_path(self, home: Path, write_spec: WriteSpec) -> None:
        write_spec(home)
        assert str(home / "p.zarr") in invoke("plan", "~/spec.toml", "--store=~/p.zarr")
        invoke("capture", "~/spec.toml", "--store=~/s.zarr", "--cluster", "inline")
        assert str(home / "s.zarr") in invoke("status", "~/s.zarr")
        assert invoke("verify", "~/s.zarr", "--spec=~/spec.toml").endswith("whole\n")
        invoke("reduce", "~/s.zarr")
        assert f"rows: {home}/t.csv" in invoke("table", "~/s.zarr", "dice", "-o", "~/t.csv")
        invoke("phantom", "~/phantom", "--patients", 1)
        made = sorted(path.name for path in home.iterdir())
        assert made == ["phantom", "s.zarr", "spec.toml", "t.csv"]
        assert list((home.parent / "work").iterdir()) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            ["status", UNKNOWN],
            ["plan", f"{UNKNOWN}/spec.toml"],
            ["capture", "spec.toml", f"--store={UNKNOWN}/s.zarr"],
            ["report", "s.zarr", "-o", f"{UNKNOWN}/r.html"],
            ["table", "s.zarr", "dice", "-o", f"{UNKNOWN}/t.csv"],
            ["phantom", UNKNOWN],
            ["demo", f"--folder={UNKNOWN}"],
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_an_unknown_home_is_one_line(self, arguments: list[str], home: Path) -> None:
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"actstore: {UNKNOWN}")
        assert "is no known home: there is no user 'nobody_such' here" in line
        assert list((home.parent / "work").iterdir()) == []
