"""What edits of growing sets of channels do, by the order in which channels are added."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, require_dims
from actstore.analysis.grouping import sum_by
from actstore.analysis.uncertainty.bootstrap import bootstrap_ratio
from actstore.analysis.uncertainty.resamples import RESAMPLES

#: Orders in which channels are added: by frequency in the top, by mean MAD, by the effect of each alone, and by chance.
RANKED = ("frequency", "mad", "effect")
RANDOM = "random"
#: In place of a layer: the mean over all of them.
EVERY_LAYER = "all"


def over_repeats(values: xr.DataArray) -> xr.DataArray:
    """Means over the random sets of one layer and size; in memory.

    Parameters
    ----------
    values
        (…, edit, …) float64 with the coordinates ``layer``, ``order`` and ``count`` along edit.

    Returns
    -------
    xarray.DataArray
        The edits of orders that channels are added in, by layer, order and count: one a triple, with ``module`` too
        where there is one, and ``repeats``, of how many sets it is the mean.

    Raises
    ------
    AnalysisError
        if there is no such edit.
    """
    require_dims(values, ["edit"])
    kept = values.isel(edit=np.flatnonzero(np.isin(values["order"].values, (*RANKED, RANDOM))))
    if not kept.sizes["edit"]:
        raise AnalysisError("no growing sets of channels among the edits: intervene with channels = 'cumulative'")
    keys = list(zip(*(kept[name].values.tolist() for name in ("layer", "order", "count")), strict=True))
    layers, orders = list(dict.fromkeys(key[0] for key in keys)), (*RANKED, RANDOM)
    ranked = sorted(set(keys), key=lambda key: (layers.index(key[0]), orders.index(key[1]), key[2]))
    number = {key: i for i, key in enumerate(ranked)}
    code = np.array([number[key] for key in keys], dtype=np.intp)
    axis = kept.get_axis_num("edit")
    repeats = np.bincount(code)
    sums = np.moveaxis(sum_by(np.moveaxis(kept.values.astype(np.float64), axis, 0), code), 0, -1)
    means = np.moveaxis(sums / repeats, -1, axis)
    first = [int(np.flatnonzero(code == i)[0]) for i in range(len(ranked))]
    along = {
        name: ("edit", kept[name].values[first])
        for name in ("layer", "module", "order", "count")
        if name in kept.coords
    }
    others = {name: coord for name, coord in kept.coords.items() if "edit" not in coord.dims}
    return xr.DataArray(means, dims=kept.dims, coords={**others, **along, "repeats": ("edit", repeats)})


def areas(
    part: xr.DataArray, whole: xr.DataArray, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """The area between the curve of each order and that of random sets.

    The mean over the logarithm of the number of channels, by trapezoids between the numbers that both curves have, of
    how much larger the effect is than of as many random channels: in Dice, or, of shares, a share of the Dice that the
    perturbation costs. Every doubling weighs alike, since orders differ in which channels come first. Above 0, the
    order finds what matters sooner than chance. An order by effect was made from the same patients, and looks better
    than it would in others.

    Parameters
    ----------
    part
        (sample, condition, edit, class_name) of :func:`over_repeats`, ``part`` of
        :func:`actstore.analysis.interventions.effects.differences`, with ``patient`` along sample.
    whole
        (sample, condition, class_name), ``whole`` of the same.
    resamples, confidence, seed
        as for :func:`actstore.analysis.bootstrap_mean`.

    Returns
    -------
    xarray.Dataset
        Over (condition, curve, class_name): ``area``, ``low``, ``high``, ``error``, ``samples``, ``patients`` and
        ``note``. Along curve ``layer``, ``module`` and ``order``; the last of each order is the mean over layers,
        ``layer`` "all".

    Raises
    ------
    AnalysisError
        if no layer has random sets of two sizes that an order has too.
    """
    curves, weights = _weights(*(part[name].values for name in ("layer", "order", "count")))
    if not curves:
        raise AnalysisError("no area: random sets of two sizes that an order has too are needed, as of counts = [1, 4]")
    module = dict(zip(part["layer"].values.tolist(), part["module"].values.tolist(), strict=True))
    layer, order = zip(*curves, strict=True)
    per_sample = xr.DataArray(
        np.moveaxis(np.tensordot(part.transpose(..., "edit").values, weights, axes=(-1, -1)), -1, -2),
        dims=["sample", "condition", "curve", "class_name"],
        coords={name: coord for name, coord in part.coords.items() if "edit" not in coord.dims},
    )
    named = per_sample.assign_coords(
        layer=("curve", list(layer)),
        module=("curve", [module.get(name, "") for name in layer]),
        order=("curve", list(order)),
    )
    found = bootstrap_ratio(named, whole.rename("loss"), resamples=resamples, confidence=confidence, seed=seed)
    return found.rename(ratio="area")


def _weights(
    layer: NDArray[np.str_], order: NDArray[np.str_], count: NDArray[np.integer]
) -> tuple[list[tuple[str, str]], NDArray[np.float64]]:
    """Layer and order of each curve, and by what its area weighs the effect of each edit: (curve, edit)."""
    curves: list[tuple[str, str]] = []
    rows: list[NDArray[np.float64]] = []
    for kind in RANKED:
        own = []
        for name in dict.fromkeys(layer.tolist()):
            places = [
                {int(count[i]): i for i in np.flatnonzero((layer == name) & (order == o))} for o in (kind, RANDOM)
            ]
            shared = sorted(places[0].keys() & places[1].keys())
            if len(shared) < 2:
                continue
            row = np.zeros(len(count))
            steps = _trapezoids(shared)
            row[[places[0][n] for n in shared]] = steps
            row[[places[1][n] for n in shared]] = -steps
            own.append(row)
            curves.append((name, kind))
        rows += own
        if own:
            curves.append((EVERY_LAYER, kind))
            rows.append(np.mean(own, axis=0))
    return curves, np.array(rows)


def _trapezoids(counts: Sequence[int]) -> NDArray[np.float64]:
    """The weight of the value at each of ``counts``, rising, in its mean over their logarithm."""
    steps = np.diff(np.log(counts))
    weights = np.zeros(len(counts))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    weights /= steps.sum()
    return weights
