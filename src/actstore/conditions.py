"""What a run compares: the original, each transform of each target class at each strength, controls and repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

#: The class of every pixel that no label names.
BACKGROUND = "background"
#: Names of the input channels where nothing names them.
ONE_CHANNEL = ("image",)
#: Between the names of the input channels that a condition changes.
CHANNEL_SEPARATOR = "+"
ORIGINAL = "original"
#: Where a condition applies: where it changed the network's input, or, in stores begun before that was asked, wherever
#: its target is present.
Applies = Literal["changed", "present"]
#: The original once more: what differs then is the noise of computing.
REPEAT = "repeat"
#: Where a condition changes the image: in its target class, or in a region of the same shape elsewhere in the body.
TARGET = "target"
CONTROL = "control"

#: Built-in transforms and the strength at which each changes nothing.
IDENTITY_STRENGTH: Mapping[str, float] = {
    "brightness": 1.0,
    "contrast": 1.0,
    "noise": 0.0,
    "blur": 0.0,
    "fill": 0.0,
    "shuffle": 0.0,
}

#: Sigma from which on a blur changes more than rounding: a pixel's neighbours then get 4e-6 of its weight. Below 0.125
#: the kernel of scipy, which reaches int(4 sigma + 0.5) pixels to each side, is the pixel itself.
NARROWEST_BLUR = 0.2
#: Eight times the distance from 1 to the next float32: what is nearer to the identity is no more than rounding.
FLOAT32_RESOLUTION = 2.0**-20


def without_effect(transform: str, strength: float) -> str:
    """Why a built-in transform changes nothing at ``strength`` whatever the image, and what to use; else "".

    What a transform of one's own does, and how many pixels a share of a mask is, is not known before: where a
    perturbation turns out to change nothing, it does not apply (:func:`actstore.inputs.prepare.prepare`).
    """
    identity = IDENTITY_STRENGTH.get(transform)
    if identity is None:
        return ""
    what = f"strength {_digits(strength)} of {transform!r} changes nothing"
    if strength == identity:
        return f"{what}: leave it out, the original is a condition of every run already"
    if transform == "blur" and strength < NARROWEST_BLUR:
        return f"{what}: a Gaussian this narrow covers a single pixel; use {NARROWEST_BLUR:g} pixels or more"
    if transform not in ("blur", "shuffle") and abs(strength - identity) < FLOAT32_RESOLUTION:
        return f"{what} that float32 can hold: use a strength at least {FLOAT32_RESOLUTION:.0e} away from {identity:g}"
    return ""


@dataclass(frozen=True)
class Condition:
    """One condition of a run: the original, a repeat of it, or transform x target class x strength."""

    transform: str
    target: str
    strength: float
    source: str | None = None
    #: Where the image changes: "target", "control", or "" for the original and its repeats.
    region: str = TARGET
    #: Inputs to one forward pass, where that is not the run's own.
    batch_size: int | None = None
    #: Names of the input channels that change; empty for all of them.
    channels: tuple[str, ...] = ()

    @property
    def is_original(self) -> bool:
        return self.transform == ORIGINAL

    @property
    def is_untouched(self) -> bool:
        """Whether the image stays as it is: the original and its repeats."""
        return not self.region

    @property
    def is_control(self) -> bool:
        return self.region == CONTROL

    @property
    def control(self) -> Condition:
        """The same perturbation of a region of the target's size and shape elsewhere in the body."""
        return replace(self, region=CONTROL)

    @property
    def name(self) -> str:
        """``original``, ``brightness(LV, 0.1)``, ``fill(LV, 1, source=MYO, control)`` or ``repeat(batch=1)``.

        With chosen input channels ``noise(LV, 0.5, channels=T1+T2)``.
        """
        if self.is_untouched:
            return self.transform + (f"(batch={self.batch_size})" if self.batch_size else "")
        source = f", source={self.source}" if self.source else ""
        channels = f", channels={CHANNEL_SEPARATOR.join(self.channels)}" if self.channels else ""
        control = f", {CONTROL}" if self.is_control else ""
        return f"{self.transform}({self.target}, {_digits(self.strength)}{source}{channels}{control})"


def _digits(strength: float) -> str:
    """``strength`` in as few digits as tell it from every other."""
    short = f"{strength:g}"
    return short if float(short) == strength else repr(strength)


ORIGINAL_CONDITION = Condition(ORIGINAL, "", math.nan, region="")
#: The noise floor: the original in the run's own batches, and one sample at a time.
REPEATS = (
    Condition(REPEAT, "", math.nan, region=""),
    Condition(REPEAT, "", math.nan, region="", batch_size=1),
)
