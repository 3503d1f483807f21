"""Deletion: how a score falls as one tile of the input after the other is filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.attribution.occlusion import Windows


def tile_means(maps: NDArray[np.floating], tiles: Windows) -> NDArray[np.float64]:
    """Mean of maps (…, \\*size) over each tile, (…, \\*grid); NaN pixels are not there, and tiles of them are NaN."""
    leading = maps.shape[: maps.ndim - len(tiles.size)]
    flat = maps.reshape(-1, *tiles.size)
    found = np.full((len(flat), *tiles.grid), np.nan)
    for index in np.ndindex(*tiles.grid):
        values = flat[(slice(None), *tiles.place(index))].reshape(len(flat), -1)
        there = np.isfinite(values)
        count = there.sum(1)
        total = np.where(there, values, 0).sum(1, dtype=np.float64)
        found[(slice(None), *index)] = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return found.reshape(*leading, *tiles.grid)


def tile_distances(mask: NDArray[np.bool_], tiles: Windows) -> NDArray[np.float64]:
    """Distance in pixels from the centre of each tile, \\*grid, to the centre of gravity of ``mask`` (\\*size)."""
    centre = np.argwhere(mask).mean(0)
    along = [
        np.asarray(starts) + (side - 1) / 2 - middle
        for starts, side, middle in zip(tiles.starts, tiles.window, centre, strict=True)
    ]
    found: NDArray[np.float64] = np.sqrt(sum(one**2 for one in np.meshgrid(*along, indexing="ij")))
    return found


@torch.inference_mode()
def delete(
    score: Callable[[Tensor], Tensor],
    image: Tensor,
    filled: Tensor,
    tiles: Windows,
    orders: Sequence[NDArray[np.integer]],
    counts: Sequence[int],
    *,
    batch_size: int = 8,
) -> NDArray[np.floating]:
    """Scores that are left, (order, count, class_name), in the scores' dtype.

    Parameters
    ----------
    score
        of inputs (element, input_channel, \\*space): (element, class_name).
    image, filled
        the input (input_channel, \\*space), and what stands where it is deleted.
    orders
        numbers of tiles, as positions in the flattened grid, the first to be deleted first.
    counts
        how many tiles are deleted, not falling; 0 leaves the input as it is.
    batch_size
        inputs of one pass.
    """
    inputs, scores = _deleted(image, filled, tiles, orders, counts), []
    while some := list(islice(inputs, batch_size)):
        scores.append(score(torch.stack(some)))
    left: NDArray[np.floating] = torch.cat(scores).cpu().numpy()
    return left.reshape(len(orders), len(counts), -1)


def _deleted(
    image: Tensor, filled: Tensor, tiles: Windows, orders: Sequence[NDArray[np.integer]], counts: Sequence[int]
) -> Iterator[Tensor]:
    for order in orders:
        seen, done = image.clone(), 0
        for count in counts:
            for number in order[done:count]:
                place = (slice(None), *tiles.place([int(i) for i in np.unravel_index(number, tiles.grid)]))
                seen[place] = filled[place]
            done = count
            yield seen.clone()
