"""Sentences on what is like what: layers, perturbed and original, samples and their nearest, two networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from actstore.analysis.representations.similarity import FEW_SAMPLES
from actstore.conditions import ORIGINAL
from actstore.tables.representations import PIXELS
from actstore.units import counted
from actstore.views.wording import listed, number, part, percent

#: Perturbations that are spelled out.
SPELLED = 3
#: What CKA and the points are, for a reader who meets them first.
CKA = (
    "CKA compares how two layers place the same samples relative to each other: 1 where one is the other turned, "
    "scaled or shifted, about 0 where they have nothing in common, by an estimator without bias for few samples. A "
    "sample's point in a layer is the mean and the maximum of each channel's map; RSA is the rank correlation of "
    "distances."
)
#: What p tests.
PERMUTED = (
    "Permuting patients, not their samples, gives p, which is of patients' mean points: within a network most layers "
    "are alike, since one is computed from the other, so that p says little there."
)


def alike(table: pd.DataFrame) -> list[str]:
    """The most and the least similar layers on the original, of the table ``similarity``; none of few samples."""
    pairs = table[(table["condition"] == ORIGINAL) & table["cka"].notna() & (table["samples"] >= FEW_SAMPLES)]
    if len(pairs) < 2:
        return []
    most, least = (pairs.iloc[at(pairs["cka"].to_numpy())] for at in (np.argmax, np.argmin))
    return [
        f"On the original, {most['layer']} and {most['other_layer']} see samples most alike (CKA "
        f"{number(most['cka'])}), {least['layer']} and {least['other_layer']} least (CKA {number(least['cka'])})."
    ]


def kept(table: pd.DataFrame, action: Callable[[str], str]) -> list[str]:
    """In which layer each of the first :data:`SPELLED` perturbations keeps least and most of how samples lie, of the
    table ``similarity``; none of few samples."""
    changed = table[(table["condition"] != ORIGINAL) & table["cka"].notna() & (table["samples"] >= FEW_SAMPLES)]
    found = []
    for condition, own in changed.groupby("condition", sort=False):
        if own["layer"].nunique() < 2:
            continue
        low, high = (own.iloc[at(own["cka"].to_numpy())] for at in (np.argmin, np.argmax))
        found.append(
            f"Under {action(str(condition))}, {low['layer']} keeps least of how samples lie to each other (CKA "
            f"{number(low['cka'])} with the original), {high['layer']} most (CKA {number(high['cka'])})."
        )
    return found[:SPELLED]


def nearest(table: pd.DataFrame, noun: str) -> list[str]:
    """In which layers the nearest sample of another patient is the one that the images have, of ``neighbours``."""
    own = [name for name in ("patient", "frame", "slice", "patch") if name in table]
    names = [f"neighbour_{name}" for name in own]
    first = table[table["rank"] == 1]
    image = first[first["layer"] == PIXELS].set_index(own)[names]
    shares = {}
    for layer, rows in first[first["layer"] != PIXELS].groupby("layer", sort=False):
        there = rows.set_index(own)[names]
        shares[str(layer)] = (there == image.reindex(there.index)).all(axis=1).to_numpy()
    if image.empty or not shares:
        return []
    counts = {layer: int(same.sum()) for layer, same in shares.items()}
    high, low = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[high] == 0:
        return [f"In no layer does any {noun} have the same nearest {noun} of another patient as in its pixels."]
    return [
        f"The nearest {noun} of another patient is the one that the pixels have in {high} for "
        f"{part(counts[high], len(shares[high]), noun, _many(noun))}, the most of any layer, and in {low} for "
        f"{counts[low]}, the fewest."
    ]


def pictured(table: pd.DataFrame, layer: str) -> str:
    """How far to trust the picture of a layer, of the table ``projection``."""
    own = table[table["layer"] == layer].iloc[0]
    share = "" if not np.isfinite(own["share"]) else f" and hold {percent(own['share'])} of all variance"
    what = {"pca": "The two axes are principal components", "tsne": "The picture is t-SNE"}[own["method"]]
    return (
        f"{what}{share}; trustworthiness {number(own['trustworthiness'])}: 1 where all neighbours in the picture are "
        "neighbours in the layer's space, about 0.5 where they might be drawn at random."
    )


def networks(table: pd.DataFrame) -> list[str]:
    """Which layers of two networks match, of the table of two stores' similarity."""
    known = table[table["cka"].notna() & (table["samples"] >= FEW_SAMPLES)]
    if known.empty:
        return []
    best = known.sort_values("cka", ascending=False, kind="stable").drop_duplicates("layer_a")
    top = best.iloc[0]
    tested = known[known["q"].notna()]
    found = [
        f"{top['layer_a']} of a and {top['layer_b']} of b see samples most alike (CKA {number(top['cka'])}); the best "
        f"match of a layer of a has CKA {number(best['cka'].median())} in median."
    ]
    if len(tested):
        beyond = int((tested["q"] < 0.05).sum())
        found.append(
            f"{part(beyond, len(tested), 'pair')} of layers are more alike than with patients exchanged (q < 0.05, "
            f"corrected over {counted(int(tested['tests'].max()), 'test')})."
        )
    return found


def dice_differs(table: pd.DataFrame) -> list[str]:
    """Where mean Dice of two networks differs for certain, of :attr:`actstore.tables.compare.Comparison.dice_mean`."""
    tested = table[table["low"].notna()]
    apart = tested[(tested["low"] > 0) | (tested["high"] < 0)]
    if tested.empty:
        return []
    if apart.empty:
        return [f"In none of {counted(len(tested), 'comparison')} of mean Dice does the 95 % interval leave out 0."]
    order = apart["difference"].abs().to_numpy().argsort(kind="stable")[::-1]
    columns = [apart[name].to_numpy()[order].tolist() for name in ("class_name", "condition", "dice_a", "dice_b")]
    names = [
        f"{name} under {condition} ({number(a)} to {number(b)})" for name, condition, a, b in zip(*columns, strict=True)
    ]
    return [
        f"Mean Dice differs, its 95 % interval without 0, in {part(len(apart), len(tested), 'comparison')}: "
        f"{listed(names, 3)}."
    ]


def accuracy_differs(table: pd.DataFrame) -> list[str]:
    """Which of two classifiers is right more often, of :attr:`actstore.tables.compare.Comparison.accuracy`."""
    found = []
    for row in table.to_dict("records"):
        if not row["samples"]:
            continue
        better, worse = ("b", "a") if row["difference"] > 0 else ("a", "b")
        sure = "" if row["p"] < 0.05 else ", no more than chance may give"
        said = f"{better} is right more often than {worse}" if row["difference"] else "both are right as often"
        found.append(
            f"Under {row['condition']}, {said}: {number(row['accuracy_a'])} and {number(row['accuracy_b'])} of "
            f"{counted(row['samples'], 'image')} (a and b), {row['a_alone']} of them a alone and {row['b_alone']} b "
            f"alone (p = {row['p']:.2g}){sure}."
        )
    return found


def _many(noun: str) -> str:
    return {"patch": "patches"}.get(noun, f"{noun}s")
