"""Whether the volumes of a patient agree more than they would if volumes were exchanged between patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actstore.measures.compiled import compiled

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

#: Positions in a batch of permutations: 4 MiB.
_BATCH = 2**19
#: Channels that are summed at once: the residuals of 100 patients with two volumes then fit a core's cache.
_CHANNELS = 256
#: Two rates of a phase that are closer than this are equal.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Volumes:
    """The patient and the phase of each volume, both numbered from 0; a patient has one volume of a phase, or none."""

    patient: Numbers
    phase: Numbers

    def __len__(self) -> int:
        return len(self.patient)

    def of(self, keep: NDArray[np.bool_]) -> Volumes:
        """Those of ``keep`` (volume), patients numbered anew."""
        return Volumes(np.unique(self.patient[keep], return_inverse=True)[1], self.phase[keep])

    @property
    def per_patient(self) -> Numbers:
        """How many volumes each patient has."""
        return np.bincount(self.patient).astype(np.intp)

    def places(self) -> Numbers:
        """The volume of each phase and patient (phase, patient), where there is none their number."""
        phases, code = np.unique(self.phase, return_inverse=True)
        table = np.full((len(phases), len(self.per_patient)), len(self), dtype=np.intp)
        table[code, self.patient] = np.arange(len(self))
        return table


def residuals(rates: Floats, volumes: Volumes) -> Floats:
    """``rates`` (volume, …) less the mean of their phase; 0 where a phase does not vary."""
    found = np.empty(rates.shape)
    for one in np.unique(volumes.phase):
        own = volumes.phase == one
        centred = rates[own] - rates[own].mean(axis=0)
        found[own] = np.where(np.ptp(rates[own], axis=0) > _EQUAL, centred, 0.0)
    return found


def agreement(residual: Floats, volumes: Volumes) -> Floats:
    """Intraclass correlation of ``residual`` (volume, …) over pairs of volumes of a patient, NaN where there is none.

    The mean product of two volumes of a patient over the mean square of a volume (Fisher, Statistical Methods for
    Research Workers, 1925, §38, means taken by phase). NaN also where fewer than two phases vary.
    """
    number = volumes.per_patient
    pairs = (number * (number - 1)).sum()
    square = (residual**2).sum(axis=0)
    phases = np.unique(volumes.phase)
    vary = np.sum([(residual[volumes.phase == one] != 0).any(axis=0) for one in phases], axis=0)
    tested = (vary >= 2) & (pairs > 0)
    scale = np.where(tested, square / max(len(volumes), 1), 1.0)
    return np.where(tested, 2 * _products(residual, volumes) / max(pairs, 1) / scale, np.nan)


def p_values(residual: Floats, volumes: Volumes, resamples: int, seed: int) -> Floats:
    """p of the agreement of each column of ``residual`` (volume, column): (1 + as high) / (1 + resamples).

    In each phase the volumes are put to the patients that have one in random order. Numbers of pairs and
    sums of squares stay the same under this, so that only the sum of products is compared.
    """
    # Orders that agree equally may differ in the last digits.
    least = _products(residual, volumes) - _EQUAL * (residual**2).sum(axis=0)
    blocks = [slice(at, at + _CHANNELS) for at in range(0, residual.shape[1], _CHANNELS)]
    parts = [np.ascontiguousarray(residual[:, block]) for block in blocks]
    counts = [np.zeros(part.shape[1], dtype=np.int64) for part in parts]
    rng = np.random.default_rng(seed)
    places = volumes.places()
    batch = max(1, _BATCH // places.size)
    for first in range(0, resamples, batch):
        drawn = _exchanged(places, len(volumes), min(batch, resamples - first), rng)
        for part, block, extreme in zip(parts, blocks, counts, strict=True):
            _as_high(part, drawn, least[block], extreme)
    p: Floats = (1 + np.concatenate(counts)) / (1 + resamples)
    return p


def _exchanged(places: Numbers, none: int, number: int, rng: np.random.Generator) -> Numbers:
    """``number`` random orders of the volumes of each phase: (permutation, phase, patient)."""
    drawn = np.tile(places, (number, 1, 1))
    for phase, row in enumerate(places):
        have = np.flatnonzero(row != none)
        drawn[:, phase, have] = rng.permuted(np.tile(row[have], (number, 1)), axis=1)
    return drawn


def _products(residual: Floats, volumes: Volumes) -> Floats:
    """Sum over all pairs of volumes of a patient of the products of their residuals (volume, …)."""
    sums = np.zeros((len(volumes.per_patient), *residual.shape[1:]))
    np.add.at(sums, volumes.patient, residual)
    products: Floats = ((sums**2).sum(axis=0) - (residual**2).sum(axis=0)) / 2
    return products


@compiled
def _as_high(residual: Floats, drawn: Numbers, least: Floats, extreme: NDArray[np.int64]) -> None:
    """Add to ``extreme`` (column) how often the sum of products over ``drawn`` is at least ``least`` (column)."""
    none, columns = residual.shape
    permutations, phases, patients = drawn.shape
    total, before = np.empty(columns), np.empty(columns)
    for b in range(permutations):
        total[:] = 0.0
        for p in range(patients):
            first, volumes = none, 0
            for f in range(phases):
                row = drawn[b, f, p]
                if row == none:
                    continue
                if volumes == 0:
                    first = row
                elif volumes == 1:
                    for i in range(columns):
                        total[i] += residual[first, i] * residual[row, i]
                    if f < phases - 1:
                        for i in range(columns):
                            before[i] = residual[first, i] + residual[row, i]
                else:
                    for i in range(columns):
                        total[i] += before[i] * residual[row, i]
                        before[i] += residual[row, i]
                volumes += 1
        for i in range(columns):
            extreme[i] += total[i] >= least[i]
