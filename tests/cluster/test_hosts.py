"""Captures on a scheduler and workers of separate hosts: the same bits as in one process, whatever the network does."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import certificates
import namespaces
from actstore.jobs.capture import capture
from actstore.spec.spec import load_spec
from certificates import Certificates, make_certificates
from conftest import WriteSpec
from namespaces import Host, hosts
from processes import actstore, finish, start_dask, until
from stores import expect_same, slow_spec, strays

pytestmark = pytest.mark.cluster

PORT = 8786
#: Lies beside the spec. Says on which host it was loaded.
NETWORK = """
import os
from pathlib import Path

from networks import tiny_unet


def unet():
    if "LOADED" in os.environ:
        Path(os.environ["LOADED"]).touch()
    return tiny_unet()
"""
#: The scheduler's kernel gives a silent connection up after that time, whatever processes are busy with.
IMPATIENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}
#: The scheduler gives a silent worker up after one to two of these, its connection not.
STRICT = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "120s"}
#: Of workers: makes a block take some ten seconds.
PAUSE = {"SLOW_NETWORK_PAUSE": "3"}


@dataclass
class Cluster:
    """A scheduler and its workers, each on a host of its own, with logs in ``folder``."""

    folder: Path
    kind: str
    scheduler: Host
    workers: list[Host]

    def log(self, host: Host) -> str:
        return (self.folder / f"{host.name}.log").read_text()

    def losses(self, host: Host) -> int:
        """How often the scheduler gave the worker up."""
        return len(
            re.findall(rf"(?:failed to heartbeat|Remove worker).* name: {host.name}\b", self.log(self.scheduler))
        )


@pytest.fixture
def _hosts_can_be_made() -> None:
    if reason := namespaces.missing():
        pytest.skip(reason)


@contextmanager
def cluster(
    folder: Path,
    *,
    scheduler_environment: Mapping[str, str] = MappingProxyType({}),
    worker_environment: Mapping[str, str] = MappingProxyType({}),
    worker_options: Sequence[str] = (),
    tls: Certificates | None = None,
) -> Iterator[Cluster]:
    """``dask scheduler`` on one host, ``dask worker`` on two others."""
    folder.mkdir()
    protocol, options = "tcp", []
    if tls is not None:
        protocol = "tls"
        options = ["--tls-ca-file", str(tls.ca), "--tls-cert", str(tls.cert), "--tls-key", str(tls.key)]

    with hosts(["scheduler", "first", "second"]) as (scheduler, *workers):
        kind = f"{protocol}://{scheduler.address}:{PORT}"
        made = Cluster(folder, kind, scheduler, workers)

        def start(host: Host, environment: Mapping[str, str], *arguments: str) -> None:
            loaded = {"LOADED": str(folder / f"{host.name}.loaded")}
            log = folder / f"{host.name}.log"
            start_dask(log, *arguments, *options, environment=loaded | {**environment}, popen=host.popen)

        def registered() -> bool:
            for host in (scheduler, *workers):
                assert host.processes[0].poll() is None, made.log(host)
            return all("Registered to" in made.log(worker) for worker in workers)

        listen = ("--protocol", protocol, "--host", scheduler.address, "--port", str(PORT), "--no-dashboard")
        start(scheduler, scheduler_environment, "scheduler", *listen)
        for worker in workers:
            own = ("--name", worker.name, "--nthreads", "2", "--no-dashboard", *worker_options)
            start(worker, worker_environment, "worker", kind, *own)
        until(registered, "workers are registered")
        yield made


def tiny(folder: Path, write_spec: WriteSpec, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "hosted_network.py").write_text(NETWORK)
    return write_spec(folder, **{"model__factory": "hosted_network:unet"} | changes)


@pytest.fixture
def tiny_inline(tmp_path: Path, write_spec: WriteSpec) -> Path:
    """The store of a capture in this process."""
    summary = capture(load_spec(tiny(tmp_path / "inline", write_spec)), cluster="inline", device="cpu")
    assert summary.complete
    return Path(summary.store)


@pytest.mark.usefixtures("_hosts_can_be_made")
def test_three_hosts_store_the_same_bits_as_one_process(
    tmp_path: Path, write_spec: WriteSpec, tiny_inline: Path
) -> None:
    spec = tiny(tmp_path / "spec", write_spec)
    with cluster(tmp_path / "cluster") as made:
        process = actstore("capture", spec, "--cluster", made.kind, "--device", "cpu")
        output, errors = finish(process)
        assert process.returncode == 0, errors
        assert "4 done, 0 skipped, 0 failed" in output
        loaded = {path.name for path in made.folder.glob("*.loaded")}
        assert loaded == {"first.loaded", "second.loaded"}, "both workers computed"
    expect_same(spec.parent / "tiny.zarr", tiny_inline)


@pytest.fixture(scope="module")
def slow_inline(tmp_path_factory: pytest.TempPathFactory, write_spec: WriteSpec, phantom_root: Path) -> Path:
    """The store of a capture of the slow network in this process, where it is not slow."""
    spec = slow_spec(tmp_path_factory.mktemp("inline"), write_spec, phantom_root)
    summary = capture(load_spec(spec), cluster="inline", device="cpu")
    assert summary.complete
    return Path(summary.store)


@pytest.fixture
def slow_tcp(tmp_path: Path, write_spec: WriteSpec, phantom_root: Path) -> Path:
    """A spec of four blocks of the slow network."""
    return slow_spec(tmp_path / "spec", write_spec, phantom_root, cluster={"startup_timeout": 60})


@pytest.mark.usefixtures("_hosts_can_be_made")
@pytest.mark.parametrize(
    ("seed", "environment", "options", "comes_back"),
    [(1, STRICT, ["--nanny"], True), (2, IMPATIENT, ["--no-nanny"], False), (5, IMPATIENT, ["--no-nanny"], False)],
    ids=["back", "gone", "gone-later"],
)
def test_a_host_that_is_cut_off_for_a_while_costs_no_block(
    tmp_path: Path,
    slow_tcp: Path,
    slow_inline: Path,
    seed: int,
    environment: Mapping[str, str],
    options: list[str],
    comes_back: bool,
) -> None:
    """The other host is given its blocks while it still computes them; neither attempt harms the other."""
    rng = random.Random(seed)
    root = slow_tcp.parent / "tiny.zarr"
    with (
        cluster(
            tmp_path / "cluster",
            scheduler_environment=environment,
            worker_environment={**environment, **PAUSE} if comes_back else PAUSE,
            worker_options=options,
        ) as made,
        actstore("capture", slow_tcp, "--cluster", made.kind, "--device", "cpu") as process,
    ):
        until(lambda: strays(root) or process.poll() is not None, "blocks are in flight")
        victim, moment, longer = rng.choice(made.workers), rng.uniform(0, 4), rng.uniform(0, 3)
        print(f"seed {seed}: {victim.name} cut {moment:.1f} s after the start, healed {longer:.1f} s after its loss")
        time.sleep(moment)
        before = made.losses(victim)
        victim.cut()
        until(lambda: made.losses(victim) > before, "the scheduler gave it up")
        time.sleep(longer)
        victim.heal()
        output, errors = finish(process)
        assert process.returncode == 0, errors
        assert "4 done, 0 skipped, 0 failed" in output
        expect_same(root, slow_inline)
        if comes_back:
            until(lambda: made.log(victim).count("Registered to") > 1, "another worker came in its place")
        else:
            assert victim.processes[0].wait(60) == 0
    expect_same(root, slow_inline)


@pytest.mark.usefixtures("_hosts_can_be_made")
def test_a_host_that_wakes_up_after_the_end_changes_nothing(tmp_path: Path, slow_tcp: Path, slow_inline: Path) -> None:
    """It goes on with blocks that others have committed long ago."""
    root = slow_tcp.parent / "tiny.zarr"
    with (
        cluster(
            tmp_path / "cluster",
            scheduler_environment=IMPATIENT,
            worker_environment=PAUSE,
            worker_options=["--no-nanny"],
        ) as made,
        actstore("capture", slow_tcp, "--cluster", made.kind, "--device", "cpu") as process,
    ):
        until(lambda: strays(root) or process.poll() is not None, "blocks are in flight")
        sleeper = made.workers[0]
        sleeper.cut()
        sleeper.processes[0].send_signal(signal.SIGSTOP)
        output, errors = finish(process)
        assert process.returncode == 0, errors
        assert "4 done, 0 skipped, 0 failed" in output
        assert made.losses(sleeper)
        expect_same(root, slow_inline)
        sleeper.processes[0].send_signal(signal.SIGCONT)
        sleeper.heal()
        assert sleeper.processes[0].wait(60) == 0
    expect_same(root, slow_inline)


@pytest.mark.usefixtures("_hosts_can_be_made")
def test_with_tls_only_members_capture(tmp_path: Path, write_spec: WriteSpec, tiny_inline: Path) -> None:
    if reason := certificates.missing():
        pytest.skip(reason)
    own = make_certificates(tmp_path / "own")
    other = make_certificates(tmp_path / "other")
    spec = tiny(tmp_path / "spec", write_spec, **tls_settings("../own"))
    bare = tiny(tmp_path / "bare", write_spec)
    foreign = tiny(tmp_path / "foreign", write_spec, **tls_settings("../other"))
    assert load_spec(foreign).cluster.tls_cert == other.cert

    with cluster(tmp_path / "cluster", tls=own) as made:
        for refused, kind, reason in (
            (bare, made.kind, "a scheduler at tls:// needs tls_ca, tls_cert and tls_key"),
            (bare, made.kind.replace("tls", "tcp"), "no scheduler answers at tcp://"),
            (foreign, made.kind, "no scheduler answers at tls://"),
        ):
            process = actstore(
                *("capture", refused, "--cluster", kind, "--device", "cpu"),
                DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="3s",
            )
            output, errors = finish(process)
            assert (process.returncode, output) == (1, "")
            assert reason in errors
            assert errors.count("\n") == 1, "one line"
        assert "Receive client connection" not in made.log(made.scheduler)

        process = actstore("capture", spec, "--cluster", made.kind, "--device", "cpu")
        output, errors = finish(process)
        assert process.returncode == 0, errors
        assert "4 done, 0 skipped, 0 failed" in output
        assert made.log(made.scheduler).count("Receive client connection") == 1
    expect_same(spec.parent / "tiny.zarr", tiny_inline)


def tls_settings(folder: str) -> dict[str, str]:
    return {
        "cluster__tls_ca": f"{folder}/ca.pem",
        "cluster__tls_cert": f"{folder}/member.pem",
        "cluster__tls_key": f"{folder}/member.key",
    }
