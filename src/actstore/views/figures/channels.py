"""Layer x channel maps and curves over layers: how often, how much, of which class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import holoviews as hv
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from actstore.analysis.channels.frequency import highest_counts
from actstore.analysis.channels.ranking import NO_CHANNEL, in_top
from actstore.analysis.evidence import perturbations
from actstore.analysis.grouping import count_by
from actstore.analysis.layers import layer_slices, stack_layers
from actstore.errors import StoreError
from actstore.measures.names import TOP
from actstore.tables.unchanged import no_sample
from actstore.views.figures import marks
from actstore.views.figures.theme import PALETTE, WIDTH, grid, line_colours, panel, ticks

if TYPE_CHECKING:
    from actstore.store.store import Store


def frequency_cells(
    store: Store, by: str | None = None, *, top: int = TOP, member: xr.DataArray | None = None
) -> pd.DataFrame:
    """How often each channel is among its layer's ``top`` by MAD, of every group of slices.

    Columns ``group, layer, row, channel, count, samples, share, rank``, one row a channel of the network and group;
    ``row`` numbers the layers in network order, ``rank`` the channels of a layer and group by count, from 1; 0 for one
    that is never among the top.

    Parameters
    ----------
    by
        "condition" (each perturbation), "case" (each kind of failure, over perturbations), another coordinate along
        sample or condition, or None: all perturbations together.
    member
        bool (sample, condition, channel) of all layers, in memory: :func:`actstore.analysis.in_top` of the MAD for this
        ``top``, where that is known already.

    Raises
    ------
    StoreError
        if no perturbation applies to any sample, or ``by`` is no coordinate.
    """
    layers = list(store.layers.index)
    applicable, cases = compute(store.applicable, store.cases if by == "case" else None)
    at = perturbations(applicable)
    used = applicable.isel(condition=at).transpose("sample", "condition")
    group = _groups(store, by, at, cases, used.shape)
    names = [name for name in dict.fromkeys(group[used.values].tolist()) if name]
    if by == "condition":
        names = [name for name in store.conditions.index[at] if name in names]
    if not names:
        why = no_sample(store)
        raise StoreError(f"{store.path} has no perturbed slice to rank channels on: {why[0].lower()}{why[1:-1]}")
    if member is None:
        member = in_top(network_mad(store, layers), top, applicable=applicable)
    ranked = member.isel(condition=at).transpose("sample", "condition", "channel")
    cell = np.where(used.values, pd.Index(names).get_indexer(group.ravel()).reshape(group.shape), -1).ravel()
    counts = count_by(ranked.values.reshape(len(cell), -1), cell, len(names))
    samples = count_by(cell >= 0, cell, len(names))
    parts = []
    for row, (layer, where) in enumerate(layer_slices(ranked).items()):
        count = counts[:, where]
        groups, channels = count.shape
        own = {
            "group": np.repeat(names, channels),
            "layer": layer,
            "row": row,
            "channel": np.tile(np.arange(channels), groups),
            "count": count.ravel(),
            "samples": np.repeat(samples, channels),
            "share": (count / samples[:, None]).ravel(),
            "rank": _ranks(count).ravel(),
        }
        parts.append(pd.DataFrame(own))
    return pd.concat(parts, ignore_index=True)


def network_mad(store: Store, layers: Sequence[str]) -> xr.DataArray:
    """MAD of every channel of ``layers``: (sample, condition, channel), in memory."""
    mad: xr.DataArray = stack_layers({layer: store.statistics(layer, ["mad"]) for layer in layers})["mad"].compute()
    return mad


def _ranks(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each channel (group, channel) among its group's by count, from 1; 0 without any count."""
    channels = count.shape[1]
    ordered = highest_counts(count, channels)
    # The last column takes the places of ranks without a channel.
    rank = np.zeros((len(ordered), channels + 1), np.int64)
    np.put_along_axis(rank, np.where(ordered == NO_CHANNEL, channels, ordered), np.arange(1, channels + 1)[None], 1)
    return rank[:, :-1]


def frequency(
    store: Store,
    by: str | None = None,
    *,
    top: int = TOP,
    most: int | None = None,
    groups: Sequence[str] | None = None,
    columns: int = 3,
) -> hv.Layout:
    """Layer x channel maps: share of samples in which a channel is among its layer's ``top`` by MAD.

    Layers run down in network order; a row ends where its layer has no more channels.

    Parameters
    ----------
    by
        what makes a map each, as :func:`frequency_cells`.
    most
        colour only the ``most`` most frequent channels of a layer; the others stay grey.
    groups
        only these maps; by default all, at most twelve, those with most samples.
    columns
        maps beside each other.

    Examples
    --------
    >>> figure = views.frequency(store, by="case", most=2)
    """
    return frequency_maps(
        frequency_cells(store, by, top=top),
        list(store.layers.index),
        most=most,
        groups=groups,
        columns=columns,
    )


def frequency_maps(
    cells: pd.DataFrame,
    layers: Sequence[str],
    *,
    most: int | None,
    groups: Sequence[str] | None,
    columns: int,
) -> hv.Layout:
    """As :func:`frequency`, of cells that were computed before."""
    samples = cells.drop_duplicates("group").set_index("group")["samples"]
    if groups is None:
        largest = set(samples.sort_values(ascending=False, kind="stable").index[:12])
        groups = [name for name in samples.index if name in largest]
    columns = min(columns, len(groups))
    width = {1: WIDTH - 150, 2: 370}.get(columns, 250)
    size = (width, max(14 * len(layers), 90) if columns < 4 else 10 * len(layers))
    panels = []
    for i, name in enumerate(groups):
        own = cells[cells["group"] == name].drop(columns="group").assign(share=lambda f: f["share"].round(4))
        panels.append(
            layer_map(
                own[(own["rank"] <= most) & (own["count"] > 0)] if most else own,
                layers,
                "share",
                size,
                title=f"{name} · n = {samples[name]}",
                clim=(0.0, 1.0),
                colorbar=(i + 1) % columns == 0 or i == len(groups) - 1,
                first=i % columns == 0,
                base=own,
                label="share of samples",
            )
        )
    return grid(panels, columns, size, hspace=0.14 if columns > 1 else 0.25, vspace=0.25)


def layer_map(
    own: pd.DataFrame,
    layers: Sequence[str],
    value: str,
    size: tuple[int, int],
    *,
    title: str,
    clim: tuple[float, float],
    cmap: str | None = None,
    colorbar: bool = True,
    first: bool = True,
    base: pd.DataFrame | None = None,
    over: Sequence[Any] = (),
    label: str,
) -> hv.Overlay:
    """Coloured cells at ``row`` and ``channel`` of ``own``, over grey ones for all channels of ``base``.

    The elements ``over`` lie on top, at channel and row.
    """
    chosen = {"cmap": cmap} if cmap else {}
    elements: list[Any] = []
    if base is not None:
        last = base.groupby("row")["channel"].max()
        elements.append(marks.grey_rows(last.index, last))
    hover = [name for name in own.columns if name in ("layer", "channel", "count", "samples", "rank", value)]
    shown = own.assign(channel_number=own["channel"])[["channel_number", "row", *hover]]
    elements.append(marks.cells(shown, "channel_number", "row", value, clim=clim, colorbar=colorbar, **chosen))
    elements += over
    widest = int((base if base is not None else own)["channel"].max())
    return panel(
        elements,
        size,
        title=title,
        xlim=(-0.5, widest + 0.5),
        ylim=(-0.5, len(layers) - 0.5),
        yticks=ticks(layers, size[1], 13),
        yaxis="left" if first else None,
        invert_yaxis=True,
        xlabel=f"channel (colour: {label})",
        ylabel="",
        show_grid=False,
        bokeh={"fontsize": {"title": "12px", "labels": "12px", "xticks": "11px", "yticks": "10px"}},
        matplotlib={"fontsize": {"title": 9, "labels": 8.5, "xticks": 7.5, "yticks": 6.5, "cticks": 7.5}},
    )


def layers(table: pd.DataFrame, colours: dict[str, str] | None = None) -> hv.Layout:
    """MAD per layer in network order: raw, standardised, and as rank within the network; bars are 95 % intervals.

    Parameters
    ----------
    table
        columns ``layer, condition, target, mad, low, high, standardised, mean_network_rank``; one line a condition,
        paler for other input channels where there is a column ``channels``.
    colours
        class name to colour; by default those of the order of appearance.

    Examples
    --------
    >>> figure = views.layers(findings.table("layers"))
    """
    names = list(dict.fromkeys(table["layer"]))
    colours = colours or dict(zip(dict.fromkeys(table["target"]), PALETTE, strict=False))
    drawn = [
        ("mad", "MAD", "raw"),
        ("standardised", "MAD / std. of the original", "standardised"),
        ("mean_network_rank", "mean rank in the network", "rank (0 lowest, 1 highest)"),
    ]
    size = (255, 260)
    of_lines = line_colours(table, colours)
    panels = []
    for value, label, title in drawn:
        if value not in table or table[value].isna().all():
            continue
        elements: list[Any] = []
        for i, (condition, own) in enumerate(table.groupby("condition", sort=False)):
            colour = of_lines[str(condition)]
            x = own["layer"].map(names.index).to_numpy() + (i - 1) * 0.15
            if value == "mad":
                shown = own.assign(x=x)
                elements.append(marks.intervals(shown, "x", "low", "high", colour))
            elements.append(marks.line(x, own[value].to_numpy(), colour, label=str(condition), width=1.8))
        top = float(np.nanmax(table[["high", "mad"]].to_numpy() if value == "mad" else table[value])) or 1.0
        panels.append(
            panel(
                elements,
                size,
                title=title,
                xticks=ticks(names, 11),
                xlim=(-0.6, len(names) - 0.4),
                ylim=(0, top * (1.06 + (0.1 * table["condition"].nunique() if value == "mad" else 0))),
                xrotation=90,
                xlabel="layer",
                ylabel=label,
                legend="top_left" if value == "mad" else None,
            )
        )
    return grid(panels, 3, size, hspace=0.35, vspace=0.45)


def _groups(store: Store, by: str | None, at: Any, cases: Any, shape: tuple[int, ...]) -> Any:
    """The name of the group of each (sample, condition), "" for none."""
    if by is None:
        return np.full(shape, "every perturbation")
    if by == "case":
        return cases.isel(condition=at).transpose("sample", "condition").values
    if by == "condition" or by in store.conditions.columns:
        values = store.conditions.reset_index()[by].to_numpy(dtype=str)[at]
        return np.broadcast_to(values, shape)
    if by in store.samples.columns:
        return np.broadcast_to(store.samples[by].to_numpy(dtype=str)[:, None], shape)
    known = ", ".join(["condition", "case", *store.conditions.columns, *store.samples.columns])
    raise StoreError(f"by = {by!r} groups nothing: choose one of {known}")
