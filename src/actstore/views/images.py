"""Pictures: inputs, predictions and activation maps, with the outlines of what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import holoviews as hv
import numpy as np
from numpy.typing import NDArray

from actstore.analysis.masks import averaged
from actstore.errors import StoreError
from actstore.views import pixels
from actstore.views.pixels import BARE, border, outlines
from actstore.views.selection import best_slice, picture, target_of, typical_sample, window
from actstore.views.theme import DIVERGING, GREY, SEQUENTIAL, grid, panel

if TYPE_CHECKING:
    from actstore.store import Store


def inputs(
    store: Store, condition: str, sample: int | None = None, *, difference: bool = True, size: int = 278
) -> hv.Layout:
    """Original and perturbed input, and their difference, with outlines of truth (solid) and prediction (dashed).

    Parameters
    ----------
    condition
        name of a perturbation.
    sample
        number of the sample; by default that of median change in Dice.
    difference
        also show perturbed - original, around 0.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if the condition is unknown, or does not apply to the sample.
    """
    c = _condition(store, condition)
    sample = typical_sample(store, condition) if sample is None else sample
    if not bool(store.applicable[sample, c]):
        target = target_of(store, condition)
        raise StoreError(f"sample {sample} has no {condition!r}: it does not contain {target}; choose another sample")
    found = picture(store, sample, [0, c])
    label, image, prediction = found["label"], found["image"], found["prediction"]
    rows, columns = window(np.stack([label, *prediction]))
    label, image, prediction = label[rows, columns], image[:, rows, columns], prediction[:, rows, columns]
    limits = (float(np.nanmin(image)), float(np.nanmax(image)))
    panels = [
        panel(
            [pixels.image(image[i], GREY, limits), *outlines(store.classes, label, prediction[i])],
            (size, size),
            title=title,
            **BARE,
        )
        for i, title in enumerate(("original", condition))
    ]
    if difference:
        change = image[1] - image[0]
        most = float(np.nanmax(np.abs(change))) or 1.0
        drawn = pixels.image(change, DIVERGING, (-most, most), colorbar=True)
        panels.append(
            panel([drawn, *outlines(store.classes, label)], (size, size), title="perturbed − original", **BARE)
        )
    return grid(panels, len(panels), (size, size), hspace=0.06, vspace=0.1)


def gallery(store: Store, case: str, condition: str | None = None, *, examples: int = 4, size: int = 220) -> hv.Layout:
    """Perturbed inputs of one kind of failure, with outlines of truth (solid) and prediction (dashed).

    Examples come from as many patients as there are, in the order of the store.

    Parameters
    ----------
    case
        as :attr:`actstore.store.Store.cases` names it.
    condition
        of this perturbation only.

    Raises
    ------
    StoreError
        if no prediction is of that case.
    """
    cells = example_cells(store, case, condition, examples)
    panels = []
    for s, c in cells:
        found = picture(store, s, [c])
        rows, columns = window(np.stack([found["label"], *found["prediction"]]))
        image = found["image"][0][rows, columns]
        drawn = outlines(store.classes, found["label"][rows, columns], found["prediction"][0][rows, columns])
        row = store.samples.iloc[s]
        title = f"{row['patient']} · frame {row['frame']} · slice {row['slice']}"
        limits = (float(np.nanmin(image)), float(np.nanmax(image)))
        small: dict[str, Any] = {"bokeh": {"fontsize": {"title": "12px"}}, "matplotlib": {"fontsize": {"title": 7}}}
        panels.append(panel([pixels.image(image, GREY, limits), *drawn], (size, size), title=title, **small, **BARE))
    return grid(panels, max(examples, 1), (size, size), hspace=0.06, vspace=0.12)


def example_cells(store: Store, case: str, condition: str | None = None, examples: int = 4) -> list[tuple[int, int]]:
    """(sample, condition) numbers of up to ``examples`` predictions of a case, of different patients first."""
    found = store.cases.values == case
    if condition is not None:
        found &= (np.arange(found.shape[1]) == _condition(store, condition))[None, :]
    cells = np.argwhere(found)
    if len(cells) == 0:
        under = f" under {condition}" if condition else ""
        known = ", ".join(sorted({str(name) for name in np.unique(store.cases.values)} - {""}))
        raise StoreError(f"no prediction{under} is of case {case!r}: there are {known}")
    patients = store.samples["patient"].to_numpy()[cells[:, 0]]
    seen: dict[str, int] = {}
    turn = [seen.setdefault(p, 0) or seen[p] for p in patients]
    for i, p in enumerate(patients):
        turn[i] = seen[p]
        seen[p] += 1
    # Of a patient's slices the middle one first: the ends of a heart are the least like it.
    middle = np.array([abs(t - (seen[p] - 1) / 2) for t, p in zip(turn, patients, strict=True)])
    order = np.lexsort((np.arange(len(cells)), middle))
    chosen: list[int] = []
    while len(chosen) < min(examples, len(cells)):
        used = [patients[i] for i in chosen]
        chosen.append(min((i for i in order if i not in chosen), key=lambda i: used.count(patients[i])))
    return [(int(s), int(c)) for s, c in cells[sorted(chosen)]]


def activation(
    store: Store, layer: str, channel: int, condition: str, sample: int | None = None, *, size: int = 262
) -> hv.Layout:
    """One channel's map on the original, under a perturbation, and the difference; outline of the perturbed class.

    The first two share one scale. The mask is averaged over the area of each of the layer's pixels, where its grid lies
    on the input, and outlined where it covers half of one. Reads one chunk of the store; of a volume, shows the slice
    with most of the mask.

    Raises
    ------
    StoreError
        if the condition does not apply to the sample, or the layer's tensors were not kept.
    """
    c = _condition(store, condition)
    sample = typical_sample(store, condition) if sample is None else sample
    maps = [store.map(layer, sample, i, channel).astype(np.float32) for i in (0, c)]
    if np.isnan(maps[1]).all() and not bool(store.applicable[sample, c]):
        raise StoreError(f"sample {sample} has no {condition!r}: choose one that it applies to")
    label: NDArray[Any] = np.equal(store.label.isel(sample=sample).values, store.classes[target_of(store, condition)])
    cover = averaged(label, maps[0].shape, store.offsets[layer])
    if cover.ndim == 3:
        z = best_slice(cover)
        cover, maps = cover[z], [volume[z] for volume in maps]
    outline = border([(cover, "#ffffff")], width=1.6)
    dark = border([(cover, "#111111")], width=1.2)
    limits = (float(np.nanmin(maps)), float(np.nanmax(maps)))
    change = maps[1] - maps[0]
    most = float(np.nanmax(np.abs(change))) or 1.0
    drawn = [
        ("original", pixels.image(maps[0], SEQUENTIAL, limits), outline),
        (condition, pixels.image(maps[1], SEQUENTIAL, limits, colorbar=True), outline),
        ("perturbed − original", pixels.image(change, DIVERGING, (-most, most), colorbar=True), dark),
    ]
    panels = [panel([image, *line], (size, size), title=title, **BARE) for title, image, line in drawn]
    return grid(panels, 3, (size, size), hspace=0.3, vspace=0.1)


def _condition(store: Store, name: str) -> int:
    names = list(store.conditions.index)
    if name not in names[1:]:
        raise StoreError(f"no perturbation {name!r}: there are {', '.join(names[1:])}")
    return names.index(name)
