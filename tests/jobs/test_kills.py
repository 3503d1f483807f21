"""Processes of a capture that are killed, frozen or started twice: the store ends as if nothing had happened.

Moments are random, from seeds that are printed. One case of each kind runs always, the others in the fault suite.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

import actstore
from actstore.jobs.capture import Summary, capture
from actstore.spec.spec import load_spec
from actstore.store.opening import MissingBlocksWarning
from conftest import WriteSpec
from processes import (
    PATIENCE,
    captured,
    expect_end,
    expect_none_left,
    expect_whole,
    finish,
    kill_group,
    loopback,
    said,
    until,
    workers_of,
)
from stores import BATCH, committed, expect_same, slow_spec, strays

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc"),
]

#: Makes a block take about a second.
PAUSE = {"SLOW_NETWORK_PAUSE": "0.3"}
REFUSED = ("another job is writing to", "appeared while the store was made: run again to continue it")

#: Lies beside the spec. Takes much memory in the only forward pass of so many inputs.
HUNGRY_NETWORK = """
import os
import time

import torch
from networks import tiny_unet


def eat(_, inputs):
    if str(len(inputs[0])) == os.environ.get("HUNGRY_INPUTS"):
        eaten = torch.ones(2**30 // 4)
        time.sleep(600)


def hungry():
    network = tiny_unet()
    network.register_forward_pre_hook(eat)
    return network
"""


def seeds(count: int) -> Sequence[Any]:
    """So many seeds, all but the first for the fault suite."""
    return [seed if seed == 0 else pytest.param(seed, marks=pytest.mark.faults) for seed in range(count)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec, phantom_root: Path) -> Summary:
    """An undisturbed capture of the slow network, where it is not slow."""
    spec = slow_spec(tmp_path_factory.mktemp("undisturbed"), write_spec, phantom_root)
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete
    return summary


@pytest.fixture
def spec(tmp_path: Path, write_spec: WriteSpec, phantom_root: Path) -> Path:
    """Four blocks of the slow network."""
    return slow_spec(tmp_path / "spec", write_spec, phantom_root, cluster={"startup_timeout": PATIENCE})


def store_of(spec: Path) -> Path:
    return spec.parent / "tiny.zarr"


def inputs_of(root: Path) -> list[int]:
    """Applicable inputs of each block of a whole store."""
    store = actstore.open(root)
    applicable, of = store.applicable.values, store.samples["block"].to_numpy()
    return [int(applicable[of == block].sum()) for block, _ in store.block_samples]


def until_in_flight(process: subprocess.Popen[str], root: Path, done: int = 0, old: Collection[str] = ()) -> None:
    """Wait until ``done`` blocks are committed and others are being written, of which ``old`` files are no sign."""

    def in_flight() -> bool:
        assert process.poll() is None, finish(process)
        return len(committed(root)) >= done and not set(strays(root)) <= set(old)

    until(in_flight, "blocks are in flight")


def strike(process: subprocess.Popen[str], root: Path, seed: int, who: str) -> None:
    """Return at some moment while blocks are in flight, for ``who`` to be killed."""
    moment = random.Random(seed).uniform(0, 1.2)
    until_in_flight(process, root)
    time.sleep(moment)
    print(f"seed {seed}: the {who} killed {moment:.3f} s after workers began to write")


def resume(spec: Path, whole: Summary) -> None:
    """Capture here what is not committed, and nothing else: then the store is as if nothing had happened."""
    root = store_of(spec)
    expect_whole(root, whole.store)
    done = committed(root)
    todo = [block for block in range(whole.done) if block not in done]
    if todo:
        with pytest.warns(MissingBlocksWarning, match=f"{len(todo)} of {whole.done} volumes are missing"):
            store = actstore.open(root)
        assert [block for block, _ in store.block_samples] == done
        store["L01"].compute()
    layout = actstore.open(whole.store).layout
    kept = {root / key for block in done for key in layout.capture.files(block)}
    times = {path: path.stat().st_mtime_ns for path in kept}
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete
    assert (summary.done, summary.skipped) == (len(todo), len(done))
    inputs = inputs_of(root)
    # A pass takes inputs of one block.
    assert summary.forward_passes == sum(-(-inputs[block] // BATCH) for block in todo), "none for a committed block"
    assert {path: path.stat().st_mtime_ns for path in kept} == times, "no committed file is touched"
    expect_same(root, whole.store)


@pytest.mark.parametrize("seed", seeds(20))
def test_a_killed_worker_costs_no_block(spec: Path, whole: Summary, seed: int) -> None:
    """At any moment from its start on; in a third of the cases before it computes."""
    rng = random.Random(seed)
    early, moment = rng.random() < 1 / 3, rng.uniform(0, 1.5)
    root = store_of(spec)
    with captured(spec, "local", "--workers", "2", **PAUSE) as process:
        if early:
            until(lambda: workers_of(process.pid), "a worker starts")
        else:
            until_in_flight(process, root)
        time.sleep(moment)
        # None is left where the capture ended meanwhile.
        for victim in rng.sample(workers := workers_of(process.pid), min(1, len(workers))):
            print(f"seed {seed}: a worker killed {moment:.3f} s after {'its start' if early else 'it began to write'}")
            os.kill(victim, signal.SIGKILL)
        complete = expect_end(process, root, whole.store)
        expect_none_left(process)
    if not complete:
        resume(spec, whole)


@pytest.mark.parametrize("seed", seeds(5))
def test_a_killed_scheduler_is_named_and_another_one_continues(
    tmp_path: Path, spec: Path, whole: Summary, seed: int
) -> None:
    """Its workers end what they compute, beside those of the next scheduler; in the ordinary suite there is one."""
    root = store_of(spec)
    with loopback(tmp_path / "first", workers=1 if seed == 0 else 2, worker_environment=PAUSE) as first:
        with captured(spec, first.address) as process:
            strike(process, root, seed, "scheduler")
            first.scheduler.process.kill()
            _, errors = finish(process)
            assert process.returncode == 1
            assert said(errors) == [
                f"actstore: the scheduler at {first.address} was lost: what is committed is kept; start it again, then "
                "run the same command to continue"
            ]
        with loopback(tmp_path / "second", workers=1, worker_environment=PAUSE) as second:
            with captured(spec, second.address) as process:
                complete = expect_end(process, root, whole.store)
            for worker in first.workers:
                assert worker.process.wait(PATIENCE) == 0
    if complete:
        expect_same(root, whole.store)
    else:
        resume(spec, whole)


@pytest.mark.parametrize("seed", seeds(5))
def test_a_killed_client_leaves_workers_that_do_no_harm(tmp_path: Path, spec: Path, whole: Summary, seed: int) -> None:
    """They go on with its blocks while the same command is started again, with the same workers."""
    root = store_of(spec)
    with loopback(tmp_path / "cluster", worker_environment=PAUSE) as cluster:
        with captured(spec, cluster.address) as process:
            strike(process, root, seed, "client")
            kill_group(process)
        with captured(spec, cluster.address) as process:
            complete = expect_end(process, root, whole.store)
        for worker in cluster.workers:
            worker.process.terminate()
            worker.process.wait(PATIENCE)
    if complete:
        expect_same(root, whole.store)
    else:
        resume(spec, whole)


@pytest.mark.parametrize("seed", seeds(5))
def test_a_capture_killed_with_all_its_workers_continues(spec: Path, whole: Summary, seed: int) -> None:
    """Once in the ordinary suite, else again and again until little is left."""
    rng = random.Random(seed)
    root = store_of(spec)
    torn = 0
    for more in (0,) if seed == 0 else (0, rng.randint(0, 1), 1):
        before, old = committed(root), strays(root)
        moment = rng.uniform(0, 0.15)
        with captured(spec, "local", "--workers", "2", **PAUSE) as process:
            until_in_flight(process, root, len(before) + more, old)
            time.sleep(moment)
            assert len(workers_of(process.pid)) == 2
            kill_group(process)
        after = committed(root)
        torn += len(strays(root))
        print(f"seed {seed}: killed {moment:.3f} s after {more} more blocks; committed {before} → {after}")
        assert set(before) <= set(after)
        expect_whole(root, whole.store)
        if len(after) >= whole.done - 1:
            break
    assert torn, "a kill met a block in flight"
    resume(spec, whole)


@pytest.mark.parametrize("seed", seeds(5))
def test_a_frozen_worker_that_wakes_up_changes_nothing(tmp_path: Path, spec: Path, whole: Summary, seed: int) -> None:
    """Others have its blocks: with even seeds it wakes up after they are done, else while they are computed."""
    rng = random.Random(seed)
    moment, longer = rng.uniform(0, 1), rng.uniform(0, 2)
    root = store_of(spec)
    with (
        loopback(
            tmp_path / "cluster",
            scheduler_environment={"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "6s"},
            # What is slow to import would keep a worker from its heartbeats.
            worker_environment={**PAUSE, "DASK_DISTRIBUTED__WORKER__PRELOAD": "['actstore.jobs.engine']"},
        ) as cluster,
        captured(spec, cluster.address) as process,
    ):
        until_in_flight(process, root)
        time.sleep(moment)
        name = rng.choice(["worker0", "worker1"])
        sleeper = cluster.workers[int(name[-1])]
        print(f"seed {seed}: {name} frozen {moment:.3f} s after workers began to write")
        sleeper.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: cluster.scheduler.says(rf"failed to heartbeat.* name: {name}\b"), "it counts as lost")
            if seed % 2:
                time.sleep(longer)
            else:
                complete = expect_end(process, root, whole.store)
        finally:
            sleeper.process.send_signal(signal.SIGCONT)
        if seed % 2:
            complete = expect_end(process, root, whole.store)
        assert sleeper.process.wait(PATIENCE) == 0
    assert complete
    expect_same(root, whole.store)


@pytest.mark.parametrize("seed", seeds(5))
def test_of_two_captures_at_the_same_moment_one_is_refused(spec: Path, whole: Summary, seed: int) -> None:
    """Or it comes when the other has ended, and finds nothing to do."""
    rng = random.Random(seed)
    later = rng.choice([0, rng.uniform(0, 1)])
    print(f"seed {seed}: the second {later:.3f} s after the first")
    root = store_of(spec)
    with captured(spec, "inline", **PAUSE) as first:
        time.sleep(later)
        with captured(spec, "inline", **PAUSE) as second:
            ends = [expect_end(process, root, whole.store) for process in (first, second)]
            assert any(ends)
    expect_same(root, whole.store)
    assert {path.name for path in root.parent.iterdir()} >= {root.name}
    assert not list(root.parent.glob(f".{root.name}*")), "a store that was not needed is gone"


def test_a_worker_over_its_memory_limit_costs_that_block_alone(
    tmp_path: Path, write_spec: WriteSpec, phantom_root: Path
) -> None:
    folder = tmp_path / "spec"
    folder.mkdir()
    (folder / "hungry_network.py").write_text(HUNGRY_NETWORK)
    settings = {"model__factory": "hungry_network:hungry", "run__batch_size": 64, "data__root": phantom_root}
    expected = capture(
        load_spec(write_spec(folder, store__path="expected.zarr", **settings)), cluster="inline", device="cpu"
    )
    spec = write_spec(folder, cluster={"memory": "1 GiB"}, **settings)
    root = store_of(spec)
    inputs = inputs_of(expected.store)
    hungry = max(range(expected.done), key=lambda block: inputs[block])
    assert inputs.count(inputs[hungry]) == 1
    with captured(spec, "local", "--workers", "2", HUNGRY_INPUTS=str(inputs[hungry])) as process:
        output, errors = finish(process)
        assert process.returncode == 1
        assert f"{expected.done - 1} done, 0 skipped, 1 failed" in output, errors
        (line,) = said(errors)
        assert "its worker died" in line
        assert "memory" in line
        expect_none_left(process)
    assert committed(root) == [block for block in range(expected.done) if block != hungry]
    expect_whole(root, expected.store)
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert (summary.done, summary.skipped, summary.complete) == (1, expected.done - 1, True)
    expect_same(root, expected.store)
