"""Samples as points of the plane: principal components, t-SNE, and how far to trust the picture."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, require_dims, require_positive
from actstore.analysis.representations.moments import Moments
from actstore.analysis.representations.stream import finite, parts_of
from actstore.errors import needing

Floats = NDArray[np.float64]
Method = Literal["pca", "tsne"]

#: Neighbours within which :func:`trustworthiness` judges a picture.
NEAREST = 10
#: Points that it judges, at most, drawn evenly; against all others.
JUDGED = 2000
#: Principal components that t-SNE sees, at most (van der Maaten & Hinton, 2008, take 30; Kobak & Berens, 2019, 50).
COMPONENTS = 50
#: Points up to which scikit-learn's t-SNE is used, and openTSNE above.
EXACT_POINTS = 10_000
PERPLEXITY = 30.0
#: Features above which a covariance would take more than 8 GB.
_MOST_FEATURES = 32_768
#: Bytes of distances at once.
_BYTES = 64 * 2**20
#: A component with less than this part of the first one's variance is rounding.
_ROUNDING = 1e-13


def pca(points: xr.DataArray, components: int = 2) -> xr.Dataset:
    """Principal components from a streamed covariance: exact, two passes, memory of one part and the covariance.

    Parameters
    ----------
    points
        (sample, [condition,] feature). Those that are not finite are left out, and have NaN scores.
    components
        How many; fewer where the points span fewer.

    Returns
    -------
    xarray.Dataset
        ``score`` float64 (sample, [condition,] component), lazy where points are; ``axis`` (component, feature),
        orthonormal, its largest entry positive; ``mean`` (feature); ``variance`` (component), with n - 1, and
        ``share`` (component) of all variance; ``points``, how many there are.

    Raises
    ------
    AnalysisError
        if a dimension is missing, ``components`` is no positive integer, there are fewer than two points, or too many
        features for a covariance.

    Examples
    --------
    >>> found = analysis.pca(analysis.embedding(store, "L02"), components=2)
    >>> list(found)
    ['score', 'axis', 'mean', 'variance', 'share', 'points']
    """
    require_dims(points, ["sample", "feature"])
    require_positive("components", components)
    features = points.sizes["feature"]
    if features > _MOST_FEATURES:
        raise AnalysisError(f"{features} features: a covariance takes at most {_MOST_FEATURES}, choose fewer layers")
    moments = Moments([slice(0, features)], norms=False)
    for _, values in parts_of(points.transpose("sample", ..., "feature")):
        moments.add(finite(values.reshape(-1, features)))
    if moments.number < 2:
        raise AnalysisError(f"{moments.number} points without NaN: principal components take two")
    from scipy import linalg

    last = (max(features - components, 0), features - 1)
    variance, axes = linalg.eigh(moments.scatter / (moments.number - 1), subset_by_index=last)
    variance, axes = variance[::-1], axes.T[::-1]
    total = float(np.trace(moments.scatter)) / (moments.number - 1)
    most = min(components, moments.number - 1, int((variance > _ROUNDING * max(variance[0], 0.0)).sum()))
    variance, axes = variance[:most], axes[:most]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], 1)
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    along = {str(name): coord for name, coord in points.coords.items() if "feature" in coord.dims}
    axis = xr.DataArray(axes, dims=("component", "feature"), coords=along)
    mean = xr.DataArray(moments.mean, dims="feature", coords=along)
    score = apply_lazily(
        lambda values: (values - moments.mean) @ axes.T,
        (points.drop_vars(list(along)), ["feature"]),
        dtypes=[np.float64],
        output_dims=[["component"]],
        output_sizes={"component": most},
        exclude_dims=["feature"],
    )
    return xr.Dataset(
        {
            "score": score.transpose(..., "component"),
            "axis": axis,
            "mean": mean,
            "variance": ("component", variance),
            "share": ("component", variance / total if total > 0 else variance),
            "points": moments.number,
        }
    )


def projection(
    points: xr.DataArray, method: Method = "pca", *, perplexity: float = PERPLEXITY, seed: int = 0
) -> xr.Dataset:
    """All points in one picture: two principal components, or t-SNE of the first :data:`COMPONENTS`.

    With a dim condition, a sample is a point in each condition that applies: where a perturbation moves it to is the
    way from its point in the original.

    Parameters
    ----------
    points
        (sample, [condition,] feature), of :func:`actstore.analysis.embedding`.
    method
        "pca", or "tsne" (van der Maaten & Hinton, J. Mach. Learn. Res. 9 (2008), 2579), which begins with the principal
        components: by scikit-learn up to :data:`EXACT_POINTS` points, by openTSNE above.
    perplexity
        Of t-SNE: about how many neighbours a point attends to, at most a third of the points.
    seed
        Of t-SNE. The same seed gives the same picture on the same machine only.

    Returns
    -------
    xarray.Dataset
        ``x`` and ``y`` float64 (sample, [condition]), NaN where a point is not finite; ``trustworthiness``, of
        :func:`trustworthiness` in the space of all features; ``share`` of all variance that x and y hold, NaN of t-SNE;
        ``points`` and ``judged``, how many there are and how many trustworthiness looked at.

    Raises
    ------
    AnalysisError
        for an unknown method, or a perplexity above a third of the points; as :func:`pca`.
    MissingError
        if scikit-learn or openTSNE is needed and not installed.

    Examples
    --------
    >>> points = analysis.embedding(store, "L02", condition=None)
    >>> list(analysis.projection(points))
    ['x', 'y', 'trustworthiness', 'share', 'points', 'judged']
    """
    if method not in get_args(Method):
        raise AnalysisError(f"method = {method!r}: choose {', '.join(get_args(Method))}")
    found = pca(points, COMPONENTS if method == "tsne" else 2)
    number = int(found["points"])
    score = np.asarray(found["score"].values)
    flat = score.reshape(-1, score.shape[-1])
    values = np.asarray(points.transpose("sample", ..., "feature").values, np.float64).reshape(len(flat), -1)
    used = np.isfinite(values).all(axis=1)
    plane = np.zeros((number, 2))
    if method == "pca":
        plane[:, : flat.shape[1]] = flat[used]
    else:
        if not 0 < perplexity <= number / 3:
            raise AnalysisError(
                f"perplexity = {perplexity:g} of {number} points: give at most {number // 3}, a third of the points"
            )
        if flat.shape[1] == 0:
            raise AnalysisError("all points are one: t-SNE has nothing to place")
        plane = _tsne(flat[used], perplexity, seed)
    trust, judged = _trust(values[used], plane, NEAREST)
    placed = np.full((len(flat), 2), np.nan)
    placed[used] = plane
    dims = found["score"].dims[:-1]
    placed = placed.reshape(*score.shape[:-1], 2)
    coords = {str(name): coord for name, coord in points.coords.items() if "feature" not in coord.dims}
    share = float(found["share"].sum()) if method == "pca" else np.nan
    return xr.Dataset(
        {"x": (dims, placed[..., 0]), "y": (dims, placed[..., 1])}
        | {"trustworthiness": trust, "share": share, "points": number, "judged": judged},
        coords=coords,
    )


def trustworthiness(points: xr.DataArray, plane: xr.DataArray, nearest: int = NEAREST) -> float:
    """How far neighbours in a picture are neighbours: 1 where all are, about 0.5 where they are drawn at random.

    1 - 2 / (n k (2n - 3k - 1)) Σ (rank - k) over the points that are among the k nearest in the picture without being
    among those of the space, with their rank there (Venna & Kaski, ICANN 2001, eq. 1). Of the means of at most
    :data:`JUDGED` points, drawn evenly.

    Parameters
    ----------
    points, plane
        (sample, feature) and (sample, axis), of the same samples and finite.
    nearest
        k; at most half of the points less one.

    Raises
    ------
    AnalysisError
        if a dimension is missing, or ``nearest`` is no positive integer.

    Examples
    --------
    >>> points = analysis.embedding(store, "L02")
    >>> found = analysis.projection(points)
    >>> plane = xr.concat([found["x"], found["y"]], "axis").transpose("sample", "axis")
    >>> bool(0 < analysis.trustworthiness(points, plane) <= 1)
    True
    """
    require_dims(points, ["sample", "feature"])
    require_dims(plane, ["sample", "axis"])
    require_positive("nearest", nearest)
    of = np.asarray(points.transpose("sample", "feature").values, np.float64)
    return _trust(of, np.asarray(plane.transpose("sample", "axis").values, np.float64), nearest)[0]


def _trust(points: Floats, plane: Floats, nearest: int) -> tuple[float, int]:
    """Trustworthiness, and how many points it looked at; NaN where there are too few points or all are one."""
    n = len(points)
    k = min(nearest, (n - 1) // 2)
    if k < 1 or not np.ptp(points, axis=0).any():
        return float("nan"), 0
    judged = np.unique(np.linspace(0, n - 1, min(n, JUDGED)).round().astype(np.intp))
    points, plane = points - points.mean(axis=0), plane - plane.mean(axis=0)
    excess = 0.0
    rows = max(1, _BYTES // (8 * n))
    for start in range(0, len(judged), rows):
        own = judged[start : start + rows]
        shown = _squared(plane, own)
        # Of points that are equally near, all that could be among the k count as such, on either side.
        near = np.argpartition(shown, k - 1, axis=1)[:, :k]
        distance = _squared(points, own)
        for row, others in zip(distance, near, strict=True):
            rank = 1 + np.searchsorted(np.sort(row), row[others], side="left")
            excess += float(np.maximum(rank - k, 0).sum())
    return 1 - 2 * excess / (len(judged) * k * (2 * n - 3 * k - 1)), len(judged)


def _squared(points: Floats, own: NDArray[np.intp]) -> Floats:
    """Squared distances (own, point), infinite of a point to itself."""
    norms = np.einsum("ij,ij->i", points, points)
    found: Floats = norms[own, None] + norms - 2 * points[own] @ points.T
    found[np.arange(len(own)), own] = np.inf
    return found


def _tsne(points: Floats, perplexity: float, seed: int) -> Floats:
    # One feature has no two components to begin with; points that begin on a line can only stay there, out of order.
    start = "pca" if points.shape[1] > 1 else "random"
    if len(points) <= EXACT_POINTS:
        with needing("t-SNE"):
            from sklearn.manifold import TSNE
        placed: Floats = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(points)
        return placed.astype(np.float64)
    with needing(f"t-SNE of {len(points)} points, more than {EXACT_POINTS}"):
        from openTSNE import TSNE as LargeTSNE
    large: Any = LargeTSNE(perplexity=perplexity, initialization=start, random_state=seed)
    return np.asarray(large.fit(points), np.float64)
