"""Tables of what is like what: layers and conditions, samples, and where a perturbation moves them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from actstore.analysis.evidence import perturbations
from actstore.analysis.representations.embedding import Pool, embedding, pixels
from actstore.analysis.representations.neighbours import neighbours
from actstore.analysis.representations.projection import PERPLEXITY, Method, projection
from actstore.analysis.representations.similarity import condition_similarity, few_samples, similarity
from actstore.errors import StoreError
from actstore.tables.rows import LAYER_COLUMNS, RESTS_ON, sample_columns, take, with_channels

if TYPE_CHECKING:
    from actstore.store.store import Store

#: What the space of the images is called among those of layers.
PIXELS = "pixels"
#: Points that tables are made of. The mean alone is 0 by construction in a layer right after instance normalisation.
POOL: Pool = "mean+max"
#: Nearest samples of each, by default.
NEAREST = 5

SIMILARITY_COLUMNS = (
    *(*LAYER_COLUMNS, "other_layer", "condition", "target", *RESTS_ON, "cka", "rsa", "p", "q", "tests", "note"),
)
NEIGHBOUR_COLUMNS = (*LAYER_COLUMNS, "patient", "frame", "slice", "rank", "distance")
PROJECTION_COLUMNS = (
    *(*LAYER_COLUMNS, "patient", "frame", "slice", "condition", "target", "x", "y", "moved"),
    *("method", "trustworthiness", "share", "points"),
)


def spaces_of(store: Store, layer: str | None, *, images: bool) -> list[str]:
    """The spaces that a table is of: ``layer``, or all layers and, with ``images``, :data:`PIXELS`.

    Raises
    ------
    StoreError
        if there is no such layer.
    """
    every = [*map(str, store.layers.index), *([PIXELS] if images else [])]
    if layer is None:
        return every
    if layer not in every:
        raise StoreError(f"--layer {layer}: there are {', '.join(every)}")
    return [layer]


def points_of(store: Store, space: str) -> xr.DataArray:
    """Samples of the original in a space: (sample, feature) float64, lazy."""
    return pixels(store.image.isel(condition=0)) if space == PIXELS else embedding(store, space, POOL)


def similarity_table(store: Store, *, resamples: int) -> pd.DataFrame:
    """How alike layers see samples, in columns :data:`SIMILARITY_COLUMNS`.

    First every two layers on the original, as :func:`actstore.analysis.similarity`; then every layer under each
    perturbation against itself on the original, as :func:`actstore.analysis.condition_similarity`, without a test.
    """
    layers = store.layers["module"]
    points = embedding(store, pool=POOL, condition=None)
    original = points.isel(condition=0).drop_vars([n for n, c in points.coords.items() if c.dims == ("condition",)])
    between = similarity(original, resamples=resamples).transpose("layer", "other_layer")
    one, other = np.triu_indices(len(layers), 1)
    rows: dict[str, Any] = {"layer": take(layers.index, one), "other_layer": take(layers.index, other)}
    rows |= {name: between[name].values[one, other] for name in ("cka", "rsa", "p", "q")}
    rows |= {name: between[name].item() for name in (*RESTS_ON, "tests", "note")}
    first = pd.DataFrame({**rows, "condition": str(store.conditions.index[0]), "target": ""})
    if "channels" in store.conditions:
        first["channels"] = store.conditions["channels"].iloc[0]
    changed = perturbations(points)
    under = condition_similarity(points.isel(condition=[0, *changed.tolist()]))
    condition, layer = (index.ravel() for index in np.indices((len(changed), len(layers))))
    rows = {"layer": take(layers.index, layer), "other_layer": take(layers.index, layer)}
    rows |= {name: under[name].values[1:].ravel() for name in ("cka", "rsa")}
    rows |= {name: under[name].values[1:][condition] for name in RESTS_ON}
    about = store.conditions.iloc[changed]
    rows |= {"condition": take(about.index, condition), "target": take(about["target"], condition)}
    if "channels" in about:
        rows["channels"] = take(about["channels"], condition)
    second = pd.DataFrame({**rows, "p": np.nan, "q": np.nan, "tests": 0, "note": ""})
    second["note"] = [few_samples(n) for n in second["samples"].tolist()]
    # One dtype on either side, also where a part has no row.
    second = second.astype({name: first[name].dtype for name in second.columns})
    both = pd.concat([part for part in (first, second) if len(part)] or [first], ignore_index=True)
    both["module"] = take(layers, layers.index.get_indexer(pd.Index(both["layer"])))
    return both[with_channels(SIMILARITY_COLUMNS, points)]


def neighbours_table(store: Store, *, layer: str | None = None, nearest: int = NEAREST) -> pd.DataFrame:
    """The nearest samples of other patients on the original, in columns :data:`NEIGHBOUR_COLUMNS`, then theirs.

    Of each layer, and of the images (the layer "pixels", without a module), as :func:`actstore.analysis.neighbours`;
    a layer in which all samples are one has no rows.
    """
    samples, parts = store.samples, []
    names = sample_columns(samples)
    for space in spaces_of(store, layer, images=True):
        points = points_of(store, space).compute()
        if not _varies(points):
            continue
        found = neighbours(points, nearest)
        sample, rank = np.nonzero(found["neighbour"].values >= 0)
        near = found["neighbour"].values[sample, rank]
        rows: dict[str, Any] = {"layer": space, "module": _module(store, space)}
        rows |= {name: take(samples[name].to_numpy(), sample) for name in names}
        rows |= {"rank": rank + 1, "distance": found["distance"].values[sample, rank]}
        rows |= {f"neighbour_{name}": take(samples[name].to_numpy(), near) for name in names}
        parts.append(pd.DataFrame(rows))
    order = [*LAYER_COLUMNS, *names, "rank", "distance", *(f"neighbour_{name}" for name in names)]
    return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame({name: [] for name in order})


def projection_table(
    store: Store, *, layer: str | None = None, method: Method = "pca", perplexity: float | None = None
) -> pd.DataFrame:
    """Each layer's samples in one picture, in columns :data:`PROJECTION_COLUMNS`.

    The original and the perturbations that apply share the picture, as of :func:`actstore.analysis.projection`.
    ``moved`` is the distance from the sample on the original in the layer's space, not in the picture.
    """
    samples = store.samples
    names = sample_columns(samples)
    parts = []
    for space, points in _with_conditions(store, layer):
        if not _varies(points):
            continue
        found = projection(points, method, perplexity=perplexity or PERPLEXITY)
        values = points.values
        moved = np.sqrt(((values - values[:, :1]) ** 2).sum(axis=2))
        condition, sample = np.nonzero(np.isfinite(found["x"].values.T))
        rows: dict[str, Any] = {"layer": space, "module": _module(store, space)}
        rows |= {name: take(samples[name].to_numpy(), sample) for name in names}
        rows["condition"] = take(points.coords["condition"].values, condition)
        rows["target"] = take(points.coords["target"].values, condition)
        if "channels" in points.coords:
            rows["channels"] = take(points.coords["channels"].values, condition)
        rows |= {name: found[name].values[sample, condition] for name in ("x", "y")}
        rows["moved"] = moved[sample, condition]
        rows |= {"method": method} | {name: found[name].item() for name in ("trustworthiness", "share", "points")}
        parts.append(pd.DataFrame(rows))
    order = list(PROJECTION_COLUMNS)
    order[order.index("patient") : order.index("slice") + 1] = names
    if parts and "channels" in parts[0]:
        order.insert(order.index("target") + 1, "channels")
    return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame({name: [] for name in order})


def _with_conditions(store: Store, layer: str | None) -> Iterator[tuple[str, xr.DataArray]]:
    """Each layer and its points, of the original and the perturbations, in memory."""
    for space in spaces_of(store, layer, images=False):
        points = embedding(store, space, POOL, condition=None)
        yield space, points.isel(condition=[0, *perturbations(points).tolist()]).compute()


def _varies(points: xr.DataArray) -> bool:
    """Whether two finite points differ."""
    flat = points.values.reshape(-1, points.sizes["feature"])
    flat = flat[np.isfinite(flat).all(axis=1)]
    return len(flat) > 1 and bool(np.ptp(flat, axis=0).any())


def _module(store: Store, space: str) -> str:
    return "" if space == PIXELS else str(store.layers.loc[space, "module"])


def compared_networks(points: Mapping[str, xr.DataArray], *, resamples: int) -> pd.DataFrame:
    """Every layer of one network against every layer of another on the same samples.

    ``points`` holds the two networks' (sample, feature), in the same order of samples, by the suffix of the columns of
    a side. Columns ``layer_a, layer_b, samples, patients, cka, rsa, p, q, tests, note``.
    """
    (a, one), (b, other) = points.items()
    found = similarity(one, other, resamples=resamples)
    shape = found["cka"].shape
    row, column = (index.ravel() for index in np.indices(shape))
    rows: dict[str, Any] = {
        f"layer_{a}": take(found["layer"].values, row), f"layer_{b}": take(found["other_layer"].values, column),
    }  # fmt: skip
    rows |= {name: found[name].item() for name in RESTS_ON}
    rows |= {name: found[name].values[row, column] for name in ("cka", "rsa", "p", "q")}
    rows |= {name: found[name].item() for name in ("tests", "note")}
    return pd.DataFrame(rows)
