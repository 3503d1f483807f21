"""Whether a channel's effect is larger than that of a random channel of its layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import require_dims
from actstore.analysis.evidence import FEWEST_PATIENTS, note, patients_of
from actstore.analysis.grouping import patient_means
from actstore.analysis.layers import layer_slices
from actstore.units import counted

Floats = NDArray[np.float64]

#: Permutations, or as many for each test as let the corrected p of one fall to a half of 0.05, if that is more.
LEAST, EACH_TEST, MOST = 9_999, 40, 99_999
#: Below which p a channel counts.
LEVEL = 0.05
#: Two means that are closer than this share of the largest are equal: their sums differ by rounding alone.
_EQUAL = 1e-9
#: Labels that are permuted at once: 16 MiB of 8 bytes.
_BATCH = 2**21
_NOTE = np.dtype("U64")


def against_random(part: xr.DataArray, *, resamples: int | None = None, seed: int = 0) -> xr.Dataset:
    """p of each channel: is its effect larger than that of a random channel of its layer?

    The null hypothesis is that channels of a layer are exchangeable within each patient: which channel was edited says
    nothing. The statistic is the mean over patients of a channel's mean effect in each. Labels of channels are permuted
    within each patient, independently of other patients, and p is the share of permutations in which the largest mean
    of *any* channel of the layer reaches the channel's own, (1 + as large) / (1 + permutations). It is one-sided, and
    already corrected over the channels of the layer (Westfall & Young, Resampling-Based Multiple Testing, 1993, §2.3;
    Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), 39). Channels that are found are left out, and the others
    compared among themselves, until no more are found (step-down). Of P patients and C channels p cannot fall below
    C^(1-P), which a channel has that is the largest in every patient.

    ``q`` is p times the number of tests, that is of layers, conditions and classes (Bonferroni), at most 1. Where no
    channel differs from others of its layer, any q of a study is below 0.05 with a probability of at most 0.05.

    Parameters
    ----------
    part
        (sample, condition, channel, class_name) with ``patient`` along sample and ``layer`` along channel: the Dice
        that is lost, comes back or is gained as each channel alone is edited, ``part`` of
        :func:`actstore.analysis.interventions.effects.differences`; in memory. A share is this over the same for all
        channels of a layer, so that it has the same p.
    resamples
        Permutations, by default 9999, or 40 for each test if that is more, up to 99,999.
    seed
        Of the permutations.

    Returns
    -------
    xarray.Dataset
        Over (condition, channel, class_name): ``p``, ``q`` float64, NaN for fewer than
        :data:`actstore.analysis.evidence.FEWEST_PATIENTS` patients and for a layer of one channel; ``tests`` int64,
        how many q is corrected over; ``note``.

    Raises
    ------
    AnalysisError
        if a dimension, or ``patient``, is missing.
    """
    dims = ("condition", "channel", "class_name")
    require_dims(part, ["sample", *dims])
    patient, _ = patients_of(part)
    ordered = part.transpose("channel", "condition", "class_name", "sample")
    means = patient_means(ordered.values, patient)
    channels, conditions, classes, patients = means.shape
    cells = means.reshape(channels, conditions * classes, patients)
    slices = list(layer_slices(ordered).values())
    there = ~np.isnan(cells).any(axis=0)
    number = there.sum(axis=-1)
    tested = (number >= FEWEST_PATIENTS)[None] & np.array([where.stop - where.start > 1 for where in slices])[:, None]
    tests = int(tested.sum())
    drawn = resamples or min(max(LEAST, EACH_TEST * tests), MOST)
    p = np.full(cells.shape[:2], np.nan)
    for where, own in zip(slices, tested, strict=True):
        if own.any():
            # A patient that is left out has the same value for every channel, so that labels change nothing.
            values = np.where(there, cells[where], 0.0)[:, own]
            p[where, own] = _stepped_p(values, LEVEL / tests, drawn, seed)
    notes = np.array([_notes(number, where.stop - where.start, tests, drawn) for where in slices], dtype=_NOTE)
    layer = np.repeat(np.arange(len(slices)), [where.stop - where.start for where in slices])
    shape = (channels, conditions, classes)
    found = {"p": p, "q": np.minimum(p * tests, 1.0), "note": notes[layer]}
    along = {name: (ordered.dims[:-1], values.reshape(shape)) for name, values in found.items()}
    coords = {name: coord for name, coord in part.coords.items() if "sample" not in coord.dims}
    return xr.Dataset({**along, "tests": tests}, coords=coords).transpose(*dims)


def _notes(patients: NDArray[np.int64], channels: int, tests: int, drawn: int) -> list[str]:
    """The note on each test of a layer, by its number of patients."""
    if channels < 2:
        return ["1 channel: no other of its layer to compare with"] * len(patients)
    few = note(patients, "test")
    least = np.maximum(float(channels) ** (1 - patients), 1 / (1 + drawn))
    return [
        text
        or (f"{counted(int(n), 'patient')}: q cannot fall below {min(p * tests, 1):.2g}" if p * tests >= LEVEL else "")
        for text, n, p in zip(few.tolist(), patients, least.tolist(), strict=True)
    ]


def _stepped_p(values: Floats, level: float, number: int, seed: int) -> Floats:
    """:func:`_largest_p`, of channels that are not below ``level`` among themselves: (channel, cell)."""
    p = _largest_p(values, number, seed)
    for cell in range(values.shape[1]):
        left = np.arange(len(values))
        while (found := p[left, cell] < level).any() and (~found).sum() > 1:
            least, left = p[left[found], cell].max(), left[~found]
            p[left, cell] = np.maximum(_largest_p(values[left, cell, None], number, seed)[:, 0], least)
    return p


def _largest_p(values: Floats, number: int, seed: int) -> Floats:
    """p (channel, cell) of the means over patients of ``values`` (channel, cell, patient), by the largest of all."""
    channels, cells, patients = values.shape
    by_patient: Any = np.ascontiguousarray(values.transpose(2, 0, 1))
    own = values.sum(axis=-1)
    limit = own - _EQUAL * np.abs(values).sum(axis=-1).max(axis=0)
    extreme = np.zeros((channels, cells), dtype=np.int64)
    rng = np.random.default_rng(seed)
    batch = max(1, _BATCH // (channels * max(patients, cells)))
    for first in range(0, number, batch):
        size = min(batch, number - first)
        sums = np.zeros((size, channels, cells))
        labels = np.tile(np.arange(channels), (size, 1))
        for one in by_patient:
            sums += one[rng.permuted(labels, axis=1)]
        largest = np.sort(sums.max(axis=1), axis=0)
        for cell in range(cells):
            extreme[:, cell] += size - np.searchsorted(largest[:, cell], limit[:, cell], side="left")
    p: Floats = (1 + extreme) / (1 + number)
    return p
