"""Statistics of stored activations, reduced while their inner chunks are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.measures.kernel import Reduction
from actstore.measures.names import METRICS
from actstore.store.files import Storage
from actstore.store.layout import ArrayLayout
from actstore.store.reader import Piece, reduce_groups


def reduce_pieces(
    pieces: Sequence[Piece], *, storage: Storage, layout: ArrayLayout, names: tuple[str, ...]
) -> tuple[NDArray[np.float64], ...]:
    """Statistics of samples of several shards, reduced inner chunk by inner chunk while it is in the cache.

    Returns
    -------
    one array for each of ``names``: metrics (sample, condition, channel), "mean" and "std" (sample, channel).
    """
    samples = sum(piece.count for piece in pieces)
    conditions, channels = layout.sample_shape[:2]
    results = tuple(
        np.empty((samples, conditions, channels) if name in METRICS else (samples, channels)) for name in names
    )
    position = 0
    for piece in pieces:
        for inside, group, found in reduce_groups(storage, layout, piece, partial(Reduction, names=names)):
            samples_here = slice(position + inside.start, position + inside.stop)
            for result, values in zip(results, found, strict=True):
                _place(result, samples_here, group, values)
        position += piece.count
    return results


def _place(target: NDArray[Any], samples: slice, channels: slice, values: NDArray[Any]) -> None:
    """Put what was found for (sample, channel[, condition]) where it belongs in (sample[, condition], channel)."""
    if values.ndim == 3:
        target[samples, :, channels] = values.swapaxes(1, 2)
    else:
        target[samples, channels] = values
