"""Reads one map of one sample, or all of them: the inner chunks that hold them, whatever the size of the array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from actstore.store.files.base import Storage
from actstore.store.layout import ArrayLayout
from actstore.store.lazy import BlockSamples
from actstore.store.reader import Piece, read_index, read_map


def read_single(
    storage: Storage,
    array: ArrayLayout,
    blocks: BlockSamples,
    sample: int,
    index: Mapping[str, int | str],
    conditions: Sequence[str],
) -> NDArray[Any]:
    """One map of one sample: ([z,] y, x) in the dtype of ``array``.

    Parameters
    ----------
    sample
        its number among those of ``blocks``.
    index
        position along each dim of ``array`` between ``sample`` and space, in that order; a condition also by name.
    conditions
        names of all conditions, in order.

    Raises
    ------
    KeyError
        naming the conditions that there are.
    IndexError
        naming the dim along which a position is outside of the array.
    DamageError
        if the chunk is damaged or missing.
    """
    at = _positions(index, conditions)
    sizes = (blocks.samples, *array.sample_shape)
    for (name, value), size in zip({"sample": sample, **at}.items(), sizes, strict=False):
        if not 0 <= value < size:
            raise IndexError(f"{name} {value} is outside 0..{size - 1}")
    return read_map(storage, array, _piece(array, blocks, sample), tuple(at.values()))


def read_condition(
    storage: Storage, array: ArrayLayout, blocks: BlockSamples, sample: int, condition: int
) -> NDArray[Any]:
    """All maps of one sample in one condition: along the dims of ``array`` behind ``condition``.

    ``sample`` is its number among those of ``blocks``.

    Raises
    ------
    DamageError
        if a chunk is damaged or missing.
    """
    return read_index(storage, array, _piece(array, blocks, sample), condition)


def _piece(array: ArrayLayout, blocks: BlockSamples, sample: int) -> Piece:
    block, first = blocks.place_of(sample)
    return Piece(array.key(block), dict(blocks)[block], first, 1)


def _positions(index: Mapping[str, int | str], conditions: Sequence[str]) -> dict[str, int]:
    """Positions along the dims of ``index``, with a condition's name replaced by its position."""
    condition = index.get("condition")
    if isinstance(condition, str):
        if condition not in conditions:
            raise KeyError(f"no condition {condition!r}: there are {', '.join(conditions)}")
        index = {**index, "condition": conditions.index(condition)}
    return {name: int(i) for name, i in index.items()}
