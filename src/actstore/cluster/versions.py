"""Versions of Python and the packages that computed a store."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "actstore",
    "torch",
    "monai",
    "numpy",
    "scipy",
    "scikit-image",
    "zarr",
    "dask",
    "distributed",
    "nibabel",
)


def versions() -> dict[str, str]:
    """Version of Python and of each installed package that affects stored numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        if (installed := _installed(package)) is not None:
            found[package] = installed
    return found


@cache
def _installed(package: str) -> str | None:
    """Parsing a package's metadata takes milliseconds; what this process has imported stays."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
