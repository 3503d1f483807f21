"""actstore: what happens inside a segmentation network when one class of its input is perturbed, kept and queried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Findings", "Store", "capture", "explain", "intervene", "load_spec", "open", "visualise"]

if TYPE_CHECKING:
    from actstore.jobs.capture import capture
    from actstore.jobs.explain import explain
    from actstore.jobs.intervene import intervene
    from actstore.jobs.visualise import visualise
    from actstore.spec.spec import load_spec
    from actstore.store.opening import open_store as open
    from actstore.store.store import Store
    from actstore.tables.findings import Findings

#: Packages that are read through their names, imported on first use.
_PACKAGES = ("analysis", "views")
_HOMES = {
    "Findings": ("actstore.tables.findings", "Findings"),
    "Store": ("actstore.store.store", "Store"),
    "capture": ("actstore.jobs.capture", "capture"),
    "load_spec": ("actstore.spec.spec", "load_spec"),
    "open": ("actstore.store.opening", "open_store"),
    "explain": ("actstore.jobs.explain", "explain"),
    "intervene": ("actstore.jobs.intervene", "intervene"),
    "visualise": ("actstore.jobs.visualise", "visualise"),
}


def __getattr__(name: str) -> Any:
    """Import the public verbs on first use, so that ``import actstore`` costs nothing."""
    if name not in _HOMES and name not in _PACKAGES:
        raise AttributeError(f"module 'actstore' has no attribute {name!r}")
    from importlib import import_module

    from actstore.errors import needing

    with needing(f"actstore.{name}"):
        if name in _PACKAGES:
            return import_module(f"actstore.{name}")
        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """What is public: the verbs, the two packages of functions, and the version."""
    return sorted([*__all__, *_PACKAGES, "__version__"])
