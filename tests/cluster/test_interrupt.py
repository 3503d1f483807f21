"""Ctrl-C and SIGTERM: the first ends in order, the second at once; the same command continues after either."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from pathlib import Path

import pytest

from actstore.cluster.launch import connect
from actstore.jobs.capture import capture
from actstore.spec.cluster import Cluster
from actstore.spec.spec import load_spec
from actstore.store.files import storage_at
from conftest import WriteSpec
from processes import captured, expect_none_left, expect_whole, finish, hear, said, until
from stores import committed, expect_same, slow_spec, strays

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc"),
]

STOPPING = "stopping: what is in flight is finished and committed; Ctrl-C again stops now"
#: Blocks of one worker that are in flight, by kind of cluster.
IN_FLIGHT = {"inline": 1, "local": 2}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec, phantom_root: Path) -> Path:
    spec = slow_spec(tmp_path_factory.mktemp("undisturbed"), write_spec, phantom_root)
    return Path(capture(load_spec(spec), cluster="inline", device="cpu").store)


@pytest.fixture
def spec(tmp_path: Path, write_spec: WriteSpec, phantom_root: Path) -> Path:
    """Four blocks of the slow network."""
    return slow_spec(tmp_path / "spec", write_spec, phantom_root)


def until_in_flight(process: subprocess.Popen[str], root: Path) -> None:
    def in_flight() -> bool:
        assert process.poll() is None, finish(process)
        return bool(strays(root))

    until(in_flight, "a block is in flight")


def expect_resumable(spec: Path, done: int, expected: Path) -> None:
    expect_whole(spec.parent / "tiny.zarr", expected)
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert (summary.done, summary.skipped, summary.complete) == (4 - done, done, True)
    expect_same(spec.parent / "tiny.zarr", expected)


@pytest.mark.parametrize(
    ("cluster", "number"),
    [
        pytest.param("inline", signal.SIGTERM, id="inline-sigterm"),
        pytest.param("local", signal.SIGINT, id="local-ctrl-c"),
        pytest.param("inline", signal.SIGINT, id="inline-ctrl-c", marks=pytest.mark.faults),
        pytest.param("local", signal.SIGTERM, id="local-sigterm", marks=pytest.mark.faults),
    ],
)
def test_the_first_signal_ends_in_order(spec: Path, undisturbed: Path, cluster: str, number: signal.Signals) -> None:
    root, held = spec.parent / "tiny.zarr", spec.parent / "held"
    with captured(spec, cluster, "--workers", "1", SLOW_NETWORK_PAUSE="0.3", SLOW_NETWORK_HELD=str(held)) as process:
        until_in_flight(process, root)
        held.touch()
        assert committed(root) == []
        if number == signal.SIGINT:
            # As a terminal does: workers get it too.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        hear(process, STOPPING)
        held.unlink()
        output, errors = finish(process)
        assert process.returncode == 1
        expect_none_left(process)
    done = IN_FLIGHT[cluster]
    assert said(errors) == [f"stopped: {4 - done} volumes are left; the same command continues"]
    assert f"{done} done, 0 skipped, 0 failed" in output
    assert len(committed(root)) == done
    assert strays(root) == []
    expect_resumable(spec, done, undisturbed)


@pytest.mark.parametrize("cluster", ["inline", "local"])
def test_the_second_ctrl_c_ends_at_once(spec: Path, undisturbed: Path, cluster: str) -> None:
    """No pass that is under way is waited for: here none would ever end."""
    root, held = spec.parent / "tiny.zarr", spec.parent / "held"
    with captured(spec, cluster, "--workers", "1", SLOW_NETWORK_PAUSE="0.3", SLOW_NETWORK_HELD=str(held)) as process:
        until_in_flight(process, root)
        held.touch()
        os.killpg(process.pid, signal.SIGINT)
        hear(process, STOPPING)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = finish(process)
        assert (process.returncode, output) == (1, "")
        assert said(errors) == ["interrupted: run the same command again to continue"]
        expect_none_left(process)
    expect_resumable(spec, 0, undisturbed)


def test_a_worker_says_nothing_of_a_scheduler_that_goes(tiny_store: Path) -> None:
    """It may be sending a sign of life while it is asked to end; an error then would look like a failure."""
    logger, levels = logging.getLogger("distributed.worker"), iter([logging.ERROR])
    with connect(Cluster(kind="local"), 1, memory=0, storage=storage_at(tiny_store)) as executor:
        ((_, heard),) = executor.run(logger.isEnabledFor, lambda: next(levels, None))
    assert heard is False
