"""What the explorer shows: parameters that are one to one with the query of its address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import quote, urlencode

import numpy as np
import param

from actstore.analysis.representations.projection import Method
from actstore.analysis.rounding import significant
from actstore.views.explorer.likeness import Paint
from actstore.views.explorer.pins import written
from actstore.views.figures.scales import Scale

TabName = Literal["cohort", "gallery", "channel", "neighbours", "pins", "provenance"]

#: What the gallery shows of each channel, and what channels are sorted by there.
Gallery = Literal["difference", "original", "perturbed", "optima"]
Order = Literal["number", "mad", "frequency", "effect"]
#: Which part of the pictures is shown, and the colours of maps: "own" are those of the scale.
View = Literal["target", "whole"]
Colours = Literal["own", "gray", "viridis", "magma", "RdBu_r"]
#: Parameters that say which sample is shown, and which samples the page is about.
SAMPLE = ("patient", "frame", "slice", "patch")
SUBSET = ("condition", "case", "dice", "mad")
#: Characters of a query that are read; a longer one is no link of this page.
LONGEST = 2000
#: Digits of the page's ranges: decimals of Dice, significant digits of MAD.
DICE_DECIMALS = 3
MAD_DIGITS = 4


def as_query(fields: Mapping[str, str]) -> str:
    """Fields as the page writes them into its address; a query that it wrote comes out as it was."""
    return urlencode(fields, quote_via=quote, safe=",:().")


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


class State(param.Parameterized):
    """One view: sample, condition, layer and channel, the subset of samples, and how it is drawn.

    ``slice`` is one of the volume: of a 2D network the sample's, of a 3D network a plane of its input, which is a patch
    where there are several. Of the first six no value is the default, so that every address has them.
    """

    patient = param.String("")
    frame = param.Integer(-1)
    slice = param.Integer(-1)
    condition = param.String("")
    layer = param.String("")
    channel = param.Integer(-1)
    case = param.String("")
    dice = param.ClassSelector(class_=DiceBox, doc="None: samples of any Dice")
    mad = param.ClassSelector(class_=MadRange, doc="None: samples of any MAD")
    scale: Any = param.Selector(objects=list(get_args(Scale)))
    truth = param.Boolean(True)
    prediction = param.Boolean(True)
    colour = param.String("mad", doc="one of actstore.views.explorer.source.Source.colours")
    tab: Any = param.Selector(objects=list(get_args(TabName)))
    patch = param.Integer(0, doc="of the slice, for a 3D network of the volume")
    input_channel = param.Integer(None, allow_None=True, doc="None: the first that the condition changes")
    method: Any = param.Selector(objects=list(get_args(Method)), doc="how samples are placed in the plane")
    paint: Any = param.Selector(objects=list(get_args(Paint)), doc="what these samples are coloured by")

    gallery: Any = param.Selector(objects=list(get_args(Gallery)))
    order: Any = param.Selector(objects=list(get_args(Order)))

    view: Any = param.Selector(objects=list(get_args(View)))
    opacity: Any = param.Integer(100, bounds=(0, 100), doc="of maps over the image, in per cent")
    contrast: Any = param.Integer(100, bounds=(5, 100), doc="the share of all values that colours are given to")
    colours: Any = param.Selector(objects=list(get_args(Colours)))
    channels: Any = param.ClassSelector(class_=tuple, default=(), doc="pinned: actstore.views.explorer.pins.ChannelPin")
    samples: Any = param.ClassSelector(class_=tuple, default=(), doc="pinned: actstore.views.explorer.pins.SamplePin")

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)  # type: ignore[no-untyped-call]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and self.fields() == other.fields()

    @classmethod
    def names(cls) -> list[str]:
        """All fields, in the order of an address."""
        return [name for name in cls.param if name != "name"]

    def fields(self) -> dict[str, Any]:
        """Values by name."""
        return {name: getattr(self, name) for name in self.names()}

    def copy(self, **changes: Any) -> State:
        """Another one with changes."""
        return State(**self.fields() | changes)

    def query(self) -> str:
        """The query of the address that shows this, without "?" and without defaults.

        Notes are left out where it would be longer than what is read of an address.
        """
        whole = self._query(notes=True)
        return whole if len(whole) <= LONGEST else self._query(notes=False)

    def _query(self, *, notes: bool) -> str:
        shown = [(name, value) for name, value in self.fields().items() if value != State.param[name].default]
        return as_query({name: _written(value, notes=notes) for name, value in shown})

    @property
    def chosen_colours(self) -> str | None:
        """The colour map of maps, None for that of their scale."""
        return None if self.colours == "own" else str(self.colours)

    @property
    def narrowed(self) -> bool:
        """Whether only a subset of the samples is looked at."""
        return bool(self.case or self.dice or self.mad)


def _written(value: Any, *, notes: bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, DiceBox | MadRange):
        return ":".join(f"{part:.{MAD_DIGITS}g}" if isinstance(part, float) else part for part in value)
    if isinstance(value, tuple):
        return written(value, notes=notes)
    return str(value)


def shown_dice(values: Any) -> Any:
    """Dice as the page shows it."""
    return np.round(values, DICE_DECIMALS)


def shown_mad(values: Any) -> Any:
    """A layer's mean MAD as the page shows it."""
    return significant(values, MAD_DIGITS)
