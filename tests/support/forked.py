"""Processes forked from one that has imported what they need: tests of many processes then do not wait for imports.

Each is a process of its own in a session of its own, with its own environment, and ends as any interpreter does. What
an import itself does is not seen this way: other tests start the command line as a shell does.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

#: Imported before processes are forked: for captures, for explorers, and for notebooks' kernels.
MODULES = ("actstore.cli.commands", "actstore.jobs.capture", "actstore.cluster.launch", "distributed.cli.dask_worker")
EXPLORER = ("actstore.cli.commands", "actstore.views.explorer.server", "actstore.views.explorer.page")
#: Neither HoloViews nor Panel: what they do when imported depends on whether that is in a kernel.
KERNEL = (
    *("ipykernel.kernelapp", "matplotlib.pyplot", "bokeh.plotting", "colorcet", "skimage.measure", "distributed"),
    *("actstore.models", "actstore.jobs.capture", "actstore.jobs.explain", "actstore.jobs.visualise"),
)
FIRST = (str(Path(__file__).parent), str(Path(__file__).parents[1]))
SERVE = "import sys; import forked; forked.run(forked.serve(int(sys.argv[1]), sys.argv[2:]))"


def serve(descriptor: int, modules: Sequence[str]) -> dict[str, Any]:
    """Fork a process for each request. Returns the request in that process alone; ends when nobody asks any more."""
    for module in modules:
        __import__(module)
    # A child does not look through what it never changes.
    gc.collect()
    gc.freeze()
    channel = socket.socket(fileno=descriptor)
    # Interrupts a wait for requests.
    signal.signal(signal.SIGCHLD, lambda *_: _reap(channel))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        content, ancillary, _, _ = channel.recvmsg(2**20, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        if not content:
            os._exit(0)
        descriptors = array.array("i", ancillary[0][2])
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        led, leads = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            for one in (leads, led):
                os.close(one)
            channel.close()
            return {**json.loads(content), "descriptors": list(descriptors)}
        for one in (*descriptors, leads):
            os.close(one)
        # Until the child leads its own session.
        os.read(led, 1)
        os.close(led)
        _say(channel, {"started": child})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


def _reap(channel: socket.socket) -> None:
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        _say(channel, {"ended": child, "status": status})


def _say(channel: socket.socket, message: Mapping[str, int]) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")


def run(request: Mapping[str, Any]) -> None:
    """Become the process of a request: the command line of actstore, or of another module, or a script."""
    import dask

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    for number, descriptor in enumerate(request["descriptors"]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # Those of before remember how long their file was.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, encoding="utf-8", closefd=False) for number in (1, 2))
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in sys.path]
    dask.config.refresh()
    if request["strict"]:
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
    if request["folder"]:
        os.chdir(request["folder"])
    sys.argv = [request["module"], *request["arguments"]]
    if request["module"] == "actstore":
        from actstore.cli.commands import main

        main()
    elif request["module"].endswith(".py"):
        runpy.run_path(request["module"], run_name="__main__")
    else:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


class Forked(subprocess.Popen[str]):
    """A process forked by `Parent`, as `subprocess.Popen` would start it."""

    def __init__(
        self, parent: Parent, request: Mapping[str, Any], output: IO[Any] | None, errors: IO[Any] | None
    ) -> None:
        self._parent = parent
        self.args = [request["module"], *request["arguments"]]
        self.stdin = self.stdout = self.stderr = None
        self.returncode = None  # type: ignore[assignment]
        self._waitpid_lock = threading.Lock()
        self._input = None
        self._communication_started = False
        self._child_created = True
        self._sigint_wait_secs = 0.25
        self.text_mode = True
        self.encoding = self.errors = None
        if output is None:
            pipes = [os.pipe() for _ in range(2)]
            self.stdout, self.stderr = (os.fdopen(read, encoding="utf-8") for read, _ in pipes)
            ends = [write for _, write in pipes]
        else:
            ends = [os.dup(output.fileno()), os.dup((errors or output).fileno())]
        with Path(os.devnull).open("rb") as null:
            self.pid = parent.fork(request, [null.fileno(), *ends])
        for end in ends:
            os.close(end)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        status = self._parent.status(self.pid, wait=not wait_flags & os.WNOHANG)
        return (0, 0) if status is None else (self.pid, status)

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        if self.returncode is None:
            with self._waitpid_lock:
                status = self._parent.status(self.pid, wait=False)
                if status is not None:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class Parent:
    """The process that forks, and what is known of its children."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair()
        self._heard = b""
        self._ended: dict[int, int] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno()), *modules],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*FIRST, os.environ.get("PYTHONPATH")]))},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    def fork(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Returns the new process's number; it has ``descriptors`` as its input, output and errors."""
        with self._lock:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            self._channel.sendmsg([json.dumps(request).encode()], ancillary)
            while "started" not in (message := self._next()):
                pass
            return message["started"]

    def status(self, child: int, *, wait: bool) -> int | None:
        """As of `os.waitpid`; ``None`` while it runs."""
        with self._lock:
            while child not in self._ended and (wait or self._heard or select.select([self._channel], [], [], 0)[0]):
                self._next()
            return self._ended.get(child)

    def _next(self) -> dict[str, int]:
        """The next message; ends of processes are noted."""
        while b"\n" not in self._heard:
            some = self._channel.recv(2**16)
            assert some, "the process that forks is gone"
            self._heard += some
        line, _, self._heard = self._heard.partition(b"\n")
        message: dict[str, int] = json.loads(line)
        if "ended" in message:
            self._ended[message["ended"]] = message["status"]
        return message

    def close(self) -> None:
        self._channel.close()
        self._process.wait()


#: By what they have imported.
_parents: dict[tuple[str, ...], Parent] = {}


def forked(
    module: str | Path,
    *arguments: object,
    environment: Mapping[str, str],
    strict: bool = False,
    output: IO[Any] | None = None,
    errors: IO[Any] | None = None,
    modules: tuple[str, ...] = MODULES,
    folder: str | None = None,
) -> Forked:
    """Start ``module``, or the script in a file of that name, in a session of its own.

    Parameters
    ----------
    environment
        beside that of this process.
    strict
        whether warnings are errors.
    output
        a file for what it prints; by default its output and errors are read from the process.
    errors
        another file for its errors.
    modules
        imported beforehand.
    folder
        where it works; by default where this process did when the first of ``modules`` was started.
    """
    if modules not in _parents:
        _parents[modules] = Parent(modules)
    request = {
        "module": str(module),
        "arguments": [str(argument) for argument in arguments],
        "environment": {**os.environ, **environment},
        "strict": strict,
        "folder": folder,
    }
    return Forked(_parents[modules], request, output, errors)
