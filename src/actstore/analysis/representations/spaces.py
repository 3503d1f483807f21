"""What one stream over points leaves for comparing spaces: sums for CKA, some points for RSA, means of patients."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.evidence import FEWEST_PATIENTS, patients_of
from actstore.analysis.representations.embedding import layers_along
from actstore.analysis.representations.moments import Moments, centred
from actstore.analysis.representations.stream import parts_of

Floats = NDArray[np.float64]

#: Samples whose distances RSA compares, at most, drawn evenly; the rank correlation needs all pairs of them.
RSA_SAMPLES = 500
#: Patients whose means the test permutes, at most, drawn evenly.
TEST_PATIENTS = 100
#: Pairs of samples that distances correlate over, at least.
_FEWEST_PAIRS = 3


class Streamed:
    """What one stream over points of several spaces leaves: CKA, some of the points, and the patients' means."""

    def __init__(self, moments: Moments, drawn: Floats, means: Floats, samples: int) -> None:
        self.cka = moments.cka()
        self.groups, self.drawn, self.means = moments.groups, drawn, means
        self.samples, self.patients = samples, len(means)

    def rsa(self) -> Floats:
        """Of every two spaces, the rank correlation of distances between the points that were drawn."""
        return distance_correlation([self.drawn[:, group] for group in self.groups])

    def p(self, resamples: int, seed: int) -> Floats:
        """Of every two spaces, of CKA of patients' means against patients permuted in one of them."""
        if not resamples or self.patients < FEWEST_PATIENTS:
            return np.full((len(self.groups),) * 2, np.nan)
        means = self.means[evenly(np.arange(self.patients), TEST_PATIENTS)]
        means = means - means.mean(axis=0)
        grams = [centred(means[:, group] @ means[:, group].T) for group in self.groups]
        return _permuted(np.stack(grams), resamples, seed)


def streamed(spaces: Sequence[xr.DataArray], layers: Sequence[int]) -> Streamed:
    """Stream over all ``spaces`` side by side; of each its layers, or the whole where ``layers`` is empty."""
    sizes = [space.sizes["sample"] for space in spaces]
    if len(set(sizes)) > 1:
        raise AnalysisError(f"the spaces have {sizes[0]} and {sizes[1]} samples: give the same samples in both")
    groups: list[slice] = []
    start = 0
    for space in spaces:
        width = space.sizes["feature"]
        own = layers_along(space).values() if layers else [slice(0, width)]
        groups += [slice(start + group.start, start + group.stop) for group in own]
        start += width
    named = bool(layers) or "patient" in spaces[0].coords
    patient = patients_of(spaces[0])[0] if named else np.zeros(sizes[0], np.intp)
    sums, counts = np.zeros((int(patient.max(initial=-1)) + 1, start)), np.zeros(int(patient.max(initial=-1)) + 1)
    chosen = np.zeros(sizes[0], bool)
    chosen[evenly(np.arange(sizes[0]), RSA_SAMPLES)] = True
    moments, drawn, samples = Moments(groups), [np.zeros((0, start))], 0
    for parts in zip(*map(parts_of, _alike(spaces)), strict=True):
        where = parts[0][0]
        values = np.concatenate([part for _, part in parts], axis=1) if len(parts) > 1 else parts[0][1]
        keep = np.ones(len(values), bool)
        if not np.isfinite(values.sum()):
            keep = np.isfinite(values).all(axis=1)
            values = values[keep]
        samples += len(values)
        moments.add(values)
        drawn.append(values[chosen[where][keep]])
        _add_by(sums, values, patient[where][keep])
        counts += np.bincount(patient[where][keep], minlength=len(counts))
    means = sums[counts > 0] / counts[counts > 0, None]
    return Streamed(moments, np.concatenate(drawn), means, samples)


def _alike(spaces: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """``spaces`` whose parts along sample are the same."""
    if len(spaces) < 2:
        return list(spaces)
    # The first that is chunked decides; two parts of every space are in memory at once.
    chunks = next(
        (space.chunksizes["sample"] for space in spaces if space.chunks is not None), (spaces[0].sizes["sample"],)
    )
    return [space.copy(data=da.asarray(space.data).rechunk({0: chunks})) for space in spaces]


def _add_by(sums: Floats, values: Floats, group: NDArray[np.intp]) -> None:
    """Add each row of ``values`` to the row ``group`` of ``sums``."""
    if not len(values):
        return
    from scipy import sparse

    groups, column = np.unique(group, return_inverse=True)
    # A product with indicators goes along rows; np.add.reduceat goes down each column, past the cache.
    indicators = sparse.csc_array((np.ones(len(group)), column, np.arange(len(group) + 1)), (len(groups), len(group)))
    sums[groups] += np.asarray(indicators @ values)


def evenly(numbers: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most ``most`` of ``numbers``, evenly over all."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).round().astype(np.intp)]


def distance_correlation(spaces: Sequence[Floats]) -> Floats:
    """Spearman correlation of the distances within every two ``spaces`` (sample, feature): (space, space)."""
    from scipy.spatial.distance import pdist

    found = np.full((len(spaces),) * 2, np.nan)
    n = len(spaces[0])
    if n * (n - 1) // 2 < _FEWEST_PAIRS:
        return found
    with ThreadPoolExecutor(2) as threads:
        ranks = list(threads.map(lambda space: _ranked(pdist(space)), spaces))
    varies = np.array([bool(np.ptp(rank) > 0) for rank in ranks])
    if varies.any():
        some = np.atleast_2d(np.corrcoef(np.stack([rank for rank, used in zip(ranks, varies, strict=True) if used])))
        found[np.ix_(varies, varies)] = np.clip(some, -1.0, 1.0)
    return found


def _ranked(values: Floats) -> Floats:
    """The rank of each of ``values``, from 0, equal ones their mean; twice as fast as `scipy.stats.rankdata`."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(starts, append=len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (counts - 1) / 2, counts)
    return ranks


def _permuted(grams: Floats, resamples: int, seed: int) -> Floats:
    """p of the product of every two U-centred ``grams`` (space, patient, patient) against patients permuted.

    One order of the patients is drawn for all pairs at once; ties with the order as it is count as high.
    """
    spaces, n, _ = grams.shape
    flat = grams.reshape(spaces, -1)
    actual = flat @ flat.T
    size = np.sqrt(np.diag(actual))
    least = actual - 1e-9 * np.outer(size, size)
    extreme = np.zeros((spaces, spaces), np.int64)
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        order = rng.permutation(n)
        extreme += flat @ grams[:, order][:, :, order].reshape(spaces, -1).T >= least
    p = (1 + extreme) / (1 + resamples)
    p[size == 0] = p[:, size == 0] = np.nan
    return p
