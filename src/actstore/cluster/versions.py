"""Versions of Python and the packages that computed a store."""

from __future__ import annotations

import platform
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
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
