"""Terminals that hold few characters, readers that leave, and standard output that is closed or full."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from actstore.cli import finished, terminal, text
from actstore.cli.commands import main
from conftest import WriteSpec

NARROW = ("ascii", "latin-1", "cp1252", "cp437")
#: Of a store whose tables hold an arrow: kinds of failure.
ARROW = "→"
#: Any characters but halves of one, the first thousands more often. `st.text` sorts all of Unicode first, for seconds.
CHARACTERS = st.one_of(st.integers(0, 0x24FF), st.integers(0, 0xD7FF), st.integers(0xE000, 0x10FFFF)).map(chr)
TEXT = st.lists(CHARACTERS).map("".join)


def invoke(charset: str, *arguments: object) -> Result:
    result = CliRunner(charset=charset).invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr_bytes
    return result


def command(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "from actstore.cli.commands import main; main()", *map(str, arguments)],
        stderr=subprocess.PIPE,
        **options,
    )


class TestCharacters:
    def test_by_value(self) -> None:
        shown = "LV→MYO – a … ·"
        assert shown.encode("ascii", terminal.READABLE) == b"LV->MYO - a ... -"
        assert shown.encode("cp1252", terminal.READABLE).decode("cp1252") == "LV->MYO – a … ·"
        assert shown.encode("utf-8", terminal.READABLE).decode() == shown
        # Two names stay two.
        assert "Łukasz Şen".encode("latin-1", terminal.READABLE) == b"\\u0141ukasz \\u015een"
        assert os.fsdecode(b"pat\xff").encode("utf-8", terminal.READABLE) == b"pat\xff"

    @pytest.mark.slow
    @given(TEXT, st.sampled_from([*NARROW, "utf-8", "shift_jis"]))
    def test_every_text_can_be_shown(self, characters: str, encoding: str) -> None:
        encoded = characters.encode(encoding, terminal.READABLE)
        assert encoded.decode(encoding) == terminal.held(characters, io.TextIOWrapper(io.BytesIO(), encoding))

    def test_what_actstore_shows_itself_has_a_plain_form(self) -> None:
        """Of names of cases and conditions, and of every line on the terminal."""
        for module in (text, finished, sys.modules["actstore.cli.commands"]):
            shown = set(re.findall(r"[^\x00-\x7f]", Path(module.__file__ or "").read_text(encoding="utf-8")))
            assert "\\" not in "".join(shown).encode("ascii", terminal.READABLE).decode()

    def test_help_is_ascii(self) -> None:
        context = click.Context(main, info_name="actstore")
        for name in ("", *main.list_commands(context)):
            found = main.get_command(context, name) if name else main
            assert found is not None
            # Commands remember the options of the first context: those of another would stay for later tests.
            assert found.get_help(click.Context(found, info_name=name, **main.context_settings)).isascii(), name


class TestCommands:
    @pytest.mark.parametrize("charset", NARROW)
    def test_tables_of_the_terminal(self, charset: str) -> None:
        frame = pd.DataFrame({"case": [f"LV{ARROW}MYO", "Łuk"], "n": [1, 2]})

        @click.command()
        def show() -> None:
            terminal.prepare()
            text.show_frame(frame, f"Dice, original {ARROW} perturbed")

        result = CliRunner(charset=charset).invoke(show)
        assert result.exit_code == 0
        assert "Dice, original -> perturbed" in result.stdout
        rows = result.stdout.splitlines()[2:]
        assert all(row.isascii() for row in rows), "boxes too"
        assert any("| LV->MYO" in row for row in rows)
        assert any("| \\u0141uk" in row for row in rows)
        assert len({len(row) for row in rows}) == 1, "columns are as wide as what they show"

    @pytest.mark.parametrize("charset", NARROW)
    def test_csv_on_standard_output_is_utf_8(self, charset: str, study_store: Path) -> None:
        expected = invoke("utf-8", "table", study_store, "cases").stdout_bytes
        assert ARROW in expected.decode()
        assert b"\r" not in expected
        assert invoke(charset, "table", study_store, "cases").stdout_bytes == expected

    def test_standard_output_is_what_a_file_holds(self, study_store: Path, tmp_path: Path) -> None:
        invoke("ascii", "table", study_store, "cases", "-o", tmp_path / "t.csv")
        assert invoke("ascii", "table", study_store, "cases").stdout_bytes == (tmp_path / "t.csv").read_bytes()

    @pytest.mark.parametrize("charset", ["ascii", "latin-1"])
    def test_every_command(self, charset: str, write_spec: WriteSpec, tmp_path: Path, phantom_root: Path) -> None:
        """Names of patients, folders and classes lie outside the encoding."""
        (data := tmp_path / "дані").mkdir()
        os.symlink(phantom_root / "patient001", data / "patient001")
        spec = write_spec(tmp_path, data__root=data, store__path="Łuk.zarr", data__classes={"RV": 1, "Ż": 2, "LV": 3})
        store = tmp_path / "Łuk.zarr"
        for arguments in (
            ("layers", spec),
            ("plan", spec),
            ("capture", spec, "--cluster", "inline"),
            ("status", store),
            ("verify", store),
            ("reduce", store),
            ("table", store, "dice", "-o", tmp_path / "ż.csv"),
            ("table", "--help"),
        ):
            invoke(charset, *arguments)
        assert "\\u0141uk.zarr" in invoke(charset, "status", store).stdout
        assert pd.read_csv(tmp_path / "ż.csv")["class_name"].eq("Ż").any()
        failed = CliRunner(charset=charset).invoke(main, ["status", str(tmp_path / "ż.zarr")])
        assert failed.exit_code == 1
        assert "\\u017c.zarr does not exist or is empty" in failed.stderr


def test_standard_output_that_a_library_closed_is_no_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert [terminal.finish(code) for code in (0, 2)] == [1, 2]


@pytest.mark.process
class TestProcesses:
    """As a shell starts them."""

    @pytest.mark.parametrize(
        "locale",
        [
            {"PYTHONIOENCODING": "latin-1"},
            {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        ],
        ids=["latin-1", "POSIX"],
    )
    def test_other_locales(self, locale: dict[str, str], study_store: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        process = command("table", study_store, "cases", stdout=subprocess.PIPE, env=environment | locale)
        shown, errors = process.communicate()
        assert (process.returncode, errors) == (0, b"")
        assert ARROW in shown.decode()
        assert shown == invoke("utf-8", "table", study_store, "cases").stdout_bytes

    @pytest.mark.parametrize("arguments", [["table", "STORE", "mad"], ["status", "STORE"]], ids=["table", "status"])
    def test_a_reader_that_leaves(self, arguments: list[str], study_store: Path) -> None:
        read, write = os.pipe()
        os.close(read)
        process = command(*(str(study_store) if a == "STORE" else a for a in arguments), stdout=write)
        os.close(write)
        errors = process.communicate()[1]
        assert (process.returncode, errors) == (1, b"")

    def test_a_full_disk(self, study_store: Path) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        for arguments in (["table", study_store, "cases"], ["phantom", "--help"]):
            with open("/dev/full", "wb") as full:
                process = command(*arguments, stdout=full)
            errors = process.communicate()[1].decode()
            assert process.returncode == 1
            (line,) = errors.splitlines()
            assert line.startswith("actstore: ")
            assert "No space left on device" in line

    def test_closed_standard_output(self, study_store: Path) -> None:
        process = command("table", study_store, "cases", preexec_fn=lambda: os.close(1))
        errors = process.communicate()[1]
        assert (process.returncode, errors) == (1, b"actstore: standard output is closed: name a file with -o\n")


@pytest.mark.process
def test_closed_streams_become_no_files_of_a_store(tmp_path: Path) -> None:
    """A file that was opened with the number of standard output would hold what libraries print."""
    code = (
        "import os\nfor fd in (0, 1, 2): os.close(fd)\n"
        "from actstore.cli import terminal\nterminal.prepare()\n"
        f"fd = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY)\nos.write(fd, str(fd).encode())\n"
        "os.write(1, b'printed by a library')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize(("started", "path", "typed"), [
    ("here/actstore", "", "here/actstore"),
    ("here/actstore", "here", "actstore"),
    ("here/actstore", "elsewhere", "here/actstore"),
    ("-c", "here", "actstore"),
])  # fmt: skip
def test_the_program_is_named_as_it_can_be_typed(
    started: str, path: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `make demo`, whose environment is on no path."""
    monkeypatch.chdir(tmp_path)
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "actstore").write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / folder / "actstore").chmod(0o755)
    monkeypatch.setattr(sys, "argv", [started, "demo"])
    monkeypatch.setenv("PATH", str(tmp_path / path) if path else "")
    assert terminal.program() == typed
