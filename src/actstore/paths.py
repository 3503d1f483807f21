"""Where things are: paths as people write them, and network addresses of this machine.

A leading ``~`` is the home, wherever a path is given. A shell expands ``~`` only where a word begins with it, not in
``--store=~/run.zarr``, and Python never does: without this rule both would make a folder named ``~``. A folder of that
name is reached by ``./~``.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from actstore.errors import ActstoreError, StoreError

#: Reached by programs of this machine alone.
LOOPBACK = "127.0.0.1"
#: The explorer's port: the default of Panel and Bokeh.
PORT = 5006


def expanded(path: str | Path, error: type[ActstoreError] = StoreError) -> Path:
    """``path`` with a leading ``~`` or ``~user`` as that home. ``./~`` gives ``Path("~")``: the folder of that name.

    Raises
    ------
    error
        if that home is not known here.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return Path(text)
    name = text.partition("/")[0]
    found = os.path.expanduser(text)
    # An unknown user stays as written; an empty HOME would give a path at the root of the disk.
    if not found.startswith("/") or (name == "~" and os.environ.get("HOME") == ""):
        whose = "HOME is not set to a folder" if name == "~" else f"there is no user {name[1:]!r} here"
        raise error(f"{text}: {name} is no known home: {whose}; write the path out, or ./{name} for that very name")
    return Path(found)


def given(path: str | Path, error: type[ActstoreError] = StoreError) -> Path:
    """As `expanded`, for a path relative to the working directory; what it returns may be given again.

    Raises
    ------
    error
        if that home is not known here.
    """
    found = expanded(path, error)
    # ``Path`` forgets the ``./`` of ``./~``.
    return Path.cwd() / found if str(found).startswith("~") else found


def is_url(location: str | Path) -> bool:
    """Whether ``location`` is no path: ``s3://…``, or a scheme that no storage has."""
    return "://" in str(location)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches ``address``."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def free_port(address: str, port: int) -> int:
    """``port`` if a server can listen on it, any free one for 0.

    Raises
    ------
    StoreError
        if it is in use, or the address is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((address, port))
            return int(trial.getsockname()[1])
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{address}:{port} cannot be listened on ({why}): choose another --port or --address"
        ) from error
