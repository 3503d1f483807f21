"""The whole network at once: its layer x channel map, and the response layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from actstore.analysis.channels.ranking import in_top
from actstore.analysis.channels.relative import in_units, pooled_std
from actstore.analysis.layers import stack_layers
from actstore.errors import StoreError
from actstore.measures.names import TOP
from actstore.views.figures import marks
from actstore.views.figures.channels import layer_map
from actstore.views.figures.network_colours import Colour, effect, limits_of, top_cells, with_control
from actstore.views.figures.selection import Sample, chosen, place_label, samples_of, target_of
from actstore.views.figures.spread import spread
from actstore.views.figures.theme import INK, WIDTH, colours_of, panel, styled, ticks

if TYPE_CHECKING:
    from actstore.store.store import Store

_LABELS: dict[Colour, str] = {
    "mad": "MAD",
    "standardised": "MAD / std. of the original",
    "frequency": f"share of samples in the top {TOP}",
    "control": "Hedges' g against control",
}


def network(
    store: Store,
    sample: Sample | None = None,
    condition: str | None = None,
    *,
    colour: Literal["mad", "standardised", "frequency", "control"] = "mad",
    samples: Sequence[Sample | bool] | NDArray[Any] | None = None,
) -> hv.Overlay:
    """Layer x channel map under a perturbation; circles mark the three channels of each layer with the largest values.

    Layers run down in network order; a row ends where its layer has no more channels, and a cell without a value is
    grey. Colours end at the 99.5th percentile of the values.

    Parameters
    ----------
    sample, condition
        as in :func:`inputs`.
    colour
        "mad", the mean absolute difference, and "standardised", that in standard deviations of the channel on the
        original, are of the sample; "frequency", the share of samples in which a channel is among the three of its
        layer with the largest MAD, and "control", the effect against control (Hedges' g of patients), are of
        ``samples``.
    samples
        a mask, bool (sample), or their numbers or (patient, frame, slice[, patch]); by default, and at most, those
        that the condition applies to.

    Raises
    ------
    StoreError
        if there is no such sample, condition or colour, the condition does not apply to them, or for "control" the
        condition has no control or the samples are of one patient.

    Examples
    --------
    >>> figure = views.network(store, colour="frequency")
    """
    if colour not in _LABELS:
        raise StoreError(f"colour = {colour!r}: choose {', '.join(_LABELS)}")
    s, c = chosen(store, sample, condition)
    if colour in ("mad", "standardised"):
        values, about = _of_sample(store, s, c, colour), place_label(store, s, " · ")
    else:
        used = samples_of(store, c, samples)
        values, about = _of_samples(store, used, c, colour), f"n = {int(used.sum())}"
    layers = list(store.layers.index)
    width = store.layers["channels"].to_numpy(int)
    row, channel = np.repeat(np.arange(len(layers)), width), np.concatenate([np.arange(n) for n in width])
    cells = pd.DataFrame({"layer": np.array(layers)[row], "row": row, "channel": channel, "value": values})
    grid = np.full((len(layers), width.max()), np.nan)
    grid[row, channel] = values
    limits, cmap = limits_of(values, colour)
    top = styled(
        hv.Points([(x, y) for y, x in top_cells(grid)], ["channel_number", "row"]),
        bokeh={"size": 4, "fill_color": "white", "line_color": "#111111", "line_width": 1},
        matplotlib={"s": 7, "facecolors": "white", "edgecolors": "#111111", "linewidth": 0.5},
    )
    return layer_map(
        cells[cells["value"].notna()],
        layers,
        "value",
        (WIDTH - 150, max(14 * len(layers), 90)),
        title=f"{store.conditions.index[c]} · {about}",
        clim=limits,
        cmap=cmap,
        base=cells,
        over=[top],
        label=_LABELS[colour],
    )


def mad_by_layer(store: Store, sample: Sample | None = None, condition: str | None = None) -> hv.Overlay:
    """MAD of each layer, the mean of its channels, in network order: median and quartiles over samples, and one sample.

    Parameters
    ----------
    sample, condition
        as in :func:`inputs`. The median is over all samples that the condition applies to.

    Raises
    ------
    StoreError
        if there is no such sample or condition, or the one does not apply to the other.

    Examples
    --------
    >>> figure = views.mad_by_layer(store, sample=5)
    """
    s, c = chosen(store, sample, condition)
    used = samples_of(store, c)
    layers = list(store.layers.index)
    # Of a sample, either all channels are NaN or none: there is nothing to skip.
    lazy = [store.statistics(layer, ["mad"])["mad"].isel(condition=c).mean("channel", skipna=False) for layer in layers]
    mad = np.stack([layer.values for layer in compute(*lazy)], axis=1)
    quartiles = spread(mad[used])
    name = str(store.conditions.index[c])
    colour = colours_of(store).get(target_of(store, name), INK)
    x = np.arange(len(layers))
    hover = pd.DataFrame(
        {
            "x": x,
            "y": quartiles.median,
            "layer": layers,
            "lower quartile": quartiles.low.round(5),
            "median": quartiles.median.round(5),
            "upper quartile": quartiles.high.round(5),
            "this sample": mad[s].round(5),
        }
    )
    top = float(np.nanmax([quartiles.high, mad[s]])) or 1.0
    return panel(
        [
            marks.band(x, quartiles.low, quartiles.high, colour),
            marks.line(x, quartiles.median, colour, label="median and quartiles"),
            marks.line(x, mad[s], INK, width=1.6, dashed=True, label=place_label(store, s, " · ")),
            marks.dots(hover, "x", "y", colour),
        ],
        (WIDTH - 320, 260),
        title=f"{name} · n = {int(used.sum())}",
        xticks=ticks(layers, 21),
        xrotation=90,
        xlim=(-0.5, len(layers) - 0.5),
        ylim=(0, top * 1.06),
        xlabel="layer",
        ylabel="MAD, mean of channels",
        legend="right",
    )


def _of_sample(store: Store, sample: int, condition: int, colour: Colour) -> NDArray[np.float64]:
    """(channel) of all layers."""
    mad = _stacked(store, ["mad"])["mad"].isel(sample=sample, condition=condition)
    if colour == "mad":
        return np.asarray(mad.values, np.float64)
    found: NDArray[np.float64] = in_units(mad, pooled_std(_stacked(store, ["mean", "std"]))).values
    return found


def _of_samples(store: Store, used: NDArray[np.bool_], condition: int, colour: Colour) -> NDArray[np.float64]:
    """(channel) of all layers, over the samples ``used``, bool (sample)."""
    score: xr.DataArray = _stacked(store, ["mad"])["mad"].isel(sample=np.flatnonzero(used))
    if colour == "control":
        at = with_control(store.conditions, condition)
        rescaled = store.rescaling.isel(sample=np.flatnonzero(used), condition=at) != 1
        return effect(*compute(score.isel(condition=at), rescaled))
    found = in_top(score.isel(condition=[condition]).compute(), TOP)
    shares: NDArray[np.float64] = found.isel(condition=0).mean("sample").values
    return shares


def _stacked(store: Store, names: list[str]) -> xr.Dataset:
    return stack_layers({layer: store.statistics(layer, names) for layer in store.layers.index})
