"""Probabilities that a classifier gives the classes of one image, as bars."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from actstore.views.arrays import Floats
from actstore.views.explorer.source import Source
from actstore.views.figures.theme import colours_of

#: Classes that have bars: the most probable, and the label.
MOST = 10


def shown_classes(probability: Floats, label: int) -> NDArray[np.intp]:
    """Numbers of the classes that have bars, in the network's order: all, or the ``label`` and the most probable ones.

    ``probability`` is (condition, class), NaN where a condition does not apply.
    """
    highest = np.nanmax(probability, axis=0)
    highest[label] = np.inf
    return np.sort(np.argsort(-highest, kind="stable")[:MOST])


def probability_bars(source: Source, sample: int, condition: int) -> Markup:
    """A row a class with a bar for the original and one under the condition; label and predictions marked."""
    conditions = [0] if source.alone else [0, condition]
    known = source.probability[sample, conditions]
    label, predicted = int(source.labels[sample]), source.predicted[sample, conditions]
    colours, names = colours_of(source.store), source.store.class_names
    shown = shown_classes(known, label)
    rows = Markup("")
    for k in shown:
        cells = Markup("").join(
            _bar(float(known[i, k]), colours[names[k]], predicted=bool(k == predicted[i])) for i in range(len(known))
        )
        mark = Markup(' <span class="mark">label</span>') if k == label else ""
        rows += Markup('<tr{}><th title="{}" style="border-color:{}">{}{}</th>{}</tr>').format(
            Markup(' class="label"') if k == label else "", names[k], colours[names[k]], names[k], mark, cells
        )
    heads = ("original", source.names[condition])[: len(known)]
    head = Markup("").join(Markup('<th title="{0}">{0}</th>').format(name) for name in heads)
    left = len(names) - len(shown)
    more = f", {len(shown)} of {len(names)} classes" if left else ""
    return Markup(
        '<table class="probabilities"><caption>probability of each class{}</caption><tr><th></th>{}</tr>{}</table>'
    ).format(more, head, rows)


def _bar(value: float, colour: str, *, predicted: bool) -> Markup:
    if not np.isfinite(value):
        return Markup("<td>—</td>")
    text = Markup("<b>{:.3f}</b>" if predicted else "{:.3f}").format(value)
    return Markup('<td title="{}"><span class="bar"><u style="width:{:.1f}%;background:{}"></u></span>{}</td>').format(
        "predicted" if predicted else "", 100 * value, colour, text
    )
