"""What the explorer shows, as a value: one to one with the query of its address."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import numpy as np

from actstore.analysis.representations.projection import Method
from actstore.analysis.rounding import significant
from actstore.views.explorer.likeness import Paint
from actstore.views.figures.scales import Scale

TabName = Literal["cohort", "channel", "neighbours", "provenance"]

#: Digits of the page's ranges: decimals of Dice, significant digits of MAD.
DICE_DECIMALS = 3
MAD_DIGITS = 4


class DiceBox(NamedTuple):
    """Samples whose Dice of a class lies within: original from ``left`` to ``right``, perturbed ``low`` to ``high``.

    Both ends belong to it, and Dice is compared as the page shows it.
    """

    class_name: str
    left: float
    right: float
    low: float
    high: float


class MadRange(NamedTuple):
    """Samples whose MAD, mean over a layer's channels, lies within; ends and comparison as in :class:`DiceBox`."""

    layer: str
    low: float
    high: float


@dataclass(frozen=True)
class State:
    """One view: sample, condition, layer and channel, the subset of samples, and how it is drawn."""

    patient: str
    frame: int
    #: Slice of the volume: of a 2D network the sample's, of a 3D network a plane of its input, which is a patch where
    #: there are several.
    slice: int
    condition: str
    layer: str
    channel: int
    case: str = ""
    dice: DiceBox | None = None
    mad: MadRange | None = None
    scale: Scale = "shared"
    truth: bool = True
    prediction: bool = True
    #: One of :attr:`actstore.views.explorer.source.Source.colours`.
    colour: str = "mad"
    tab: TabName = "cohort"
    #: Of the slice, for a 3D network of the volume.
    patch: int = 0
    #: Which channel of the input the pictures show; None: the first that the condition changes.
    input_channel: int | None = None
    #: How samples are placed in the plane, and what they are coloured by.
    method: Method = "pca"
    paint: Paint = "label"

    def query(self) -> str:
        """The query of the address that shows this, without "?" and without defaults."""
        shown = [(field.name, getattr(self, field.name), field.default) for field in fields(self)]
        written = [(name, quote(_written(value), safe=",:().")) for name, value, default in shown if value != default]
        return "&".join(f"{name}={text}" for name, text in written)

    @property
    def narrowed(self) -> bool:
        """Whether only a subset of the samples is looked at."""
        return bool(self.case or self.dice or self.mad)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, DiceBox | MadRange):
        return ":".join(f"{part:.{MAD_DIGITS}g}" if isinstance(part, float) else part for part in value)
    return str(value)


def shown_dice(values: Any) -> Any:
    """Dice as the page shows it."""
    return np.round(values, DICE_DECIMALS)


def shown_mad(values: Any) -> Any:
    """A layer's mean MAD as the page shows it."""
    return significant(values, MAD_DIGITS)
