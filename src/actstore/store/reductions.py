"""Statistics of stored activations, reduced while reading their inner chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from actstore.measures.kernel import Reduction
from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout
from actstore.store.reader import Piece, reduce_groups


def reduce_pieces(
    pieces: Sequence[Piece], *, storage: Storage, layout: ArrayLayout, names: tuple[str, ...]
) -> NDArray[np.float64]:
    """Statistics of samples of several shards; reduces each inner chunk while it is in the cache.

    Returns
    -------
    float64 (name, sample, condition, channel); :data:`actstore.measures.names.ORIGINAL_STATISTICS` are NaN in all
    conditions but the original.
    """
    found = np.empty((len(names), sum(piece.count for piece in pieces), *layout.sample_shape[:2]))
    for samples, channels, reduce in reduce_groups(storage, layout, pieces, partial(Reduction, names=names)):
        reduce(found[:, samples, :, channels].swapaxes(2, 3))
    return found
