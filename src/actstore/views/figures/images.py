"""Pictures: inputs, predictions and activation maps, with the outlines of what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import holoviews as hv
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.analysis.maps.masks import averaged
from actstore.errors import StoreError
from actstore.views.figures import pixels
from actstore.views.figures.pixels import BARE, Place, border, outlines, place_of
from actstore.views.figures.scales import extremes, ink, of_inputs, of_maps
from actstore.views.figures.selection import (
    Sample,
    channel_suffix,
    chosen,
    condition_number,
    input_channel_number,
    perturbed_masks,
    picture,
    place_label,
    plane,
    window,
)
from actstore.views.figures.theme import GREY, grid, panel, styled

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Title of the difference.
CHANGE = "perturbed − original"


def inputs(
    store: Store,
    sample: Sample | None = None,
    condition: str | None = None,
    *,
    z: int | None = None,
    difference: bool = True,
    truth: bool = True,
    prediction: bool = True,
    crop: bool = True,
    scale: Literal["shared", "own"] = "shared",
    contrast: int = 100,
    input_channel: int | str | None = None,
    size: int = 278,
) -> hv.Layout:
    """Original and perturbed input, and their difference, with outlines of truth (solid) and prediction (dashed).

    x and y are pixel numbers of the whole input, also where it is cut to what is segmented.

    Parameters
    ----------
    sample, condition
        as :func:`actstore.views.figures.selection.chosen`: a number or (patient, frame, slice[, patch]), by default a
        typical sample; and a name, by default the first perturbation that applies.
    z
        slice of a volume; by default that with most of the perturbed class.
    difference
        also show perturbed - original, around 0.
    truth, prediction
        draw outlines of these.
    crop
        cut to what is segmented; False: the whole input, as :func:`activation` shows it.
    scale
        "shared": original and perturbed on one scale; "own": each from its least to its largest value.
    contrast
        the per cent of each scale's range that colours are given to.
    input_channel
        which channel of the input, by number or name, by default the first that the perturbation changes; the title
        names it where there are several.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if there is no such sample, condition, slice or channel, or the perturbation does not apply to the sample.

    Examples
    --------
    >>> figure = views.inputs(store, ("patient001", 1, 4), "brightness(LV, 0.1)")
    """
    s, c = chosen(store, sample, condition)
    k = input_channel_number(store, input_channel, c)
    found = picture(store, s, [0, c], z, input_channel=k)
    label, predicted = found["label"], found["prediction"]
    rows, columns = window(np.stack([label, *predicted])) if crop else (slice(0, n) for n in label.shape)
    original, perturbed = found["image"][:, rows, columns]
    place = Place(offset=(rows.start, columns.start))
    within = frame_of(rows, columns)
    drawn = [
        (f"original{channel_suffix(store, k)}", original, predicted[:1]),
        (str(store.conditions.index[c]), perturbed, predicted[1:]),
    ]
    drawn.append((CHANGE, perturbed - original, ()))
    scales = of_inputs([image for _, image, _ in drawn], scale, contrast)
    panels = [
        panel(
            [
                pixels.image(image, cmap, limits, place=place, colorbar=cmap != GREY),
                *outlines(store, label if truth else None, *(dashed if prediction else ())),
            ],
            (size, size),
            title=title,
            **within,
        )
        for (title, image, dashed), (cmap, limits) in zip(drawn, scales, strict=True)
    ]
    panels = panels if difference else panels[:2]
    return grid(panels, len(panels), (size, size), hspace=0.06, vspace=0.1)


def gallery(
    store: Store,
    case: str,
    condition: str | None = None,
    *,
    examples: int = 4,
    input_channel: int | str | None = None,
    size: int = 220,
) -> hv.Layout:
    """Perturbed inputs of one kind of failure, with outlines of truth (solid) and prediction (dashed).

    Examples come from as many patients as there are, in the order of the store.

    Parameters
    ----------
    case
        as :attr:`actstore.store.store.Store.cases` names it.
    condition
        of this perturbation only.
    input_channel
        as in :func:`inputs`.

    Raises
    ------
    StoreError
        if no prediction is of that case, or there is no such channel.

    Examples
    --------
    >>> case = next(kind for kind in findings.cases.values.ravel() if kind)
    >>> figure = views.gallery(store, case, examples=1)
    """
    cells = example_cells(store, case, condition, examples)
    panels = []
    small: dict[str, Any] = {"bokeh": {"fontsize": {"title": "12px"}}, "matplotlib": {"fontsize": {"title": 7}}}
    for s, c in cells:
        k = input_channel_number(store, input_channel, c)
        found = picture(store, s, [c], input_channel=k)
        label, [prediction] = found["label"], found["prediction"]
        rows, columns = window(np.stack([label, prediction]))
        image = found["image"][0][rows, columns]
        panels.append(
            panel(
                [
                    pixels.image(image, GREY, extremes(image), place=Place(offset=(rows.start, columns.start))),
                    *outlines(store, label, prediction),
                ],
                (size, size),
                title=f"{place_label(store, s, ' · ')}{channel_suffix(store, k)}",
                **small,
                **frame_of(rows, columns),
            )
        )
    return grid(panels, max(examples, 1), (size, size), hspace=0.06, vspace=0.12)


def example_cells(store: Store, case: str, condition: str | None = None, examples: int = 4) -> list[tuple[int, int]]:
    """(sample, condition) numbers of up to ``examples`` predictions of a case, from as many patients as possible.

    Raises
    ------
    StoreError
        naming the cases that there are.
    """
    found = store.cases.values == case
    if condition is not None:
        found &= (np.arange(found.shape[1]) == condition_number(store, condition))[None, :]
    cells = np.argwhere(found)
    if len(cells) == 0:
        under = f" under {condition}" if condition else ""
        known = ", ".join(sorted({str(name) for name in np.unique(store.cases.values)} - {""}))
        raise StoreError(f"no prediction{under} is of case {case!r}: there are {known}")
    patients = store.samples["patient"].to_numpy()[cells[:, 0]]
    of_patient = pd.Series(patients).groupby(patients)
    # The middle slices of a patient first: the ends of a heart are the least like it.
    from_middle = (of_patient.cumcount() - (of_patient.transform("size") - 1) / 2).abs()
    order = np.argsort(from_middle.to_numpy(), kind="stable")
    chosen: list[int] = []
    while len(chosen) < min(examples, len(cells)):
        used = [patients[i] for i in chosen]
        chosen.append(min((i for i in order if i not in chosen), key=lambda i: used.count(patients[i])))
    return [(int(s), int(c)) for s, c in cells[sorted(chosen)]]


def activation(
    store: Store,
    layer: str,
    channel: int,
    sample: Sample | None = None,
    condition: str | None = None,
    *,
    z: int | None = None,
    scale: Literal["shared", "own"] = "shared",
    outline: bool = True,
    contrast: int = 100,
    colours: str | None = None,
    opacity: int = 100,
    input_channel: int | str | None = None,
    size: int = 262,
) -> hv.Layout:
    """One channel's map on the original, under a perturbation, and the difference; outline of the perturbed class.

    x and y are pixels of the input, as in :func:`inputs`. The mask is averaged over the area of each of the layer's
    pixels, where its grid lies on the input, and outlined where it covers half of one. Reads a map's chunk twice, and
    the label's.

    Parameters
    ----------
    sample, condition
        as in :func:`inputs`.
    z
        slice of a volume, in slices of the input; by default that with most of the perturbed class. Shown is the
        slice of the layer that lies there.
    scale
        "shared": all three on one scale around 0; "own": original and perturbed each from its least to its largest
        value, the difference around 0.
    outline
        draw that of the perturbed class.
    contrast
        the per cent of each scale's range that colours are given to.
    colours
        a colour map for all three; by default that of the scale.
    opacity
        of the maps, in per cent: below 100 the input, original and perturbed, is seen through them.
    input_channel
        of that input, as in :func:`inputs`.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if there is no such sample, condition or slice, the perturbation does not apply to the sample, or the layer's
        tensors were not kept.
    KeyError, IndexError
        if there is no such layer or channel.

    Examples
    --------
    >>> figure = views.activation(store, "L02", 1, sample=5, condition="brightness(LV, 0.1)")
    """
    s, c = chosen(store, sample, condition)
    maps = [store.map(layer, s, i, channel).astype(np.float32) for i in (0, c)]
    label = store.picture("label", s)
    at, cover = covers(store, layer, label, c, z)
    original, perturbed = (values if at is None else values[at] for values in maps)
    place = place_of(store.grids[layer])
    within = frame_of(*map(slice, label.shape[-2:]))
    titles = (f"{layer} channel {channel}, original", str(store.conditions.index[c]), CHANGE)
    drawn = (original, perturbed, perturbed - original)
    scales = of_maps(drawn, scale, contrast, colours)
    below: list[Any] = [[]] * 3
    if opacity < 100:
        k = input_channel_number(store, input_channel, c)
        images = picture(store, s, [0, c], z, input_channel=k)["image"]
        below = [[pixels.image(images[i], GREY, extremes(images[i]))] for i in (0, 1, 0)]
    panels = [
        panel(
            [
                *below[i],
                styled(
                    pixels.image(values, cmap, limits, place=place, colorbar=i == 2 or scale == "own"),
                    alpha=opacity / 100,
                ),
                *border([(mask, ink(cmap)) for mask in cover if outline], width=1.4, place=place),
            ],
            (size, size),
            title=title,
            **within,
        )
        for i, (title, values, (cmap, limits)) in enumerate(zip(titles, drawn, scales, strict=True))
    ]
    return grid(panels, 3, (size, size), hspace=0.3, vspace=0.1)


def covers(
    store: Store, layer: str, label: NDArray[Any], condition: int, z: int | None = None
) -> tuple[int | None, list[NDArray[np.float64]]]:
    """The slice of a layer to show, None in 2D, and the share of each of its pixels that each perturbed class covers.

    Parameters
    ----------
    label
        the whole sample's, ([z,] y, x).
    z
        as :func:`actstore.views.figures.selection.plane`.
    """
    size: Any = store.layers.loc[layer, "size"]
    grid = store.grids[layer]
    shares = [averaged(mask, size, grid) for mask in perturbed_masks(store, label, condition)]
    z = plane(store, label, condition, z)
    if z is None:
        return None, shares
    at = grid.pixel_at(z, 0, size[0])
    return at, [share[at] for share in shares]


def frame_of(rows: slice, columns: slice) -> dict[str, Any]:
    """Options of a plot that shows these rows and columns of the input, also beside plots that show others."""
    height, width = ((part.start or 0, part.stop) for part in (rows, columns))
    return BARE | {"xlim": (width[0] - 0.5, width[1] - 0.5), "ylim": (height[0] - 0.5, height[1] - 0.5)}
