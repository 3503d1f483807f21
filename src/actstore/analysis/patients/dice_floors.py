"""Patients whose Dice cannot be associated with anything: it is at an end of its scale, or hardly varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.evidence import FEWEST_PATIENTS
from actstore.analysis.uncertainty.rank_correlation import FEWEST_SAMPLES
from actstore.units import counted, plural_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CONSTANT = "constant"
_NEARLY = "nearly constant"
#: Perturbed Dice whose standard deviation is below this part of the original's is nearly constant: even where the two
#: are independent, the original makes more than 1 / (1 + NEARLY²) = 94 % of the variance of the loss.
NEARLY = 0.25


@dataclass(frozen=True)
class Floors:
    """Which patients of one condition are at a floor, and whether enough others remain."""

    #: (patient) whether a patient has a usable sample.
    there: Bools
    #: (patient) whether a patient is left out for a floor.
    at_floor: Bools
    #: Whether the condition has no association at all.
    refused: bool
    #: Who is at a floor, and at which; "" where nobody is.
    text: str


def find_floors(
    before: Floats, after: Floats, usable: Bools, patient: NDArray[np.intp], patients: int, *, name: str, noun: str
) -> Floors:
    """Floors of Dice of the class ``name`` before and after a perturbation, over ``usable`` samples; all (sample).

    A patient is at a floor where either Dice is 0 or 1 in more than half of its usable samples, or the same in all of
    several, or where the perturbed one varies less than :data:`NEARLY` times as much as the original (standard
    deviations over as many samples as a rank correlation needs, or more). The condition is refused where more than half
    of the patients are at a floor, or fewer than :data:`actstore.analysis.evidence.FEWEST_PATIENTS` are left without
    those that are. ``noun`` is what a sample is called.
    """
    own = patient[usable]
    number = np.bincount(own, minlength=patients)
    there, at_floor = number > 0, np.zeros(patients, dtype=bool)
    hit = np.zeros(usable.shape, dtype=bool)
    sides, kinds = [], set()
    for side, values in (("perturbed", after), ("original", before)):
        zeros, ones = (np.bincount(own, values[usable] == end, patients) for end in (0, 1))
        bound = ~at_floor & (2 * (zeros + ones) > number)
        same = ~at_floor & ~bound & (number > 1) & _unvaried(values[usable], own, patients)
        # An original that hardly varies is no floor: the loss then follows the perturbed Dice, as it should.
        nearly = ~at_floor & ~bound & ~same & (number >= FEWEST_SAMPLES) & (side == "perturbed")
        nearly &= _deviation(after[usable], own, number) < NEARLY * _deviation(before[usable], own, number)
        ends = [end for end, count in ((0, zeros), (1, ones)) if count[bound].any()]
        if (bound | same | nearly).any():
            sides.append(side)
            alike = [kind for kind, which in ((_CONSTANT, same), (_NEARLY, nearly)) if which.any()]
            kinds |= {*map(str, ends), *alike}
            hit |= usable & np.isin(values, ends)
            at_floor |= bound | same | nearly
    floor, every = int(at_floor.sum()), int(there.sum())
    if not floor:
        return Floors(there, at_floor, refused=False, text="")
    what = f"{' or '.join(sides)} Dice of {name} is {' or '.join(sorted(kinds))}"
    most = "" if kinds <= {_CONSTANT, _NEARLY} else f"most {plural_of(noun)} of "
    them = f"{floor} of {counted(every, 'patient')}"
    # Samples are counted where one Dice is at an end, and patients where that would say too little.
    countable = len(sides) == 1 and not kinds & {_CONSTANT, _NEARLY}
    if 2 * floor > every:
        counts = f"{hit.sum()} of {counted(int(usable.sum()), noun)}"
        share = counts if countable and 2 * hit.sum() > usable.sum() else f"{most}{them}"
        return Floors(there, at_floor, refused=True, text=f"{what} in {share}: no association")
    if every - floor < FEWEST_PATIENTS:
        text = f"{what} in {most}{them}: {every - floor} left, no association"
        return Floors(there, at_floor, refused=True, text=text)
    within = usable & at_floor[patient]
    share = f"{(hit & within).sum()} of their {counted(int(within.sum()), noun)}" if countable else f"{most}each"
    text = f"{them} left out: {what} in {share}"
    return Floors(there, at_floor, refused=False, text=text)


def _unvaried(values: Floats, patient: NDArray[np.intp], patients: int) -> Bools:
    """Whether a patient's ``values`` (sample) are all the same: (patient)."""
    low, high = np.full(patients, np.inf), np.full(patients, -np.inf)
    np.minimum.at(low, patient, values)
    np.maximum.at(high, patient, values)
    same: Bools = low == high
    return same


def _deviation(values: Floats, patient: NDArray[np.intp], number: NDArray[np.intp]) -> Floats:
    """Standard deviation of a patient's ``values`` (sample), of which it has ``number``: (patient)."""
    divisor, patients = np.maximum(number, 1), len(number)
    centred = values - (np.bincount(patient, values, patients) / divisor)[patient]
    deviation: Floats = np.sqrt(np.bincount(patient, centred**2, patients) / divisor)
    return deviation
