"""Samples as points of a layer's space, and pictures of them: read once, shared by all pages of a server."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from cachetools import LRUCache
from numpy.typing import NDArray

from actstore.analysis.representations.embedding import embedding
from actstore.analysis.representations.neighbours import nearest_to
from actstore.analysis.representations.projection import PERPLEXITY, Method, projection
from actstore.errors import StoreError
from actstore.tables.representations import POOL
from actstore.views.arrays import Floats

if TYPE_CHECKING:
    from actstore.store.store import Store

#: What points of a picture are coloured by.
Paint = Literal["label", "patient"]
#: Samples up to which t-SNE is offered: beyond, it takes minutes.
MOST_TSNE = 2000
#: Samples of a picture, drawn evenly from more; neighbours are always sought among all.
MOST_SAMPLES = 10_000
#: Bytes of points of the layers used last.
POINT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Picture:
    """Samples of a layer in the plane, on the original and under a condition."""

    #: Numbers of the samples in it.
    samples: NDArray[np.intp]
    #: float64 (sample, condition, 2), the original first; NaN where the condition does not apply.
    places: Floats
    method: Method
    #: 1 where neighbours in the picture are neighbours in the layer's space, 0.5 where they might be drawn at random.
    trustworthiness: float
    #: Of all variance that both axes hold; NaN of t-SNE.
    share: float

    def at(self, x: float, y: float, size: tuple[float, float]) -> int | None:
        """The sample whose point is nearest to a place, in a picture of ``size``; None where there is no point."""
        away = (((self.places - (x, y)) / size) ** 2).sum(axis=-1)
        if not np.isfinite(away).any():
            return None
        return int(self.samples[np.unravel_index(np.nanargmin(away), away.shape)[0]])


class Likeness:
    """Points and pictures of one store, of its persisted statistics alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._patient = store.samples["patient"].to_numpy()
        self._points: LRUCache[Hashable, Any] = LRUCache(
            POINT_BYTES, getsizeof=lambda one: min(one.nbytes, POINT_BYTES)
        )
        self._pictures: LRUCache[Hashable, Picture] = LRUCache(64)
        self._lock = threading.Lock()

    def points(self, layer: str) -> Floats | None:
        """What :meth:`read` has read, or None."""
        with self._lock:
            found: Floats | None = self._points.get(layer)
        return found

    def read(self, layer: str) -> Floats:
        """Samples of the original in a layer's space: float64 (sample, feature), each channel's mean and maximum.

        Raises
        ------
        StoreError
            if the store persisted no statistics, or not these.
        """
        if (found := self.points(layer)) is None:
            found = self._embedded(layer, 0).values
            with self._lock:
                self._points[layer] = found
        return found

    def _embedded(self, layer: str, condition: int) -> xr.DataArray:
        """Lazy, of what is persisted."""
        self.need_statistics()
        statistics = self._store.statistics(layer, POOL.split("+"), persisted=True)
        return embedding({layer: statistics}, layer, POOL, condition=condition)

    @property
    def known(self) -> bool:
        """Whether the store persisted what points are made of."""
        return self._store.reduced and self._store.layout.version >= 4

    def need_statistics(self) -> None:
        """Refuse a store that did not persist what points are made of."""
        store = self._store
        if not store.reduced:
            raise StoreError(f"{store.path} has volumes without statistics: run `actstore reduce {store.path}`")
        if store.layout.version < 4:
            raise StoreError(
                f"{store.path} has schema {store.layout.version}, which persisted no mean and maximum of every "
                "condition: capture it again to see what is alike"
            )

    def nearest(self, layer: str, sample: int, k: int) -> tuple[NDArray[np.intp], Floats]:
        """Numbers and distances of the at most ``k`` nearest samples of other patients, on the original."""
        return nearest_to(np.asarray(self.read(layer), np.float64), self._patient, sample, k)

    def picture(self, layer: str, condition: int, method: Method) -> Picture | None:
        """What :meth:`draw` has drawn, or None."""
        with self._lock:
            return self._pictures.get((layer, condition, method))

    def draw(self, layer: str, condition: int, method: Method) -> Picture:
        """All samples on the original and under ``condition`` (0 for the original alone) in one picture.

        Of more than :data:`MOST_SAMPLES`, that many drawn evenly.

        Raises
        ------
        StoreError
            if all points are one, or as :meth:`read`.
        """
        if (found := self.picture(layer, condition, method)) is None:
            found = self._draw(layer, condition, method)
            with self._lock:
                self._pictures[layer, condition, method] = found
        return found

    def _draw(self, layer: str, condition: int, method: Method) -> Picture:
        count = len(self._patient)
        samples = np.unique(np.linspace(0, count - 1, min(count, MOST_SAMPLES)).round().astype(np.intp))
        parts = [self.read(layer)[samples]]
        if condition:
            parts.append(self._embedded(layer, condition).isel(sample=samples).values)
        points = xr.DataArray(np.stack(parts, axis=1), dims=("sample", "condition", "feature"))
        flat = points.values.reshape(-1, points.sizes["feature"])
        flat = flat[np.isfinite(flat).all(axis=1)]
        if len(flat) < 2 or not np.ptp(flat, axis=0).any():
            raise StoreError(f"in {layer} all samples are one: there is nothing to place")
        # At most a third of the points.
        perplexity = min(PERPLEXITY, len(flat) / 3)
        found = projection(points, method, perplexity=perplexity)
        places = np.stack([found["x"].values, found["y"].values], axis=-1)
        return Picture(samples, places, method, float(found["trustworthiness"]), float(found["share"]))
