"""Sentences on what channels look for: how the images were made, what became of them, and how they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from actstore.analysis.optima import STATUSES
from actstore.units import counted
from actstore.views.wording import capital, listed, part

#: What is maximised, in words.
_OBJECTIVES = {
    "mean": "the mean of a channel's map",
    "neuron": "the value of a channel's map at its centre",
    "direction": "the mean of a weighted sum of channels",
    "class": "the mean logit of a class",
}
#: What is optimised, in words.
_PARAMETERIZATIONS = {
    "fourier": "the image's spectrum",
    "pixel": "the image's pixels",
    "maco": "the phase of a spectrum whose magnitude is that of the run's own inputs",
}
#: What a regulariser is, and what its range is of.
_KINDS = {
    "brightness": ("random brightness", "factor {}"),
    "translate": ("random translation", "{} pixels"),
    "rotate": ("random rotation", "{} degrees"),
    "resize": ("random scaling", "factor {}"),
    "crop": ("random crops, resized", "{} of the image"),
    "l1": ("an L1 penalty", ""),
    "l2": ("an L2 penalty", ""),
    "tv": ("total variation", ""),
    "switching_bilateral": ("the switching bilateral filter", ""),
}
#: What a status means.
_MEANINGS = {
    "dead": "Dead: its map is 0 everywhere for the image, as behind a ReLU that nothing passes.",
    "constant": "Constant: the value is the same for every image.",
    "bounded": "Bounded: the size of the image alone bounds the value, as of one position behind an instance norm; it "
    "is compared with the data at their size only.",
}


def images(settings: Mapping[str, Any]) -> str:
    """What the images are; ``settings`` is the resolved table ``[visualise]``."""
    objective = settings["objective"]
    of = objective if objective in ("direction", "class") else "channel"
    return (
        f"Each image was made for one {of}: it began as noise, and an optimiser changed it so that "
        f"{_OBJECTIVES.get(objective, 'the objective')} rose. It shows what the {of} looks for, and is none of the "
        "data. Values are of the last image as it is, without the random transforms of the optimisation."
    )


def made(settings: Mapping[str, Any]) -> str:
    """How the images were made; ``settings`` is the resolved table ``[visualise]``."""
    size, ends = settings["size"], settings["range"]
    pixels = f"{' × '.join(map(str, size))} {'pixels' if len(size) == 2 else 'voxels'}"
    span = f"intensities from {ends[0]:g} to {ends[1]:g}" if isinstance(ends, list | tuple) else "free intensities"
    what = _PARAMETERIZATIONS.get(settings["parameterization"], settings["parameterization"])
    found = f"Settings: {counted(settings['steps'], 'step')} of {_optimizer(settings)} on {what}; {pixels}, {span}"
    if settings["repeats"] > 1:
        found += f"; {settings['repeats']} random starts each, of which the best is shown"
    steps = [_regularizer(one) for one in settings["regularize"]]
    return f"{found}; {'regularised by ' + ', '.join(steps) if steps else 'not regularised'}.".replace("-", "−")


def _optimizer(settings: Mapping[str, Any]) -> str:
    name = {"adam": "Adam", "sgd": "gradient ascent"}.get(settings["optimizer"], settings["optimizer"])
    ball = f" within an L2 ball of radius {settings['ball']:g}" if settings.get("ball") else ""
    return f"{name}{ball} at rate {settings['learning_rate']:g}"


def _regularizer(one: Mapping[str, Any]) -> str:
    name, of = _KINDS.get(one["kind"], (one["kind"], "{}"))
    details = []
    if one.get("range"):
        details.append(of.format(" to ".join(f"{end:g}" for end in one["range"])))
    if one.get("weight"):
        details.append(f"weight {one['weight']:g}")
    if (every := one.get("every") or 1) > 1:
        details.append(f"every {every} steps")
    return f"{name} ({', '.join(details)})" if details else name


def statuses(layers: pd.DataFrame, of: str = "channel") -> list[str]:
    """How many channels are of each status, and what those that are there mean.

    ``layers`` has the columns ``layer, channels`` and one a status, as of
    :func:`actstore.analysis.optima.share_above`.
    """
    whole = int(layers["channels"].sum())
    counts = {name: int(layers[name].sum()) for name in STATUSES}
    (number, name), *more = [(count, name) for name, count in counts.items() if count]
    said = [f"{number} {'is' if number == 1 else 'are'} {name}", *(f"{count} {name}" for count, name in more)]
    found = [f"Of {counted(whole, of)} in {counted(len(layers), 'layer')}, {listed(said)}."]
    found += [meaning for name, meaning in _MEANINGS.items() if counts[name]]
    if counts["dead"] or counts["constant"]:
        found.append("The image of what is dead or constant shows nothing, and is left out.")
    return [" ".join(found)]


def above(layers: pd.DataFrame, samples: int, noun: str = "slice", of: str = "channel") -> list[str]:
    """In how many channels an optimum exceeds the data; ``layers`` also with the columns ``compared, above``."""
    compared, more = int(layers["compared"].sum()), int(layers["above"].sum())
    if not compared:
        return []
    return [
        f"In {part(more, compared, of)} whose optimum can be compared with the data, its value exceeds the "
        f"highest of all {counted(samples, noun)}."
    ]


def not_compared(layers: pd.DataFrame) -> list[str]:
    """That nothing could be compared, where that is so."""
    if int(layers["compared"].sum()):
        return []
    return ["No optimum can be compared with the data: the samples were not looked at, or nothing is live."]


def others(name: str, names: Sequence[str]) -> list[str]:
    """Which other optima the store holds."""
    rest = [other for other in names if other != name]
    if not rest:
        return []
    return [f"Shown are the optima {name}; the store also holds {listed(rest)} (`actstore table … optima --of NAME`)."]


def sheet(layer: str, module: str, z: int | None, of: str = "channel") -> str:
    """The caption of a contact sheet."""
    where = "" if layer == module else f" ({module})"
    plane = "" if z is None else f" Of each volume the slice z = {z}, at the centre."
    return (
        f"What each {of} of {layer}{where} looks for: the best image of each, all on one scale, so that one that is "
        f"nearly uniform looks so.{plane}"
    )


def one(layer: str, channel: int, why: str, z: int | None, of: str = "channel", *, placed: bool = True) -> str:
    """The caption of one channel's figure.

    ``why`` says why it is shown; ``placed`` that the place of the layer's pixels on the input is known.
    """
    at = "dot" if placed else "middle of the box"
    plane = "" if z is None else f" Of the optimum the slice z = {z}, at the centre; of a sample that of the {at}."
    dot = ", the dot is the largest value of the map" if placed else ""
    return (
        f"{capital(of)} {channel} of {layer}, {why}: its optimum; the objective over the steps (grey: other starts; "
        "dots: first and last image); the last beside the data (line and band: mean ± standard deviation; dashed: "
        "maximum; rings: the strongest samples); and the samples that activate it most, cut to where they do: the box "
        f"holds most of the gradient{dot}.{plane}"
    )
