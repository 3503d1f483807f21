"""How certain the most frequent channels are: over resampled patients, and over k and the number of channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import apply_lazily, require_positive
from actstore.analysis.channels.frequency import applicable_samples, most_often, overlap, top_counts
from actstore.analysis.channels.ranking import in_top
from actstore.analysis.evidence import note, patients_of
from actstore.analysis.grouping import Bools, Counts, Floats, samples_and_patients
from actstore.analysis.layers import layer_coords, layer_slices, unlayered
from actstore.analysis.uncertainty.bootstrap import NOTE, bootstrap_mean, require_confidence
from actstore.analysis.uncertainty.resamples import RESAMPLES, Draws, draws_of
from actstore.measures.names import MOST, TOP

_COUNTED = ("patient", "condition", "channel")


def frequency_certainty(
    member: xr.DataArray,
    most: int = MOST,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """How often each channel is on top, how sure that is, and how sure its place among the most frequent; lazy.

    Parameters
    ----------
    member
        bool (sample, condition, channel) of :func:`actstore.analysis.in_top`, of one layer or stacked, with the
        coordinate ``patient`` along sample.
    most
        How many channels of a layer are reported, as in :func:`actstore.analysis.most_frequent`.
    applicable
        bool (sample, condition). Without it, the samples in which any channel is a member: pass it for a selection of
        channels.
    resamples, confidence, seed
        As for :func:`actstore.analysis.bootstrap_mean`.

    Returns
    -------
    xarray.Dataset
        Along (condition, channel): ``count`` int64, ``frequency`` (count / samples) with ``low``, ``high`` and
        ``error`` float64, as of :func:`actstore.analysis.bootstrap_mean`; ``selected`` float64, the share of resamples
        of patients in which the channel is among the ``most`` of its layer under this condition, whatever other
        conditions share it; ``samples`` and ``patients`` int64, ``note``. Interval and
        ``selected`` are NaN for too few patients. A channel that is never on top has the interval [0, 0]: resampling
        cannot tell what was never seen.

    Raises
    ------
    AnalysisError
        if ``patient`` or a dimension is missing, or an argument is out of range.

    Examples
    --------
    >>> sure = analysis.frequency_certainty(findings.member, applicable=findings.applicable, resamples=50)
    >>> list(sure)[:4]
    ['frequency', 'low', 'high', 'error']
    """
    valid = applicable_samples(member, applicable)
    rate = bootstrap_mean(member.astype(np.float32).where(valid), resamples=resamples, confidence=confidence, seed=seed)
    count, samples = top_counts(member, valid)
    selected = apply_lazily(
        _selected,
        (count, _COUNTED),
        (samples, _COUNTED[:2]),
        output_dims=[_COUNTED[1:]],
        dtypes=[np.float64],
        most=require_positive("most", most),
        layers=list(layer_slices(member).values()),
        resamples=require_positive("resamples", resamples),
        seed=seed,
    )
    found = rate.rename(mean="frequency").transpose("condition", "channel")
    return found.assign(selected=selected, count=count.sum("patient"))


def _selected(counts: Counts, sizes: Counts, most: int, layers: list[slice], resamples: int, seed: int) -> Floats:
    found = np.full(counts.shape[1:], np.nan)
    for c, where, draws, drawn in _resampled(counts, sizes, layers, resamples, seed):
        found[c, where] = draws.mean(most_often(drawn, most))
    return found


def _resampled(
    counts: Counts, sizes: Counts, layers: list[slice], resamples: int, seed: int
) -> Iterator[tuple[int, slice, Draws, Floats]]:
    """Each condition with enough patients and each layer, with counts (draw, channel) over draws of patients."""
    for c, present in enumerate((sizes > 0).T):
        if (draws := draws_of(present, resamples, seed)) is not None:
            for where in layers:
                yield c, where, draws, draws.sums(counts[present, c, where].astype(np.float64))


def set_stability(
    member: xr.DataArray,
    mosts: Sequence[int] = (TOP, MOST),
    *,
    applicable: xr.DataArray | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """How much of each layer's set of most frequent channels stays when patients are resampled; lazy.

    Parameters
    ----------
    member, applicable
        As for :func:`frequency_certainty`.
    mosts
        Sizes of the set; beyond a layer's channels, all that are ever on top.
    resamples, confidence, seed
        As for :func:`actstore.analysis.bootstrap_mean`.

    Returns
    -------
    xarray.Dataset
        Along (layer, condition, most): ``overlap``, the mean over resamples of the Jaccard overlap with the set of all
        patients (Jaccard, New Phytol. 11 (1912), 37), and ``low`` and ``high``, the percentiles between which
        ``confidence`` of the resamples lie, float64: they describe the resamples and are no confidence interval;
        ``note``, where patients are too few, the set has room for all
        channels, or no channel is ever among the top.
        Along condition ``samples`` and ``patients`` int64. NaN for too few patients and where no channel is on top.

    Raises
    ------
    AnalysisError
        as :func:`frequency_certainty`.

    Examples
    --------
    >>> list(analysis.set_stability(findings.member, applicable=findings.applicable, resamples=50))
    ['overlap', 'low', 'high', 'note', 'samples', 'patients']
    """
    sizes = [require_positive("most", most) for most in mosts]
    slices = layer_slices(member)
    count, samples = top_counts(unlayered(member), applicable)
    arrays = apply_lazily(
        _stability,
        (count, _COUNTED),
        (samples, _COUNTED[:2]),
        output_dims=[["layer", "condition", "most"]] * 4,
        dtypes=[*[np.float64] * 3, NOTE],
        output_sizes={"layer": len(slices), "most": len(sizes)},
        mosts=sizes,
        layers=list(slices.values()),
        resamples=require_positive("resamples", resamples),
        tails=((1 - require_confidence(confidence)) / 2, (1 + confidence) / 2),
        seed=seed,
    )
    found = xr.Dataset(dict(zip(("overlap", "low", "high", "note"), arrays, strict=True)))
    found = found.assign(samples=samples.sum("patient"), patients=(samples > 0).sum("patient"))
    return found.assign_coords(**layer_coords(member), most=sizes)


def _stability(
    counts: Counts,
    sizes: Counts,
    mosts: list[int],
    layers: list[slice],
    resamples: int,
    tails: tuple[float, float],
    seed: int,
) -> tuple[NDArray[Any], ...]:
    mean, low, high = np.full((3, len(layers), counts.shape[1], len(mosts)), np.nan)
    for c, where, draws, drawn in _resampled(counts, sizes, layers, resamples, seed):
        i = layers.index(where)
        for m, most in enumerate(mosts):
            full = most_often(counts[:, c, where].sum(axis=0), most)
            shared = overlap(most_often(drawn, most), full)
            mean[i, c, m] = draws.mean(shared)
            (low[i, c, m], high[i, c, m]), _ = draws.quantiles(shared, tails)
    texts = np.array([[_all_channels(None, most, where) for most in mosts] for where in layers], dtype=NOTE)
    few = note((sizes > 0).sum(axis=0), "interval")[:, None]
    never = np.array([~counts[:, :, where].any(axis=(0, 2)) for where in layers])[..., None]
    known = np.where(never, "no channel is ever among the top", texts[:, None])
    return mean, low, high, np.where(few != "", few, known).astype(NOTE)


def sensitivity_to_k(
    score: xr.DataArray,
    ks: Sequence[int] = (1, 2, 3, 5),
    mosts: Sequence[int] = (3, 5, 7, 10),
    reference: tuple[int, int] = (TOP, MOST),
    *,
    applicable: xr.DataArray | None = None,
) -> xr.Dataset:
    """How much of each layer's set of most frequent channels stays with another k and another number of them; lazy.

    Parameters
    ----------
    score
        (sample, condition, channel) as for :func:`actstore.analysis.in_top`.
    ks
        Channels that count as top, per sample and condition.
    mosts
        Sizes of the set.
    reference
        k and size of the set that the others are compared with.
    applicable
        bool (sample, condition), as for :func:`actstore.analysis.in_top`.

    Returns
    -------
    xarray.Dataset
        Along (layer, condition, k, most): ``overlap`` float64, the Jaccard overlap with the reference's set, and
        ``note`` along (layer, k, most), which says where k or most reach all channels of the layer. If k does and most
        does not, every channel is on top wherever it changed and there is no set to compare: NaN. Along condition
        ``samples`` and ``patients`` int64.

    Raises
    ------
    AnalysisError
        if ``patient`` or a dimension is missing, or a number is below 1.

    Examples
    --------
    >>> list(analysis.sensitivity_to_k(findings.score, ks=(1, 2), mosts=(3,), reference=(1, 3)))
    ['overlap', 'note', 'samples', 'patients']
    """
    tops, sizes = ([require_positive(name, n) for n in given] for name, given in (("k", ks), ("most", mosts)))
    chosen = (require_positive("k", reference[0]), require_positive("most", reference[1]))
    slices = layer_slices(score)
    every = sorted({*tops, chosen[0]})
    members = [in_top(score, k, applicable=applicable) for k in every]
    count = xr.concat([member.sum("sample") for member in members], "top", coords="minimal", compat="override")
    shared: xr.DataArray = apply_lazily(
        _shared,
        (unlayered(count), ["top", "channel"]),
        output_dims=[["layer", "k", "most"]],
        dtypes=[np.float64],
        output_sizes={"layer": len(slices), "k": len(tops), "most": len(sizes)},
        every=every,
        ks=tops,
        mosts=sizes,
        reference=chosen,
        layers=list(slices.values()),
    )
    texts = [[[_all_channels(k, most, where) for most in sizes] for k in tops] for where in slices.values()]
    found = xr.Dataset({"overlap": shared.transpose("layer", ...), "note": (("layer", "k", "most"), texts)})
    valid = unlayered(applicable_samples(members[0], applicable))
    found = found.assign(samples_and_patients(valid, patients_of(score)[0]).data_vars)
    return found.assign_coords(**layer_coords(score), k=tops, most=sizes)


def _shared(
    count: NDArray[Any],
    every: list[int],
    ks: list[int],
    mosts: list[int],
    reference: tuple[int, int],
    layers: list[slice],
) -> NDArray[np.float64]:
    def chosen(k: int, most: int, where: slice) -> Bools | None:
        channels = where.stop - where.start
        if k >= channels > most:
            return None
        return most_often(count[..., every.index(k), where], most)

    found = np.full((*count.shape[:-2], len(layers), len(ks), len(mosts)), np.nan)
    for i, j, m in np.ndindex(*found.shape[-3:]):
        these, base = (chosen(k, most, layers[i]) for k, most in ((ks[j], mosts[m]), reference))
        if these is not None and base is not None:
            found[..., i, j, m] = overlap(these, base)
    return found


def _all_channels(k: int | None, most: int, where: slice) -> str:
    channels = where.stop - where.start
    if most >= channels:
        return f"a set of {most} has room for all {channels} channels"
    return f"the top {k} has room for all {channels} channels" if k is not None and k >= channels else ""
