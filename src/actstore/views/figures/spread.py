"""Quartiles over samples: of layers, of strengths, and of each patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.views.arrays import Floats
from actstore.views.figures import marks

#: Patients up to which every sample is a dot.
MOST_PATIENTS = 40
#: Half the width of a patient's column, of 1 from one column to the next.
HALF = 0.34


class Spread(NamedTuple):
    """Quartiles over samples, NaN where no sample has a value."""

    low: Floats
    median: Floats
    high: Floats


def spread(values: Floats) -> Spread:
    """Quartiles over the samples of ``values``, float (sample, column): float64 (column) each."""
    found = np.full((3, values.shape[1]), np.nan)
    known = np.isfinite(values).any(axis=0)
    if known.any():
        found[:, known] = np.nanquantile(values[:, known], [0.25, 0.5, 0.75], axis=0)
    return Spread(*found)


class PatientColumns:
    """MAD by patient: a dot a sample and the median; of many patients, sorted, median and quartiles only.

    Parameters
    ----------
    samples
        numbers of the samples, in the order of the store.
    patients
        the patient of each sample.
    mad
        float (sample).
    """

    def __init__(self, samples: NDArray[np.intp], patients: NDArray[Any], mad: Floats) -> None:
        self.samples = samples
        self.mad = mad.astype(np.float64)
        code, names = pd.factorize(patients)
        quartiles = _quartiles(code, self.mad)
        #: Whether there are too many patients to draw every sample.
        self.many = len(names) > MOST_PATIENTS
        if self.many:
            order = np.argsort(quartiles[1], kind="stable")
            names, quartiles, code = names[order], quartiles[:, order], np.argsort(order)[code]
        #: In the order of the columns: names, and lower quartile, median and upper quartile of MAD (3, patient).
        self.patients: list[str] = [str(name) for name in names]
        self.quartiles: Floats = quartiles
        #: The number of each sample's column, and the sample's position across.
        self.column: NDArray[np.intp] = code
        self.x = code.astype(float)
        self.span = (float(self.mad.min()), float(self.mad.max())) if len(mad) else (0.0, 1.0)
        if not self.many:
            for i in range(len(names)):
                self.x[code == i] += marks.swarm(self.mad[code == i], HALF, span=self.span)

    @property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Ends of the axes x and y that show everything."""
        margin = (self.span[1] - self.span[0]) * 0.06 or 0.01
        return (-0.6, max(len(self.patients), 1) - 0.4), (min(self.span[0] - margin, 0.0), self.span[1] + margin)

    @property
    def xlabel(self) -> str:
        """Label of the axis of patients."""
        return "patients by median (lines: quartiles)" if self.many else "patient (lines: medians)"

    def at(self, x: float, y: float) -> int | None:
        """The sample nearest to a position, of the column at ``x``; None without any sample."""
        if not self.patients:
            return None
        own = np.flatnonzero(self.column == int(np.clip(round(x), 0, len(self.patients) - 1)))
        height = self.span[1] - self.span[0] or 1.0
        away = np.hypot((self.x[own] - x) / len(self.patients), (self.mad[own] - y) / height)
        return int(self.samples[own[away.argmin()]])


def _quartiles(code: NDArray[np.intp], values: Floats) -> Floats:
    """Quartiles of the values of each code 0, 1, …, with NumPy's linear interpolation: float64 (3, code).

    Not a groupby: with a few thousand samples that takes longer than to draw them.
    """
    ordered = values[np.lexsort((values, code))]
    counts = np.bincount(code)
    at = np.cumsum(counts) - counts + np.array([[0.25], [0.5], [0.75]]) * (counts - 1)
    low, high = np.floor(at).astype(int), np.ceil(at).astype(int)
    found: Floats = ordered[low] + (at - low) * (ordered[high] - ordered[low])
    return found


def patient_ticks(names: Sequence[str], room: int = 34) -> dict[int, str]:
    """Positions and short names that fit into ``room`` characters; a prefix that all names share is left out."""
    first, last = min(names, default=""), max(names, default="")
    alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    prefix = re.sub(r"\d+$", "", first[:alike])
    if not all(name[len(prefix) : len(prefix) + 1].isdigit() for name in names):
        # Not within a word.
        prefix = re.sub(r"[^\W_]+$", "", prefix)
    short = [name[len(prefix) :] or name for name in names]
    short = [name if len(name) <= 10 else name[:9] + "…" for name in short]
    # Bokeh sets text between two pairs of dollars as a formula.
    short = [name.replace("$$", "$\u200b$") for name in short]
    step = -(-sum(len(name) + 1 for name in short) // room) or 1
    return {i: name for i, name in enumerate(short) if i % step == 0}
