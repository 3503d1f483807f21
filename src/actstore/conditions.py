"""What a run compares: the original, each transform of each target class at each strength, controls and repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

ORIGINAL = "original"
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
        """``original``, ``brightness(LV, 0.1)``, ``fill(LV, 1, source=MYO, control)`` or ``repeat(batch=1)``."""
        if self.is_untouched:
            return self.transform + (f"(batch={self.batch_size})" if self.batch_size else "")
        source = f", source={self.source}" if self.source else ""
        control = f", {CONTROL}" if self.is_control else ""
        strength = f"{self.strength:g}" if float(f"{self.strength:g}") == self.strength else repr(self.strength)
        return f"{self.transform}({self.target}, {strength}{source}{control})"


ORIGINAL_CONDITION = Condition(ORIGINAL, "", math.nan, region="")
#: The noise floor: the original in the run's own batches, and one sample at a time.
REPEATS = (
    Condition(REPEAT, "", math.nan, region=""),
    Condition(REPEAT, "", math.nan, region="", batch_size=1),
)
