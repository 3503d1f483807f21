"""Which channels change more where the segmentation gets worse, within patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import (
    AnalysisError,
    apply_lazily,
    is_original,
    require_dims,
    require_same_sizes,
)
from actstore.analysis.channels.frequency import applicable_samples
from actstore.analysis.evidence import FEWEST_PATIENTS, patients_of, perturbations, volumes_of
from actstore.analysis.layers import layer_slices
from actstore.analysis.patches import is_patched
from actstore.analysis.patients.dice_floors import Floors, find_floors
from actstore.analysis.uncertainty.bootstrap import require_confidence
from actstore.analysis.uncertainty.corrections import corrected_p
from actstore.analysis.uncertainty.rank_correlation import FEWEST_SAMPLES, Strata, Within, correlate_within
from actstore.analysis.uncertainty.sign_flips import sign_flip_p, smallest_p
from actstore.units import counted, plural_of

#: A note warns where the number of patients keeps p above this.
_REACHABLE = 0.05

_DIMS = ("sample", "condition", "channel")
_NUMBERS = ("p", "correlation", "low", "high", "size_correlation")
_COUNTS = ("samples", "patients", "left_out")
#: Characters of the longest note, without the name of a class.
_LONGEST_NOTE = 300


def association(
    score: xr.DataArray, dice: xr.DataArray, *, size: xr.DataArray | None = None, confidence: float = 0.95
) -> xr.Dataset:
    """How the score of each channel is associated with the loss of Dice over the slices of a patient; lazy.

    Parameters
    ----------
    score
        (sample, condition, channel), for example the MAD of all layers, with the coordinates ``patient`` and, where
        patients have several volumes, ``frame`` along sample, and ``target`` along condition. NaN where not applicable.
    dice
        (sample, condition, class_name), of :func:`actstore.analysis.dice`, the original among the conditions. The loss
        is Dice of the original less that of the condition, of the class that the condition changes.
    size
        (sample, class_name), of :func:`actstore.analysis.class_size`: what both score and loss may follow. Without it,
        ``size_correlation`` and ``size_baseline`` are NaN.
    confidence
        Of the intervals.

    Returns
    -------
    xarray.Dataset
        Along (condition, channel), the conditions being the perturbations: ``correlation``, the typical rank
        correlation within a volume, with ``low`` and ``high``; ``p``, two-sided; ``q``, ``p``
        corrected over the ``tests`` of its family (:func:`actstore.analysis.evidence.families`); ``samples`` and
        ``patients`` that it rests on; ``left_out``, the patients with usable samples that it does not rest on;
        ``size_correlation``, of the score with the size of the class; ``note``.
        Along condition: ``size_baseline``, of the size of the class with the loss. ``class_name`` is a coordinate.

    Raises
    ------
    AnalysisError
        if score and Dice or size differ in length, a target has no Dice or size, there is no original, or a dimension
        or coordinate is missing.

    Notes
    -----
    A sample is usable where Dice of the original and of the condition and the score of any channel are finite. A
    patient is at a floor where either Dice is 0 or 1 in more than half of its usable samples, or the same in all,
    or where the perturbed Dice varies less than a quarter as much as the original (standard deviations): beside what
    is all but constant, the loss is the other Dice. Patients at a floor are left out of the condition; where they are
    more than half, or fewer than :data:`actstore.analysis.evidence.FEWEST_PATIENTS` are left, it has no number at all.

    One number a patient (Matthews et al., BMJ 300 (1990), 230): patients, and the volumes of one patient, differ in
    both score and loss, and pooled slices would take that for an association. Spearman's r of each volume of n samples,
    as z = artanh r (Fisher, Metron 1 (1921), 3), with r no nearer to ±1 than half a step of its scale,
    1 - 6/(n(n² - 1)); the mean over the volumes of a patient, weighted by n - 3, the inverse of the variance of z but
    for a factor. ``correlation`` is the tanh of the mean over patients. Volumes with fewer than 4 usable samples, or
    without variation of score or loss, do not count.

    The null hypothesis of ``p`` is that the correlation of each patient is as likely to be positive as negative. It is
    the share of patterns of signs of z whose mean is at least as far from 0 (Fisher, The Design of Experiments, 1935,
    §21): of all 2^P for up to 16 patients, of 99,999 random ones above. How alike neighbouring slices are does not
    matter; only patients count, and with P of them p is 2^(1 - P) at least. The interval, of Student's t over patients
    and no narrower than from the variance of z without association, 1.06/(n - 3) a volume (Fieller, Hartley & Pearson,
    Biometrika 44 (1957), 470), describes and does not test: it may leave out 0 where p is above 0.05.

    Examples
    --------
    >>> found = analysis.association(findings.score, findings.dice)
    >>> found.sizes["channel"] == findings.score.sizes["channel"]
    True
    """
    require_dims(score, _DIMS)
    require_dims(dice, ["sample", "condition", "class_name"])
    patient, _ = patients_of(score)
    at = perturbations(score)
    if not len(at):
        raise AnalysisError("no condition perturbs a class: select at least one with a target")
    targets = np.asarray(score.coords["target"].values[at], dtype=str)
    strata = Strata.of(patient, volumes_of(score))
    made = (*_NUMBERS, *_COUNTS, "note")
    # Dask joins blocks at the width of the first, so all get the same.
    text = np.dtype(f"U{_LONGEST_NOTE + max(map(len, targets.tolist()))}")
    values = apply_lazily(
        _associate,
        (score.isel(condition=at).transpose(*_DIMS), ["channel", "sample"]),
        *((array, ["sample"]) for array in _of_targets(score, dice, size, at, targets)),
        (xr.DataArray(targets, dims="condition"), ()),
        output_dims=[*[["channel"]] * len(made), []],
        dtypes=[*[np.float64] * len(_NUMBERS), *[np.int64] * len(_COUNTS), text, np.float64],
        patient=patient,
        strata=strata,
        noun=_noun(score, strata),
        confidence=require_confidence(confidence),
        text=text,
    )
    result = xr.Dataset(dict(zip((*made, "size_baseline"), values, strict=True)))
    return result.assign(corrected_p(result["p"]).data_vars).assign_coords(class_name=("condition", targets))


def beside_frequency(
    associated: xr.Dataset, member: xr.DataArray, *, applicable: xr.DataArray | None = None
) -> xr.Dataset:
    """``associated`` with the rank of each channel in its layer, by association and by how often it is on top; lazy.

    Parameters
    ----------
    associated
        Of :func:`association`.
    member
        bool (sample, condition, channel), of :func:`actstore.analysis.in_top`, of the same conditions and channels.
    applicable
        bool (sample, condition). Without it, the samples in which any channel is a member.

    Returns
    -------
    xarray.Dataset
        In addition: ``frequency``, the share of applicable samples where the channel is among the top;
        ``frequency_rank`` and ``association_rank``, float64 from 1 for the most frequent and for the highest
        ``correlation`` of the layer, equal ones by lower channel, NaN without a number and for a channel that is never
        among the top.

    Raises
    ------
    AnalysisError
        if ``member`` differs in size or a dimension is missing.

    Examples
    --------
    >>> found = analysis.association(findings.score, findings.dice)
    >>> list(analysis.beside_frequency(found, findings.member))[:5]
    ['p', 'correlation', 'low', 'high', 'size_correlation']
    """
    require_dims(member, _DIMS)
    at = perturbations(member)
    member = member.isel(condition=at)
    for dim in ("condition", "channel"):
        if member.sizes[dim] != associated.sizes[dim]:
            raise AnalysisError(
                f"member has {member.sizes[dim]} of {dim}, the association {associated.sizes[dim]}: "
                "take both of the same layers and conditions"
            )
    number = applicable_samples(member, None if applicable is None else applicable.isel(condition=at)).sum("sample")
    frequency = member.sum("sample") / number.where(number > 0)
    frequency = frequency.transpose("condition", "channel")
    return associated.assign(
        frequency=frequency,
        frequency_rank=_rank_in_layer(frequency.where(frequency > 0)),
        association_rank=_rank_in_layer(associated["correlation"]),
    )


def _of_targets(
    score: xr.DataArray, dice: xr.DataArray, size: xr.DataArray | None, at: NDArray[np.intp], targets: NDArray[np.str_]
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Dice before and after the conditions ``at``, and size, of their targets: (sample, condition), without coords."""
    require_same_sizes(("sample", "condition"), dice=dice, the_score=score)
    original = np.flatnonzero(is_original(dice).values)
    if not len(original):
        raise AnalysisError("no original among the conditions: a loss is against its Dice, keep it in the selection")
    bare = xr.DataArray(dice.transpose("sample", "condition", "class_name").variable)
    of = _positions(dice, targets, "Dice")
    after = [bare.isel(condition=int(c), class_name=k) for c, k in zip(at, of, strict=True)]
    before = [bare.isel(condition=int(original[0]), class_name=k) for k in of]
    if size is None:
        sizes = [xr.full_like(bare.isel(condition=0, class_name=0), np.nan)] * len(at)
    else:
        require_dims(size, ["sample", "class_name"])
        require_same_sizes(["sample"], size=size, the_score=score)
        plain = xr.DataArray(size.transpose("sample", "class_name").variable.astype(np.float64))
        sizes = [plain.isel(class_name=k) for k in _positions(size, targets, "size")]
    first, second, third = (xr.concat(arrays, "condition") for arrays in (before, after, sizes))
    return first, second, third


def _positions(array: xr.DataArray, targets: NDArray[np.str_], what: str) -> list[int]:
    names = array.coords["class_name"].values.tolist()
    missing = [name for name in targets.tolist() if name not in names]
    if missing:
        raise AnalysisError(f"no {what} of the target {missing[0]!r}, only of {', '.join(names)}")
    return [names.index(name) for name in targets.tolist()]


def _associate(
    score: NDArray[Any],
    before: NDArray[Any],
    after: NDArray[Any],
    size: NDArray[Any],
    target: NDArray[np.str_],
    **options: Any,
) -> tuple[NDArray[Any], ...]:
    """Of ``score`` (condition, channel, sample), Dice and size (condition, sample), and the class (condition)."""
    before, after, size = (np.broadcast_to(array, (len(score), score.shape[-1])) for array in (before, after, size))
    found = [
        _of_one(*arrays, name=str(name), **options)
        for *arrays, name in zip(score, before, after, size, np.broadcast_to(target, len(score)), strict=True)
    ]
    z, *others = (np.array(values) for values in zip(*found, strict=True))
    # All conditions together, since they share the patterns of signs.
    p = sign_flip_p(z.reshape(-1, z.shape[-1])).reshape(z.shape[:-1])
    few = (~np.isnan(z)).sum(axis=-1) < FEWEST_PATIENTS
    return (np.where(few, np.nan, p), *others)


def _of_one(
    score: NDArray[Any],
    before: NDArray[Any],
    after: NDArray[Any],
    size: NDArray[Any],
    *,
    name: str,
    patient: NDArray[np.intp],
    strata: Strata,
    noun: str,
    confidence: float,
    text: np.dtype[np.str_],
) -> tuple[Any, ...]:
    """z (channel, patient), numbers, counts and note (channel) of one condition, and the baseline of the size."""
    finite = np.isfinite(score)
    usable = np.isfinite(before) & np.isfinite(after) & finite.any(axis=0)
    floors = find_floors(before, after, usable, patient, strata.patients, name=name, noun=noun)
    if floors.refused:
        usable = np.zeros_like(usable)
    usable &= ~floors.at_floor[patient]
    loss = before - after
    within = correlate_within(score, loss, finite & usable, strata)
    patients = within.patients
    by_size, baseline = np.full(len(score), np.nan), np.nan
    if np.isfinite(size).any():
        by_size = correlate_within(score, size, within.used & np.isfinite(size), strata).typical()
        known = usable & np.isfinite(size)
        baseline = correlate_within(size[None], loss, known[None], strata).typical()[0]
    return (
        *(within.z, within.typical(), *within.interval(confidence), by_size),
        *(within.used.sum(axis=-1), patients, floors.there.sum() - patients),
        _notes(within, floors, noun).astype(text),
        baseline,
    )


def _noun(score: xr.DataArray, strata: Strata) -> str:
    if is_patched(score):
        return "patch"
    return "slice" if any(len(samples) > 1 for samples in strata.samples) else "sample"


def _notes(within: Within, floors: Floors, noun: str) -> NDArray[np.str_]:
    """Why a row has no number or no test, or rests on fewer patients than there are, or can reach no small p."""
    if floors.refused:
        return np.full(len(within.z), floors.text)
    there = int(floors.there.sum())
    few = (~within.enough & (floors.there & ~floors.at_floor)).sum(axis=-1)
    unvaried = (within.enough & np.isnan(within.z)).sum(axis=-1)
    cells, cell = np.unique(np.stack([within.patients, few, unvaried]), axis=1, return_inverse=True)
    texts = [_note(*numbers, there=there, floor=floors.text, noun=noun) for numbers in cells.T.tolist()]
    return np.array(texts)[cell.ravel()]


def _note(patients: int, few: int, unvaried: int, *, there: int, floor: str, noun: str) -> str:
    every = counted(there, "patient")
    parts = [
        f"{counted(patients, 'patient')}: too few for a test" if patients < FEWEST_PATIENTS else "",
        floor,
        f"{few} of {every} with fewer than {FEWEST_SAMPLES} {plural_of(noun)} in each volume" if few else "",
        f"{unvaried} of {every} without variation of score or loss" if unvaried else "",
    ]
    if patients >= FEWEST_PATIENTS and smallest_p(patients) > _REACHABLE:
        parts.append(f"{patients} patients: p cannot fall below {smallest_p(patients):.1g}")
    return "; ".join(filter(None, parts))


def _rank_in_layer(values: xr.DataArray) -> xr.DataArray:
    """Rank of ``values`` (condition, channel) within their layer, 1 for the highest."""
    parts = [
        apply_lazily(
            _falling_rank, (values.isel(channel=where), ["channel"]), output_dims=[["channel"]], dtypes=[np.float64]
        )
        for where in layer_slices(values).values()
    ]
    joined: xr.DataArray = xr.concat(parts, "channel", coords="minimal", compat="override", join="override")
    return joined


def _falling_rank(values: NDArray[Any]) -> NDArray[np.float64]:
    from scipy import stats

    ranked: NDArray[np.float64] = stats.rankdata(-values, method="ordinal", axis=-1, nan_policy="omit")
    return ranked
