"""The maps of a layer over sample, condition and channel, each read when it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import holoviews as hv
import numpy as np
from numpy.typing import NDArray

from actstore.conditions import ORIGINAL
from actstore.errors import StoreError
from actstore.tables.unchanged import why_not
from actstore.views.figures import pixels
from actstore.views.figures.images import covers, frame_of
from actstore.views.figures.pixels import border, place_of
from actstore.views.figures.scales import Limits, around_zero, extremes, ink
from actstore.views.figures.selection import Sample, condition_number, numbers, sample_label, sample_number
from actstore.views.figures.theme import DIVERGING, INK, SEQUENTIAL, panel, styled

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Frames that a cube holds at most when all of them are drawn at once.
MOST_FRAMES = 1000


def cube(
    store: Store,
    layer: str,
    *,
    samples: Sequence[Sample] | None = None,
    conditions: Sequence[str] | None = None,
    channels: Sequence[int] | None = None,
    z: Sequence[int] | None = None,
    show: Literal["activation", "change"] = "activation",
    dynamic: bool = True,
    limits: tuple[float, float] | None = None,
    size: int = 320,
) -> hv.DynamicMap | hv.HoloMap:
    """Maps of a layer over sample x condition x channel (x z), one image each, with the perturbed class outlined.

    Nothing is read before it is shown: a frame reads the chunk of its map (of a change, also that of the original)
    and of its label. x and y are pixels of the input. Where a condition does not apply a frame is empty but for why.

    ``cube[5, "brightness(LV, 0.1)", 3]`` is one frame, an overlay; ``cube[5, "brightness(LV, 0.1)", :]`` and
    ``cube.select(sample=5, condition="brightness(LV, 0.1)")`` are narrower cubes; ``.layout("channel")`` shows the
    channels of a cube side by side; ``+`` sets a cube beside any other figure and ``*`` draws over every frame. In a
    notebook each dimension has a slider or a menu, and so it has in the page that
    ``views.save(cube[5, "brightness(LV, 0.1)", :], "channels.html")`` keeps. Pictures for paper are of a HoloMap, of
    which only what varies need be named: ``views.cube(…, dynamic=False).reindex(["channel"]).layout().cols(8)``.

    Parameters
    ----------
    samples
        numbers, or (patient, frame, slice[, patch]); by default all.
    conditions
        names; by default all, of a change all but the original.
    channels
        by default all.
    z
        slices of volumes, in slices of the input, each shown by the layer's slice that lies there; by default all. Only
        where the inputs are volumes, which have ``z`` as the last dimension.
    show
        "activation": the map; "change": perturbed - original.
    dynamic
        False: draw every frame now, at most 1,000, as a HoloMap.
    limits
        of the colours, the same for every frame. By default each frame of a dynamic cube has its own, and all frames
        of a HoloMap have one; those of a change are symmetric about 0.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if there is no such sample, condition, channel or slice, the layer's tensors were not kept, or the frames are
        too many to draw at once.
    KeyError
        naming the layers that there are.

    Examples
    --------
    >>> figure = views.cube(store, "L02", channels=[0, 1], conditions=["brightness(LV, 0.1)"])
    """
    store[layer]  # raises where its tensors were not kept: now, not at the first frame
    if show not in ("activation", "change"):
        raise StoreError(f"show = {show!r}: choose activation or change")
    dims = _dimensions(store, layer, samples, conditions, channels, z, show)
    read = partial(_values, store, layer, show)
    draw = partial(_frame, store, layer, show, size)
    if dynamic:
        return DynamicMap(partial(_drawn, read, draw, limits, show), kdims=dims)
    number = math.prod(len(dim.values) for dim in dims)
    if number > MOST_FRAMES:
        sizes = " x ".join(f"{len(dim.values)} {dim.name}" for dim in dims)
        raise StoreError(
            f"{number:,} frames ({sizes}) are too many to draw at once, {MOST_FRAMES:,} at most: name fewer samples, "
            "conditions or channels, or leave out dynamic=False"
        )
    found = {key: read(*key) for key in product(*(dim.values for dim in dims))}
    limits = limits or _limits(show, np.stack(list(found.values())))
    frames = {key: draw(values, limits, *key) for key, values in found.items()}
    # Dimensions without values of their own take those of the frames, also after a selection.
    return hv.HoloMap(frames, kdims=[dim.clone(values=[]) for dim in dims], sort=False)


class DynamicMap(hv.DynamicMap):  # type: ignore[misc]  # named as its base: HoloViews finds classes by name
    """A DynamicMap that is narrowed by a value of one dimension and a slice of another."""

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) != self.ndims or not any(isinstance(part, slice) for part in keys):
            return super().__getitem__(key)
        dims = [dim.clone(values=_narrowed(dim, part)) for dim, part in zip(self.kdims, keys, strict=True)]
        # Without the cached frames: some of them may lie outside the selection.
        return self.clone(shared_data=False, kdims=dims)

    def select(self, selection_specs: Any = None, **selection: Any) -> Any:
        own = {name: selection.pop(name) for name in [dim.name for dim in self.kdims] if name in selection}
        parts = [own.get(dim.name, slice(None)) for dim in self.kdims]
        narrow = self[tuple(slice(*part) if isinstance(part, tuple) else part for part in parts)] if own else self
        return hv.DynamicMap.select(narrow, selection_specs, **selection) if selection else narrow


def _narrowed(dim: hv.Dimension, part: Any) -> list[Any]:
    """The values of a dimension that match a value, a set of values or a half-open range."""
    if isinstance(part, slice):
        low, high = part.start, part.stop
        found = [v for v in dim.values if (low is None or v >= low) and (high is None or v < high)]
    else:
        found = [v for v in dim.values if v in (part if isinstance(part, (list, set)) else [part])]
    if not found:
        raise KeyError(f"no {dim.name} {part}: there are {dim.values[0]} … {dim.values[-1]}")
    return found


def _dimensions(
    store: Store,
    layer: str,
    samples: Sequence[Sample] | None,
    conditions: Sequence[str] | None,
    channels: Sequence[int] | None,
    z: Sequence[int] | None,
    show: str,
) -> list[hv.Dimension]:
    shown = [str(name) for name in store.conditions.index if show == "activation" or name != ORIGINAL]
    if show == "change" and conditions is not None and ORIGINAL in conditions:
        raise StoreError("the original does not change: leave it out of conditions, or show='activation'")
    count: Any = store.layers.loc[layer, "channels"]
    wanted: dict[str, list[Any]] = {
        "sample": list(range(len(store.samples))) if samples is None else [sample_number(store, s) for s in samples],
        "condition": shown if conditions is None else list(conditions),
        "channel": numbers(channels, int(count), f"channel of {layer}"),
    }
    for name in wanted["condition"]:
        if name != ORIGINAL:
            condition_number(store, str(name))
    if len(store.layout.space) == 3:
        wanted["z"] = numbers(z, store.layout.space[0], "slice of the input")
    elif z is not None:
        raise StoreError(f"z = {list(z)}: the inputs are slices, not volumes; leave it out")
    for dim, values in wanted.items():
        if not values:
            raise StoreError(f"a cube without a {dim} shows nothing: name one, or leave {dim} out for all")
    formats: Mapping[str, Callable[[int], str]] = {"sample": lambda s: sample_label(store, s).removeprefix("sample ")}
    return [
        hv.Dimension(name, values=list(dict.fromkeys(values)), value_format=formats.get(name))
        for name, values in wanted.items()
    ]


def _values(store: Store, layer: str, show: str, sample: int, condition: str, channel: int, *_: int) -> NDArray[Any]:
    """The whole map ([z,] y, x) behind a frame."""
    values = store.map(layer, sample, condition, channel).astype(np.float32)
    if show == "change":
        values -= store.map(layer, sample, ORIGINAL, channel)
    return values


def _drawn(
    read: Callable[..., NDArray[Any]], draw: Callable[..., hv.Overlay], limits: Limits | None, show: str, *key: Any
) -> hv.Overlay:
    values = read(*key)
    return draw(values, limits or _limits(show, values), *key)


def _limits(show: str, values: NDArray[Any]) -> Limits:
    return around_zero(values) if show == "change" else extremes(values)


def _frame(
    store: Store,
    layer: str,
    show: str,
    size: int,
    values: NDArray[Any],
    limits: Limits,
    sample: int,
    condition: str,
    channel: int,
    z: int | None = None,
) -> hv.Overlay:
    label = store.picture("label", sample)
    at, masks = covers(store, layer, label, list(store.conditions.index).index(condition), z)
    place = place_of(store.grids[layer])
    cmap = DIVERGING if show == "change" else SEQUENTIAL
    drawn = pixels.image(values if at is None else values[at], cmap, limits, place=place, colorbar=True)
    outline = border([(mask, ink(cmap)) for mask in masks], width=1.4, place=place)
    # Every frame of a dynamic map needs the same elements, also where there is nothing to outline.
    lines = outline or [hv.Contours([], ["x", "y"])]
    height, width = label.shape[-2:]
    words = styled(hv.Text(width / 2, height / 2, _why_empty(store, sample, condition)), color=INK)
    return panel([drawn, *lines, words], (size, size), **frame_of(slice(height), slice(width)))


def _why_empty(store: Store, sample: int, condition: str) -> str:
    """Why a condition does not apply to a sample, "" where it does."""
    c = list(store.conditions.index).index(condition)
    if bool(store.applicable.transpose("sample", "condition")[sample, c]):
        return ""
    why = why_not(store, condition, sample) if store.conditions["target"].iloc[c] else ""
    return f"{condition}\ndoes not apply here{':' if why else ''}\n{why}".rstrip()
