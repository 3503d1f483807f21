"""What is like what: similarity of layers, samples beside their nearest, and the filters of the first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.conditions import ORIGINAL
from actstore.errors import StoreError
from actstore.tables.representations import neighbours_table
from actstore.views.figures import marks, pixels
from actstore.views.figures.images import frame_of
from actstore.views.figures.scales import extremes, most_around_zero
from actstore.views.figures.selection import Sample, place_label, sample_number
from actstore.views.figures.theme import DIVERGING, GREY, MOST_CONDITIONS, grid, line_colours, panel, ticks

if TYPE_CHECKING:
    from actstore.store.store import Store

_LABELS = {"cka": "CKA", "rsa": "RSA (Spearman)"}
#: Filters and input channels of them that a figure shows.
MOST_FILTERS, MOST_INPUTS = 64, 4


def similarity(
    table: pd.DataFrame, colours: dict[str, str] | None = None, *, by: Literal["cka", "rsa"] = "cka"
) -> hv.Layout:
    """Layers x layers map of similarity on the original and, beside it, of each layer with itself when perturbed.

    Parameters
    ----------
    table
        The table ``similarity``; or that of two stores, with the columns ``layer_a`` and ``layer_b``, which has the map
        alone. A layer in which all samples are one is like nothing, and grey.
    colours
        class name to colour, of the lines.
    by
        "cka" or "rsa".

    Raises
    ------
    StoreError
        for an unknown ``by``.

    Examples
    --------
    >>> figure = views.similarity(findings.table("similarity"))
    """
    if by not in _LABELS:
        raise StoreError(f"by = {by!r}: choose {', '.join(_LABELS)}")
    if "layer_a" in table:
        return grid([_layer_map(table, "layer_a", "layer_b", by, ("layer of b", "layer of a"))], 1, (430, 430))
    pairs = table[table["condition"] == ORIGINAL]
    other = pairs.rename(columns={"layer": "other_layer", "other_layer": "layer"})
    names = list(dict.fromkeys([*pairs["layer"], *pairs["other_layer"]])) or list(dict.fromkeys(table["layer"]))
    own = pd.DataFrame({"layer": names, "other_layer": names, by: 1.0})
    known = pairs[pairs[by].notna()]
    own = own[own["layer"].isin({*known["layer"], *known["other_layer"]})]
    both = pd.concat([frame[["layer", "other_layer", by]] for frame in (pairs, other, own) if len(frame)])
    panels = [_layer_map(both, "layer", "other_layer", by, ("layer", "layer"), names)]
    changed = table[(table["condition"] != ORIGINAL) & table[by].notna()]
    if len(changed):
        panels.append(_kept(changed, names, by, colours))
    return grid(panels, 2, (370, 370), hspace=0.35)


def _layer_map(
    table: pd.DataFrame, row: str, column: str, by: str, labels: tuple[str, str], names: Sequence[str] | None = None
) -> hv.Overlay:
    rows, columns = (list(names or dict.fromkeys(table[name])) for name in (row, column))
    shown = table[table[by].notna()]
    cells = pd.DataFrame(
        {
            "x": [columns.index(name) for name in shown[column]],
            "y": [rows.index(name) for name in shown[row]],
            "one": shown[row].to_numpy(),
            "other": shown[column].to_numpy(),
            by: shown[by].to_numpy(float),
        }
    )
    size = 340
    return panel(
        [
            marks.grey_rows(range(len(rows)), [len(columns) - 1] * len(rows)),
            marks.cells(cells, "x", "y", by, clim=(0.0, 1.0)),
        ],
        (size, size),
        title=f"original · {_LABELS[by]}" if row == "layer" else _LABELS[by],
        xlim=(-0.5, len(columns) - 0.5),
        ylim=(-0.5, len(rows) - 0.5),
        xticks=ticks(columns, size, 16),
        yticks=ticks(rows, size, 14),
        xrotation=90,
        invert_yaxis=True,
        xlabel=labels[0],
        ylabel=labels[1],
        show_grid=False,
    )


def _kept(changed: pd.DataFrame, names: Sequence[str], by: str, colours: dict[str, str] | None) -> hv.Overlay:
    """A line a perturbation: how alike a layer is to itself on the original."""
    conditions = list(dict.fromkeys(changed["condition"]))[:MOST_CONDITIONS]
    changed = changed[changed["condition"].isin(conditions)]
    targets = list(dict.fromkeys(changed["target"]))
    known = colours or dict(zip(targets, ("#0072B2", "#009E73", "#D55E00", "#CC79A7"), strict=False))
    of_lines = line_colours(changed, known)
    elements: list[Any] = []
    for i, (condition, own) in enumerate(changed.groupby("condition", sort=False)):
        shown = own.assign(x=own["layer"].map(list(names).index))[
            ["x", by, "layer", "condition", "samples", "patients"]
        ]
        colour = of_lines[str(condition)]
        x, y = np.asarray(shown["x"]), np.asarray(shown[by])
        elements.append(marks.line(x, y, colour, label=str(condition), width=1.6, dashed=bool(i % 2)))
        elements.append(marks.dots(shown, "x", by, colour, size=4))
    low = min(float(changed[by].min()), 0.0)
    return panel(
        elements,
        (300, 340),
        title="perturbed against original",
        xticks=ticks(list(names), 300, 16),
        xrotation=90,
        xlim=(-0.5, len(names) - 0.5),
        ylim=(low - 0.03, 1.03),
        xlabel="layer",
        ylabel=_LABELS[by],
        legend="bottom_left",
        bokeh={"legend_opts": {"background_fill_alpha": 0.7}},
    )


def neighbours(
    store: Store,
    layer: str,
    samples: Sequence[Sample] | None = None,
    *,
    nearest: int = 4,
    table: pd.DataFrame | None = None,
    size: int = 150,
) -> hv.Layout:
    """Samples beside those of other patients that are nearest to them on the original, with the distance.

    Parameters
    ----------
    layer
        in whose space, or "pixels" for that of the images.
    samples
        their numbers or (patient, frame, slice[, patch]), by default the middle ones of the first volumes of two
        patients.
    nearest
        neighbours of each.
    table
        The table ``neighbours``, where it is computed already.
    size
        pixels a side of a picture.

    Raises
    ------
    StoreError
        if there is no such layer or sample, or it has no neighbour.

    Examples
    --------
    >>> figure = views.neighbours(store, "L02", [("patient001", 1, 4)], nearest=2)
    """
    found = neighbours_table(store, layer=layer, nearest=nearest) if table is None else table
    found = found[(found["layer"] == layer) & (found["rank"] <= nearest)]
    if found.empty:
        raise StoreError(f"no sample has a neighbour in {layer}: all are alike there, or of one patient")
    chosen = [sample_number(store, sample) for sample in samples] if samples is not None else _middle(store)
    own = [name for name in ("patient", "frame", "slice", "patch") if name in found]
    number = {key: i for i, key in enumerate(store.samples[own].itertuples(index=False, name=None))}
    panels = []
    small: dict[str, Any] = {"bokeh": {"fontsize": {"title": "11px"}}, "matplotlib": {"fontsize": {"title": 6.5}}}
    for sample in chosen:
        key = tuple(store.samples[own].iloc[sample])
        here = np.logical_and.reduce([found[name] == value for name, value in zip(own, key, strict=True)])
        rows = found[here].sort_values("rank")
        places = [(sample, "")]
        names = [f"neighbour_{name}" for name in own]
        for row in rows[[*names, "distance"]].itertuples(index=False, name=None):
            places.append((number[row[:-1]], f" · {row[-1]:.3g}"))
        for place, note in places:
            image = _picture(store, place)
            height, width = image.shape
            title = f"{place_label(store, place, ' · ', short=True)}{note}"
            within = {**small, **frame_of(slice(0, height), slice(0, width))}
            panels.append(panel([pixels.image(image, GREY, extremes(image))], (size, size), title=title, **within))
    return grid(panels, nearest + 1, (size, size), hspace=0.06, vspace=0.2)


def _middle(store: Store, patients: int = 2) -> list[int]:
    """The middle samples of the first patients' first volumes."""
    samples = store.samples.reset_index(drop=True)
    first = samples["frame"] == samples.groupby("patient", sort=False)["frame"].transform("first")
    of_patient = pd.Series(np.flatnonzero(first)).groupby(samples.loc[first, "patient"].to_numpy(), sort=False)
    return [int(own.iloc[len(own) // 2]) for _, own in of_patient][:patients]


def _picture(store: Store, sample: int) -> NDArray[Any]:
    """The original image, of a volume its middle slice: (y, x)."""
    image = store.picture("image", sample)
    return image if image.ndim == 2 else image[len(image) // 2]


def filters(store: Store) -> hv.Layout:
    """The filters of the network's first convolution, one map an input channel; of 3D filters the middle plane.

    The first :data:`MOST_FILTERS` output channels in rows, for the first :data:`MOST_INPUTS` input channels, on one
    scale around 0.

    Raises
    ------
    StoreError
        if the store holds none, saying how to get them.

    Examples
    --------
    >>> figure = views.filters(store)
    """
    weight = store.filters
    values = weight.values
    if "z" in weight.dims:
        values = values[:, :, values.shape[2] // 2]
    values = values.reshape(*values.shape[:2], -1, values.shape[-1])
    limits = most_around_zero(values, 1.0)
    names = store.layout.input_channels if "input_channel" in weight.dims else ()
    shown = min(values.shape[1], MOST_INPUTS)
    size = 430 if shown == 1 else 360
    panels = []
    for channel in range(shown):
        named = f" · {names[channel]}" if len(names) == values.shape[1] > 1 else ""
        sheet, labels = _sheet(values[:MOST_FILTERS, channel])
        height, width = sheet.shape
        panels.append(
            panel(
                [
                    pixels.image(sheet, DIVERGING, limits, colorbar=channel == shown - 1, nan="transparent"),
                    marks.words(labels, "x", "y", "text"),
                ],
                (size, max(round(size * height / width), 60)),
                title=f"{weight.attrs['module']}{named}",
                **frame_of(slice(0, height), slice(0, width)),
            )
        )
    return grid(panels, 2, (size, size), hspace=0.2, vspace=0.15)


def _sheet(kernels: NDArray[Any]) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Kernels (out_channel, y, x) side by side with gaps: (y, x), and where their numbers stand."""
    number, height, width = kernels.shape
    columns = min(number, 8)
    rows = -(-number // columns)
    sheet = np.full((rows * (height + 1), columns * (width + 1)), np.nan, np.float32)
    labels = []
    for i, kernel in enumerate(kernels):
        y, x = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[y + 1 : y + 1 + height, x : x + width] = kernel
        labels.append((x - 0.4, float(y), str(i)))
    return sheet, pd.DataFrame(labels, columns=["x", "y", "text"])
