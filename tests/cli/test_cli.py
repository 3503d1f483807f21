"""The command line: what it prints, its exit status, and the tables it writes."""

from __future__ import annotations

import io
import json
import shutil
import threading
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from click.testing import CliRunner, Result

import actstore
from actstore import __version__
from actstore.cli import terminal
from actstore.cli.commands import main
from actstore.cli.tables import written
from actstore.jobs.reduce import workers_of
from actstore.jobs.runner import Workers
from actstore.spec.spec import load_spec
from actstore.store.schema import SCHEMA_VERSION
from actstore.tables.build import build_table
from conftest import WriteSpec
from forked import forked
from stores import files_of

COLUMNS = {
    "top-channels": "layer,module,patient,frame,slice,condition,transform,target,strength,rank,channel,mad,mse",
    "frequency": "layer,condition,target,channel,count,rank",
    "dice": "patient,frame,slice,condition,target,class_name,dice",
    "cases": "patient,frame,slice,condition,target,case",
    "mad": "layer,module,patient,frame,slice,condition,transform,target,strength,channel,mad,mse,"
    "standardised,sample_rank",
}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def failed(words: str, *arguments: object) -> str:
    """The command exits with 1 and says ``words`` in one line on stderr. Returns the line."""
    result = invoke(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("actstore: ")
    assert words in line
    return line


def misused(words: str, *arguments: object) -> None:
    """The command exits with 2 and says ``words``."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert words in result.stderr


def shell(*arguments: object) -> tuple[int, str, str]:
    """Status, output and errors of a process; `test_terminals` starts some as a shell does."""
    process = forked("actstore", *arguments, environment={})
    output, errors = process.communicate()
    return process.returncode, output, errors


def table(store: Path, name: str, *options: object) -> pd.DataFrame:
    result = invoke("table", store, name, *options)
    assert result.exit_code == 0, result.output
    assert not result.stderr
    return pd.read_csv(io.StringIO(result.stdout), keep_default_na=False)


def forget_statistics(store: Path) -> None:
    """Leave the activations alone."""
    for record in (store / "statistics" / "committed").glob("c.*"):
        record.unlink()


class TestExitStatus:
    def test_help_and_version(self) -> None:
        for arguments in (["--help"], ["-h"], ["capture", "-h"]):
            result = invoke(*arguments)
            assert result.exit_code == 0
            assert result.stdout.startswith("Usage: ")
        shown = invoke("--version").stdout
        assert shown.startswith(f"actstore {__version__}, writes stores of schema {SCHEMA_VERSION}, ")
        assert f"zarr {zarr.__version__}" in shown

    def test_every_option_says_what_it_is_for(self) -> None:
        commands = [main, *main.commands.values()]
        options = [(c.name, p.name) for c in commands for p in c.params if isinstance(p, click.Option) and not p.help]
        assert options == []

    @pytest.mark.parametrize(
        ("words", "arguments"),
        [
            ("No such command 'captur'", ["captur"]),
            ("Missing argument 'SPEC'", ["capture"]),
            ("Missing argument 'STORE'", ["status"]),
            ("No such option", ["capture", "a.toml", "--wrokers", "2"]),
            ("0 is not in the range x>=1", ["capture", "a.toml", "--workers", "0"]),
            ("'many' is not a valid integer", ["capture", "a.toml", "--workers", "many"]),
            ("'gpu' is not one of auto, cpu, cuda, cuda:N", ["capture", "a.toml", "--device", "gpu"]),
            ("--json goes to standard output", ["table", "a.zarr", "mad", "--json", "-o", "a.csv"]),
            ("'top' is not one of '", ["table", "a.zarr", "top"]),
            ("0 is not in the range x>=1", ["table", "a.zarr", "mad", "--top", "0"]),
            ("x.txt ends in '.txt': name a .csv or .parquet file", ["table", "a.zarr", "mad", "-o", "x.txt"]),
            (
                "--by does not go with dice, only with confusion, curves, roc, precision-recall, calibration, freq",
                ["table", "a", "dice", "--by", "patient"],
            ),
        ],
    )
    def test_usage(self, words: str, arguments: list[str]) -> None:
        misused(words, *arguments)

    def test_failures_are_one_line(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        for command in ("layers", "plan", "capture"):
            failed("none.toml: no such spec file; give the path of a TOML run spec", command, tmp_path / "none.toml")
        spec = write_spec(tmp_path, stroe=1)
        failed("spec.toml: unknown key 'stroe': take it out or correct its spelling", "capture", spec)
        for command in ("status", "reduce", "report"):
            failed(
                "none.zarr does not exist or is empty: give the path of an actstore store",
                command,
                tmp_path / "none.zarr",
            )

    def test_an_unknown_cluster(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        failed("cluster 'clod' is unknown: use inline", "capture", write_spec(tmp_path), "--cluster", "clod")
        assert not (tmp_path / "tiny.zarr").exists()

    def test_an_error_of_the_program_is_one_line_too(
        self, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: object) -> None:
            raise ZeroDivisionError("by\nzero")

        monkeypatch.setattr("actstore.jobs.plan.data.discover", fail)
        line = failed("ZeroDivisionError: by zero", "capture", write_spec(tmp_path), "--cluster", "inline")
        assert line.endswith(" (actstore --debug … shows where)")

    def test_debug_raises(self, tmp_path: Path) -> None:
        result = invoke("--debug", "status", tmp_path / "none.zarr")
        assert isinstance(result.exception, actstore.errors.StoreError)

    def test_interrupt(self, write_spec: WriteSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("actstore.jobs.plan.data.discover", stop)
        result = invoke("capture", write_spec(tmp_path), "--cluster", "inline")
        assert result.exit_code == 1
        assert result.stderr.split("\n", 1)[-1].strip() == "interrupted: run the same command again to continue"

    @pytest.mark.process
    def test_in_a_shell(self, tmp_path: Path) -> None:
        status, output, errors = shell("status")
        assert (status, output) == (2, "")
        assert "Missing argument 'STORE'" in errors
        words = f"{tmp_path / 'none.toml'}: no such spec file; give the path of a TOML run spec"
        status, _, errors = shell("--debug", "capture", tmp_path / "none.toml")
        assert status == 1
        assert "Traceback (most recent call last)" in errors
        assert errors.rstrip().endswith(f"actstore.errors.SpecError: {words}")

    @pytest.mark.process
    def test_a_bad_volume_in_a_shell_then_mended(
        self, write_spec: WriteSpec, tmp_path: Path, phantom_root: Path, phantom_copy: Path
    ) -> None:
        image = Path("patient002", "patient002_frame01.nii.gz")
        (phantom_copy / image).write_bytes((phantom_root / image).read_bytes()[:2000])
        spec = write_spec(tmp_path, data__root=phantom_copy)
        failed, output, errors = shell("capture", spec, "--cluster", "inline", "--device", "cpu")
        assert failed == 1
        assert "volumes   3 done, 0 skipped, 1 failed" in output
        assert "failed: patient002 frame 01: " in errors
        assert "patient002_frame01.nii.gz: truncated, the compressed data end early; restore" in errors
        assert "Traceback" not in errors
        status = invoke("status", tmp_path / "tiny.zarr")
        assert status.exit_code == 0
        assert "3 committed, 1 missing, 4 in all" in status.stdout
        assert "missing: patient002 frame 01" in status.stdout

        shutil.copy(phantom_root / image, phantom_copy / image)
        second = invoke("capture", spec, "--cluster", "inline", "--device", "cpu")
        assert second.exit_code == 0, second.output
        assert "volumes   1 done, 3 skipped, 0 failed" in second.stdout
        third = invoke("capture", spec, "--cluster", "inline", "--device", "cpu")
        assert third.exit_code == 0
        assert "0 done, 4 skipped, 0 failed" in third.stdout
        assert "in 0 forward passes" in third.stdout


class TestShow:
    def test_layers(self, tiny_spec: Path) -> None:
        result = invoke("layers", tiny_spec)
        assert result.exit_code == 0, result.output
        assert "2 layers recorded of 9 modules" in result.stdout
        for words in ("L01", "down.1", "InstanceNorm2d", "2x64x64", "L02", "bottom.1", "4x32x32", "unused"):
            assert words in result.stdout

    def test_plan(self, tiny_spec: Path) -> None:
        result = invoke("plan", tiny_spec, "--workers", "1")
        assert result.exit_code == 0, result.output
        assert "4 volumes, 26 samples, at most 7 each" in result.stdout
        assert "3: original, brightness(LV, 0.1), brightness(RV, 0.1)" in result.stdout
        assert "patients     2\n" in result.stdout
        assert "left out" not in result.stdout
        assert "axes         nibabel: slices (i, j) along k\n" in result.stdout
        assert "channels " not in result.stdout

    def test_what_was_left_out(self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path) -> None:
        (phantom_copy / "patient001" / "mean.nii.gz").touch()
        (phantom_copy / "patient001" / "Info.cfg").write_text("ED: 1\nES: 2\nGroup: NOR\n")
        spec = write_spec(tmp_path, data__root=phantom_copy, data__patients=["patient001"], store__keep="statistics")
        lines = [
            "left out     1: patient001/mean.nii.gz\n",
            "lacking      1: patient001/Info.cfg names frame 02 as ES, which is not there\n",
        ]
        plan = invoke("plan", spec, "--workers", "1")
        assert all(line in plan.stdout for line in ["patients     1 of 2, by data.patients\n", *lines])
        assert invoke("capture", spec, "--cluster", "inline", "--device", "cpu").exit_code == 0
        status = invoke("status", tmp_path / "tiny.zarr")
        assert all(line in status.stdout for line in lines)

    def test_status_of_a_store_that_knows_nothing_of_it(self, tiny_copy: Path) -> None:
        root = tiny_copy / "zarr.json"
        content = json.loads(root.read_text(encoding="utf-8"))
        del content["attributes"]["discovery"]
        root.write_text(json.dumps(content), encoding="utf-8")
        status = invoke("status", tiny_copy)
        assert status.exit_code == 0
        assert "left out" not in status.stdout

    def test_plan_names_what_will_fail(self, write_spec: WriteSpec, tmp_path: Path, phantom_copy: Path) -> None:
        (phantom_copy / "patient001" / "patient001_frame01.nii.gz").write_bytes(b"no image")
        result = invoke("plan", write_spec(tmp_path, data__root=phantom_copy))
        assert result.exit_code == 0, result.output
        assert "will fail: patient001 frame 01: " in result.stderr
        assert not (tmp_path / "tiny.zarr").exists()

    def test_brackets_are_shown_as_they_are(self, write_spec: WriteSpec, tmp_path: Path, phantom_root: Path) -> None:
        root = tmp_path / "[old] [/data]"
        shutil.copytree(phantom_root, root)
        image = root / "patient001" / "patient001_frame01.nii.gz"
        image.write_bytes(b"no image")
        result = invoke("capture", write_spec(tmp_path, data__root=root), "--cluster", "inline", "--device", "cpu")
        assert result.exit_code == 1
        assert f"failed: patient001 frame 01: {image}: not a NIfTI file" in result.stderr


class TestTables:
    @pytest.mark.parametrize("name", COLUMNS)
    def test_columns(self, tiny_store: Path, tmp_path: Path, name: str) -> None:
        result = invoke("table", tiny_store, name)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[0] == COLUMNS[name]
        for file in ("a.csv", "new/folder/a.parquet"):
            assert invoke("table", tiny_store, name, "-o", tmp_path / file).exit_code == 0
        assert (tmp_path / "a.csv").read_text() == result.stdout
        parquet = pd.read_parquet(tmp_path / "new/folder/a.parquet")
        assert list(parquet.columns) == COLUMNS[name].split(",")
        assert len(parquet) == len(result.stdout.splitlines()) - 1

    @pytest.mark.parametrize("by", ["case", "patient", "frame", "group"])
    def test_columns_of_a_grouped_frequency(self, tiny_store: Path, by: str) -> None:
        expected = f"layer,condition,target,{by},channel,count,rank".split(",")
        grouped = table(tiny_store, "frequency", "--by", by)
        assert list(grouped.columns) == expected
        total = table(tiny_store, "frequency")
        keys = ["layer", "condition", "channel"]
        pd.testing.assert_series_equal(
            grouped.groupby(keys)["count"].sum(), total.groupby(keys)["count"].sum(), check_names=False
        )

    def test_values_of_the_sample_columns(self, tiny_store: Path) -> None:
        dice = table(tiny_store, "dice")
        assert set(dice["patient"]) == {"patient001", "patient002"}
        assert dice["frame"].dtype.kind == dice["slice"].dtype.kind == "i"
        first = dice[(dice["patient"] == "patient001") & (dice["frame"] == 1)]
        assert sorted(set(first["slice"])) == list(range(7))

    def test_json_has_the_same_records(self, tiny_store: Path) -> None:
        found = json.loads(invoke("table", tiny_store, "segmentation", "--json").stdout)
        table = build_table(actstore.open(tiny_store), "segmentation")
        assert [list(record) for record in found] == [list(table.columns)] * len(table)
        expected = [None if value != value else value for value in table["sensitivity"]]
        assert [record["sensitivity"] for record in found] == expected
        assert None in expected

    def test_a_terminal_shows_it_rounded(
        self, tiny_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = build_table(actstore.open(tiny_store), "dice")
        monkeypatch.setattr(terminal, "is_terminal", lambda: True)
        written(table, None)
        header, _, *rows = capsys.readouterr().out.strip("\n").splitlines()
        assert header.split() == list(table.columns)
        assert [row.split()[-1] for row in rows] == [f"{value:.4g}" for value in table["dice"]]
        assert {len(row) for row in rows} == {len(header)}, "numbers end below the end of their name"

    def test_a_terminal_names_columns_without_any_value(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(terminal, "is_terminal", lambda: True)
        written(pd.DataFrame({"name": ["a", "b"], "low": [np.nan, np.nan], "dice": [0.5, np.nan]}), None)
        header, _, *rows, last = capsys.readouterr().out.strip("\n").splitlines()
        assert header.split() == ["name", "dice"]
        assert [row.split() for row in rows] == [["a", "0.5"], ["b", "-"]]
        assert last == "without any value: low"

    def test_every_applicable_condition_has_a_row(self, tiny_store: Path) -> None:
        store = actstore.open(tiny_store)
        applicable = store.applicable.compute()
        perturbed = int(applicable[:, 1:].sum())
        assert 0 < perturbed < 2 * len(store.samples)
        assert len(table(tiny_store, "cases")) == perturbed
        assert len(table(tiny_store, "top-channels")) == perturbed * (2 + 3)
        assert len(table(tiny_store, "mad")) == perturbed * (2 + 4)
        dice = table(tiny_store, "dice")
        assert len(dice) == 3 * int(applicable.sum())
        assert list(dice["condition"].unique()) == ["original", "brightness(LV, 0.1)", "brightness(RV, 0.1)"]
        assert set(dice[dice["condition"] == "original"]["target"]) == {""}
        assert (dice["condition"] == "original").sum() == 3 * len(store.samples)
        assert dice["dice"].between(0, 1).all()
        assert set(table(tiny_store, "cases")["condition"]) == {"brightness(LV, 0.1)", "brightness(RV, 0.1)"}

    def test_top_beyond_the_channels_gives_all(self, tiny_store: Path) -> None:
        top = table(tiny_store, "top-channels", "--top", 1000)
        assert len(top) == len(table(tiny_store, "mad"))
        keys = ["layer", "patient", "frame", "slice", "condition"]
        for (layer, *_), rows in top.groupby(keys):
            channels = {"L01": 2, "L02": 4}[str(layer)]
            assert sorted(rows["channel"]) == list(range(channels))
            assert list(rows["rank"]) == list(range(1, channels + 1))
            assert (np.diff(rows["mad"]) <= 0).all()

    def test_most(self, tiny_store: Path) -> None:
        assert table(tiny_store, "frequency", "--most", 1)["rank"].eq(1).all()
        assert table(tiny_store, "frequency", "--most", 1000, "--top", 1000)["rank"].max() == 4

    def test_the_same_before_and_after_reduce(self, tiny_copy: Path) -> None:
        forget_statistics(tiny_copy)
        before = {name: table(tiny_copy, name) for name in COLUMNS}
        assert invoke("reduce", tiny_copy).stdout == f"statistics of 4 volumes persisted in {tiny_copy}\n"
        for name in COLUMNS:
            pd.testing.assert_frame_equal(table(tiny_copy, name), before[name], rtol=1e-12)
        assert invoke("reduce", tiny_copy).stdout == f"{tiny_copy}: all persisted already\n"

    @pytest.mark.parametrize(
        ("kind", "needed"),
        [
            ("slurm", "cluster.interface or cluster.host"),
            ("kubernetes", "cluster.kubernetes.manifest"),
            ("tls://10.0.0.1:8786", "cluster.tls_ca, tls_cert and tls_key"),
        ],
    )
    def test_a_cluster_whose_settings_only_a_spec_has(self, tiny_copy: Path, kind: str, needed: str) -> None:
        (tiny_copy / "committed" / "c.0").unlink()
        before = files_of(tiny_copy)
        words = f"cluster {kind!r} needs {needed}, and stores hold no [cluster]: name a spec that has it with --spec"
        assert words in invoke("reduce", tiny_copy, "--cluster", kind).stderr
        result = invoke("verify", tiny_copy, "--repair", "--cluster", kind)
        assert (result.exit_code, words in result.stderr) == (1, True)
        assert files_of(tiny_copy) == before

    def test_reduce_takes_workers_of_a_spec(self, tiny_store: Path, write_spec: WriteSpec, tmp_path: Path) -> None:
        store = actstore.open(tiny_store)
        spec = load_spec(write_spec(tmp_path, cluster={"kind": "slurm", "host": "10.0.0.1", "memory": "3 GiB"}))
        assert workers_of(store, None, 3, spec) == Workers(spec.cluster, 3)
        assert workers_of(store, "local", 3, spec) == Workers(spec.with_cluster("local").cluster, 3)
        assert workers_of(store, "inline", 3, spec) == Workers(count=3) == workers_of(store, None, 3)

    def test_reduce_with_a_spec_of_a_scheduler_that_is_gone(
        self, tiny_copy: Path, write_spec: WriteSpec, tmp_path: Path
    ) -> None:
        forget_statistics(tiny_copy)
        spec = write_spec(tmp_path, cluster={"kind": "gone.json"})
        failed(f"{tmp_path / 'gone.json'}: no such scheduler file", "reduce", tiny_copy, "--spec", spec)

    def test_unknown_group(self, tiny_store: Path) -> None:
        for name, coordinate in (("frequency", "condition"), ("confusion", "slice")):
            line = failed("by = 'scanner' groups no samples", "table", tiny_store, name, "--by", "scanner")
            assert "use case, patient, frame, " in line
            assert coordinate in line

    @pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
    def test_a_path_that_cannot_be_written(self, tiny_store: Path, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_text("mine")
        line = failed("cannot be written: ", "table", tiny_store, "dice", "-o", tmp_path / "file" / name)
        assert line.endswith("; choose another path or free the disk")
        (tmp_path / name).mkdir()
        failed(f"{tmp_path / name} cannot be written: ", "table", tiny_store, "dice", "-o", tmp_path / name)
        assert (tmp_path / "file").read_text() == "mine"

    def test_no_committed_block(self, tiny_copy: Path) -> None:
        [record.unlink() for record in (tiny_copy / "committed").glob("c.*")]
        for name in COLUMNS:
            result = invoke("table", tiny_copy, name)
            assert result.exit_code == 1
            missing, error = result.stderr.splitlines()
            assert "4 of 4 volumes are missing (patient001 frame 01, patient001 frame 13, " in missing
            assert error == (f"actstore: {tiny_copy} holds no volume yet: `actstore capture SPEC` computes them")
        assert invoke("status", tiny_copy).exit_code == 0
        assert invoke("reduce", tiny_copy).exit_code == 0

    def test_a_damaged_chunk_is_named(self, tiny_copy: Path) -> None:
        forget_statistics(tiny_copy)
        shard = tiny_copy / "layers" / "L02" / "activation" / "c.0.0.0.0.0"
        content = bytearray(shard.read_bytes())
        content[1000] ^= 1
        shard.write_bytes(content)
        failed(f"{shard} is damaged: wrong checksum of slot 0, inner chunk 0", "table", tiny_copy, "mad")
        result = invoke("reduce", tiny_copy)
        assert result.exit_code == 1
        progress, error = result.stderr.splitlines()
        assert progress.startswith("4/4 volumes, elapsed ")
        assert progress.endswith("1 failed"), "the others are reduced"
        assert f"{shard} is damaged: wrong checksum of slot 0, inner chunk 0" in error
        shard.unlink()
        failed(
            f"{shard} is missing from a committed block: `actstore verify STORE --repair`", "table", tiny_copy, "mad"
        )
        assert len(table(tiny_copy, "dice"))

    def test_a_commit_record_of_another_run(self, tiny_copy: Path) -> None:
        record = tiny_copy / "committed" / "c.2"
        record.write_bytes(b"\0" * 5)
        failed(f"{record} is damaged (length or checksum)", "table", tiny_copy, "dice")

    def test_not_a_number_in_a_recorded_layer_is_data(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        changes = {"model__factory": "networks:not_a_number_inside", "data__patients": ["patient001"]}
        spec = write_spec(tmp_path, **changes)
        assert invoke("capture", spec, "--cluster", "inline", "--device", "cpu").exit_code == 0
        store = tmp_path / "tiny.zarr"
        perturbed = int(actstore.open(store).applicable[:, 1:].sum())
        mad = table(store, "mad")
        assert (mad[mad["layer"] == "L02"]["mad"] == "").sum() == 4 * perturbed
        assert len(mad) == perturbed * (2 + 4)
        assert (table(store, "top-channels")["layer"] == "L01").sum() == 2 * perturbed
        assert len(table(store, "dice")) == 3 * int(actstore.open(store).applicable.sum())


class TestNetworkOutput:
    def test_not_a_number_in_the_networks_output(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        changes = {"model__factory": "networks:not_a_number", "data__patients": ["patient001"]}
        result = invoke("capture", write_spec(tmp_path, **changes), "--cluster", "inline", "--device", "cpu")
        assert result.exit_code == 1
        assert "failed: patient001 frame 01: " in result.stderr
        assert "NaN" in result.stderr


class TestNothingIsLeftBehind:
    @pytest.mark.slow
    def test_threads_and_settings(self, write_spec: WriteSpec, tmp_path: Path) -> None:
        threads, before = torch.get_num_threads(), set(threading.enumerate())
        spec = write_spec(tmp_path, data__patients=["patient001"], run__threads=threads + 1)
        assert invoke("capture", spec, "--cluster", "inline", "--device", "cpu").exit_code == 0
        assert torch.get_num_threads() == threads
        left = [thread.name for thread in threading.enumerate() if thread not in before]
        assert not [name for name in left if name.startswith("actstore")]
