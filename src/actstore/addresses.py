"""Network addresses: this machine's own, where everything listens unless told otherwise, and the explorer's port."""

from __future__ import annotations

import ipaddress

#: Reached by programs of this machine alone.
LOOPBACK = "127.0.0.1"
#: The explorer's port: the default of Panel and Bokeh.
PORT = 5006


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches ``address``."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
