"""Which channels an intervention edits together: sets of channels, and the orders in which sets grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from actstore.spec.intervene import CUMULATIVE, EACH, Intervene
from actstore.spec.intervene import LAYER as WHOLE
from actstore.store.schema import Coordinate, Layer

#: How edits of "top:3" and of lists are called among orders.
TOP, GIVEN = "top", "given"


@dataclass(frozen=True)
class Edit:
    """One set of channels of one layer, which may be another in each condition."""

    #: Number of the layer among those of the intervention.
    layer: int
    #: "each", "layer", "top", "given", or the order that the set is the beginning of.
    order: str
    #: Of random orders, else 0.
    repeat: int
    #: One a condition.
    sets: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        return len(self.sets[0])

    def name(self, layer: Layer) -> str:
        """``L07:3`` of a channel, ``L07`` of a layer, ``L07:frequency:3``, ``L07:random:3#1``, ``L07:3+5``."""
        if self.order == WHOLE:
            return layer.name
        if self.order in (EACH, GIVEN):
            return f"{layer.name}:{'+'.join(map(str, self.sets[0]))}"
        return f"{layer.name}:{self.order}:{self.count}" + (f"#{self.repeat}" if self.repeat else "")


@dataclass(frozen=True)
class Ranking:
    """Channels of each layer in one order."""

    order: str
    #: Of random orders, else 0.
    repeat: int
    #: (layer, condition, channel): channel numbers, those that are added first in front.
    channels: tuple[tuple[tuple[int, ...], ...], ...]

    def as_json(self) -> list[Any]:
        return [self.order, self.repeat, [[list(one) for one in layer] for layer in self.channels]]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> Self:
        order, repeat, channels = content
        return cls(order, repeat, tuple(tuple(tuple(one) for one in layer) for layer in channels))


def edits_of(
    settings: Intervene, layers: Sequence[Layer], conditions: int, rankings: Sequence[Ranking]
) -> tuple[Edit, ...]:
    """All edits of an intervention, layer by layer.

    Parameters
    ----------
    conditions
        number of conditions whose passes are edited.
    rankings
        the orders of "cumulative", or of "top:3" that by frequency.
    """
    found: list[Edit] = []
    for number, layer in enumerate(layers):
        every = range(layer.channels)
        if settings.channels == EACH:
            found += [Edit(number, EACH, 0, ((channel,),) * conditions) for channel in every]
        elif settings.channels == WHOLE:
            found.append(Edit(number, WHOLE, 0, (tuple(every),) * conditions))
        elif settings.ranked:
            sizes = [min(settings.most, layer.channels)] if settings.most else sizes_of(settings, layer.channels)
            found += [
                Edit(
                    number,
                    TOP if settings.most else ranking.order,
                    ranking.repeat,
                    tuple(order[:size] for order in ranking.channels[number]),
                )
                for ranking in rankings
                for size in sizes
            ]
        else:
            found += [Edit(number, GIVEN, 0, (one,) * conditions) for one in settings.sets]
    return tuple(found)


def number_of_edits(settings: Intervene, channels: Sequence[int]) -> int:
    """How many edits an intervention has of layers with so many ``channels``."""
    if settings.channels == EACH:
        return sum(channels)
    if settings.channels == CUMULATIVE:
        orders = len(settings.orders) + ("random" in settings.orders) * (settings.repeats - 1)
        return orders * sum(len(sizes_of(settings, number)) for number in channels)
    return len(channels) * (1 if isinstance(settings.channels, str) else len(settings.channels))


def sizes_of(settings: Intervene, channels: int) -> list[int]:
    """How many of a layer's ``channels`` are edited together, one after the other: by default 1, 2, 3, 4, 6, 8, …"""
    doubling = (size for power in range(channels.bit_length()) for size in (2**power, 3 * 2 ** (power - 1)))
    wanted = settings.counts or {int(size) for size in doubling if size == int(size)}
    return sorted({*(size for size in wanted if size < channels), channels})


def edit_coordinates(edits: Sequence[Edit], layers: Sequence[Layer]) -> tuple[Coordinate, ...]:
    """Coordinates along ``edit``; ``chosen`` (condition, edit, channel) says which channels are edited."""
    widest = max(layer.channels for layer in layers)
    chosen = np.zeros((len(edits[0].sets), len(edits), widest), bool)
    for at, edit in enumerate(edits):
        for condition, channels in enumerate(edit.sets):
            chosen[condition, at, list(channels)] = True
    own = [layers[edit.layer] for edit in edits]
    along: dict[str, Any] = {
        "edit": [edit.name(layer) for edit, layer in zip(edits, own, strict=True)],
        "layer": [layer.name for layer in own],
        "module": [layer.label for layer in own],
        "order": [edit.order for edit in edits],
        "count": np.array([edit.count for edit in edits], np.int64),
        "repeat": np.array([edit.repeat for edit in edits], np.int64),
    }
    return (
        *(Coordinate(name, ("edit",), np.asarray(values)) for name, values in along.items()),
        Coordinate("channel", ("channel",), np.arange(widest)),
        Coordinate("chosen", ("condition", "edit", "channel"), chosen),
    )


def distinct(edits: Sequence[Edit], condition: int) -> tuple[list[int], NDArray[np.int64]]:
    """Edits that differ in one condition, by their first, and of every edit the number of its like among them."""
    first: dict[tuple[int, frozenset[int]], int] = {}
    like = np.empty(len(edits), np.int64)
    kept: list[int] = []
    for at, edit in enumerate(edits):
        key = edit.layer, frozenset(edit.sets[condition])
        if key not in first:
            first[key] = len(kept)
            kept.append(at)
        like[at] = first[key]
    return kept, like
