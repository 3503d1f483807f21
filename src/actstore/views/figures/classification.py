"""Figures of classifiers: how often each class is right, and images with what they are taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.analysis.classification import EVERY
from actstore.errors import StoreError
from actstore.views.figures import marks, pixels
from actstore.views.figures.images import frame_of
from actstore.views.figures.selection import input_channel_number
from actstore.views.figures.theme import GREY, INK, MOST_CONDITIONS, NEUTRAL, colours_of, grid, panel, plot_size

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Characters of a title above a small image.
_TITLE = 30


def _number(store: Store, condition: str) -> int:
    known = list(store.conditions.index)
    if condition not in known:
        raise StoreError(f"no condition {condition!r}: there are {', '.join(known)}")
    return known.index(condition)


def accuracy(table: pd.DataFrame, *, height: int = 240) -> hv.Layout:
    """The part classified right of all images and of those of each class, with 95 % intervals; one plot a condition.

    Parameters
    ----------
    table
        columns ``condition, class_name, samples, accuracy, low, high``, as of the table ``accuracy``.

    Examples
    --------
    >>> figure = views.accuracy(actstore.Findings(classified).table("accuracy"))
    """
    groups = list(table.groupby("condition", sort=False))[:MOST_CONDITIONS]
    names = list(dict.fromkeys(table["class_name"]))
    size = plot_size(len(groups), height)
    panels = []
    for i, (condition, own) in enumerate(groups):
        shown = own.assign(row=[names.index(name) for name in own["class_name"]])
        shown["colour"] = [INK if name == EVERY else NEUTRAL for name in shown["class_name"]]
        columns = ["accuracy", "row", "class_name", "samples", "low", "high", "colour"]
        elements = [
            marks.intervals(shown, "row", "low", "high", NEUTRAL, across=True),
            marks.dots(shown[columns], "accuracy", "row", "colour", size=8),
        ]
        panels.append(
            panel(
                elements,
                size,
                title=str(condition),
                xlim=(-0.03, 1.03),
                ylim=(len(names) - 0.5, -0.5),
                yticks=list(enumerate(names)) if i % 3 == 0 else [(k, "") for k in range(len(names))],
                xlabel="part classified right",
                ylabel="",
            )
        )
    return grid(panels, 3, size)


def classified(store: Store, condition: str = "original", *, each: int = 1, size: int = 190) -> hv.Layout:
    """Images of each class with label, prediction and its probability: of each the least sure ones first.

    Parameters
    ----------
    condition
        under which the network saw them.
    each
        images of a class.
    size
        pixels a side.

    Raises
    ------
    StoreError
        if the store is no classifier's, there is no such condition, or it applies to no image.

    Examples
    --------
    >>> figure = views.classified(classified)
    """
    c = _number(store, condition)
    found = examples(store, condition, each)
    colours = colours_of(store)
    k = input_channel_number(store, None, c)
    panels = []
    for row in found.to_dict("records"):
        image = store.picture("image", int(row["sample"]), c, input_channel=k)
        image = image[len(image) // 2] if image.ndim == 3 else image
        label, prediction = str(row["label"]), str(row["prediction"])
        title = label if label == prediction else f"{label} → {prediction}"
        small: Any = {"bokeh": {"fontsize": {"title": "11px"}}, "matplotlib": {"fontsize": {"title": 7}}}
        frame = np.ones(image.shape, bool)
        panels.append(
            panel(
                [
                    pixels.image(image.astype(np.float32), GREY, (float(image.min()), float(image.max()))),
                    *pixels.border([(frame, colours[prediction])], width=1.0 if label == prediction else 3.0),
                ],
                (size, size),
                title=f"{title[:_TITLE]} {row['probability']:.2f}",
                **small,
                **frame_of(*map(slice, image.shape)),
            )
        )
    return grid(panels, 4, (size, size), hspace=0.06, vspace=0.15)


def examples(store: Store, condition: str = "original", each: int = 1) -> pd.DataFrame:
    """The ``each`` images of each label whose own class has the least probability: ``sample, patient, image_name,
    label, prediction, probability``; that of the prediction.

    Raises
    ------
    StoreError
        as :func:`classified`.
    """
    from scipy.special import softmax

    c = _number(store, condition)
    logits = store.score.isel(condition=c).transpose("sample", "class_name").values
    there = np.flatnonzero(~np.isnan(logits).any(1))
    if not len(there):
        raise StoreError(f"{condition} applies to no image of {store.path}: choose another condition")
    probability = softmax(logits[there].astype(np.float64), axis=1)
    names = np.asarray(store.class_names)
    samples = store.samples.iloc[there]
    label = samples["label"].to_numpy()
    frame = pd.DataFrame(
        {
            "sample": there,
            "patient": samples["patient"].to_numpy(),
            "image_name": samples["image_name"].to_numpy(),
            "label": label,
            "prediction": names[logits[there].argmax(1)],
            "probability": probability.max(1),
            "own": probability[np.arange(len(there)), [list(names).index(name) for name in label]],
        }
    )
    ordered = frame.sort_values("own", kind="stable").groupby("label", sort=False).head(each)
    order = ordered["label"].map(list(names).index)
    return ordered.assign(order=order).sort_values(["order", "own"], kind="stable").drop(columns=["order", "own"])
