"""Do patients differ in which channels respond, which patient makes the difference, and what is left without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_positive
from actstore.analysis.evidence import FEWEST_PATIENTS, corrected, note, patients_of
from actstore.analysis.network import layer_slices
from actstore.analysis.sets import Bools, Counts, counted_samples, most_often, per_patient, rests_on

#: Permutations behind a p-value, at least.
RESAMPLES = 9999

#: Permutations behind the p-value without a patient, which is only held against ``alpha``.
RESAMPLES_WITHOUT = 999

#: Counts that a batch of permutations may hold: 32 MiB.
_BATCH = 4 * 2**20

Floats = NDArray[np.float64]


def heterogeneity(
    member: xr.DataArray,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int | None = None,
    seed: int = 0,
    alpha: float = 0.05,
) -> xr.Dataset:
    """Whether a channel's count is spread over patients more unevenly than chance; lazy where ``member`` is.

    The null: which samples have the channel on top is unrelated to whose they are. Given the count, every way to spread
    it over the applicable samples is as likely as any other, so that counts per patient are multivariate
    hypergeometric. To reject it says that samples of one patient are more alike than samples of different patients. A
    run of neighbouring slices that are alike counts as that, too: the test tells patients apart from exchangeable
    slices, not from a stretch of similar slices within a patient. Where the position of a slice matters and patients
    have similar stacks, counts are more even than under the null, and the test rejects less often than stated.

    Parameters
    ----------
    member
        bool (sample, condition, channel) of :func:`actstore.analysis.in_top`, of one layer or stacked, with the
        coordinate ``patient`` along sample. The original has no member and is never tested.
    applicable
        bool (sample, condition). Without it, the samples in which any channel is a member: pass it for a selection of
        channels.
    resamples
        Random permutations of the samples' patients behind every p-value, the same for every channel and condition
        with the same samples. By default 9999, or tests / alpha if that is more: with fewer, a single channel among
        all those tested could not be rejected, however uneven.
    seed
        Of these permutations.
    alpha
        Level at which evenness counts as rejected.

    Returns
    -------
    xarray.Dataset
        Along (condition, channel): ``count`` int64; ``statistic``, Pearson's chi-square of counts per patient, given
        each patient's number of applicable samples, of which P - 1 (P patients) is expected under the null; ``p`` with
        (1 + as extreme) / (1 + resamples), Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), 39,
        doi:10.2202/1544-6115.1585; ``q``, p corrected by :func:`actstore.analysis.evidence.corrected` over all of
        ``member``; ``explained_by``, where q ≤ alpha, the patient with the highest residual (adjusted as by Haberman,
        Biometrics 29 (1973), 205) if p without this patient is above alpha, else ""; ``share``, this patient's part of
        the count, else NaN; ``note``. Along condition: ``samples`` and ``patients`` int64. A channel that is on top in
        no sample or in all is not tested: NaN.

    Raises
    ------
    AnalysisError
        if ``patient`` or a dimension is missing, ``resamples`` is below 1, or ``alpha`` is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise AnalysisError(f"alpha = {alpha!r}: give a level between 0 and 1, such as 0.05")
    valid = counted_samples(member, applicable)
    patient, names = patients_of(member)
    whole = ["sample", "condition", "channel"]
    found = xr.apply_ufunc(
        _heterogeneity,
        one_chunk(member, whole),
        one_chunk(valid, whole[:2]),
        kwargs={
            "patient": patient,
            "names": names,
            "resamples": resamples if resamples is None else require_positive("resamples", resamples),
            "seed": seed,
            "alpha": alpha,
        },
        input_core_dims=[whole, whole[:2]],
        output_core_dims=[whole[1:]] * 7,
        dask="parallelized",
        output_dtypes=[np.int64, *[np.float64] * 3, names.dtype, np.float64, _NOTE],
        keep_attrs=False,
    )
    order = ("count", "statistic", "p", "q", "explained_by", "share", "note")
    return xr.Dataset({**dict(zip(order, found, strict=True)), **rests_on(valid, patient)})


_NOTE = np.dtype("U48")


def _heterogeneity(
    member: Bools,
    valid: Bools,
    patient: NDArray[np.intp],
    names: NDArray[np.str_],
    resamples: int | None,
    seed: int,
    alpha: float,
) -> tuple[NDArray[Any], ...]:
    counts = per_patient(member.astype(bool) & valid[..., None], patient).astype(np.int64)
    sizes = per_patient(valid, patient).astype(np.int64)
    patients = (sizes > 0).sum(axis=0)
    statistic = np.stack([_chi_square(counts[:, c], sizes[:, c]) for c in range(valid.shape[1])])
    p = np.full(statistic.shape, np.nan)
    enough = np.flatnonzero(patients >= FEWEST_PATIENTS)
    if resamples is None:
        resamples = max(RESAMPLES, int(np.isfinite(statistic[enough]).sum() / alpha))
    for c in enough:
        p[c] = _p_values(counts[:, c], sizes[:, c], resamples, seed)
    q = corrected(p)
    explained = np.full(p.shape, -1)
    for c in np.flatnonzero((q <= alpha).any(axis=1)):
        explained[c] = _explained(
            counts[:, c], sizes[:, c], q[c] <= alpha, min(resamples, RESAMPLES_WITHOUT), seed, alpha
        )
    count = counts.sum(axis=0)
    by = np.where(explained >= 0, names[explained], "") if len(names) else np.full(p.shape, "", names.dtype)
    own = np.take_along_axis(counts, np.maximum(explained, 0)[None], axis=0)[0] if len(names) else count
    share = np.where(explained >= 0, own / np.maximum(count, 1), np.nan)
    text = np.broadcast_to(note(patients, "test").astype(_NOTE)[:, None], p.shape)
    return count, statistic, p, q, by.astype(names.dtype), share, text


def _chi_square(counts: Counts, sizes: Counts) -> Floats:
    """Pearson's chi-square of counts (patient, channel) out of ``sizes`` (patient); NaN where it is always the same."""
    count, samples = counts.sum(axis=0), sizes.sum()
    varies = (count > 0) & (count < samples)
    rate = np.where(varies, count / max(samples, 1), 0.5)
    expected = np.maximum(sizes, 1)[:, None] * rate
    squares = np.where(sizes[:, None] > 0, (counts - expected) ** 2 / expected, 0).sum(axis=0)
    return np.where(varies, squares / (1 - rate), np.nan)


def _p_values(counts: Counts, sizes: Counts, resamples: int, seed: int) -> Floats:
    """p of each channel's chi-square (channel); NaN where it cannot be tested."""
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    count, samples = counts.sum(axis=0), sizes.sum()
    tested = np.flatnonzero((count > 0) & (count < samples))
    p = np.full(counts.shape[1], np.nan)
    if not len(tested) or len(sizes) < 2:
        return p
    # Members and non-members have the same chi-square, so that the smaller of the two is drawn.
    fewer = np.where(2 * count > samples, sizes[:, None] - counts, counts)[:, tested]
    totals, which = np.unique(fewer.sum(axis=0), return_inverse=True)
    null = np.sort(_null(sizes, totals, resamples, seed), axis=0)
    # Counts that are equally uneven may differ in the last digits.
    observed = (fewer**2 / sizes[:, None]).sum(axis=0) * (1 - 1e-9)
    for i, channel in enumerate(tested):
        extreme = resamples - np.searchsorted(null[:, which[i]], observed[i], side="left")
        p[channel] = (1 + extreme) / (1 + resamples)
    return p


def _null(sizes: Counts, totals: Counts, resamples: int, seed: int) -> Floats:
    """Σ count² / size over patients for random permutations: (resample, total), rising with chi-square for each total.

    The first m of permuted samples are m drawn at random without replacement, for every m at once: one permutation
    serves all totals, and a channel's p does not depend on which others are tested with it.
    """
    rng = np.random.default_rng(seed)
    patients, samples, last = len(sizes), int(sizes.sum()), int(totals[-1])
    labels = np.repeat(np.arange(patients), sizes)
    step = np.searchsorted(totals, np.arange(last), side="right")
    found = np.empty((resamples, len(totals)))
    batch = max(1, _BATCH // max(samples, len(totals) * patients))
    for first in range(0, resamples, batch):
        rows = min(batch, resamples - first)
        drawn = rng.permuted(np.tile(labels, (rows, 1)), axis=1)[:, :last]
        cell = (np.arange(rows)[:, None] * len(totals) + step) * patients + drawn
        steps = np.bincount(cell.ravel(), minlength=rows * len(totals) * patients)
        counts = steps.reshape(rows, len(totals), patients).cumsum(axis=1)
        found[first : first + rows] = (counts**2) @ (1 / sizes)
    return found


def _explained(
    counts: Counts, sizes: Counts, rejected: Bools, resamples: int, seed: int, alpha: float
) -> NDArray[np.intp]:
    """The patient without whom evenness is not rejected, for each of the ``rejected`` channels; else -1."""
    count, samples = counts.sum(axis=0), sizes.sum()
    rate = np.where(rejected, count / samples, 0.5)
    variance = sizes[:, None] * rate * (1 - rate) * (1 - sizes[:, None] / samples)
    residual = np.where(variance > 0, (counts - sizes[:, None] * rate) / np.sqrt(np.maximum(variance, 1e-300)), -np.inf)
    suspect = residual.argmax(axis=0)
    found = np.full(len(count), -1)
    for patient in np.unique(suspect[rejected]):
        channels = np.flatnonzero(rejected & (suspect == patient))
        rest = np.arange(len(sizes)) != patient
        p = _p_values(counts[rest][:, channels], sizes[rest], resamples, seed)
        # NaN: without the patient, the channel is on top nowhere or everywhere.
        found[channels[~(p <= alpha)]] = patient
    return found


def leave_one_out(member: xr.DataArray, most: int = 7, *, applicable: xr.DataArray | None = None) -> xr.Dataset:
    """The ``most`` channels of each layer most often on top, with all patients and without each; lazy.

    Parameters
    ----------
    member
        bool (sample, condition, channel), as for :func:`heterogeneity`.
    most
        How many; beyond a layer's channels, all that are ever on top. Ties as in
        :func:`actstore.analysis.most_frequent`.
    applicable
        As for :func:`heterogeneity`.

    Returns
    -------
    xarray.Dataset
        bool ``all`` (condition, channel) and ``without`` (patient, condition, channel), patients in order of
        appearance; int64 ``samples`` (patient, condition), those of the others, and ``left_out`` (patient, condition),
        the patient's own.

    Raises
    ------
    AnalysisError
        if ``patient`` or a dimension is missing, or ``most`` is below 1.
    """
    valid = counted_samples(member, applicable)
    patient, names = patients_of(member)
    whole = ["sample", "condition", "channel"]
    sets = xr.apply_ufunc(
        _leave_one_out,
        one_chunk(member, whole),
        one_chunk(valid, whole[:2]),
        kwargs={
            "patient": patient,
            "most": require_positive("most", most),
            "layers": list(layer_slices(member).values()),
        },
        input_core_dims=[whole, whole[:2]],
        output_core_dims=[whole[1:], ["patient", *whole[1:]], ["patient", "condition"], ["patient", "condition"]],
        dask="parallelized",
        output_dtypes=[bool, bool, np.int64, np.int64],
        dask_gufunc_kwargs={"output_sizes": {"patient": len(names)}},
        keep_attrs=False,
    )
    found = xr.Dataset(dict(zip(("all", "without", "samples", "left_out"), sets, strict=True)))
    return found.assign_coords(patient=names)


def _leave_one_out(
    member: Bools, valid: Bools, patient: NDArray[np.intp], most: int, layers: list[slice]
) -> tuple[NDArray[Any], ...]:
    counts = per_patient(member.astype(bool) & valid[..., None], patient)
    sizes = per_patient(valid, patient)
    every = counts.sum(axis=0)
    return most_often(every, most, layers), most_often(every - counts, most, layers), sizes.sum(axis=0) - sizes, sizes
