"""How alike layers, conditions and networks see the same samples: CKA and RSA, from one stream of points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims, require_original_first
from actstore.analysis.evidence import corrected, note, patients_of
from actstore.analysis.representations.embedding import layers_along
from actstore.analysis.representations.moments import CLOSE, FEWEST_SAMPLES, Moments, gram_hsic, normalised
from actstore.analysis.representations.spaces import RSA_SAMPLES, distance_correlation, evenly, streamed
from actstore.analysis.representations.stream import PART_BYTES, parts_of
from actstore.analysis.uncertainty.resamples import RESAMPLES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: With fewer samples, similarity says little and has a note: CKA of 20 independent points varies by 0.07.
FEW_SAMPLES = 20


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
    found = streamed([_points(x), _points(y)], [])
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
    found = streamed(spaces, [len(own) for own in names])
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
        drawn = evenly(np.flatnonzero(used[:, c]), RSA_SAMPLES)
        both = np.asarray(points.isel(sample=drawn, condition=[0, c]).values, np.float64)
        for i, (_, group) in enumerate(groups):
            rsa[c, i] = distance_correlation([both[:, 0, group], both[:, 1, group]])[0, 1]
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


def _points(points: xr.DataArray) -> xr.DataArray:
    require_dims(points, ["sample", "feature"])
    if "condition" in points.dims:
        raise AnalysisError("points have the dimension 'condition': select one, or compare conditions")
    return points.transpose("sample", "feature")


def _corrected(p: Floats) -> tuple[Floats, int]:
    """``p`` corrected as one family, and how many tests it has."""
    q, tests = corrected(p[None], np.zeros(1, np.intp))
    return q[0], int(tests[0])
