"""What the explorer shows, as a value: one to one with the query of its address."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl, quote

import numpy as np

from actstore.analysis.rounding import significant
from actstore.views.colouring import Colour
from actstore.views.scales import Scale

if TYPE_CHECKING:
    from actstore.views.explorer.source import Source

Tab = Literal["cohort", "channel", "provenance"]
#: The fields that say which sample.
PLACE = ("patient", "frame", "slice")
#: Characters of a query that are read; a longer one is no link of this page.
LONGEST = 2000


#: Digits in which the page shows what a range is about: decimals of Dice, significant digits of MAD.
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
    #: Slice of the volume: of a 2D network the sample's, of a 3D network a plane of its input.
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
    colour: Colour = "mad"
    tab: Tab = "cohort"

    def query(self) -> str:
        """The query of the address that shows this, without "?"; what is as by default is left out."""
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                parts.append(f"{field.name}={quote(_written(value), safe=',:().')}")
        return "&".join(parts)

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


class Refused(ValueError):
    """A part of a link that this store cannot show; the message says what is shown instead."""


def read(query: str, source: Source) -> tuple[State, list[str]]:
    """The state that ``query`` describes, and a message on each part of it that this store cannot show.

    What is missing or wrong is as when the page opens without a link: nothing raises.
    """
    messages: list[str] = []
    query = query.removeprefix("?")
    if len(query) > LONGEST:
        return source.first_state(), [f"the link has {len(query)} characters, at most {LONGEST} are read: ignored"]
    given = dict(parse_qsl(query, keep_blank_values=True, errors="replace"))
    given.pop("theme", None)  # the page's colours, which are no part of what it shows
    messages += [f"the link names {_short(name)}, which this page does not know" for name in given.keys() - _READERS]
    asked: dict[str, Any] = {}
    for name, reader in _READERS.items():
        if name in given:
            try:
                asked[name] = reader(given[name], source)
            except Refused as error:
                messages.append(str(error))
    place = {name: asked.pop(name) for name in PLACE if name in asked}
    found = source.first_state(asked.get("condition"), place)
    if any(getattr(found, name) != value for name, value in place.items()):
        wanted = ", ".join(str(value) if name == "patient" else f"{name} {value}" for name, value in place.items())
        messages.append(
            f"{wanted} is not in this store: shown is {found.patient}, frame {found.frame}, slice {found.slice}"
        )
    found = replace(found, **asked)
    channels = source.channels[found.layer]
    if found.channel >= channels:
        if "channel" in asked:
            messages.append(f"channel {found.channel}: {found.layer} has channels 0–{channels - 1}; 0 is shown")
        found = replace(found, channel=0)
    return found, messages


Reader = Callable[[str, "Source"], Any]


def _one_of(what: str, known: Callable[[Source], list[str]], *, blank: bool = False) -> Reader:
    def read_name(text: str, source: Source) -> str:
        names = known(source)
        if text in names or (blank and not text):
            return text
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise Refused(f"{what} {_short(text)} is not in this store, which has {shown or 'none'}: ignored")

    return read_name


def _number(what: str) -> Reader:
    def read_number(text: str, _: Source) -> int:
        if text.isascii() and text.isdigit() and len(text) <= 9:
            return int(text)
        raise Refused(f"{what} {_short(text)} is no number from 0 on: ignored")

    return read_number


def _choice(what: str, kind: Any) -> Reader:
    names = get_args(kind)

    def read_choice(text: str, _: Source) -> str:
        if text in names:
            return text
        raise Refused(f"{what} {_short(text)} is none of {', '.join(names)}: ignored")

    return read_choice


def _flag(what: str) -> Reader:
    def read_flag(text: str, _: Source) -> bool:
        if text in ("yes", "no"):
            return text == "yes"
        raise Refused(f"{what} {_short(text)} is neither yes nor no: ignored")

    return read_flag


def shown_dice(values: Any) -> Any:
    """Dice as the page shows it."""
    return np.round(values, DICE_DECIMALS)


def shown_mad(values: Any) -> Any:
    """A layer's mean MAD as the page shows it."""
    return significant(values, MAD_DIGITS)


def _floats(what: str, parts: list[str], shown: Callable[[Any], Any]) -> list[float]:
    try:
        # With as many digits as an address is written with: a view is the same when it is loaded again.
        values = [float(shown(float(part))) for part in parts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise Refused(f"{what} {_short(':'.join(parts))} are no numbers: ignored")
    return values


def _dice(text: str, source: Source) -> DiceBox:
    name, *rest = text.rsplit(":", 4)
    if name not in source.foreground or len(rest) != 4:
        raise Refused(f"dice = {_short(text)} is no class and four numbers with colons between: ignored")
    return DiceBox(name, *_floats("dice", rest, shown_dice))


def _mad(text: str, source: Source) -> MadRange:
    name, *rest = text.rsplit(":", 2)
    if name not in source.channels or len(rest) != 2:
        raise Refused(f"mad = {_short(text)} is no layer and two numbers with colons between: ignored")
    if not source.store.reduced:
        raise Refused(f"mad = {_short(text)}: this store has volumes without statistics: ignored")
    return MadRange(name, *_floats("mad", rest, shown_mad))


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")


_READERS: dict[str, Reader] = {
    "patient": _one_of("patient", lambda source: source.patients),
    "frame": _number("frame"),
    "slice": _number("slice"),
    "condition": _one_of("condition", lambda source: source.perturbed),
    "layer": _one_of("layer", lambda source: list(source.channels)),
    "channel": _number("channel"),
    "case": _one_of("case", lambda source: source.case_names, blank=True),
    "dice": _dice,
    "mad": _mad,
    "scale": _choice("scale", Scale),
    "truth": _flag("truth"),
    "prediction": _flag("prediction"),
    "colour": _choice("colour", Colour),
    "tab": _choice("tab", Tab),
}
