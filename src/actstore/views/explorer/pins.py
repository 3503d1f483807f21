"""Channels and samples that the reader pinned, with notes: as an address, as files, and side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import pandas as pd


class ChannelPin(NamedTuple):
    """A channel, and what the reader wrote about it."""

    layer: str
    channel: int
    note: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """Which channel it is."""
        return self.layer, self.channel


class SamplePin(NamedTuple):
    """A sample, or a plane of one, as an address names it."""

    patient: str
    frame: int
    slice: int
    patch: int = 0


Pin = ChannelPin | SamplePin


def written(pins: Sequence[Pin], *, notes: bool = True) -> str:
    """Pins as one word of an address: parts are separated by ":", pins by "|"."""
    kept = [pin if notes or isinstance(pin, SamplePin) else pin._replace(note="") for pin in pins]
    parts = ([str(part) for part in pin] for pin in kept)
    # The last part is left out where it is the default.
    short = (own[:-1] if own[-1] in ("", "0") else own for own in parts)
    return "|".join(":".join(quote(part, safe=" ") for part in own) for own in short)


def channel_pins(text: str) -> tuple[ChannelPin, ...]:
    """What :func:`written` wrote of channels.

    Raises
    ------
    ValueError
        if it is not of that form.
    """
    found = []
    for one in filter(None, text.split("|")):
        layer, channel, *note = map(unquote, one.split(":"))
        found.append(ChannelPin(layer, _number(channel), *note[:1]))
    return tuple(found)


def sample_pins(text: str) -> tuple[SamplePin, ...]:
    """What :func:`written` wrote of samples; raises as :func:`channel_pins`."""
    found = []
    for one in filter(None, text.split("|")):
        patient, frame, number, *patch = map(unquote, one.split(":"))
        found.append(SamplePin(patient, _number(frame), _number(number), *map(_number, patch[:1])))
    return tuple(found)


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    raise ValueError(f"{text!r} is not a whole number")


def toggled(pins: Sequence[Any], pin: Any) -> tuple[Any, ...]:
    """Pins without ``pin`` if it is among them, else with it."""
    kept = tuple(one for one in pins if _place(one) != _place(pin))
    return kept if len(kept) < len(pins) else (*pins, pin)


def noted(pins: Sequence[ChannelPin], pin: ChannelPin) -> tuple[ChannelPin, ...]:
    """Pins with the note of ``pin``, which is added if it is not among them."""
    if any(one.place == pin.place for one in pins):
        return tuple(pin if one.place == pin.place else one for one in pins)
    return (*pins, pin)


def _place(pin: Pin) -> tuple[Any, ...]:
    return pin.place if isinstance(pin, ChannelPin) else tuple(pin)


def as_json(store: str, channels: Sequence[ChannelPin], samples: Sequence[SamplePin], link: str) -> str:
    """Pins as a JSON document, with the store's path and the query that shows them."""
    parts = {"channels": [one._asdict() for one in channels], "samples": [one._asdict() for one in samples]}
    return json.dumps({"store": store, "query": link, **parts}, indent=2, ensure_ascii=False) + "\n"


def as_csv(channels: Sequence[ChannelPin], samples: Sequence[SamplePin]) -> str:
    """A row a pin: columns ``kind, layer, channel, note, patient, frame, slice, patch``."""
    columns = ["kind", *ChannelPin._fields, *SamplePin._fields]
    rows = [{"kind": "channel", **one._asdict()} for one in channels]
    rows += [{"kind": "sample", **one._asdict()} for one in samples]
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["channel", "frame", "slice", "patch"]
    return str(table.astype(dict.fromkeys(numbers, "Int64")).to_csv(index=False))
