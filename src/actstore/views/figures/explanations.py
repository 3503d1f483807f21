"""Where a class's score comes from, and what channels answer to in a sample: maps over the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.members import mask_of
from actstore.conditions import ORIGINAL
from actstore.errors import StoreError
from actstore.tables.explanations import EXPLANATIONS, MAP, PROJECTION, Explanation
from actstore.views.figures import pixels
from actstore.views.figures.images import frame_of
from actstore.views.figures.pixels import Place, border, outlines
from actstore.views.figures.scales import Limits, check_scale, extremes, most_around_zero
from actstore.views.figures.selection import (
    Sample,
    channel_suffix,
    input_channel_number,
    picture,
    place_label,
    plane,
    sample_number,
    window,
)
from actstore.views.figures.theme import DIVERGING, GREY, grid, panel, styled
from actstore.views.wording import number

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Share of the scale below which a map lets the input through.
CLEAR = 0.08
#: Colours of what is never negative, over a grey image.
HEAT = "inferno"
#: Between panels: room for a bar of colours where each has its own.
_BESIDE = {"shared": 0.1, "own": 0.34}
_SMALL: dict[str, Any] = {"bokeh": {"fontsize": {"title": "12px"}}, "matplotlib": {"fontsize": {"title": 7}}}


def explanation(
    store: Store,
    name: str,
    sample: Sample | None = None,
    condition: str | None = None,
    *,
    z: int | None = None,
    crop: bool = True,
    scale: Literal["shared", "own"] = "shared",
    input_channel: int | str | None = None,
    size: int = 262,
) -> hv.Layout:
    """The maps of one explanation over the input: red where the class's score comes from, blue where it is held down.

    First the input with outlines of truth (solid) and prediction (dashed); then a map for each class over the same
    input, with the outline of the pixels whose score it explains. A scale ends where all but 1 % of what is shown lie
    below, and a map lets the input through where it is below 8 % of its scale. A class that is not predicted has no
    map, and its title says so.

    Parameters
    ----------
    name
        of the explanation, as ``explain/NAME``.
    sample
        its number, or (patient, frame, slice[, patch]); by default the one in which most pixels are explained.
    condition
        by default the first that was explained.
    z
        slice of a volume; by default that with most of the perturbed class.
    crop
        cut to what is segmented.
    scale
        "shared": all maps on one scale around 0; "own": each on its own.
    input_channel
        which channel of the input lies below, by number or name, by default the first.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if the store has no such explanation, or it is of channels; if there is no such sample, condition or slice.

    Examples
    --------
    >>> figure = views.explanation(store, "slope")
    """
    check_scale(scale)
    one = _having(store, name, MAP, "projections")
    group, pixel_counts = one.group, one.group["pixels"].values
    at, c = _condition(store, group, condition)
    there = group["score"].isel(condition=at).notnull().values
    most = int(np.where(there, pixel_counts, 0).sum(1).argmax())
    row = most if sample is None else one.row(sample_number(store, sample))
    s = int(one.samples[row])
    found = _seen(store, s, c, z, crop, input_channel)
    maps = _planes(group["map"].isel(sample=row, condition=at), found.z)[:, found.rows, found.columns]
    shared = most_around_zero(maps)
    panels = [found.panel(store, size)]
    original = picture(store, s, [0], found.z)["prediction"][0]
    for k, class_name in enumerate(group["class_name"].values.tolist()):
        score = float(group["score"].isel(sample=row, condition=at, class_name=k))
        said = "not predicted" if pixel_counts[row, k] == 0 else "not applicable" if np.isnan(score) else number(score)
        limits = shared if scale == "shared" else most_around_zero(maps[k])
        line = border([(mask_of(original, store.members[class_name]), "#111111")], width=1.4)
        bar = scale == "own" or k == len(maps) - 1
        panels.append(found.under(maps[k], limits, f"{class_name} · {said}", line, size, colorbar=bar))
    return grid(panels, len(panels), (size, size), hspace=_BESIDE[scale], vspace=0.1)


def projections(
    store: Store,
    name: str,
    layer: str | None = None,
    sample: Sample | None = None,
    condition: str | None = None,
    *,
    most: int | None = None,
    z: int | None = None,
    crop: bool = True,
    scale: Literal["shared", "own"] = "own",
    input_channel: int | str | None = None,
    size: int = 220,
) -> hv.Layout:
    """What the strongest channels of a layer answer to: the input, and each channel projected back over it.

    Parameters
    ----------
    layer
        a layer's name, or the path of a module that the store does not record; by default the first.
    sample
        its number, or (patient, frame, slice[, patch]); by default the first to which the condition applies.
    most
        how many channels, by default all that were projected.
    name, condition, z, crop, scale, input_channel, size
        as in :func:`explanation`.

    Raises
    ------
    StoreError
        as :func:`explanation`, and if it has no such layer.

    Examples
    --------
    >>> figure = views.projections(store, "top", "L02")
    """
    check_scale(scale)
    own, found = _projected(store, name, layer, sample, condition, z, crop, input_channel)
    there = _ranks(own)[:most]
    maps = _planes(own["projection"].isel(rank=there), found.z)[:, found.rows, found.columns]
    shared = most_around_zero(maps)
    panels = [found.panel(store, size)]
    for rank, values in zip(there, maps, strict=True):
        channel, response = int(own["channel"][rank]), float(own["response"][rank])
        title = f"{own['layer'].item()} channel {channel} · {number(response)}"
        limits = shared if scale == "shared" else most_around_zero(values)
        panels.append(found.under(values, limits, title, [], size, colorbar=scale == "own" or rank == there[-1]))
    return grid(panels, min(len(panels), 4), (size, size), hspace=_BESIDE[scale], vspace=0.14)


def focus(
    store: Store,
    name: str,
    layer: str | None = None,
    sample: Sample | None = None,
    condition: str | None = None,
    *,
    most: Sequence[int] = (5, 25),
    z: int | None = None,
    crop: bool = True,
    blur: float = 3.0,
    input_channel: int | str | None = None,
    size: int = 262,
) -> hv.Layout:
    """Where the strongest channels of a layer look together: the magnitudes of their projections, added up and blurred.

    First the input; then one heat map over it for each number in ``most``, each on its own scale, with the outline of
    where it is above half of its largest value. A number beyond the channels that were projected stands for all.

    Parameters
    ----------
    most
        how many of the strongest channels are taken together.
    blur
        standard deviation in pixels of the Gaussian that closes the gaps which strides leave; 0 for none.
    name, layer, sample, condition, z, crop, input_channel, size
        as in :func:`projections`.

    Raises
    ------
    StoreError
        as :func:`projections`.

    Examples
    --------
    >>> figure = views.focus(store, "top", "L02")
    """
    from scipy.ndimage import gaussian_filter

    own, found = _projected(store, name, layer, sample, condition, z, crop, input_channel)
    there = _ranks(own)
    maps = np.abs(_planes(own["projection"].isel(rank=there), found.z)[:, found.rows, found.columns])
    panels = [found.panel(store, size)]
    for count in dict.fromkeys(min(count, len(there)) for count in most):
        each = maps[:count] / np.maximum(np.nanmax(maps[:count], (1, 2), keepdims=True), 1e-30)
        heat = gaussian_filter(np.nansum(each, 0), blur)
        line = border([(heat > heat.max() / 2, "#111111")], width=1.2) if heat.max() > 0 else []
        title = f"{own['layer'].item()} · top {count}"
        panels.append(found.under(heat, (0.0, float(heat.max()) or 1.0), title, line, size, cmap=HEAT))
    return grid(panels, len(panels), (size, size), hspace=_BESIDE["own"], vspace=0.1)


def _projected(
    store: Store,
    name: str,
    layer: str | None,
    sample: Sample | None,
    condition: str | None,
    z: int | None,
    crop: bool,
    input_channel: int | str | None,
) -> tuple[xr.Dataset, _Seen]:
    """Projections of one layer, sample and condition, and the input that they lie over."""
    one = _having(store, name, PROJECTION, "explanation")
    group = one.group
    layers = group["layer"].values.tolist()
    if layer is not None and layer not in layers:
        raise StoreError(f"explain/{name} has no layer {layer!r}: there are {', '.join(layers)}")
    own = group.isel(layer=0 if layer is None else layers.index(layer))
    at, c = _condition(store, group, condition)
    there = (group["channel"].isel(condition=at, rank=0) >= 0).any("layer").values
    s = int(one.samples[there.argmax()]) if sample is None else sample_number(store, sample)
    found = _seen(store, s, c, z, crop, input_channel)
    return own.isel(sample=one.row(s), condition=at), found


def _ranks(own: xr.Dataset) -> list[int]:
    """Ranks that have a channel."""
    return [rank for rank in range(own.sizes["rank"]) if int(own["channel"][rank]) >= 0]


def _having(store: Store, name: str, array: str, other: str) -> Explanation:
    """The explanation of that name, if it has an array."""
    found = EXPLANATIONS.open(store, name)
    if array not in found.group:
        raise StoreError(f"explain/{name} has no {array}: it is shown by views.{other}")
    return found


def _condition(store: Store, group: xr.Dataset, condition: str | None) -> tuple[int, int]:
    """The number of a condition in the group, and in the store."""
    names = group["condition"].values.tolist()
    if condition is not None and condition not in names:
        raise StoreError(f"{condition!r} was not explained: there are {', '.join(names)}")
    name = condition or names[0]
    every = [ORIGINAL, *list(store.conditions.index)[1:]]
    return names.index(name), every.index(name)


def _planes(maps: xr.DataArray, z: int | None) -> NDArray[np.float32]:
    """Maps (…, y, x) of one slice."""
    return np.asarray((maps if z is None else maps.isel(z=z)).values, np.float32)


class _Seen:
    """An input, and the part of it that is shown."""

    def __init__(
        self, store: Store, sample: int, condition: int, z: int | None, crop: bool, input_channel: int | str | None
    ) -> None:
        k = input_channel_number(store, input_channel, condition)
        self.z = plane(store, store.picture("label", sample), condition, z)
        found = picture(store, sample, [condition], self.z, input_channel=k)
        self.label, self.prediction = found["label"], found["prediction"][0]
        shape = self.label.shape
        masks = np.stack([self.label, self.prediction])
        whole = slice(0, shape[0]), slice(0, shape[1])
        shown: tuple[slice, slice] = window(masks) if crop else whole
        self.rows, self.columns = shown
        self.image = found["image"][0][self.rows, self.columns]
        self.place = Place(offset=(self.rows.start, self.columns.start))
        self.title = f"{place_label(store, sample, ' · ', short=True)}{channel_suffix(store, k)}"

    def _grey(self) -> hv.Image:
        return pixels.image(self.image, GREY, extremes(self.image), place=self.place)

    def panel(self, store: Store, size: int) -> hv.Overlay:
        lines = outlines(store, self.label, self.prediction)
        within = frame_of(self.rows, self.columns)
        return panel([self._grey(), *lines], (size, size), title=self.title, **_SMALL, **within)

    def under(
        self,
        values: NDArray[np.float32],
        limits: Limits,
        title: str,
        lines: list[hv.Contours],
        size: int,
        *,
        cmap: str = DIVERGING,
        colorbar: bool = True,
    ) -> hv.Overlay:
        """The input below a map."""
        clear = np.where(np.abs(values) < CLEAR * limits[1], np.nan, values)
        drawn = pixels.image(clear, cmap, limits, place=self.place, colorbar=colorbar, nan="transparent")
        shown = styled(drawn, alpha=0.75)
        within = frame_of(self.rows, self.columns)
        return panel([self._grey(), shown, *lines], (size, size), title=title, **_SMALL, **within)


def _seen(
    store: Store, sample: int, condition: int, z: int | None, crop: bool, input_channel: int | str | None
) -> _Seen:
    if not bool(store.applicable.isel(sample=sample, condition=condition).values):
        raise StoreError(f"{store.conditions.index[condition]!r} does not apply to sample {sample}: choose another")
    return _Seen(store, sample, condition, z, crop, input_channel)
