"""How alike layers, conditions and networks see the same samples: CKA and RSA, from one stream of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims, require_original_first
from actstore.analysis.evidence import FEWEST_PATIENTS, corrected, note, patients_of
from actstore.analysis.representations.embedding import layers_along
from actstore.analysis.representations.moments import CLOSE, FEWEST_SAMPLES, Moments, centred, gram_hsic, normalised
from actstore.analysis.representations.stream import PART_BYTES, parts_of
from actstore.analysis.uncertainty.resamples import RESAMPLES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Samples whose distances RSA compares, at most, drawn evenly; the rank correlation needs all pairs of them.
RSA_SAMPLES = 500
#: Patients whose means the test permutes, at most, drawn evenly.
TEST_PATIENTS = 100
#: With fewer samples, similarity says little and has a note: CKA of 20 independent points varies by 0.07.
FEW_SAMPLES = 20
#: Pairs of samples that distances correlate over, at least.
_FEWEST_PAIRS = 3


def cka(x: xr.DataArray, y: xr.DataArray) -> float:
    """Linear CKA of two spaces of the same samples, by the unbiased estimator of HSIC; streamed over samples.

    Parameters
    ----------
    x, y
        (sample, feature), of as many samples. Samples in which either is not finite are left out.

    Returns
    -------
    float
        1 for spaces that differ by a rotation, a scale and a shift, about 0 for independent ones, whatever the numbers
        of samples and features; slightly below 0 by chance. NaN for fewer than four samples, or where all points of a
        space are one. Kornblith et al., ICML 2019 (arXiv:1905.00414) with the estimator of Song et al., J. Mach. Learn.
        Res. 13 (2012), 1393, as Nguyen et al., ICLR 2021 (arXiv:2010.15327) use it.

    Raises
    ------
    AnalysisError
        if a dimension is missing, or the numbers of samples differ.

    Examples
    --------
    >>> points = analysis.embedding(store)
    >>> first, second = (points.isel(feature=(points["layer"] == name).values) for name in ("L01", "L02"))
    >>> bool(0 < analysis.cka(first, second) <= 1)
    True
    """
    found = _streamed([_points(x), _points(y)], [])
    return float(found.cka[0, 1])


def similarity(
    points: xr.DataArray, other: xr.DataArray | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> xr.Dataset:
    """How alike every two layers see the same samples; one stream over the points.

    Parameters
    ----------
    points
        (sample, feature) with the coordinate ``layer`` along feature, of :func:`actstore.analysis.embedding`, and
        ``patient`` along sample. Samples in which a layer is not finite are left out of all.
    other
        The same samples, in the same order, in the layers of another network; by default layers are compared with
        each other.
    resamples
        Permutations of patients behind p; 0 for no test.

    Returns
    -------
    xarray.Dataset
        With the dims (layer, other_layer):

        ``cka`` float64
            as :func:`cka`.
        ``rsa`` float64
            Spearman correlation of the Euclidean distances between samples (Kriegeskorte et al., Front. Syst. Neurosci.
            2 (2008), 4), of at most :data:`RSA_SAMPLES` samples drawn evenly.
        ``p`` float64
            of CKA between patients' mean points, against the patients of one layer permuted: (1 + as high) /
            (1 + resamples). Slices of a patient are not exchangeable, patients are. NaN for fewer than
            :data:`actstore.analysis.evidence.FEWEST_PATIENTS`, for a layer with itself, and without a test.
        ``q`` float64, ``tests`` int64
            p corrected over all pairs of layers (Benjamini & Hochberg).

        and ``samples``, ``patients``, ``note`` without dims.

    Raises
    ------
    AnalysisError
        if a dimension or coordinate is missing, or the two differ in their number of samples.

    Examples
    --------
    >>> alike = analysis.similarity(analysis.embedding(store), resamples=50)
    >>> list(alike), alike["cka"].dims
    (['cka', 'rsa', 'p', 'q', 'tests', 'samples', 'patients', 'note'], ('layer', 'other_layer'))
    """
    spaces = [_points(points)] if other is None else [_points(points), _points(other)]
    names = [list(layers_along(space)) for space in spaces]
    found = _streamed(spaces, [len(own) for own in names])
    rows = slice(0, len(names[0]))
    columns = rows if other is None else slice(len(names[0]), None)
    p = found.p(resamples, seed)[rows, columns]
    if other is None:
        np.fill_diagonal(p, np.nan)
        # Each pair is tested once.
        above = np.triu_indices(len(p), 1)
        q = np.full_like(p, np.nan)
        q[above], tests = _corrected(p[above])
        q.T[above] = q[above]
    else:
        flat, tests = _corrected(p.ravel())
        q = flat.reshape(p.shape)
    dims = ("layer", "other_layer")
    variables = {"cka": found.cka[rows, columns], "rsa": found.rsa()[rows, columns], "p": p, "q": q}
    return xr.Dataset(
        {name: (dims, values) for name, values in variables.items()}
        | {"tests": tests, "samples": found.samples, "patients": found.patients}
        | {"note": "; ".join(filter(None, [str(note(found.patients, "test")), few_samples(found.samples)]))},
        coords={"layer": names[0], "other_layer": names[-1]},
    )


def few_samples(samples: int) -> str:
    """The note on a similarity that rests on few samples, "" for none and for :data:`FEW_SAMPLES` and more.

    CKA of independent points has about the standard deviation of a correlation over all pairs of samples.
    """
    if not FEWEST_SAMPLES <= samples < FEW_SAMPLES:
        return ""
    deviation = 1 / np.sqrt(samples * (samples - 1) / 2)
    return f"{samples} samples: CKA varies by {deviation:.2f} by chance alone"


def condition_similarity(points: xr.DataArray) -> xr.Dataset:
    """How alike each layer sees samples under a condition and the original; one stream over the points.

    Parameters
    ----------
    points
        (sample, condition, feature), the original first, with the coordinate ``layer`` along feature and ``patient``
        along sample: :func:`actstore.analysis.embedding` with ``condition=None``. NaN where not applicable.

    Returns
    -------
    xarray.Dataset
        ``cka`` and ``rsa``, float64 (condition, layer), as :func:`similarity`, over the samples that the condition
        applies to, and ``samples`` and ``patients`` int64 (condition). The original is compared with itself.

    Raises
    ------
    AnalysisError
        if a dimension or coordinate is missing, or the first condition is not the original.

    Examples
    --------
    >>> points = analysis.embedding(store, condition=None)
    >>> list(analysis.condition_similarity(points))
    ['cka', 'rsa', 'samples', 'patients']
    """
    require_dims(points, ["sample", "condition", "feature"])
    require_original_first(points)
    points = points.transpose("sample", "condition", "feature")
    groups = list(layers_along(points).items())
    conditions, patient = points.sizes["condition"], patients_of(points)[0]
    sides = [[Moments([slice(0, n), slice(n, 2 * n)]) for _, w in groups for n in [w.stop - w.start]]
             for _ in range(conditions)]  # fmt: skip
    used = np.zeros((points.sizes["sample"], conditions), bool)
    for where, values in parts_of(points):
        used[where] = np.isfinite(values).all(axis=2) & np.isfinite(values[:, :1]).all(axis=2)
        for c in range(conditions):
            own = values[used[where, c]]
            for moments, (_, group) in zip(sides[c], groups, strict=True):
                moments.add(np.concatenate([own[:, 0, group], own[:, c, group]], axis=1))
    found = np.array([[moments.cka()[0, 1] for moments in of_condition] for of_condition in sides])
    rsa = np.full_like(found, np.nan)
    for c in range(conditions):
        drawn = _evenly(np.flatnonzero(used[:, c]), RSA_SAMPLES)
        both = np.asarray(points.isel(sample=drawn, condition=[0, c]).values, np.float64)
        for i, (_, group) in enumerate(groups):
            rsa[c, i] = _rsa([both[:, 0, group], both[:, 1, group]])[0, 1]
    kept = {name: coord for name, coord in points.coords.items() if coord.dims == ("condition",)}
    counts = [len(np.unique(patient[used[:, c]])) for c in range(conditions)]
    return xr.Dataset(
        {"cka": (("condition", "layer"), found), "rsa": (("condition", "layer"), rsa)}
        | {"samples": ("condition", used.sum(axis=0)), "patients": ("condition", np.array(counts, np.int64))},
        coords={**kept, "layer": [name for name, _ in groups]},
    )


def map_gram(maps: xr.DataArray) -> xr.DataArray:
    """Products of whole maps of every two samples, summed channel by channel: float64 (sample, other_sample).

    ``maps`` (sample, …) of one condition, such as ``store["L07"].isel(condition=0)``; read a few channels at a time, so
    that a layer need not fit in memory, while n x n numbers must. Spaces of whole maps are compared by
    :func:`gram_cka`.

    Raises
    ------
    AnalysisError
        if the dimension sample is missing, or there are conditions to choose from.

    Examples
    --------
    >>> gram = analysis.map_gram(store["L02"].isel(condition=0))
    >>> gram.dims
    ('sample', 'other_sample')
    """
    require_dims(maps, ["sample"])
    if "condition" in maps.dims:
        raise AnalysisError("maps have the dimension 'condition': select one with isel(condition=0)")
    n = maps.sizes["sample"]
    total = np.zeros((n, n))
    over = next((str(dim) for dim in maps.dims if dim != "sample"), None)
    others = max(maps.size // max(n * maps.sizes[over], 1), 1) if over else 1
    step = max(1, PART_BYTES // (8 * max(n, 1) * others))
    for at in range(0, maps.sizes[over] if over else 1, step):
        part = maps.isel({over: slice(at, at + step)}) if over else maps
        flat = np.asarray(part.transpose("sample", ...).values, np.float64).reshape(n, -1)
        # The mean over samples changes no similarity, and would cost digits.
        mean = flat.mean(axis=0)
        flat -= mean
        flat[:, np.abs(flat).max(axis=0, initial=0.0) <= CLOSE * np.abs(mean)] = 0.0
        total += flat @ flat.T
    coords = {str(name): coord for name, coord in maps.coords.items() if coord.dims == ("sample",)}
    return xr.DataArray(total, dims=("sample", "other_sample"), coords=coords, name="gram")


def gram_cka(grams: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """CKA of every two spaces from their Gram matrices, as :func:`cka`: float64 (layer, other_layer).

    ``grams`` are name to (sample, other_sample), of :func:`map_gram`.

    Raises
    ------
    AnalysisError
        if there is none, a dimension is missing, or they differ in size.

    Examples
    --------
    >>> grams = {layer: analysis.map_gram(store[layer].isel(condition=0)) for layer in ("L01", "L02")}
    >>> analysis.gram_cka(grams).dims
    ('layer', 'other_layer')
    """
    if not grams:
        raise AnalysisError("no Gram matrices: give at least one")
    for gram in grams.values():
        require_dims(gram, ["sample", "other_sample"])
    sizes = {name: gram.sizes["sample"] for name, gram in grams.items()}
    first = next(iter(sizes))
    if differing := [name for name, n in sizes.items() if n != sizes[first]]:
        name = differing[0]
        raise AnalysisError(f"{first} is of {sizes[first]} samples, {name} of {sizes[name]}: give the same samples")
    values = [gram.transpose("sample", "other_sample").values for gram in grams.values()]
    names = list(grams)
    coords = {"layer": names, "other_layer": names}
    return xr.DataArray(normalised(gram_hsic(values)), dims=("layer", "other_layer"), coords=coords, name="cka")


class _Streamed:
    """What one stream over points of several spaces leaves: CKA, some of the points, and the patients' means."""

    def __init__(self, moments: Moments, drawn: Floats, means: Floats, samples: int) -> None:
        self.cka = moments.cka()
        self.groups, self.drawn, self.means = moments.groups, drawn, means
        self.samples, self.patients = samples, len(means)

    def rsa(self) -> Floats:
        return _rsa([self.drawn[:, group] for group in self.groups])

    def p(self, resamples: int, seed: int) -> Floats:
        """Of every two spaces, of CKA of patients' means against patients permuted in one of them."""
        if not resamples or self.patients < FEWEST_PATIENTS:
            return np.full((len(self.groups),) * 2, np.nan)
        means = self.means[_evenly(np.arange(self.patients), TEST_PATIENTS)]
        means = means - means.mean(axis=0)
        grams = [centred(means[:, group] @ means[:, group].T) for group in self.groups]
        return _permuted(np.stack(grams), resamples, seed)


def _streamed(spaces: Sequence[xr.DataArray], layers: Sequence[int]) -> _Streamed:
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
    chosen[_evenly(np.arange(sizes[0]), RSA_SAMPLES)] = True
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
    return _Streamed(moments, np.concatenate(drawn), means, samples)


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


def _points(points: xr.DataArray) -> xr.DataArray:
    require_dims(points, ["sample", "feature"])
    if "condition" in points.dims:
        raise AnalysisError("points have the dimension 'condition': select one, or compare conditions")
    return points.transpose("sample", "feature")


def _evenly(numbers: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most ``most`` of ``numbers``, evenly over all."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).round().astype(np.intp)]


def _rsa(spaces: Sequence[Floats]) -> Floats:
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


def _corrected(p: Floats) -> tuple[Floats, int]:
    """``p`` corrected as one family, and how many tests it has."""
    q, tests = corrected(p[None], np.zeros(1, np.intp))
    return q[0], int(tests[0])
