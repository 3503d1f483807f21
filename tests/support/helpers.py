"""Helpers for several test modules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis import stack_layers

CLASSES = ("background", "RV", "MYO", "LV")


@contextmanager
def raise_if_dask_computes(max_computes: int = 0) -> Iterator[None]:
    """Let dask compute at most ``max_computes`` times inside the block."""
    computes = 0

    def scheduler(graph: Any, keys: Any, **kwargs: Any) -> Any:
        nonlocal computes
        computes += 1
        if computes > max_computes:
            raise RuntimeError(f"dask computed {computes} times, {max_computes} allowed")
        return dask.get(graph, keys, **kwargs)  # type: ignore[attr-defined]

    with dask.config.set(scheduler=scheduler):
        yield


def tasks_of(lazy: xr.DataArray | xr.Dataset) -> int:
    """Number of tasks in the graph of ``lazy`` before optimisation."""
    return len(dict(lazy.__dask_graph__()))  # type: ignore[no-untyped-call]


def chunked(array: xr.DataArray, chunks: dict[str, int]) -> xr.DataArray:
    """``array`` in dask chunks with coordinates in memory, as in a store; ``DataArray.chunk`` chunks those too."""
    return array.copy(data=array.variable.chunk(chunks).data)


def label_coords(
    samples: int, targets: Sequence[str] = ("RV", "MYO", "LV"), per_volume: int = 3, **scalars: Any
) -> dict[str, Any]:
    """Coordinates along sample and condition as in a store: two frames per patient, one perturbation per target."""
    volume, slices = np.divmod(np.arange(samples), per_volume)
    strengths = [(1 + targets[:i].count(t)) / 10 for i, t in enumerate(targets)]
    perturbations = [f"brightness({t}, {s:g})" for t, s in zip(targets, strengths, strict=True)]
    return {
        "patient": ("sample", [f"patient{v // 2 + 1:03d}" for v in volume]),
        "frame": ("sample", 1 + 11 * (volume % 2)),
        "slice": ("sample", slices),
        "block": ("sample", volume),
        "group": ("sample", [("NOR", "DCM")[v // 2 % 2] for v in volume]),
        "condition": ["original", *perturbations],
        "transform": ("condition", ["original"] + ["brightness"] * len(targets)),
        "target": ("condition", ["", *targets]),
        "strength": ("condition", [np.nan, *strengths]),
        "source": ("condition", [""] * (len(targets) + 1)),
        **scalars,
    }


def make_activation(
    values: NDArray[Any], targets: Sequence[str] | None = None, chunks: dict[str, Any] | None = None, layer: str = "L01"
) -> xr.DataArray:
    """Activation (sample, condition, channel, [z,] y, x) with a store's coordinates; dask-backed with ``chunks``."""
    space = ("z", "y", "x")[-(values.ndim - 3) :] if values.ndim > 3 else ()
    targets = targets or [("RV", "MYO", "LV")[i % 3] for i in range(values.shape[1] - 1)]
    coords = label_coords(len(values), targets, layer=layer, module=f"net.{layer}.adn.N")
    dims = ("sample", "condition", "channel", *space)
    array = xr.DataArray(values, dims=dims, coords=coords, name="activation")
    return array if chunks is None else array.copy(data=array.variable.chunk(chunks).data)


def make_confusion(
    matrices: Any, targets: Sequence[str] = ("RV", "MYO", "LV"), classes: Sequence[str] = CLASSES
) -> xr.DataArray:
    """Confusion (sample, condition, true_class, predicted_class) with a store's coordinates."""
    values = np.asarray(matrices, dtype=np.int64)
    coords = label_coords(len(values), targets, true_class=list(classes), predicted_class=list(classes))
    return xr.DataArray(
        values, dims=("sample", "condition", "true_class", "predicted_class"), coords=coords, name="confusion"
    )


def make_study(
    patients: int = 6,
    slices: int = 5,
    layers: Mapping[str, int] | None = None,
    targets: Sequence[str] = ("RV", "MYO", "LV"),
    *,
    missing: float = 0.2,
    seed: int = 0,
    chunks: dict[str, Any] | None = None,
) -> xr.Dataset:
    """A study without any effect: all layers stacked, every slice and channel an independent draw.

    Two frames of ``slices`` a patient. Variables "mad" and "mse" (sample, condition, channel), NaN where not applicable
    and 0 for the original; "mean" and "std" (sample, channel); "applicable" (sample, condition), a share ``missing`` of
    it False; "confusion" (sample, condition, true_class, predicted_class) with about 9 of 10 pixels right for the
    original and about 7 under a perturbation of the class. ``chunks`` makes them lazy.
    """
    rng = np.random.default_rng(seed)
    samples, conditions = patients * 2 * slices, 1 + len(targets)
    coords = label_coords(samples, targets, per_volume=slices)
    applicable = rng.random((samples, conditions)) >= missing
    applicable[:, 0] = True
    parts = {}
    for layer, channels in (layers or {"L01": 8, "L02": 16}).items():
        mad = rng.lognormal(sigma=0.5, size=(samples, conditions, channels))
        mad[:, 0] = 0
        mad[~applicable] = np.nan
        original = rng.lognormal(sigma=0.2, size=(2, samples, channels))
        three = ("sample", "condition", "channel")
        parts[layer] = xr.Dataset(
            {"mad": (three, mad), "mse": (three, mad**2), "mean": (three[::2], original[0])}
            | {"std": (three[::2], original[1])},
            coords={**coords, "layer": layer, "module": f"net.{layer}.adn.N"},
        )
    right = np.where(np.array(coords["target"][1])[:, None] == np.array(CLASSES), 0.7, 0.9)
    size = rng.integers(60, 140, (samples, 1, len(CLASSES)))
    hits = rng.binomial(np.broadcast_to(size, (samples, *right.shape)), right)
    confusion = np.zeros((*hits.shape, len(CLASSES)), dtype=np.int64)
    every = np.arange(len(CLASSES))
    confusion[..., every, every] = hits
    confusion[..., every, (every + 1) % len(CLASSES)] = size - hits
    confusion[~applicable] = 0
    study = stack_layers(parts)
    study["applicable"] = ("sample", "condition"), applicable
    study["confusion"] = make_confusion(confusion, targets).variable
    study = study.assign_coords(true_class=list(CLASSES), predicted_class=list(CLASSES))
    return study if chunks is None else lazy_study(study, chunks)


def lazy_study(study: xr.Dataset, chunks: dict[str, Any]) -> xr.Dataset:
    """``study`` with dask-backed variables and NumPy coordinates, as in a store."""
    arrays = {
        name: array.variable.chunk({d: n for d, n in chunks.items() if d in array.dims})
        for name, array in study.data_vars.items()
    }
    return study.assign(arrays)


def plant(
    study: xr.Dataset,
    layer: str,
    channel: int,
    target: str,
    patients: Sequence[str] | None = None,
    *,
    factor: float = 100.0,
) -> xr.Dataset:
    """``study`` with one channel's MAD multiplied by ``factor`` under perturbations of ``target``, in some patients."""
    where = (study["layer"] == layer) & (study["channel"] == channel) & (study["target"] == target)
    if patients is not None:
        where = where & study["patient"].isin(list(patients))
    where = where.reset_coords(drop=True)
    return study.assign(mad=study["mad"].where(~where, study["mad"] * factor).transpose(*study["mad"].dims))
