"""How often a condition made normalisation rescale what it did not perturb, counted for the summary of a capture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actstore.conditions import Condition
from actstore.units import counted

#: The setting under which nothing is rescaled, as written in a spec.
WINDOW = 'data.preprocess.window = "original"'


class Rescaling(NamedTuple):
    """How many samples of a condition were rescaled, of how many that it applies to, and by which factors."""

    samples: int
    applicable: int
    #: The smallest and largest factor; low = inf and high = -inf where none is known.
    low: float
    high: float


@dataclass(frozen=True)
class Rescaled:
    """How often a condition made normalisation rescale what it did not perturb."""

    condition: str
    #: Whether a perturbation is compared with its control, or the other way round: rescaled pairs are left out there.
    compared: bool
    samples: int
    applicable: int
    #: Factor on the contrast of untouched pixels; NaN where these have none in any of ``samples``.
    low: float
    high: float

    def __str__(self) -> str:
        low, high = _digits(self.low), _digits(self.high)
        factor = "by an unknown factor" if math.isnan(self.low) else f"× {low}" if low == high else f"× {low} to {high}"
        left_out = f"; the test against controls leaves them out, with {WINDOW} there are none" if self.compared else ""
        return (
            f"{self.condition}, {self.samples} of {counted(self.applicable, 'sample')} "
            f"(untouched contrast {factor}){left_out}"
        )


def _digits(factor: float) -> str:
    """The factor in at least three digits, and in as many as show that it is not 1."""
    return next(text for n in range(3, 18) if float(text := f"{factor:.{n}g}") != 1 or n == 17)


def rescalings(stretched: NDArray[np.float64], applicable: NDArray[np.bool_]) -> tuple[Rescaling, ...]:
    """Counts of each condition of a block, from the fields ``stretched`` and ``applicable`` (sample, condition) of
    :class:`actstore.inputs.prepare.Prepared`.
    """
    found = []
    for factors, applies in zip(stretched.T, applicable.T, strict=True):
        rescaled = applies & (factors != 1)
        known = factors[rescaled & np.isfinite(factors)].tolist()
        low, high = min(known, default=math.inf), max(known, default=-math.inf)
        found.append(Rescaling(int(rescaled.sum()), int(applies.sum()), low, high))
    return tuple(found)


def of_blocks(conditions: Sequence[Condition], rescaled: Iterable[Sequence[Rescaling]]) -> tuple[Rescaled, ...]:
    """One for each condition that was rescaled in any block; ``rescaled`` is of :func:`rescalings`, by block.

    A block without counts, because nothing was computed, is left out.
    """
    blocks = [block for block in rescaled if block]
    compared = {replace(c, region="") for c in conditions if c.is_control}
    found = []
    for condition, parts in zip(conditions if blocks else (), zip(*blocks, strict=True), strict=True):
        if n := sum(part.samples for part in parts):
            low, high = min(part.low for part in parts), max(part.high for part in parts)
            is_compared = replace(condition, region="") in compared
            factors = (low, high) if low <= high else (math.nan, math.nan)
            found.append(Rescaled(condition.name, is_compared, n, sum(p.applicable for p in parts), *factors))
    return tuple(found)
