"""What an edit of channels does to the overlap: how much is lost, comes back or goes over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr

from actstore.analysis.arrays import AnalysisError, require_dims
from actstore.analysis.classification import EVERY, correct
from actstore.analysis.grouping import any_by, grouped, sum_by
from actstore.analysis.members import Regions
from actstore.analysis.segmentation.counts import class_names
from actstore.analysis.segmentation.overlap import Over, dice_over
from actstore.analysis.uncertainty.bootstrap import bootstrap_ratio
from actstore.analysis.uncertainty.resamples import RESAMPLES
from actstore.conditions import ORIGINAL

#: What the effect of an edit is: Dice that the original loses; the share of the lost Dice that comes back; the share
#: that is lost when perturbed maps are put in; a difference of Dice otherwise.
NECESSITY, RESTORATION, TRANSMISSION, CHANGE = "necessity", "restoration", "transmission", "change"
#: Those that are shares of the Dice that the perturbation costs.
SHARES = (RESTORATION, TRANSMISSION)
#: The edit that puts the maps of another condition in.
PATCH = "patch"


def quantity_of(edit: str, into: str, donor: str | None, perturbed: Collection[str]) -> str:
    """What the effect of an ``edit`` is, of the passes of the condition ``into``.

    Parameters
    ----------
    edit
        "patch", or what stands instead of a map: "zero", "mean", "shuffle".
    into, donor
        names of conditions; ``donor`` is the one whose maps are put in by "patch".
    perturbed
        names of the conditions that perturb a class.

    Returns
    -------
    str
        "necessity" where the original's own maps are replaced, "restoration" where maps of the original are put into
        a perturbed pass, "transmission" where perturbed maps are put into the original, else "change".
    """
    if edit != PATCH:
        return NECESSITY if into == ORIGINAL else CHANGE
    if into == ORIGINAL and donor in perturbed:
        return TRANSMISSION
    return RESTORATION if donor == ORIGINAL and into in perturbed else CHANGE


def overlaps(
    confusion: xr.DataArray,
    *,
    applicable: xr.DataArray,
    over: Over = "present",
    regions: Regions | None = None,
    classified: bool = False,
) -> xr.DataArray:
    """What effects are differences of: Dice, or of a classifier whether a sample is right: (sample, …, class_name).

    Parameters
    ----------
    confusion
        (sample, …, true_class, predicted_class) int64, for example with the dims condition and edit.
    applicable
        bool over dims of ``confusion``: where there is a prediction.
    over, regions
        as for :func:`actstore.analysis.dice_over`.
    classified
        The counts are of whole samples; class_name is then "all", and each class, of the samples labelled so.

    Returns
    -------
    xarray.DataArray
        float64, NaN where there is no prediction, and in samples without the class; lazy where ``confusion`` is.
    """
    if not classified:
        return dice_over(confusion, over=over, applicable=applicable, regions=regions)
    right = correct(confusion, applicable=applicable)
    names = class_names(confusion)
    true = confusion.sum("predicted_class") > 0
    parts = [right, *(right.where(true.sel(true_class=name, drop=True)) for name in names)]
    every = xr.DataArray([EVERY, *names], dims="class_name", name="class_name")
    return xr.concat(parts, every, coords="minimal").transpose(..., "class_name")


def whole_counts(
    confusion: xr.DataArray, applicable: xr.DataArray, by: Sequence[str]
) -> tuple[xr.DataArray, xr.DataArray]:
    """Counts of samples where ``applicable``, summed over those that ``by`` names alike, such as patches of a volume.

    Parameters
    ----------
    confusion
        (sample, condition, …, true_class, predicted_class) int64, in memory.
    applicable
        bool (sample, condition).
    by
        coordinates along sample.

    Returns
    -------
    confusion, applicable
        with a sample for each group in order of appearance, and the coordinates that are constant within every group.
    """
    code, labels = grouped(confusion, by)
    coords = {name: coord for name, coord in confusion.coords.items() if "sample" not in coord.dims}
    coords |= {name: ("sample", values) for name, values in labels.items()}
    valid = applicable.transpose("sample", "condition").values
    masked = confusion.where(applicable.reset_coords(drop=True), 0).transpose("sample", ...)
    sums = sum_by(masked.values.astype(np.int64), code)
    there = {name: coord for name, coord in coords.items() if set(_dims(coord)) <= {"sample", "condition"}}
    return (
        xr.DataArray(sums, dims=masked.dims, coords=coords, name=confusion.name),
        xr.DataArray(any_by(valid, code), dims=("sample", "condition"), coords=there),
    )


def _dims(coord: Any) -> tuple[str, ...]:
    return (coord[0],) if isinstance(coord, tuple) else tuple(map(str, coord.dims))


def differences(
    edited: xr.DataArray, unedited: xr.DataArray, donor: xr.DataArray | None, quantity: Sequence[str]
) -> xr.Dataset:
    """What effects are made of, sample by sample; lazy.

    Parameters
    ----------
    edited
        (sample, condition, edit, class_name) float64 of :func:`overlaps`, NaN where nothing was edited.
    unedited
        (sample, condition, class_name): of the same conditions, not edited.
    donor
        (sample, condition, class_name): of the condition whose maps are put in, over the same samples of each
        condition; None for other edits.
    quantity
        :func:`quantity_of` each condition.

    Returns
    -------
    xarray.Dataset
        ``part`` (sample, condition, edit, class_name): Dice that is lost (necessity, transmission), comes back
        (restoration) or is gained (change); ``whole`` (sample, condition, class_name): the Dice that the perturbation
        costs, of shares, and 1 otherwise. NaN where one of the passes is missing.

    Raises
    ------
    AnalysisError
        if a share is computed without ``donor``.
    """
    require_dims(edited, ["sample", "condition", "edit", "class_name"])
    kinds = np.asarray(quantity, dtype=str)
    shares = np.isin(kinds, SHARES)
    if donor is None and shares.any():
        raise AnalysisError(f"{kinds[shares][0]} is a share of what the donor loses: give the donor's overlap")
    sign = xr.DataArray(np.where(np.isin(kinds, (NECESSITY, TRANSMISSION)), -1.0, 1.0), dims="condition")
    plain = unedited.reset_coords(drop=True).drop_vars("condition", errors="ignore")
    part = sign * (edited - plain)
    whole = xr.ones_like(plain).where(plain.notnull())
    if donor is not None:
        share = sign * (donor.reset_coords(drop=True).drop_vars("condition", errors="ignore") - plain)
        whole = whole.where(~xr.DataArray(shares, dims="condition"), share)
    dims = ("sample", "condition", "class_name")
    return xr.Dataset({"part": part.transpose(*edited.dims), "whole": whole.transpose(*dims)}).assign_coords(
        edited.coords
    )


def effects(
    differences: xr.Dataset, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> xr.Dataset:
    """The effect of each edit, with an interval over patients; lazy.

    Parameters
    ----------
    differences
        of :func:`differences`, with the coordinate ``patient`` along sample.
    resamples, confidence, seed
        as for :func:`actstore.analysis.bootstrap_mean`.

    Returns
    -------
    xarray.Dataset
        Over (condition, edit, class_name): ``effect``, in Dice or, of restoration and transmission, a share of the
        Dice that the perturbation costs; ``low``, ``high``, ``error``, ``samples``, ``patients`` and ``note``. Shares
        are ratios of sums over samples, and NaN, with a note, where nothing is lost on average.

    Raises
    ------
    AnalysisError
        as :func:`actstore.analysis.bootstrap_mean`.
    """
    whole = differences["whole"].rename("loss")
    found = bootstrap_ratio(differences["part"], whole, resamples=resamples, confidence=confidence, seed=seed)
    return found.rename(ratio="effect")
