"""What commands are given: a store to open or to verify, a spec to load."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from actstore.cli import terminal

if TYPE_CHECKING:
    from actstore.spec.spec import Spec
    from actstore.store.files.base import Location
    from actstore.store.store import Store
    from actstore.store.verify import Verification


def opened(path: Location) -> Store:
    """Open a store; warn once on stderr about missing volumes."""
    from actstore.store.opening import open_store

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = open_store(path)
    for warning in caught:
        terminal.say(f"actstore: {warning.message}", error=True)
    return store


def given_spec(path: Path | None) -> Spec | None:
    """The spec of an option, or None; without one, a plain installation has all that reading a store needs."""
    if path is None:
        return None
    from actstore.spec.spec import load_spec

    return load_spec(path)


def verified(store: Location) -> Verification:
    """Verify with a progress display."""
    from actstore.cli import text
    from actstore.store.verify import verify as check

    with text.unit_progress() as progress:
        return check(store, progress=progress)
