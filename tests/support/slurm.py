"""Runs a private SLURM on this machine for a test: it writes to one folder, and nothing outlives it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo", "squeue")
#: Seconds until the node is idle; seconds for jobs, or a daemon, to end.
START_TIMEOUT = 60
STOP_TIMEOUT = 15

#: Declares more resources than the machine has, so that several jobs run at once on a small machine.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
{listen}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/pgid
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,bf_interval=1
ReturnToService=2
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1048576 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What this machine lacks to run SLURM, in one sentence, or ""."""
    absent = [name for name in PROGRAMS if _find(name) is None]
    if absent:
        return f"SLURM cannot be started: no {', '.join(absent)} (Debian: munge slurmctld slurmd slurm-client)"
    if os.geteuid() != 0:
        return "SLURM cannot be started: its daemons need root"
    return ""


@contextmanager
def running_slurm(folder: Path, cpus: int) -> Iterator[dict[str, str]]:
    """Run SLURM with this machine as its only node, and all its files in ``folder``.

    Parameters
    ----------
    folder
        is created. Its path must have less than 90 characters, since it holds a socket.
    cpus
        number of CPUs that the node offers, whatever the machine has.

    Yields
    ------
    environment variables by which ``sbatch`` and other clients find it. Every process started with them, including
    jobs, is killed at the end.

    Raises
    ------
    RuntimeError
        if the node is not idle in time, with the daemons' output.
    """
    environment = {"SLURM_CONF": str(_write_config(folder, cpus))}
    # --force, since test folders are closed to other users, who do not need the socket.
    munge = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "pid", "log", "seed")]
    munge += ["--foreground", "--force", f"--socket={folder}/munge.socket"]
    daemons: list[subprocess.Popen[bytes]] = []

    def wait(ready: Callable[[], bool]) -> None:
        end = time.monotonic() + START_TIMEOUT
        while not ready():
            if time.monotonic() > end or any(daemon.poll() is not None for daemon in daemons):
                raise RuntimeError(f"SLURM did not start:\n{_last_words(folder)}")
            time.sleep(0.1)

    try:
        daemons.append(_start("munged", munge, folder, environment))
        wait((folder / "munge.socket").exists)
        daemons.append(_start("slurmctld", ("-D",), folder, environment))
        daemons.append(_start("slurmd", ("-D",), folder, environment))
        wait(lambda: _ask(environment, "sinfo", "--noheader", "--format=%T") == "idle")
        yield environment
    finally:
        _stop(folder, environment, daemons)


def _find(program: str) -> str | None:
    """Path of a program; daemons are often outside ``PATH``."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def _write_config(folder: Path, cpus: int) -> Path:
    for made in (folder, folder / "state", folder / "spool"):
        made.mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    controller_port, node_port = _free_ports(2)
    config = folder / "slurm.conf"
    config.write_text(
        CONFIG.format(
            host=socket.gethostname().partition(".")[0],
            listen=_only_loopback(),
            folder=folder,
            cpus=cpus,
            controller_port=controller_port,
            node_port=node_port,
        ),
        encoding="utf-8",
    )
    return config


def _only_loopback() -> str:
    """The setting that makes daemons listen only on the address of this machine's name, if that is loopback.

    Without it they listen everywhere, and accept only credentials made with the key in the folder.
    """
    with suppress(OSError):
        if socket.gethostbyname(socket.gethostname()) == "127.0.0.1":
            return "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
    return ""


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


def _start(
    program: str, arguments: Sequence[str], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    with (folder / f"{program}.output").open("wb") as output:
        return subprocess.Popen(
            [str(_find(program)), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )


def _ask(environment: dict[str, str], *command: str) -> str:
    """Output of a client; empty if it fails or takes long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=STOP_TIMEOUT, env={**os.environ, **environment}
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()


def _last_words(folder: Path) -> str:
    written = sorted((*folder.glob("*.output"), *folder.glob("*.log")))
    return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in written)


def _stop(folder: Path, environment: dict[str, str], daemons: Sequence[subprocess.Popen[bytes]]) -> None:
    """End jobs, then daemons, with SLURM's commands, so that they can clean up; then kill the rest."""
    _ask(environment, "scancel", "--user=root")
    end = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < end and _ask(environment, "squeue", "--noheader"):
        time.sleep(0.1)
    for daemon in reversed(daemons):
        daemon.terminate()
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(STOP_TIMEOUT)
    left = _processes(folder, environment)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for daemon in daemons:
        daemon.wait()
    psutil.wait_procs(left, timeout=STOP_TIMEOUT)


def _processes(folder: Path, environment: dict[str, str]) -> list[psutil.Process]:
    """Jobs and clients, found by environment; daemons and job steps, which overwrite theirs, by log files."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            ours = environment.items() <= process.environ().items()
            if ours or any(Path(file.path).is_relative_to(folder) for file in process.open_files()):
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]
