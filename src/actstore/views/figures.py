"""HoloViews figures; each function returns an object that can be composed, shown in a notebook or saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import holoviews as hv
import holoviews.plotting.mpl  # registers the backend that the options below are for, without making it current
import numpy as np
from numpy.typing import NDArray

from actstore import analysis
from actstore.analysis.evidence import perturbations

if TYPE_CHECKING:
    from actstore.store import Store

#: Sequential, evenly stepped in lightness, readable in grey and by colour-blind people.
SEQUENTIAL = "viridis"


def frequency_map(store: Store, *, top: int = 3) -> hv.Layout:
    """Layer x channel maps, one a perturbation: share of samples in which a channel is among the ``top`` by MAD.

    Layers run down in network order; a row ends where its layer has no more channels.

    Parameters
    ----------
    top
        channels of a layer that count as top, per sample and condition.
    """
    layers = list(store.layers.index)
    counted = {
        layer: analysis.channel_frequency(
            analysis.top_channels(store.statistics(layer)["mad"], top, applicable=store.applicable)
        )
        for layer in layers
    }
    computed = _compute(counted)
    width = max(store.layers["channels"])
    conditions = store.conditions.index[perturbations(store.applicable)]
    panels = []
    for condition in conditions:
        share = np.full((len(layers), width), np.nan)
        n = 0
        for row, layer in enumerate(layers):
            frequency = computed[layer].sel(condition=condition)
            n = int(frequency["n"])
            share[row, : frequency.sizes["channel"]] = frequency["count"].values / max(n, 1)
        panels.append(_map(share, layers, f"{condition}  (n = {n} samples)", top))
    above = [panel.opts(xlabel="", backend="matplotlib") for panel in panels[:-1]]
    layout = hv.Layout([*above, *panels[-1:]]).cols(1)
    return layout.opts(
        fig_inches=(11, 5.2 * len(panels)), sublabel_format="", vspace=0.5, tight=True, backend="matplotlib"
    )


def _compute(lazy: dict[str, Any]) -> dict[str, Any]:
    from dask.base import compute

    return dict(zip(lazy, compute(*lazy.values()), strict=True))


def _map(share: NDArray[np.float64], layers: list[str], title: str, top: int) -> hv.QuadMesh:
    channels = np.arange(share.shape[1])
    value = hv.Dimension("share", label=f"share of samples in the top {top}", range=(0, 1))
    axes = [hv.Dimension("channel"), hv.Dimension("row", label="layer")]
    mesh = hv.QuadMesh((channels, np.arange(len(layers)), share), axes, value, label=title)
    return mesh.opts(
        cmap=SEQUENTIAL,
        colorbar=True,
        clim=(0, 1),
        invert_yaxis=True,
        yticks=list(enumerate(layers)),
        aspect=2.2,
        fontsize={"title": 14, "labels": 12, "xticks": 10, "yticks": 8, "clabel": 11, "cticks": 10},
        backend="matplotlib",
    )


def save_png(figure: Any, path: Path, *, dpi: int = 110) -> Path:
    """Save a HoloViews object as PNG through matplotlib."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    hv.save(figure, path, backend="matplotlib", dpi=dpi, fmt="png")
    return path
