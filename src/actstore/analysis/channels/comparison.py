"""Comparison of channels between classes, and between kinds of failure."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, apply_lazily, require_dims, require_positive
from actstore.analysis.channels.frequency import among_most, applicable_samples, channel_numbers, most_often, top_counts
from actstore.analysis.evidence import FEWEST_PATIENTS, patients_of, perturbations
from actstore.analysis.grouping import Counts, Numbers, samples_and_patients
from actstore.analysis.layers import layer_slices
from actstore.analysis.segmentation.cases import NO_CASE
from actstore.analysis.uncertainty.corrections import notes_on
from actstore.analysis.uncertainty.resamples import RESAMPLES, draws_of
from actstore.measures.names import MOST

_DIMS = ("sample", "condition", "channel")


def shared_channels(
    member: xr.DataArray,
    most: int = MOST,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> xr.Dataset:
    """Which of the most frequent channels of each layer several classes share, and which belong to one; lazy.

    Parameters
    ----------
    member
        bool (sample, condition, channel), of :func:`actstore.analysis.in_top`, with the coordinate ``target``. The
        conditions of one target are counted together: select some first to compare classes at one strength.
    most
        How many channels of a layer each class has; equal counts rank by lower channel, a count of 0 never.
    applicable
        bool (sample, condition). Without it, the samples in which any channel is a member.
    resamples, seed
        Random draws of patients behind ``specific_share``, and their seed: as for
        :func:`actstore.analysis.uncertainty.resamples.patient_draws`, which enumerates all draws of few patients.

    Returns
    -------
    xarray.Dataset
        ``count`` int64 and ``selected`` bool (target, channel): how often the channel was among the top, and whether
        it is among the ``most`` frequent; ``number`` int64 (channel), of how many classes; ``targets`` str (channel),
        their names; ``specific`` str (channel), the name where it is one class alone, else "";
        ``specific_share`` float64 (channel), of a channel that belongs to one class alone, the share of resamples of
        patients in which it is among the ``most`` of that class and of no other; ``samples`` and ``patients`` int64
        (target). Patients are drawn with replacement, with all their samples and conditions, for all classes at once.
        ``specific_share`` is NaN for other channels, and for a class of fewer than
        :data:`actstore.analysis.evidence.FEWEST_PATIENTS` patients.

    Raises
    ------
    AnalysisError
        if a dimension or coordinate is missing, no condition perturbs a class, or ``most`` or ``resamples`` is below 1.

    Examples
    --------
    >>> list(analysis.shared_channels(findings.member, applicable=findings.applicable, resamples=50))[:5]
    ['count', 'selected', 'number', 'targets', 'specific']
    """
    at, member = _perturbed(member)
    used = applicable_samples(member, None if applicable is None else applicable.isel(condition=at))
    patient, _ = patients_of(member)
    most = require_positive("most", most)
    targets = member.coords["target"].values
    classes = list(dict.fromkeys(targets.tolist()))
    each = [np.flatnonzero(targets == name) for name in classes]
    along = xr.DataArray(classes, dims="target", name="target")
    count = xr.concat([member.isel(condition=own).sum(["sample", "condition"]) for own in each], along)
    rests = xr.concat([samples_and_patients(used.isel(condition=own).any("condition"), patient) for own in each], along)
    selected = among_most(count, most)
    text: xr.DataArray = apply_lazily(
        _names, (selected, ["target"]), dtypes=[f"U{len(', '.join(classes))}"], classes=classes
    )
    number = selected.sum("target")
    of_patients, samples = top_counts(member, used)
    share = apply_lazily(
        _specific_share,
        (of_patients, ["patient", "condition", "channel"]),
        (samples, ["patient", "condition"]),
        output_dims=[["channel"]],
        dtypes=[np.float64],
        classes=each,
        most=most,
        layers=list(layer_slices(member).values()),
        resamples=require_positive("resamples", resamples),
        seed=seed,
    )
    return xr.Dataset(
        {
            "count": count.astype(np.int64),
            "selected": selected,
            "number": number,
            "targets": text,
            "specific": text.where(number == 1, ""),
            "specific_share": share,
            **rests.data_vars,
        }
    )


def general_and_specific(member: xr.DataArray, cases: xr.DataArray, most: int = MOST) -> xr.Dataset:
    """The order of channels over all samples against the order within each kind of failure; lazy.

    Parameters
    ----------
    member
        bool (sample, condition, channel), of :func:`actstore.analysis.in_top`, with the coordinates ``target`` and
        ``patient``.
    cases
        str (sample, condition), of :func:`actstore.analysis.cases`. Its values are read at once, since they are a
        coordinate of the result.
    most
        As in :func:`shared_channels`.

    Returns
    -------
    xarray.Dataset
        Along (layer, condition, case): ``correlation`` float64, Spearman's rank correlation (Am. J. Psychol. 15 (1904),
        72) between how often each channel of the layer is among the top over all samples of the condition, and over
        those of the case; NaN where either is the same for all channels. The case's samples are among all samples, so
        that a case which is most of them correlates by construction. ``gained`` and ``lost`` str, the channels that are
        among the ``most`` frequent only within the case, and only over all samples. ``samples`` and ``patients`` int64
        and ``note`` str (condition, case), of the case.

    Raises
    ------
    AnalysisError
        if a dimension or coordinate is missing, sizes differ, no condition perturbs a class, there is no case, or
        ``most`` is below 1.

    Examples
    --------
    >>> list(analysis.general_and_specific(findings.member, findings.cases))
    ['correlation', 'gained', 'lost', 'samples', 'patients', 'note']
    """
    _, member = _perturbed(member)
    most = require_positive("most", most)
    labels = _cases_of(member, cases)
    found = [name for name in np.unique(labels.values).tolist() if name != NO_CASE]
    if not found:
        raise AnalysisError("cases are all '': no sample has a kind of failure, compare none")
    along = xr.DataArray(found, dims="case", name="case")
    within = labels == along
    general = member.sum("sample")
    counts = xr.concat([(member & within.isel(case=i, drop=True)).sum("sample") for i in range(len(found))], along)
    rests = samples_and_patients(within, patients_of(member)[0])
    kept = among_most(general, most), among_most(counts, most)
    parts = []
    for where in layer_slices(member).values():
        arrays = [array.isel(channel=where).drop_vars("channel", errors="ignore") for array in (general, counts, *kept)]
        width = most * (len(str(arrays[0].sizes["channel"])) + 2)
        correlation, gained, lost = apply_lazily(
            _against,
            *((array, ["channel"]) for array in arrays),
            output_dims=[[], [], []],
            dtypes=[np.float64, f"U{width}", f"U{width}"],
        )
        parts.append(xr.Dataset({"correlation": correlation, "gained": gained, "lost": lost}))
    slices = layer_slices(member).values()
    names, modules = ([_label(member, name, where) for where in slices] for name in ("layer", "module"))
    parts = [part.drop_vars(["layer", "module"], errors="ignore") for part in parts]
    layers = xr.concat(parts, xr.DataArray(names, dims="layer", name="layer"), coords="minimal", compat="override")
    layers = layers.assign_coords(module=("layer", modules))
    result = layers.transpose("layer", "condition", "case").assign(rests.transpose("condition", "case").data_vars)
    return result.assign(note=notes_on(result["patients"], "comparison"))


def _specific_share(
    counts: Counts,
    samples: Counts,
    classes: list[Numbers],
    most: int,
    layers: list[slice],
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Share of resamples in which a channel that is among the most of one class alone is so again: (channel)."""
    found = np.full(counts.shape[-1], np.nan)
    present = samples.sum(axis=1) > 0
    draws = draws_of(present, resamples, seed)
    if draws is None:
        return found
    enough = np.array([(samples[:, own].sum(axis=1) > 0).sum() >= FEWEST_PATIENTS for own in classes])
    counts = np.stack([counts[:, own].sum(axis=1) for own in classes], axis=1)[present]
    for where in layers:
        part = counts[..., where].astype(np.float64)
        full = most_often(part.sum(axis=0), most)
        specific = full & (full.sum(axis=0) == 1)
        drawn = most_often(draws.sums(part), most)
        again = drawn & (drawn.sum(axis=1, keepdims=True) == 1)
        share = draws.mean(again)
        target = specific.argmax(axis=0)
        own = np.take_along_axis(share, target[None], axis=0)[0]
        found[where] = np.where(specific.any(axis=0) & enough[target], own, np.nan)
    return found


def _perturbed(member: xr.DataArray) -> tuple[NDArray[np.intp], xr.DataArray]:
    """The positions of the conditions that perturb a class, and ``member`` of these."""
    require_dims(member, _DIMS)
    if member.dtype != bool:
        raise AnalysisError(f"member is {member.dtype}, not bool: give the result of in_top")
    at = perturbations(member)
    if not len(at):
        raise AnalysisError("no condition perturbs a class: select at least one with a target")
    return at, member.isel(condition=at).transpose(*_DIMS)


def _cases_of(member: xr.DataArray, cases: xr.DataArray) -> xr.DataArray:
    """``cases`` of the conditions of ``member``, in memory and without coordinates."""
    require_dims(cases, ["sample", "condition"])
    if "condition" in cases.coords and "condition" in member.coords:
        cases = cases.sel(condition=member.coords["condition"].values)
    for dim in ("sample", "condition"):
        if cases.sizes[dim] != member.sizes[dim]:
            raise AnalysisError(
                f"cases have {cases.sizes[dim]} along {dim}, member has {member.sizes[dim]}: select the same of both"
            )
    labels = cases.transpose("sample", "condition")
    return xr.DataArray(np.asarray(labels.values, dtype=str), dims=("sample", "condition"))


def _names(selected: NDArray[np.bool_], classes: list[str]) -> NDArray[np.str_]:
    names = [", ".join(np.compress(row, classes).tolist()) for row in selected.reshape(-1, len(classes))]
    return np.array(names, dtype=f"U{len(', '.join(classes))}").reshape(selected.shape[:-1])


def _against(
    general: NDArray[Any], counts: NDArray[Any], expected: NDArray[np.bool_], selected: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]]:
    from scipy import stats

    general, counts = np.broadcast_arrays(general, counts)
    correlation = np.full(counts.shape[:-1], np.nan)
    for cell in np.ndindex(correlation.shape):
        if np.ptp(general[cell]) and np.ptp(counts[cell]):
            correlation[cell] = stats.spearmanr(general[cell], counts[cell]).statistic
    return (
        correlation,
        channel_numbers(selected & ~expected),
        channel_numbers(expected & ~selected & counts.any(-1, keepdims=True)),
    )


def _label(member: xr.DataArray, name: str, where: slice) -> str:
    """The value of the coordinate ``name`` in one layer, "" without it."""
    values = np.atleast_1d(member.coords[name].values) if name in member.coords else np.array([""])
    return str(values[where.start if len(values) > 1 else 0])
