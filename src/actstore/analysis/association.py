"""Does it matter: which channels change more where the segmentation gets worse, within patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, is_original, one_chunk, require_dims
from actstore.analysis.evidence import FEWEST_PATIENTS, patients_of, perturbations
from actstore.analysis.network import layer_slices
from actstore.analysis.sets import counted_samples
from actstore.analysis.support import adjusted, noted
from actstore.analysis.uncertainty import require_confidence

#: Samples of a patient below which its rank correlation has no sampling variance to reckon with.
FEWEST_SAMPLES = 4

#: Variance of Fisher's z of a rank correlation of n samples, times n - 3 (Fieller, Hartley & Pearson 1957).
RANK_VARIANCE = 1.06

_DIMS = ("sample", "condition", "channel")
_NUMBERS = ("correlation", "low", "high", "p")
_COUNTS = ("samples", "patients", "left_out")


def association(score: xr.DataArray, dice: xr.DataArray, *, confidence: float = 0.95) -> xr.Dataset:
    """How the score of each channel goes with the loss of Dice over the slices of a patient; lazy.

    Parameters
    ----------
    score
        (sample, condition, channel), for example the MAD of all layers, with the coordinates ``patient`` along sample
        and ``target`` along condition. NaN where not applicable.
    dice
        (sample, condition, class_name), of :func:`actstore.analysis.dice`, the original among the conditions. The loss
        is Dice of the original less that of the condition, of the class that the condition changes.
    confidence
        Of the intervals.

    Returns
    -------
    xarray.Dataset
        Along (condition, channel), the conditions being the perturbations: ``correlation``, the typical rank
        correlation within a patient, with ``low`` and ``high``; ``p`` of no association, two-sided; ``q``, ``p``
        corrected over the ``tests`` of its family (:func:`actstore.analysis.evidence.families`); ``samples`` and
        ``patients`` that it rests on, ``left_out``, the patients that have fewer than :data:`FEWEST_SAMPLES` usable
        samples or no variation of score or loss; ``note``.
        ``class_name`` (condition) is a coordinate.

    Raises
    ------
    AnalysisError
        if score and Dice differ in size, a target has no Dice, there is no original, or a dimension or coordinate is
        missing.

    Notes
    -----
    One number a patient, then a test over patients (Matthews et al., BMJ 300 (1990), 230): patients differ in both
    score and loss, and pooled slices would take that for an association. The number is Spearman's rank correlation r of
    the n slices, as z = artanh r (Fisher, Metron 1 (1921), 3), with r no nearer to ±1 than half a step of its scale,
    1 - 6/(n(n² - 1)). The mean of z is tested by Student's t over patients and against the normal distribution that it
    has without any association, variance 1.06/(n - 3) each (Fieller, Hartley & Pearson, Biometrika 44 (1957), 470); the
    larger p counts and the wider interval, since few patients with few slices can agree by chance to the last digit.
    """
    require_dims(score, _DIMS)
    require_dims(dice, ["sample", "condition", "class_name"])
    code, _ = patients_of(score)
    at = perturbations(score)
    if not len(at):
        raise AnalysisError("no condition perturbs a class: select at least one with a target")
    targets = np.asarray(score.coords["target"].values[at], dtype=str)
    loss = _loss(score, dice, at, targets)
    values = xr.apply_ufunc(
        _associate,
        one_chunk(score.isel(condition=at).transpose(*_DIMS), ["sample"]),
        one_chunk(loss, ["sample"]),
        kwargs={"code": code, "confidence": require_confidence(confidence)},
        input_core_dims=[["sample"], ["sample"]],
        output_core_dims=[[]] * (len(_NUMBERS) + len(_COUNTS)),
        dask="parallelized",
        output_dtypes=[np.float64] * len(_NUMBERS) + [np.int64] * len(_COUNTS),
        keep_attrs=False,
    )
    result = xr.Dataset(dict(zip(_NUMBERS + _COUNTS, values, strict=True)))
    result = result.assign(adjusted(result["p"]).data_vars).assign(note=noted(result["patients"], "test"))
    return result.assign_coords(class_name=("condition", targets))


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
    number = counted_samples(member, None if applicable is None else applicable.isel(condition=at)).sum("sample")
    frequency = member.sum("sample") / number.where(number > 0)
    frequency = frequency.transpose("condition", "channel")
    return associated.assign(
        frequency=frequency,
        frequency_rank=_rank_in_layer(frequency.where(frequency > 0)),
        association_rank=_rank_in_layer(associated["correlation"]),
    )


def _loss(score: xr.DataArray, dice: xr.DataArray, at: NDArray[np.intp], targets: NDArray[np.str_]) -> xr.DataArray:
    """Dice of the original less that of the conditions ``at``, of their targets: (sample, condition), bare."""
    for dim in ("sample", "condition"):
        if dice.sizes[dim] != score.sizes[dim]:
            raise AnalysisError(
                f"dice has {dice.sizes[dim]} of {dim}, the score {score.sizes[dim]}: select the same of both"
            )
    original = np.flatnonzero(is_original(dice).values)
    if not len(original):
        raise AnalysisError("no original among the conditions: a loss is against its Dice, keep it in the selection")
    names = dice.coords["class_name"].values.tolist()
    missing = [name for name in targets.tolist() if name not in names]
    if missing:
        raise AnalysisError(f"no Dice of the target {missing[0]!r}, only of {', '.join(names)}")
    of = np.array([names.index(name) for name in targets.tolist()])
    bare = xr.DataArray(dice.transpose("sample", "condition", "class_name").variable)
    perturbed = [bare.isel(condition=int(c), class_name=int(k)) for c, k in zip(at, of, strict=True)]
    before = [bare.isel(condition=int(original[0]), class_name=int(k)) for k in of]
    return xr.concat(before, "condition") - xr.concat(perturbed, "condition")


def _associate(
    score: NDArray[Any], loss: NDArray[Any], code: NDArray[np.intp], confidence: float
) -> tuple[NDArray[Any], ...]:
    """Of ``score`` and ``loss`` (…, sample), which broadcast."""
    score, loss = np.broadcast_arrays(score, loss)
    shape, patients = score.shape[:-1], int(code.max(initial=-1)) + 1
    rows = [array.reshape(-1, array.shape[-1]) for array in (score, loss)]
    z, number = np.full((len(rows[0]), patients), np.nan), np.zeros((len(rows[0]), patients), dtype=np.int64)
    there = np.zeros((len(rows[0]), patients), dtype=bool)
    for patient in range(patients):
        own = [array[:, code == patient] for array in rows]
        used = np.isfinite(own[0]) & np.isfinite(own[1])
        there[:, patient] = used.any(axis=-1)
        patterns, pattern = np.unique(used, axis=0, return_inverse=True)
        for i, columns in enumerate(patterns):
            if columns.sum() < FEWEST_SAMPLES:
                continue
            at = np.flatnonzero(pattern.ravel() == i)
            first, second = (array[at][:, columns] for array in own)
            varied = (np.ptp(first, axis=-1) > 0) & (np.ptp(second, axis=-1) > 0)
            z[at[varied], patient] = _fisher(first[varied], second[varied])
            number[at[varied], patient] = columns.sum()
    results = _over_patients(z, number, confidence)
    counts = number.sum(axis=-1), (number > 0).sum(axis=-1), (there & (number == 0)).sum(axis=-1)
    return tuple(array.reshape(shape) for array in (*results, *counts))


def _fisher(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Fisher's z of the rank correlation of each row, kept finite."""
    from scipy import stats

    if not len(first):
        return np.empty(0)
    n = first.shape[-1]
    ranks = stats.rankdata(first, axis=-1), stats.rankdata(second, axis=-1)
    nearest = 1 - 6 / (n * (n**2 - 1))
    z: NDArray[np.float64] = np.arctanh(np.clip(stats.pearsonr(*ranks, axis=-1).statistic, -nearest, nearest))
    return z


def _over_patients(
    z: NDArray[np.float64], number: NDArray[np.int64], confidence: float
) -> tuple[NDArray[np.float64], ...]:
    """Correlation, low, high and p of ``z`` (row, patient), NaN where a patient is left out."""
    from scipy import stats

    values = np.ma.masked_invalid(z)
    patients = values.count(axis=-1)
    mean = np.ma.filled(values.mean(axis=-1), np.nan)
    enough = np.where(patients >= FEWEST_PATIENTS, patients, np.nan)
    known = np.where(number > 0, RANK_VARIANCE / np.maximum(number - 3, 1), 0.0).sum(axis=-1) ** 0.5 / enough
    seen = np.ma.filled(values.std(axis=-1, ddof=1), np.nan) / np.sqrt(enough)
    tail = (1 - confidence) / 2
    half = np.fmax(stats.t.isf(tail, enough - 1) * seen, stats.norm.isf(tail) * known)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_t = 2 * stats.t.sf(np.abs(mean) / seen, enough - 1)
    p = np.fmax(by_t, 2 * stats.norm.sf(np.abs(mean) / known))
    return np.tanh(mean), np.tanh(mean - half), np.tanh(mean + half), p


def _rank_in_layer(values: xr.DataArray) -> xr.DataArray:
    """Rank of ``values`` (condition, channel) within their layer, 1 for the highest."""
    parts = [
        xr.apply_ufunc(
            _falling_rank,
            one_chunk(values.isel(channel=where), ["channel"]),
            input_core_dims=[["channel"]],
            output_core_dims=[["channel"]],
            dask="parallelized",
            output_dtypes=[np.float64],
            keep_attrs=False,
        )
        for where in layer_slices(values).values()
    ]
    joined: xr.DataArray = xr.concat(parts, "channel", coords="minimal", compat="override", join="override")
    return joined


def _falling_rank(values: NDArray[Any]) -> NDArray[np.float64]:
    from scipy import stats

    ranked: NDArray[np.float64] = stats.rankdata(-values, method="ordinal", axis=-1, nan_policy="omit")
    return ranked
