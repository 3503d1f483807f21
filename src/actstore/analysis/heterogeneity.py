"""Do patients differ in which channels respond, which patient makes the difference, and what is left without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, one_chunk, require_positive
from actstore.analysis.evidence import FEWEST_PATIENTS, corrected, families, note, patients_of
from actstore.analysis.network import layer_slices
from actstore.analysis.permutation import Spread, p_values
from actstore.analysis.sets import Bools, Counts, counted_samples, most_often, per_patient
from actstore.analysis.support import support

#: Permutations behind a p-value, at least.
RESAMPLES = 9999
#: And at most: time grows with tests times permutations, and tests with conditions.
MOST_RESAMPLES = 99_999

#: Permutations behind the p-value without a patient, which is only held against ``alpha``.
RESAMPLES_WITHOUT = 999

Floats = NDArray[np.float64]


def heterogeneity(
    member: xr.DataArray,
    *,
    applicable: xr.DataArray | None = None,
    by: str | None = None,
    resamples: int | None = None,
    seed: int = 0,
    alpha: float = 0.05,
) -> xr.Dataset:
    """Whether a channel's count is spread over patients more unevenly than chance; lazy where ``member`` is.

    The null: which samples have the channel on top is unrelated to whose they are. Given the count, every way to spread
    it over the applicable samples is as likely as any other, so that counts per patient are multivariate
    hypergeometric. To reject it says that samples of one patient are more alike than samples of different patients. A
    run of neighbouring slices that are alike counts as that, too, and is common: the test tells patients apart from
    exchangeable slices, not from a stretch of similar slices within a patient. Where the position of a slice matters
    and patients have similar stacks, counts are more even than under the null: it is rejected less often than stated.

    With ``by="frame"``, whole volumes are exchanged between patients instead. Runs of slices then count for nothing,
    and to reject says that volumes of one patient are more alike than those of different patients. But the two volumes
    of one patient of P fall together again in one of 2P - 1 permutations: a channel of one patient alone has no smaller
    p, and is not found this way.

    Parameters
    ----------
    member
        bool (sample, condition, channel) of :func:`actstore.analysis.in_top`, of one layer or stacked, with the
        coordinate ``patient`` along sample. The original has no member and is never tested.
    applicable
        bool (sample, condition). Without it, the samples in which any channel is a member: pass it for a selection of
        channels.
    by
        Name of a coordinate along sample: the samples of a patient that share its value are exchanged as a whole.
    resamples
        Random permutations of the samples' patients behind every p-value, the same for every channel and condition
        with the same samples. By default 9999, or tests / alpha if that is more, up to 99 999: with fewer, a single
        channel among all those tested could not be rejected, however uneven. Of whole volumes 9999: one patient's can
        fall together by chance in 1 of 2P - 1 anyway.
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
        doi:10.2202/1544-6115.1585; ``q``, p corrected by :func:`actstore.analysis.evidence.corrected` over the
        ``tests`` of its family; ``explained_by``, where q ≤ alpha, the patient with the highest residual (adjusted
        as by Haberman, Biometrics 29 (1973), 205) if p without this patient is above alpha, else ""; ``share``, this
        patient's part of the count, else NaN; ``note``.
        Along condition: ``samples``, ``patients`` and ``tests`` int64. A channel that is on top in
        no sample or in all is not tested: NaN.

    Raises
    ------
    AnalysisError
        if ``patient``, ``by`` or a dimension is missing, ``resamples`` is below 1, or ``alpha`` is not between 0 and 1.
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
            "unit": None if by is None else _units(member, patient, by),
            "names": names,
            "resamples": resamples if resamples is None else require_positive("resamples", resamples),
            "seed": seed,
            "alpha": alpha,
            "family": families(member),
        },
        input_core_dims=[whole, whole[:2]],
        output_core_dims=[*[whole[1:]] * 7, ["condition"]],
        dask="parallelized",
        output_dtypes=[np.int64, *[np.float64] * 3, names.dtype, np.float64, _NOTE, np.int64],
        keep_attrs=False,
    )
    order = ("count", "statistic", "p", "q", "explained_by", "share", "note", "tests")
    return xr.Dataset({**dict(zip(order, found, strict=True)), **support(valid, patient).data_vars})


_NOTE = np.dtype("U48")


def _units(member: xr.DataArray, patient: NDArray[np.intp], by: str) -> NDArray[np.intp]:
    """A number for each patient and value of ``by``, of every sample."""
    if by not in member.coords or member.coords[by].dims != ("sample",):
        raise AnalysisError(f"by = {by!r} is no coordinate along sample: use one such as 'frame'")
    values = np.unique(member.coords[by].values, return_inverse=True)[1]
    unit: NDArray[np.intp] = np.unique(patient * (len(values) + 1) + values, return_inverse=True)[1]
    return unit


def _heterogeneity(
    member: Bools,
    valid: Bools,
    patient: NDArray[np.intp],
    unit: NDArray[np.intp] | None,
    names: NDArray[np.str_],
    resamples: int | None,
    seed: int,
    alpha: float,
    family: NDArray[np.intp],
) -> tuple[NDArray[Any], ...]:
    member = member.astype(bool) & valid[..., None]
    counts = per_patient(member, patient).astype(np.int64)
    sizes = per_patient(valid, patient).astype(np.int64)
    patients = (sizes > 0).sum(axis=0)
    statistic = np.stack([_chi_square(counts[:, c], sizes[:, c]) for c in range(valid.shape[1])])
    enough = np.flatnonzero(patients >= FEWEST_PATIENTS)
    if resamples is None:
        wanted = int(np.isfinite(statistic[enough]).sum() / alpha)
        resamples = min(max(RESAMPLES, wanted), MOST_RESAMPLES if unit is None else RESAMPLES)
    if unit is None:
        spread = Spread(counts, sizes, np.arange(len(names)), whole=False)
    else:
        owner = patient[np.unique(unit, return_index=True)[1]]
        spread = Spread(per_patient(member, unit), per_patient(valid, unit), owner, whole=True)
    p = np.full(statistic.shape, np.nan)
    for c in enough.tolist():
        p[c] = p_values(spread.of(c), resamples, seed)
    q, tests = corrected(p, family)
    explained = np.full(p.shape, -1)
    for c in np.flatnonzero((q <= alpha).any(axis=1)).tolist():
        suspect = _largest_residual(counts[:, c], sizes[:, c])
        for one in np.unique(suspect[q[c] <= alpha]).tolist():
            channels = np.flatnonzero((q[c] <= alpha) & (suspect == one))
            without = p_values(spread.of(c, channels, one), min(resamples, RESAMPLES_WITHOUT), seed)
            # NaN: without the patient, the channel is on top nowhere or everywhere.
            explained[c, channels[~(without <= alpha)]] = one
    count = counts.sum(axis=0)
    by = np.where(explained >= 0, names[explained], "") if len(names) else np.full(p.shape, "", names.dtype)
    own = np.take_along_axis(counts, np.maximum(explained, 0)[None], axis=0)[0] if len(names) else count
    share = np.where(explained >= 0, own / np.maximum(count, 1), np.nan)
    text = np.broadcast_to(note(patients, "test").astype(_NOTE)[:, None], p.shape)
    return count, statistic, p, q, by.astype(names.dtype), share, text, tests


def _chi_square(counts: Counts, sizes: Counts) -> Floats:
    """Pearson's chi-square of counts (patient, channel) out of ``sizes`` (patient); NaN where it is always the same."""
    count, samples = counts.sum(axis=0), sizes.sum()
    varies = (count > 0) & (count < samples)
    rate = np.where(varies, count / max(samples, 1), 0.5)
    expected = np.maximum(sizes, 1)[:, None] * rate
    squares = np.where(sizes[:, None] > 0, (counts - expected) ** 2 / expected, 0).sum(axis=0)
    return np.where(varies, squares / (1 - rate), np.nan)


def _largest_residual(counts: Counts, sizes: Counts) -> NDArray[np.intp]:
    """The patient whose count is furthest above its share, in standard deviations, for each channel."""
    count, samples = counts.sum(axis=0), sizes.sum()
    rate = count / samples
    variance = sizes[:, None] * rate * (1 - rate) * (1 - sizes[:, None] / samples)
    above = (counts - sizes[:, None] * rate) / np.sqrt(np.where(variance > 0, variance, 1.0))
    largest: NDArray[np.intp] = np.where(variance > 0, above, -np.inf).argmax(axis=0)
    return largest


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
