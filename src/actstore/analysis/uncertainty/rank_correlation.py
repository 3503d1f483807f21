"""Rank correlation within the volumes of each patient, as one Fisher's z a patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actstore.analysis.evidence import FEWEST_PATIENTS

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Samples of a volume below which its rank correlation has no sampling variance to reckon with.
FEWEST_SAMPLES = 4

#: Variance of Fisher's z of a rank correlation of n samples, times n - 3 (Fieller, Hartley & Pearson 1957).
RANK_VARIANCE = 1.06


@dataclass(frozen=True)
class Strata:
    """Which samples are compared with each other: those of one volume of one patient."""

    #: Numbers of the samples of each volume.
    samples: tuple[NDArray[np.intp], ...]
    #: The patient of each volume.
    patient: tuple[int, ...]
    patients: int

    @classmethod
    def of(cls, patient: NDArray[np.intp], volume: NDArray[np.intp]) -> Strata:
        """From the patient and the volume of each sample, as numbers from 0."""
        samples = tuple(np.flatnonzero(volume == one) for one in np.unique(volume))
        return cls(samples, tuple(int(patient[at[0]]) for at in samples), int(patient.max(initial=-1)) + 1)


@dataclass(frozen=True)
class Within:
    """Correlations of a number of rows within patients."""

    #: (row, patient) Fisher's z, NaN where a patient has no volume that counts.
    z: Floats
    #: (row, patient) sum of n - 3 over its volumes that count.
    weight: NDArray[np.int64]
    #: (row, sample) the samples of volumes that count.
    used: Bools
    #: (row, patient) whether any volume has :data:`FEWEST_SAMPLES`.
    enough: Bools

    @property
    def patients(self) -> NDArray[np.int64]:
        """How many patients each row rests on."""
        number: NDArray[np.int64] = (~np.isnan(self.z)).sum(axis=-1)
        return number

    def typical(self) -> Floats:
        """The mean of z over patients, as a correlation; NaN without patients."""
        return np.tanh(np.ma.filled(np.ma.masked_invalid(self.z).mean(axis=-1), np.nan))

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Low and high of :meth:`typical` over patients; NaN for fewer than :data:`FEWEST_PATIENTS`.

        Of Student's t, and no narrower than the variance of z without association makes it.
        """
        from scipy import stats

        values = np.ma.masked_invalid(self.z)
        mean = np.ma.filled(values.mean(axis=-1), np.nan)
        enough = np.where(self.patients >= FEWEST_PATIENTS, self.patients, np.nan)
        variance = np.where(self.weight > 0, RANK_VARIANCE / np.maximum(self.weight, 1), 0.0)
        known = variance.sum(axis=-1) ** 0.5 / enough
        seen = np.ma.filled(values.std(axis=-1, ddof=1), np.nan) / np.sqrt(enough)
        tail = (1 - confidence) / 2
        half = np.fmax(stats.t.isf(tail, enough - 1) * seen, stats.norm.isf(tail) * known)
        return np.tanh(mean - half), np.tanh(mean + half)


def correlate_within(rows: NDArray[Any], other: NDArray[Any], used: Bools, strata: Strata) -> Within:
    """Spearman's correlation of each of ``rows`` (row, sample) with ``other`` (sample), over ``used`` (row, sample).

    Of each volume z = artanh r (Fisher, Metron 1 (1921), 3), with r no nearer to ±1 than half a step of its scale,
    1 - 6/(n(n² - 1)); of each patient the mean over volumes, weighted by n - 3, the inverse of the variance of z but
    for a factor. Volumes with fewer than :data:`FEWEST_SAMPLES` samples, or without variation, do not count.
    """
    shape = (len(rows), strata.patients)
    total, weight, enough = np.zeros(shape), np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    counting = np.zeros(used.shape, dtype=bool)
    for at, patient, own in _pieces(used, strata):
        n = own.shape[1]
        enough[np.ix_(at, patient)] = True
        z = _fisher(rows[at][:, own], other[own])
        for one, samples, values in zip(patient.tolist(), own, z.T, strict=True):
            found = ~np.isnan(values)
            total[at[found], one] += (n - 3) * values[found]
            weight[at[found], one] += n - 3
            counting[np.ix_(at[found], samples)] = True
    z = np.full(shape, np.nan)
    np.divide(total, weight, out=z, where=weight > 0)
    return Within(z, weight, counting, enough)


def _pieces(used: Bools, strata: Strata) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]]:
    """Volumes that can be ranked in one go: rows, the patient of each volume, and its samples (volume, sample).

    Those in which the same rows use as many samples, at least :data:`FEWEST_SAMPLES`.
    """
    alike: dict[tuple[int, bytes], tuple[NDArray[np.intp], list[int], list[NDArray[np.intp]]]] = {}
    for samples, patient in zip(strata.samples, strata.patient, strict=True):
        for at, columns in _patterns(used[:, samples]):
            if (n := int(columns.sum())) >= FEWEST_SAMPLES:
                _, patients, own = alike.setdefault((n, at.tobytes()), (at, [], []))
                patients.append(patient)
                own.append(samples[columns])
    for at, patients, own in alike.values():
        yield at, np.array(patients), np.stack(own)


def _patterns(used: Bools) -> list[tuple[NDArray[np.intp], Bools]]:
    """Rows of ``used`` (row, column) that are equal, with what they are equal to."""
    if not len(used) or (used == used[0]).all():
        return [(np.arange(len(used)), columns) for columns in used[:1]]
    patterns, pattern = np.unique(used, axis=0, return_inverse=True)
    return [(np.flatnonzero(pattern.ravel() == i), columns) for i, columns in enumerate(patterns)]


def _fisher(first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """z (row, volume) of the rank correlation of ``first`` (row, volume, sample) with ``second`` (volume, sample).

    Kept finite; NaN where either does not vary.
    """
    from scipy import stats

    n = first.shape[-1]
    a, b = (stats.rankdata(values, axis=-1) - (n + 1) / 2 for values in (first, second))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    r = np.full(scale.shape, np.nan)
    np.divide((a * b).sum(axis=-1), scale, out=r, where=scale > 0)
    nearest = 1 - 6 / (n * (n**2 - 1))
    z: Floats = np.arctanh(np.clip(r, -nearest, nearest))
    return z
