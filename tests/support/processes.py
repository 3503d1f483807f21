"""Real processes in tests: the command line and its ends, a Dask scheduler with workers on loopback, /proc."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from types import MappingProxyType
from typing import Any

from conftest import SUPPORT
from forked import forked
from stores import committed, expect_same, files_of

#: Lets workers and the command line find `networks` as pytest does.
PYTHONPATH = os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
LOOPBACK = "127.0.0.1"
#: Timeout in seconds for anything on a slow and busy machine.
PATIENCE = 180


def until(happened: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"{seconds} s are over before {what}"
        # Polling costs time too, and the process may need the same core.
        time.sleep(0.02)


def actstore(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start the command line in a separate process group. Warnings are errors."""
    return forked("actstore", *arguments, strict=True, environment={"PYTHONPATH": PYTHONPATH, **environment})


@contextmanager
def captured(spec: Path, cluster: str, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """``actstore capture``; checks afterwards that no process is left."""
    command = ("capture", spec, "--cluster", cluster, "--device", "cpu", *arguments)
    with actstore(*command, **environment) as process:
        try:
            yield process
        finally:
            kill_group(process)


def finish(process: subprocess.Popen[str], seconds: float = PATIENCE) -> tuple[str, str]:
    """Wait for the process to end; return its standard output and standard error."""
    try:
        return process.communicate(timeout=seconds)
    finally:
        process.kill()


def hear(process: subprocess.Popen[str], line: str) -> None:
    """Read standard error until ``line`` appears."""
    assert process.stderr
    watchdog = Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    heard = []
    for text in process.stderr:
        heard.append(text.strip())
        if heard[-1] == line:
            break
    watchdog.cancel()
    assert said("\n".join(heard)) == [line]


def said(errors: str) -> list[str]:
    """Lines of standard error without progress."""
    progress = r"\d+/\d+ (volume|group|unit)s?\b|starting \d+ workers?$"
    return [line for line in errors.splitlines() if line.strip() and not re.match(progress, line)]


def expect_whole(root: Path, expected: Path) -> None:
    """Check that every committed block has the same files as in the complete store ``expected``."""
    done = committed(root)
    mine, theirs = (
        {key: content for key, content in files_of(r).items() if _block(key) in done} for r in (root, expected)
    )
    assert mine.keys() == theirs.keys()
    assert [key for key in mine if mine[key] != theirs[key]] == []


def _block(key: str) -> int | None:
    """The block that owns a chunk; for a coordinate's chunk, the chunk's number."""
    found = re.search(r"/c\.(\d+)(\.0)*$", key)
    return int(found[1]) if found else None


def expect_end(process: subprocess.Popen[str], root: Path, expected: Path) -> bool:
    """Wait for a capture to end, complete or with one line per failure. Returns whether it is complete."""
    output, errors = finish(process)
    lines = said(errors)
    print(process.returncode, lines)
    if process.returncode == 0:
        assert " 0 failed" in output
        assert lines == []
        expect_same(root, expected)
        return True
    assert process.returncode == 1, errors
    failed = [line for line in lines if line.startswith("failed: ")]
    assert lines == failed or (len(lines) == 1 and lines[0].startswith("actstore: ")), errors
    return False


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the process and all that it started, and wait until they are dead."""
    if alive(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not alive(process.pid), "killed processes are dead")


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Living processes and their fields in /proc from the state on."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if fields[0] not in "ZX":
            yield int(stat.parent.name), fields


def alive(group: int) -> list[int]:
    """Processes of a group."""
    return [pid for pid, fields in _stats() if int(fields[2]) == group]


def expect_none_left(process: subprocess.Popen[str]) -> None:
    """Wait until all children of an ended process have ended too."""
    until(lambda: not alive(process.pid), "no process is left")


def workers_of(client: int) -> list[int]:
    """Dask's local worker processes that ``client`` started."""
    return sorted(pid for pid, fields in _stats() if int(fields[1]) == client and b"spawn_main" in _command(pid))


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass
class DaskProcess:
    """``dask scheduler`` or ``dask worker``, and its log."""

    process: subprocess.Popen[Any]
    path: Path

    @property
    def log(self) -> str:
        return self.path.read_text()

    def says(self, pattern: str) -> str:
        """The first match in its log, or ""; the process must be alive."""
        found = re.search(pattern, self.log)
        assert found or self.process.poll() is None, self.log
        return found[0] if found else ""


def start_dask(
    log: Path,
    *arguments: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    popen: Callable[..., subprocess.Popen[bytes]] | None = None,
) -> DaskProcess:
    """``dask ARGUMENTS``, forked, or started by ``popen``."""
    own = {
        "PYTHONPATH": PYTHONPATH,
        "OMP_NUM_THREADS": "1",
        "DASK_TEMPORARY_DIRECTORY": str(log.parent),
        **environment,
    }
    with log.open("w", encoding="utf-8") as file:
        if popen is None:
            return DaskProcess(forked("dask", *arguments, environment=own, output=file), log)
        command = [sys.executable, "-m", "dask", *arguments]
        return DaskProcess(popen(command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **own}), log)


@dataclass
class Loopback:
    """A scheduler and its workers."""

    address: str
    scheduler: DaskProcess
    workers: list[DaskProcess]


@contextmanager
def loopback(
    folder: Path,
    *,
    workers: int = 2,
    scheduler_environment: Mapping[str, str] = MappingProxyType({}),
    worker_environment: Mapping[str, str] = MappingProxyType({}),
    worker_options: Sequence[str] = ("--no-nanny",),
) -> Iterator[Loopback]:
    """``dask scheduler`` and ``dask worker`` on the loopback address; killed at the end."""
    folder.mkdir()
    with ExitStack() as stack:

        def start(name: str, environment: Mapping[str, str], *arguments: str) -> DaskProcess:
            made = start_dask(folder / f"{name}.log", *arguments, "--no-dashboard", environment=environment)
            stack.enter_context(made.process)
            stack.callback(made.process.kill)
            return made

        scheduler = start("scheduler", scheduler_environment, "scheduler", "--host", LOOPBACK, "--port", "0")
        until(lambda: scheduler.says(r"Scheduler at:\s+\S+"), "the scheduler listens")
        address = scheduler.says(r"Scheduler at:\s+\S+").split()[-1]
        own = ("--host", LOOPBACK, "--nthreads", "2", *worker_options)
        made = [
            start(f"worker{number}", worker_environment, "worker", address, "--name", f"worker{number}", *own)
            for number in range(workers)
        ]
        until(lambda: all(worker.says("Registered to") for worker in made), "workers are registered")
        yield Loopback(address, scheduler, made)
