"""Scripts without a guard: one line that says how to mend them, from a file and from standard input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actstore.cluster.main_guard import guarded_main, refuse_in_worker
from actstore.errors import ClusterError
from conftest import WriteSpec
from forked import forked
from processes import PYTHONPATH

pytestmark = pytest.mark.process

SCRIPT = """
import actstore
print("done", actstore.capture(actstore.load_spec({spec!r}), cluster="local", workers=1, device="cpu").done)
"""
GUARDED = (
    'import actstore\nif __name__ == "__main__":\n    print("done", actstore.capture(actstore.load_spec({spec!r}), '
)
GUARDED += 'cluster="local", workers=1, device="cpu").done)\n'


@pytest.fixture
def spec(write_spec: WriteSpec, tmp_path: Path) -> str:
    return str(write_spec(tmp_path, data__patients=["patient001"], store__keep="statistics"))


def run(script: Path) -> tuple[int, str, str]:
    """Exit status, output and errors of a script in a file."""
    with forked(script, environment={"PYTHONPATH": PYTHONPATH}) as process:
        output, errors = process.communicate()
    return process.returncode, output, errors


def test_a_script_in_a_file(spec: str, tmp_path: Path) -> None:
    """One with a guard runs: `test_memory` starts it."""
    script = tmp_path / "study.py"
    script.write_text(SCRIPT.format(spec=spec))
    status, output, errors = run(script)
    assert (status, output) == (1, "")
    *_, last = errors.splitlines()
    assert last == (
        f"actstore.errors.ClusterError: the workers import {script}, which starts the job again: put the call "
        "behind `if __name__ == \"__main__\":`, or use cluster = 'inline'"
    )
    assert errors.count("Error") == errors.count("ClusterError"), "no other failure beside it"
    assert errors.count("Traceback") == 1
    assert "another job" not in errors


def test_a_script_on_standard_input(spec: str) -> None:
    """One with an inline cluster runs: `test_imports` starts it."""
    ended = subprocess.run(
        [sys.executable, "-"],
        input=SCRIPT.format(spec=spec),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    assert ended.returncode == 1
    *_, last = ended.stderr.splitlines()
    assert "ClusterError: workers import the script that starts them, and <stdin> is no file: save the script" in last
    assert 'put the call behind `if __name__ == "__main__":`' in last
    assert ended.stderr.count("Traceback") == 1


def test_a_script_that_workers_cannot_import(spec: str, tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    script.write_text('if __name__ != "__main__":\n    raise ValueError("not here")\n' + GUARDED.format(spec=spec))
    status, _, errors = run(script)
    assert status == 1
    *_, last = errors.splitlines()
    assert last.endswith(
        "ClusterError: cluster 'local' does not start: a worker process ended while it began; what it said stands above"
    )
    assert "ValueError: not here" in errors


def test_a_process_of_something_else_is_told_the_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import multiprocessing

    refuse_in_worker("local")
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    refuse_in_worker("inline")
    with pytest.raises(ClusterError, match="starts a job in each process that imports it: put the call behind"):
        refuse_in_worker("local")
    with pytest.raises(ClusterError, match="which starts the job again"), guarded_main():
        _lose_a_worker()
    assert "ACTSTORE_UNGUARDED" not in os.environ
    with pytest.raises(RuntimeError, match="something else"), guarded_main():
        raise RuntimeError("something else")


def _lose_a_worker() -> None:
    with pytest.raises(SystemExit):
        refuse_in_worker("inline")
    raise RuntimeError("a worker is gone")
