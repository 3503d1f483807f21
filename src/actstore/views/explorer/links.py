"""Reading the page's address: the state that a link describes, and messages on what this store cannot show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import param

from actstore.units import first_few
from actstore.views.explorer.likeness import MOST_TSNE
from actstore.views.explorer.pins import ChannelPin, SamplePin, channel_pins, sample_pins
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import LONGEST, SAMPLE, DiceBox, MadRange, State, shown_dice, shown_mad

Reader = Callable[[str, Source], Any]


class Refused(ValueError):
    """A part of a link that this store cannot show; the message says what is shown instead."""


def read(query: str, source: Source) -> tuple[State, list[str]]:
    """The state that ``query`` describes, and a message on each part of it that this store cannot show.

    Whatever is missing or wrong is as when the page opens without a link: nothing raises.
    """
    query = query.removeprefix("?")
    if len(query) > LONGEST + len("&theme=light"):
        return source.first_state(), [f"the link has {len(query)} characters, at most {LONGEST} are read: ignored"]
    given = dict(parse_qsl(query, keep_blank_values=True, errors="replace"))
    given.pop("theme", None)  # the page's colours, which are no part of what it shows
    messages = [f"the link names {_short(name)}, which this page does not know" for name in given.keys() - _READERS]
    asked: dict[str, Any] = {}
    for name, reader in _READERS.items():
        if name in given:
            try:
                asked[name] = reader(given[name], source)
            except Refused as error:
                messages.append(str(error))
    place = {name: asked.pop(name) for name in SAMPLE if name in asked}
    found = source.first_state(asked.get("condition"), place)
    if any(getattr(found, name) != value for name, value in place.items()):
        wanted = ", ".join(str(value) if name == "patient" else f"{name} {value}" for name, value in place.items())
        patch = f", patch {found.patch}" if source.patched or "patch" in place else ""
        shown = f"{found.patient}, frame {found.frame}, slice {found.slice}{patch}"
        messages.append(f"{wanted} is not in this store: shown is {shown}")
    found.param.update(**asked)
    channels = source.channels[found.layer]
    if found.channel >= channels:
        if "channel" in asked:
            messages.append(f"channel {found.channel}: {found.layer} has channels 0–{channels - 1}; 0 is shown")
        found.channel = 0
    return found, messages


def _one_of(what: str, known: Callable[[Source], list[str]], *, blank: bool = False) -> Reader:
    def read_name(text: str, source: Source) -> str:
        names = known(source)
        if text in names or (blank and not text):
            return text
        raise Refused(f"{what} {_short(text)} is not in this store, which has {first_few(names, 4) or 'none'}: ignored")

    return read_name


def _declared(what: str) -> Reader:
    """As the state's parameter is declared: one of its choices, yes or no, or a whole number within its bounds."""
    parameter = State.param[what]
    words = parameter.objects if isinstance(parameter, param.Selector) else ["yes", "no"]
    low, high = getattr(parameter, "bounds", None) or (0, None)

    def read_word(text: str, _: Source) -> Any:
        if text in words:
            return text == "yes" if isinstance(parameter, param.Boolean) else text
        raise Refused(f"{what} {_short(text)} is none of {', '.join(words)}: ignored")

    def read_number(text: str, _: Source) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise Refused(f"{what} {_short(text)} is not a whole number, 0 or more: ignored")
        if high is None or low <= int(text) <= high:
            return int(text)
        raise Refused(f"{what} {text} is not {low} to {high}: ignored")

    return read_number if isinstance(parameter, param.Integer) else read_word


def _floats(what: str, written: list[str], shown: Callable[[Any], Any]) -> list[float]:
    try:
        # Rounded as an address is written: a view is the same when it is loaded again.
        values = [float(shown(float(text))) for text in written]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise Refused(f"{what} {_short(':'.join(written))} are not all numbers: ignored")
    return values


def _input_channel(text: str, source: Source) -> int:
    number: int = _declared("input_channel")(text, source)
    names = source.input_channels
    if number >= len(names):
        known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
        raise Refused(f"input_channel {number} is not in this store, which has {known}: ignored")
    return number


def _method(text: str, source: Source) -> str:
    found: str = _declared("method")(text, source)
    if found == "tsne" and len(source.samples) > MOST_TSNE:
        count = len(source.samples)
        raise Refused(f"method tsne: this store has {count} samples, t-SNE places at most {MOST_TSNE}: ignored")
    return found


def _dice(text: str, source: Source) -> DiceBox:
    if source.classified:
        raise Refused(f"dice = {_short(text)}: a classifier's images have no Dice: ignored")
    name, *rest = text.rsplit(":", 4)
    if name not in source.foreground or len(rest) != 4:
        raise Refused(f"dice = {_short(text)} is not a class and four numbers, separated by colons: ignored")
    return DiceBox(name, *_floats("dice", rest, shown_dice))


def _mad(text: str, source: Source) -> MadRange:
    name, *rest = text.rsplit(":", 2)
    if name not in source.channels or len(rest) != 2:
        raise Refused(f"mad = {_short(text)} is not a layer and two numbers, separated by colons: ignored")
    if not source.store.reduced:
        raise Refused(f"mad = {_short(text)}: this store has volumes without statistics: ignored")
    return MadRange(name, *_floats("mad", rest, shown_mad))


def _channels(text: str, source: Source) -> tuple[ChannelPin, ...]:
    pins: tuple[ChannelPin, ...] = _pins("channels", text, channel_pins)
    for pin in pins:
        if not 0 <= pin.channel < source.channels.get(pin.layer, 0):
            raise Refused(f"channels: {pin.layer} channel {pin.channel} is not in this store: ignored")
    return pins


def _samples(text: str, source: Source) -> tuple[SamplePin, ...]:
    pins: tuple[SamplePin, ...] = _pins("samples", text, sample_pins)
    for pin in pins:
        if not source.holds(*pin):
            raise Refused(f"samples: {pin.patient}, frame {pin.frame}, slice {pin.slice} is not in this store: ignored")
    return pins


def _pins(what: str, text: str, reader: Callable[[str], Any]) -> Any:
    try:
        return reader(text)
    except (TypeError, ValueError) as error:
        raise Refused(f"{what} = {_short(text)} is no list of pins: ignored") from error


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")


#: What a parameter's declaration does not say.
_OWN: dict[str, Reader] = {
    "patient": _one_of("patient", lambda source: source.patients),
    "condition": _one_of("condition", lambda source: source.perturbed),
    "layer": _one_of("layer", lambda source: list(source.channels)),
    "case": _one_of("case", lambda source: source.case_names, blank=True),
    "colour": _one_of("colour", lambda source: list(source.colours)),
    "dice": _dice,
    "mad": _mad,
    "input_channel": _input_channel,
    "method": _method,
    "channels": _channels,
    "samples": _samples,
}
_READERS = {name: _OWN.get(name) or _declared(name) for name in State.names()}
