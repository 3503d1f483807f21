"""What one channel looks for: its optimum beside the samples of the data that activate it most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.analysis.optima import STATUSES
from actstore.errors import StoreError
from actstore.tables.optima import Optima, open_optima
from actstore.views.figures import marks, pixels
from actstore.views.figures.optima import BLANK, best_of, blank_tile, input_channels, plane_of
from actstore.views.figures.pixels import BARE, Place
from actstore.views.figures.scales import Limits, check_scale, extremes
from actstore.views.figures.selection import channel_suffix, place_label, window
from actstore.views.figures.theme import GREY, INK, NEUTRAL, PALETTE, grid, panel, styled
from actstore.views.wording import capital, number

if TYPE_CHECKING:
    from actstore.store.store import Store

#: What each objective is called in a title.
_OBJECTIVES = {
    "mean": "mean of the map",
    "neuron": "value at the centre",
    "direction": "mean along the direction",
    "class": "mean logit",
}
#: Plots in a row, and samples in a row of one input channel.
_COLUMNS, _BESIDE = 4, 3
#: Pixels of the screen for the numbers along an axis.
_AXIS = 36
#: Layer names that fit into a title; others are paths of modules.
_FITS = 8
#: Where a channel responds in a sample.
_MARK = PALETTE[2]


def _unaligned(plot: Any, _: Any) -> None:
    """A plot without axes keeps its width below one with axes."""
    plot.state.frame_align = False


#: Options of plots whose titles are long.
_SMALL: dict[str, Any] = {
    "bokeh": {
        "fontsize": {"title": "12px", "labels": "11px", "xticks": "11px", "yticks": "11px"},
        "hooks": [_unaligned],
    },
    "matplotlib": {"fontsize": {"title": 7, "labels": 7, "xticks": 7, "yticks": 7}},
}
#: Of plots of numbers, which matplotlib draws in cells as large as those of pictures.
_NUMBERS = _SMALL | {"matplotlib": _SMALL["matplotlib"] | {"aspect": 1}}


def optimum(
    store: Store,
    layer: str,
    channel: int,
    *,
    of: str | None = None,
    most: int = 9,
    scale: Literal["shared", "own"] = "own",
    input_channel: int | str | None = None,
    z: int | None = None,
    size: int = 200,
) -> hv.Layout:
    """One channel: its optimum, the objective over the steps, beside the data's, and the strongest samples.

    The optimum is that of the seed that reached the highest objective. Samples are the original inputs, cut to a square
    around the box that holds most of the gradient's mass, which is outlined; the dot is where the channel's map is
    largest. A dead or constant channel has a blank tile that says so. A network with several input channels has a row
    of optimum and samples for each of them.

    Parameters
    ----------
    layer, channel
        a layer's name, the path of a module that the store does not record, or "output" for the optima of classes; and
        the number of a channel, or of a direction or a class where these were maximised.
    of
        name of the optima, where the store holds several.
    most
        how many samples at most; with a row for each input channel, three at most.
    scale
        "own": each picture from its least to its largest value; "shared": all of an input channel on one scale.
    input_channel
        which channel of the input, by number or name, by default all.
    z
        slice of an optimum that is a volume, by default the one at the centre. Of a sample, the slice with the largest
        value of the map is shown, or, where it is not known, the one at the centre of the box.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if the store holds no optima, or several and none is named; if there is no such channel, input channel or slice,
        or ``most`` is negative.
    KeyError
        naming the layers that there are.

    Examples
    --------
    >>> figure = views.optimum(store, "L02", 0)
    """
    check_scale(scale)
    if most < 0:
        raise StoreError(f"most = {most}: ask for no sample or more")
    optima = open_optima(store, of)
    at = optima.channel(layer, channel)
    inputs = input_channels(store, input_channel)
    seed, status = best_of(optima, [at])[0]
    z = plane_of(optima, z)
    several = len(inputs) > 1
    ranks = _ranks(optima, at)[: min(most, _BESIDE) if several else most]
    rows = []
    for k in inputs:
        image = _image(optima, at, seed, k, z)
        samples = [_Crop(optima, at, rank, k) for rank in ranks]
        seen = [crop.image.ravel() for crop in samples] + [image.ravel()] * (status not in BLANK)
        shared = extremes(np.concatenate([*seen, np.empty(0)]))
        title = f"{f'{layer} ' if len(layer) <= _FITS else ''}{optima.noun} {channel}{channel_suffix(store, k)}"
        title += "" if status in BLANK or optima.small.sizes["seed"] == 1 else f" · seed {_seed_name(optima, seed)}"
        title += "" if z is None else f" · z {z}"
        limits = shared if scale == "shared" else extremes(image)
        first = _optimum_panel(image, status, limits, title, size)
        rows.append((first, [crop.panel(shared if scale == "shared" else None, size) for crop in samples]))
    # As wide with their axes as a picture without any, whose pixels bokeh would stretch below a wider plot.
    room = (size - _AXIS, size)
    numbers = [_curve(optima, at, seed, room), _beside_data(optima, at, seed, room)]
    if several:
        panels = [plot for first, samples in rows for plot in (first, *samples)] + numbers
    else:
        [(first, samples)] = rows
        panels = [first, *numbers, *samples]
    columns = max(1 + len(ranks), 2) if several else _COLUMNS
    return grid(panels, columns, (size, size), hspace=0.28, vspace=0.24)


def _seed_name(optima: Optima, seed: int) -> int:
    return int(optima.small["seed"].values[seed])


def _image(optima: Optima, at: int, seed: int, input_channel: int, z: int | None) -> NDArray[np.float32]:
    """One optimum: (y, x)."""
    image = optima.group["image"].isel(layer_channel=at, seed=seed, input_channel=input_channel)
    return np.asarray((image if z is None else image.isel(z=z)).values, np.float32)


def _ranks(optima: Optima, at: int) -> list[int]:
    """Ranks of the samples that are known, the strongest first."""
    return np.flatnonzero(optima.small["top_sample"].values[at] >= 0).tolist()


def _square(rows: slice, columns: slice) -> dict[str, Any]:
    """Options of a square plot that shows these rows and columns in the middle, their pixels as square."""
    height, width = (part.stop - part.start for part in (rows, columns))
    side = max(height, width)
    spare = [(side - n) / 2 for n in (height, width)]
    y, x = ((p.start - 0.5 - s, p.stop - 0.5 + s) for p, s in zip((rows, columns), spare, strict=True))
    return BARE | {"xlim": x, "ylim": y}


def _optimum_panel(image: NDArray[np.float32], status: str, limits: Limits, title: str, size: int) -> hv.Overlay:
    height, width = image.shape
    within = _square(slice(0, height), slice(0, width))
    if status in BLANK:
        return panel([*blank_tile(-0.5, -0.5, width, height, status)], (size, size), title=title, **_SMALL, **within)
    return panel([pixels.image(image, GREY, limits)], (size, size), title=title, **_SMALL, **within)


class _Crop:
    """The part of a sample around where a channel responds."""

    def __init__(self, optima: Optima, at: int, rank: int, input_channel: int) -> None:
        store, own = optima.store, optima.small.isel(layer_channel=at, rank=rank)
        self.store, self.sample, self.value = store, int(own["top_sample"]), float(own["top_value"])
        whole = store.picture("image", self.sample, 0, input_channel=input_channel).astype(np.float32)
        start, stop, place = (own[name].values for name in ("top_start", "top_stop", "top_position"))
        boxed, placed = bool((stop > start).all() and (start >= 0).all()), bool((place >= 0).all())
        layer = str(own["layer"].values)
        #: Where the map is largest, in pixels of the input along each axis; not known of a layer without a grid.
        self.dot: NDArray[np.float64] | None = None
        if placed and layer in store.grids:
            where = store.grids[layer]
            self.dot = np.asarray(where.start) + np.asarray(where.step) * place
        self.z = None
        if whole.ndim == 3:
            middle = whole.shape[0] // 2 if not boxed else (int(start[0]) + int(stop[0]) - 1) // 2
            self.z = middle if self.dot is None else int(np.clip(np.rint(self.dot[0]), 0, whole.shape[0] - 1))
            whole = whole[self.z]
        #: First and last edge of the box along y and x; None where it is not known.
        self.box = [(int(a), int(b)) for a, b in zip(start[-2:], stop[-2:], strict=True)] if boxed else None
        near = np.zeros(whole.shape, bool)
        if self.box is not None:
            near[tuple(slice(*edges) for edges in self.box)] = True
        if self.dot is not None:
            near[tuple(np.clip(np.rint(self.dot[-2:]), 0, np.subtract(whole.shape, 1)).astype(int))] = True
        self.rows, self.columns = window(near[None])
        self.image = whole[self.rows, self.columns]

    def panel(self, limits: Limits | None, size: int) -> hv.Overlay:
        place = Place(offset=(self.rows.start, self.columns.start))
        shown = [pixels.image(self.image, GREY, limits or extremes(self.image), place=place)]
        if self.box is not None:
            shown.append(_outline(*self.box))
        if self.dot is not None:
            shown.append(_dot(self.dot))
        where = place_label(self.store, self.sample, " · ", short=True)
        z = "" if self.z is None else f" · z {self.z}"
        return panel(
            shown,
            (size, size),
            title=f"{where}{z} · {number(self.value)}",
            **_SMALL,
            **_square(self.rows, self.columns),
        )


def _outline(y: tuple[int, int], x: tuple[int, int]) -> hv.Path:
    """Around the pixels from the first up to the last, along both axes."""
    (top, bottom), (left, right) = ((first - 0.5, last - 0.5) for first, last in (y, x))
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return styled(hv.Path([corners], ["x", "y"]), color=_MARK, bokeh={"line_width": 1.4}, matplotlib={"linewidth": 0.9})


def _dot(where: NDArray[np.float64]) -> hv.Points:
    return styled(
        hv.Points([(where[-1], where[-2])], ["x", "y"]),
        color=_MARK,
        bokeh={"size": 6, "line_color": "white", "line_width": 1},
        matplotlib={"s": 14, "edgecolors": "white", "linewidth": 0.7},
    )


def _curve(optima: Optima, at: int, seed: int, size: tuple[int, int]) -> hv.Overlay:
    """The objective over the steps, of every seed; dots are the first and the last image, untransformed."""
    own = optima.small.isel(layer_channel=at)
    curves = own["curve"].transpose("seed", "step").values.astype(float)
    steps = np.arange(curves.shape[1])
    others = [k for k in range(len(curves)) if k != seed]
    ends = pd.DataFrame(
        {"step": [0, steps[-1]], "objective": own[["start", "final"]].isel(seed=seed).to_array().values.astype(float)}
    )
    ends["image"] = ["first", "last"]
    return panel(
        [
            *(marks.line(steps, curves[k], NEUTRAL, width=1.2, alpha=0.6) for k in others),
            marks.line(steps, curves[seed], PALETTE[0]),
            marks.dots(ends, "step", "objective", INK, size=7),
        ],
        size,
        title=f"{capital(_OBJECTIVES.get(str(optima.settings.get('objective')), 'objective'))}, by step",
        xlabel="step",
        ylabel="",
        xlim=(-0.04 * len(steps), 1.04 * len(steps) - 1),
        ylim=_limits(optima, at),
        **_NUMBERS,
    )


def _beside_data(optima: Optima, at: int, seed: int, size: tuple[int, int]) -> hv.Overlay:
    """The objective of the optimum beside that of the data: mean ± standard deviation, maximum, strongest samples."""
    own = optima.small.isel(layer_channel=at)
    most, mean, std = (float(own[name]) for name in ("data_max", "data_mean", "data_std"))
    final = own["final"].values.astype(float)
    best = pd.DataFrame({"x": [1.0], "objective": [final[seed]], "seed": [_seed_name(optima, seed)]})
    rest = pd.DataFrame({"x": 1.0, "objective": final, "seed": own["seed"].values}).drop(index=seed)
    shown: list[Any] = []
    known = np.isfinite([most, mean, std]).all()
    # Then the bound of the optimum is another than that of the data.
    apart = STATUSES[int(own["status"][seed])] == "bounded" and optima.size != optima.input_size
    title = "Data of another size" if apart else "The same, beside the data"
    if known:
        ranks = _ranks(optima, at)
        top = pd.DataFrame({"x": 0.0, "objective": own["top_value"].values[ranks].astype(float)})
        top["sample"] = [place_label(optima.store, int(own["top_sample"].values[rank])) for rank in ranks]
        shown = [
            marks.band(np.array([-0.3, 0.3]), np.full(2, mean - std), np.full(2, mean + std), PALETTE[0]),
            marks.line([-0.3, 0.3], [mean, mean], PALETTE[0]),
            marks.dots(top, "x", "objective", NEUTRAL, hollow=True),
            marks.rule(y=most),
        ]
    return panel(
        [*shown, marks.dots(rest, "x", "objective", NEUTRAL), marks.dots(best, "x", "objective", INK, size=9)],
        size,
        title=title if known else "Data not looked at",
        xticks=[(0, "data"), (1, "optimum")] if known else [(1, "optimum")],
        xlim=(-0.6, 1.6),
        xlabel="",
        ylabel="",
        ylim=_limits(optima, at),
        **_NUMBERS,
    )


def _limits(optima: Optima, at: int) -> Limits:
    """One scale for both plots of the objective: of every curve, image and sample, with some room."""
    own = optima.small.isel(layer_channel=at)
    mean, std = float(own["data_mean"]), float(own["data_std"])
    values = [own[name].values.ravel() for name in ("curve", "start", "final", "data_max", "top_value")]
    low, high = extremes(np.concatenate([*values, [mean - std, mean + std]]).astype(float))
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room
