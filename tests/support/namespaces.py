"""Hosts of a small network on this machine: Linux network namespaces on one bridge.

The bridge has a separate namespace, since firewall rules of this machine, such as Docker's, filter traffic on its
bridges. This process reaches every host through a pair of interfaces between that namespace and its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import ipaddress
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "acts"
#: Namespaces and interfaces carry the id of the process that made them, which identifies leftovers of killed runs.
OWNED = re.compile(rf"\b{PREFIX}(\d+)[nv]\d+\b")
#: Range in which to search for a free /24.
NETWORKS = ipaddress.IPv4Network("10.128.0.0/9")

_numbers = itertools.count()


@dataclass
class Host:
    """One network namespace: its processes see only its own interfaces and the other hosts."""

    name: str
    namespace: str
    #: Namespace of the bridge, and the bridge's interface for this host.
    switch: str
    port: str
    address: str
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def popen(self, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        """Start ``argv`` on this host, as `subprocess.Popen`. The process has the same id and ends with `hosts`."""
        process = subprocess.Popen(["ip", "netns", "exec", self.namespace, *argv], **kwargs)
        self.processes.append(process)
        return process

    def cut(self) -> None:
        """Pull the cable: packets vanish in both directions, and connections stay open until a timeout."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def heal(self) -> None:
        """Plug the cable in again."""
        _ip("-n", self.switch, "link", "set", self.port, "up")


@contextlib.contextmanager
def hosts(names: Sequence[str]) -> Iterator[list[Host]]:
    """Hosts of ``names`` in one /24 that this process reaches too. Processes on them are killed at the end."""
    switch, mine = _name("n"), _name("v")
    made: list[Host] = []
    try:
        with _alone():
            _remove_leftovers()
            network = _free_network()
            addresses = (f"{address}/{network.prefixlen}" for address in network.hosts())
            _ip("netns", "add", switch)
            _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", switch, "link", "set", "bridge", "up")
            _ip("link", "add", mine, "type", "veth", "peer", "name", mine, "netns", switch)
            _plug(switch, mine)
            _ip("address", "add", next(addresses), "dev", mine)
            _ip("link", "set", mine, "up")
        for name, address in zip(names, addresses, strict=False):
            host = Host(name, _name("n"), switch, _name("v"), address.partition("/")[0])
            made.append(host)
            _ip("netns", "add", host.namespace)
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", switch, "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _plug(switch, host.port)
            _ip("-n", host.namespace, "address", "add", address, "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
        yield made
    finally:
        _remove([*(host.namespace for host in made), mine, switch])
        for process in itertools.chain.from_iterable(host.processes for host in made):
            with process:  # Reaps it and closes its pipes.
                process.kill()


@functools.cache
def missing() -> str:
    """What this machine lacks to make hosts, in one sentence, or ""."""
    if shutil.which("ip") is None:
        return "no hosts can be made: there is no ip command (iproute2)"
    if os.geteuid() != 0:
        return "no hosts can be made: only root makes network namespaces"
    try:
        with hosts(["probe"]):
            return ""
    except (OSError, RuntimeError) as error:
        return f"no hosts can be made: {error}"


def _plug(switch: str, port: str) -> None:
    _ip("-n", switch, "link", "set", port, "master", "bridge")
    _ip("-n", switch, "link", "set", port, "up")


def _name(kind: str) -> str:
    """A name of at most 15 characters, the limit for interfaces."""
    return f"{PREFIX}{os.getpid()}{kind}{next(_numbers)}"


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Lock: one process at a time searches for a free network and takes it."""
    folder = os.open("/run", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _free_network() -> ipaddress.IPv4Network:
    used = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in json.loads(_ip("-4", "-json", "route", "show", "table", "all") or "[]")
        if route["dst"] != "default"
    ]
    for network in NETWORKS.subnets(new_prefix=24):
        if not any(network.overlaps(other) for other in used):
            return network
    raise RuntimeError(f"{NETWORKS} has no free /24")


def _remove_leftovers() -> None:
    """Remove leftovers of killed processes."""
    owners = {match[0]: match[1] for match in OWNED.finditer(_ip("netns", "list") + _ip("-brief", "link"))}
    _remove(name for name, owner in owners.items() if not os.path.exists(f"/proc/{owner}"))


def _remove(names: Iterable[str]) -> None:
    """Kill what runs in the namespaces among ``names`` and delete them; delete the interfaces among them."""
    for name in names:
        if not re.search(rf"^{name}\b", _ip("netns", "list"), re.MULTILINE):
            # It may vanish with the namespace of its peer.
            with contextlib.suppress(RuntimeError):
                _ip("link", "delete", name)
            continue
        while pids := _ip("netns", "pids", name).split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.02)
        _ip("netns", "delete", name)
