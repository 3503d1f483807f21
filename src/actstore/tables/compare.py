"""Two stores of the same samples side by side: how alike their layers are, and how their predictions differ."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.classification import correct
from actstore.analysis.representations.embedding import embedding
from actstore.analysis.uncertainty.bootstrap import bootstrap_mean
from actstore.analysis.uncertainty.resamples import RESAMPLES
from actstore.analysis.uncertainty.sign_flips import whole_sign_p
from actstore.errors import StoreError
from actstore.tables.catalogue import COMPARISONS
from actstore.tables.findings import Findings
from actstore.tables.representations import POOL, compared_networks
from actstore.tables.rows import sample_columns
from actstore.units import counted, first_few

if TYPE_CHECKING:
    from actstore.store.store import Store

#: Suffix of the columns of either store, and its name in a column ``store``.
SIDES = ("a", "b")


class Comparison:
    """Two open stores whose committed samples are the same patients, frames, slices and patches, or images of the same
    names, in any order.

    Raises
    ------
    StoreError
        if a sample is in one store only, naming which; if an image has another label in either, so that its name is of
        two images; or a store has no committed block.
    """

    def __init__(self, one: Store, other: Store, *, resamples: int = RESAMPLES) -> None:
        self.findings = (Findings(one, resamples=resamples), Findings(other, resamples=resamples))
        self.resamples = resamples
        self.order = _matched(one, other)
        own, others = (store.samples["patient"].to_numpy() for store in self.stores)
        others = others[self.order]
        #: The patient of each sample, in the order of the first store, from the store that names fewer patients: where
        #: they are unknown, each image counts as one.
        self.patient = others if len(np.unique(others)) < len(np.unique(own)) else own

    @property
    def stores(self) -> tuple[Store, Store]:
        one, other = self.findings
        return one.store, other.store

    @cached_property
    def conditions(self) -> list[str]:
        """Names of the conditions that both stores have, in the order of the first."""
        one, other = (store.conditions.index for store in self.stores)
        return [str(name) for name in one if name in other]

    @cached_property
    def class_names(self) -> list[str]:
        """What both stores have predictions of pixels of.

        Raises
        ------
        StoreError
            if that is nothing, or a store is of a classifier.
        """
        if classifiers := [str(store.path) for store in self.stores if store.classified]:
            raise StoreError(f"{classifiers[0]} is of a classifier, which predicts no pixels: take its table accuracy")
        one, other = (list(store.members) for store in self.stores)
        if not (both := [name for name in one if name in other]):
            raise StoreError(f"the stores have no class in common: {', '.join(one)} and {', '.join(other)}")
        return both

    def table(self, name: str) -> pd.DataFrame:
        """One of :data:`COMPARISONS`.

        Raises
        ------
        KeyError
            naming those that there are.
        """
        if name not in COMPARISONS:
            raise KeyError(f"no table {name!r} of two stores: there are {', '.join(COMPARISONS)}")
        found: pd.DataFrame = getattr(self, name)
        return found

    @cached_property
    def similarity(self) -> pd.DataFrame:
        """Every layer of the one against every layer of the other on the original.

        Columns ``layer_a, layer_b, samples, patients, cka, rsa, p, q, tests, note``.
        """
        one, other = (embedding(store, pool=POOL) for store in self.stores)
        both = (
            points.assign_coords(patient=("sample", self.patient)) for points in (one, other.isel(sample=self.order))
        )
        points = dict(zip(SIDES, both, strict=True))
        return compared_networks(points, resamples=self.resamples)

    @cached_property
    def dice(self) -> pd.DataFrame:
        """Dice of either network by sample, common condition and common class.

        Columns ``patient, frame, slice, condition, class_name, dice_a, dice_b, difference``, of patches with ``patch``
        after ``slice``; the difference is b less a. A condition has a row where it applies in both stores.
        """
        keys = [*sample_columns(self.stores[0].samples), "condition", "class_name"]
        classes = self.class_names
        one, other = (found.table("dice") for found in self.findings)
        one = one[one["condition"].isin(self.conditions) & one["class_name"].isin(classes)]
        both = one[[*keys, "dice"]].merge(other[[*keys, "dice"]], on=keys, suffixes=("_a", "_b"))
        return both.assign(difference=both["dice_b"] - both["dice_a"])

    @cached_property
    def dice_mean(self) -> pd.DataFrame:
        """Mean Dice of either network and their mean difference, with a 95 % interval over patients.

        A row a common condition and class; columns ``condition, class_name, samples, patients, dice_a, dice_b,
        difference, low, high, error, note``. Of samples whose truth holds the class, as in the table ``dice-mean``.
        """
        one, other = (found.averaged_dice.sel(class_name=self.class_names) for found in self.findings)
        one, other = (dice.isel(condition=self._numbers(i)) for i, dice in enumerate((one, other)))
        other = other.isel(sample=self.order)
        plain = one.transpose("sample", "condition", "class_name")
        values = [plain.values, other.transpose(*plain.dims).values]
        used = np.isfinite(values[0]) & np.isfinite(values[1])
        patient = {"patient": plain.coords["patient"]}
        means = [
            bootstrap_mean(xr.DataArray(np.where(used, value, np.nan), dims=plain.dims, coords=patient),
                           resamples=self.resamples)
            for value in (*values, values[1] - values[0])
        ]  # fmt: skip
        condition, name = (i.ravel() for i in np.indices((len(self.conditions), len(self.class_names))))
        rows = {
            "condition": np.array(self.conditions, object)[condition],
            "class_name": np.array(self.class_names, object)[name],
            "samples": means[0]["samples"].values.ravel(),
            "patients": means[0]["patients"].values.ravel(),
            "dice_a": means[0]["mean"].values.ravel(),
            "dice_b": means[1]["mean"].values.ravel(),
            "difference": means[2]["mean"].values.ravel(),
        }
        rows |= {key: means[2][key].values.ravel() for key in ("low", "high", "error", "note")}
        every = pd.DataFrame(rows)
        return every.loc[every["samples"] > 0].reset_index(drop=True)

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """How often either of two classifiers is right on the same images, in each common condition.

        Columns ``condition, samples, patients, accuracy_a, accuracy_b, difference, a_alone, b_alone, p``: the images
        that one alone classifies right, and the p of flipping the sign of each patient's difference, which is McNemar's
        exact test where each image is of another patient. A condition counts the images that it applies to in both.

        Raises
        ------
        StoreError
            if a store is no classifier's.
        """
        if segmenting := [str(store.path) for store in self.stores if not store.classified]:
            raise StoreError(f"{segmenting[0]} segments: take the table dice")
        right = [correct(found.confusion, applicable=found.applicable) for found in self.findings]
        first, second = (one.isel(condition=self._numbers(i)).values for i, one in enumerate(right))
        second = second[self.order]
        patients, whose = np.unique(self.patient, return_inverse=True)
        rows = []
        for c, condition in enumerate(self.conditions):
            a, b = first[:, c], second[:, c]
            used = np.isfinite(a) & np.isfinite(b)
            apart = (b[used] - a[used]).astype(int)
            each = np.bincount(whose[used], apart, len(patients)).astype(int)
            rows.append(
                {
                    "condition": condition,
                    "samples": int(used.sum()),
                    "patients": len(np.unique(whose[used])),
                    "accuracy_a": a[used].mean() if used.any() else np.nan,
                    "accuracy_b": b[used].mean() if used.any() else np.nan,
                    "difference": apart.mean() if used.any() else np.nan,
                    "a_alone": int((apart < 0).sum()),
                    "b_alone": int((apart > 0).sum()),
                    "p": whole_sign_p(each),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def frequency(self) -> pd.DataFrame:
        """The table ``frequency`` of either store, one below the other: its columns after ``store``, "a" or "b".

        Channels of two networks are not the same: numbers compare within a store alone.
        """
        parts = [found.table("frequency") for found in self.findings]
        named = [part.assign(store=side)[["store", *part.columns]] for side, part in zip(SIDES, parts, strict=True)]
        return pd.concat([part for part in named if len(part)] or named, ignore_index=True)

    def _numbers(self, side: int) -> list[int]:
        names = list(self.stores[side].conditions.index)
        return [names.index(name) for name in self.conditions]


def _matched(one: Store, other: Store) -> NDArray[np.intp]:
    """Of each sample of ``one``, its position in ``other``."""
    columns = [["image_name"] if "image_name" in s.samples else sample_columns(s.samples) for s in (one, other)]
    if len({tuple(found) == ("image_name",) for found in columns}) > 1:
        raise StoreError(
            f"one of {one.path} and {other.path} classifies images, the other segments: compare two of a kind"
        )
    if columns[0] != columns[1]:
        patched, plain = (one, other) if len(columns[0]) > len(columns[1]) else (other, one)
        raise StoreError(
            f"the samples of {patched.path} are patches, those of {plain.path} are not: compare runs of the same"
        )
    keys = [list(store.samples[columns[0]].itertuples(index=False, name=None)) for store in (one, other)]
    places = {key: i for i, key in enumerate(keys[1])}
    gone = {
        store.path: [key for key in own if key not in others]
        for store, own, others in ((one, keys[0], places), (other, keys[1], dict.fromkeys(keys[0])))
    }
    lacks = [
        f"{counted(len(some), 'sample')} in {path} alone ({first_few([_said(columns[0], key) for key in some], 2)})"
        for path, some in gone.items()
        if some
    ]
    if lacks:
        raise StoreError(f"the stores differ in their samples: {'; '.join(lacks)}: capture the same patients in both")
    order = np.array([places[key] for key in keys[0]], np.intp)
    if columns[0] == ["image_name"]:
        a, b = one.samples["label"].to_numpy(), other.samples["label"].to_numpy()[order]
        if len(apart := np.flatnonzero(a != b)):
            first = apart[0]
            raise StoreError(
                f"the stores differ in their labels of {counted(len(apart), 'image')}, the first "
                f"{keys[0][first][0]!r}: {a[first]!r} in {one.path}, {b[first]!r} in {other.path}: capture the same "
                "images under the same names (array name of an NPZ), and classes of the same names"
            )
    return order


def _said(columns: list[str], key: tuple[object, ...]) -> str:
    first, *rest = key
    return " ".join([str(first), *(f"{name} {value}" for name, value in zip(columns[1:], rest, strict=True))])
