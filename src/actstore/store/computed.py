"""What :mod:`actstore.tables.of_store` computes of a store.

Its functions are looked up by name, since they need ``analysis``, which lies above. A subclass of `Store` up there
would make what jobs open another class than that of :func:`actstore.open`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from actstore.case_rules import CaseRules
    from actstore.store.store import Store


def mosaic_of(store: Store, name: str, patient: str, frame: int) -> xr.DataArray:
    """As :meth:`actstore.store.store.Store.mosaic`."""
    found: xr.DataArray = _function("mosaic")(store, name, patient, frame)
    return found


def case_rules_of(store: Store) -> CaseRules:
    """As :attr:`actstore.store.store.Store.case_rules`."""
    rules: CaseRules = _function("case_rules")(store)
    return rules


def cases_of(store: Store) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.cases`."""
    found: xr.DataArray = _function("cases")(store)
    return found


def rescaling_of(store: Store) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.rescaling`."""
    found: xr.DataArray = _function("rescaling")(store)
    return found


def _function(name: str) -> Any:
    return getattr(import_module("actstore.tables.of_store"), name)
