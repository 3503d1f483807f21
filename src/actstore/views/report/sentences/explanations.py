"""Sentences on where predictions come from: how maps were made, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from actstore.units import counted
from actstore.views.wording import interval, listed, number, percent

#: How each method makes a map, in words.
_METHODS = {
    "occlusion": "each window of the input is filled in turn, and the map is how much lower the score is then",
    "gradient": "the derivative of the score by each pixel",
    "guided": "the gradient of what is positive on the way back, at each activation (guided backpropagation)",
    "deconvnet": "only what is positive on the way back passes, whatever the activation was given (deconvnet)",
}
#: Share deleted at which sentences compare, and the trivial order.
AT, DISTANCE = 0.05, "distance"


def made(name: str, settings: Mapping[str, Any]) -> str:
    """How one explanation was made; ``settings`` is its resolved table."""
    method = str(settings["method"])
    how = _METHODS.get(method, f"a method of the study's own, {method}")
    if settings.get("layers"):
        start = "its largest value" if settings["start"] == "peak" else "its whole map"
        return (
            f"{name}: of each of the {counted(settings['top'], 'strongest channel')} of {listed(settings['layers'])}, "
            f"{start} is sent back into the input: {how}."
        )
    fill = str(settings["fill"])
    stands = {"mean": "the mean of the image", "blur": "the image, blurred"}.get(fill, f"the intensity {fill}")
    where = f"; in a window stands {stands}, which decides the map" if method == "occlusion" else ""
    return f"{name}: {how}{where}. The score is the class's {settings['score']}, over the pixels predicted as it."


def deletion(rows: pd.DataFrame) -> list[str]:
    """What is left by each order, a sentence for each map; the rows of the table ``deletion`` at :data:`AT`."""
    found = []
    for (name, condition, class_name), own in rows.groupby(["explanation", "condition", "class_name"], sort=False):
        left = {str(row["order"]): row for row in own.to_dict("records")}
        by_map = left["map"]
        if not by_map["samples"]:
            continue
        where = "" if condition == "original" else f" under {condition}"
        excess, low, high = (float(by_map[key]) for key in ("excess", "excess_low", "excess_high"))
        rests = f" ({' to '.join(interval(excess, low, high))})" if np.isfinite([low, high]).all() else ""
        nearest, random = (number(left[order]["probability"]) for order in (DISTANCE, "random"))
        found.append(
            f"{name}, {class_name}{where}: with {percent(AT)} of the body deleted in the map's order, a probability of "
            f"{number(by_map['probability'])} is left; nearest to the class first {nearest}, at random {random}. "
            f"The map leaves {number(excess)}{rests} more than deleting what is nearest; a negative value would mean "
            "that the map does better."
        )
    return found


def beaten(rows: pd.DataFrame) -> list[str]:
    """In how many maps the order beats the trivial one, for the summary; ``rows`` as of :func:`deletion`."""
    maps = rows[(rows["order"] == "map") & rows["excess_high"].notna()]
    if maps.empty:
        return []
    better = int((maps["excess_high"] < 0).sum())
    return [
        f"Of {counted(len(maps), 'map')} of classes {better} find{'s' if better == 1 else ''} what the prediction "
        "rests on better than deleting whatever is nearest to the class (by a 95 % interval over patients)."
    ]


def randomisation(table: pd.DataFrame) -> list[str]:
    """How alike maps are with all layers permuted, a sentence for each explanation; of the table ``randomisation``."""
    found = []
    for name, own in table.groupby("explanation", sort=False):
        known = own[own["samples"] > 0]
        if known.empty:
            continue
        said = []
        several = known["condition"].nunique() > 1
        for (condition, class_name, layer), lines in known.groupby(["condition", "class_name", "layer"], sort=False):
            last = lines[lines["permuted"] == lines["permuted"].max()].groupby("sign")["spearman"].mean()
            what = f"{class_name or layer}{f' under {condition}' if several else ''}"
            said.append(f"{what} {number(last['map'])} and {number(last['magnitude'])}")
        found.append(
            f"{name} ({own['method'].iloc[0]}): rank correlation of maps, and of their magnitudes, with those of "
            f"permuted weights: {listed(said)}. A value near 1 means that the map depends little on what the network "
            "learned."
        )
    return found
