"""Scores: a classifier's of each image, and histograms of those of pixels."""

from __future__ import annotations

import xarray as xr

from actstore.errors import StoreError
from actstore.store.arrays import Arrays
from actstore.store.files.base import Location


def read_score(arrays: Arrays) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.score`."""
    if not arrays.layout.classified:
        raise StoreError(f"{arrays.storage.location} holds segmentations, which have no score a sample: use prediction")
    return arrays.small(arrays.layout.score, "score")


def read_histogram(arrays: Arrays) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.histogram`."""
    _require_scores(arrays)
    return arrays.sharded(arrays.layout.histogram, "histogram")


def read_calibration(arrays: Arrays) -> xr.DataArray:
    """As :attr:`actstore.store.store.Store.calibration`."""
    _require_scores(arrays)
    return arrays.sharded(arrays.layout.calibration, "calibration")


def no_scores(path: Location) -> str:
    """What the store at ``path`` lacks without histograms, and how to get them."""
    return (
        f"{path} has no histograms of scores, which curves are made of: it was begun before there were any, "
        "or with store.histogram = false; capture to another store path with store.histogram = true"
    )


def _require_scores(arrays: Arrays) -> None:
    if not arrays.layout.scored:
        raise StoreError(no_scores(arrays.storage.location))
