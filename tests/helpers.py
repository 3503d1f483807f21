"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

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
    """How many tasks the graph of ``lazy`` has, before it is optimised."""
    return len(dict(lazy.__dask_graph__()))  # type: ignore[no-untyped-call]


def chunked(array: xr.DataArray, chunks: dict[str, int]) -> xr.DataArray:
    """``array`` in dask chunks, its coordinates in memory as a store has them: ``DataArray.chunk`` chunks those too."""
    return array.copy(data=array.variable.chunk(chunks).data)


def label_coords(
    samples: int, targets: Sequence[str] = ("RV", "MYO", "LV"), per_volume: int = 3, **scalars: Any
) -> dict[str, Any]:
    """Coordinates along sample and condition as a store has them: two frames a patient, one perturbation a target."""
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
