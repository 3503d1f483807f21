"""What a run compares: the original, and each transform of each target class at each strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ORIGINAL = "original"
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
    """One condition of a run: the original, or transform x target class x strength."""

    transform: str
    target: str
    strength: float
    source: str | None = None

    @property
    def is_original(self) -> bool:
        return self.transform == ORIGINAL

    @property
    def name(self) -> str:
        """``original``, ``brightness(LV, 0.1)`` or ``fill(LV, 1, source=MYO)``."""
        if self.is_original:
            return ORIGINAL
        source = f", source={self.source}" if self.source else ""
        strength = f"{self.strength:g}" if float(f"{self.strength:g}") == self.strength else repr(self.strength)
        return f"{self.transform}({self.target}, {strength}{source})"


ORIGINAL_CONDITION = Condition(ORIGINAL, "", math.nan)
