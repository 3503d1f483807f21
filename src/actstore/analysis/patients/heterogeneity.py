"""Whether patients differ in which channels respond, and whose count stands out."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import apply_lazily, coordinate, require_positive
from actstore.analysis.channels.frequency import applicable_samples, top_counts
from actstore.analysis.evidence import FEWEST_PATIENTS, corrected, families, patients_of, volumes_of
from actstore.analysis.grouping import Counts, Floats, samples_and_patients, sum_by
from actstore.analysis.uncertainty.permutation import Volumes, agreement, p_values, residuals
from actstore.units import counted

#: Fewest permutations behind a p-value.
RESAMPLES = 9999
#: Most permutations: time grows with tests times permutations.
MOST_RESAMPLES = 99_999
#: Volumes with fewer samples than this share of the largest are not in the test: rates of few samples scatter more,
#: and two small volumes of one patient would agree by that alone.
FEWEST_OF_LARGEST = 0.4
#: With tests / LEVEL permutations, a single channel can reach q = LEVEL.
LEVEL = 0.05

_NOTE = np.dtype("U80")


def heterogeneity(
    member: xr.DataArray,
    *,
    applicable: xr.DataArray | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Whether patients differ in how often a channel is on top, by whether their volumes agree; lazy.

    Each volume (patient and ``frame``) has a rate, the share of its applicable samples in which the channel is on top.
    A volume's phase is the rank of its frame among those of its patient, so that the second of every patient is one
    phase whatever its number. The statistic is the intraclass correlation of the rates over the volumes of a patient,
    each rate less the mean of its phase.

    The null: rates of one phase are exchangeable between patients. Whole volumes change places within a phase, so that
    neither neighbouring slices that are alike nor a shift between phases counts. To reject says that the volumes of one
    patient are more alike than those of different patients. Every volume weighs alike; rates of small ones scatter
    more, so that volumes of fewer than :data:`FEWEST_OF_LARGEST` of the samples of the largest are not in the test.
    docs/uncertainty.md has error rates and power.

    Two volumes a patient cannot single out one patient: they fall together again in one of P permutations (P patients).
    ``highest`` therefore describes, and tests nothing.

    Parameters
    ----------
    member
        bool (sample, condition, channel) of :func:`actstore.analysis.in_top`, of one layer or stacked, with the
        coordinates ``patient`` and ``frame`` along sample. The original has no member and is never tested.
    applicable
        bool (sample, condition). Without it, the samples in which any channel is a member: pass it for a selection of
        channels.
    resamples
        Random permutations behind every p-value, the same for every channel and condition with the same volumes. By
        default 9999, or 20 for each test of the family if that is more, up to 99 999: with fewer, a single channel
        among them could not have q ≤ 0.05.
    seed
        Of these permutations.

    Returns
    -------
    xarray.Dataset
        Along (condition, channel): ``count`` int64; ``statistic``, the intraclass correlation, about 0 under the null
        and at most 1 where all patients have the same volumes; ``p`` with (1 + as high) / (1 + resamples), Phipson &
        Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), 39, doi:10.2202/1544-6115.1585; ``q``, p corrected by
        :func:`actstore.analysis.evidence.corrected` over the ``tests`` of its family; ``highest``, the patient whose
        count is furthest above its share by the adjusted residual (Haberman, Biometrics 29 (1973), 205, summed over
        phases), the first of equals, "" if none is above; ``share``, this patient's part of the count, else NaN;
        ``note``. Along condition: ``samples``, ``patients``, ``volumes`` (those in the test)
        and ``tests`` int64.
        A channel is not tested, NaN, where its rate varies in fewer than two phases, and none is where fewer than
        :data:`actstore.analysis.evidence.FEWEST_PATIENTS` patients have two volumes, which ``note`` says.

    Raises
    ------
    AnalysisError
        if ``patient``, ``frame`` or a dimension is missing, or ``resamples`` is below 1.

    Examples
    --------
    >>> list(analysis.heterogeneity(findings.member, applicable=findings.applicable, resamples=50))[:5]
    ['count', 'statistic', 'p', 'q', 'highest']
    """
    patient, names = patients_of(member)
    volume, volumes = _volumes(member, patient)
    cells = ["condition", "channel"]
    valid = applicable_samples(member, applicable)
    count, samples = top_counts(member, valid, volume, "volume")
    found = apply_lazily(
        _heterogeneity,
        (count, ["volume", *cells]),
        (samples, ["volume", "condition"]),
        output_dims=[*[cells] * 7, *[["condition"]] * 2],
        dtypes=[np.int64, *[np.float64] * 3, names.dtype, np.float64, _NOTE, np.int64, np.int64],
        volumes=volumes,
        names=names,
        resamples=resamples if resamples is None else require_positive("resamples", resamples),
        seed=seed,
        family=families(member),
    )
    order = ("count", "statistic", "p", "q", "highest", "share", "note", "volumes", "tests")
    return xr.Dataset({**dict(zip(order, found, strict=True)), **samples_and_patients(valid, patient).data_vars})


def _volumes(member: xr.DataArray, patient: NDArray[np.intp]) -> tuple[NDArray[np.intp], Volumes]:
    """The volume of each sample, as a number, and the volumes."""
    coordinate(member, "frame", "sample")
    volume = volumes_of(member)
    # Numbered by patient, then by frame.
    owner = patient[np.unique(volume, return_index=True)[1]]
    first = np.searchsorted(owner, owner)
    return volume, Volumes(owner, np.arange(len(owner)) - first)


def _heterogeneity(
    counts: Counts,
    sizes: Counts,
    volumes: Volumes,
    names: NDArray[np.str_],
    resamples: int | None,
    seed: int,
    family: NDArray[np.intp],
) -> tuple[NDArray[Any], ...]:
    shape = counts.shape[1:]
    statistic = np.full(shape, np.nan)
    columns: list[Floats] = []
    notes = np.zeros(shape[0], dtype=_NOTE)
    highest, share = np.full(shape, "", names.dtype), np.full(shape, np.nan)
    used = (sizes > 0) & (sizes >= FEWEST_OF_LARGEST * sizes.max(axis=0, initial=0))
    for c, present in enumerate(used.T):
        here = volumes.of(present)
        columns.append(residuals(counts[present, c] / sizes[present, c, None], here))
        statistic[c] = agreement(columns[c], here)
        notes[c] = _note(here, volumes.of(sizes[:, c] > 0))
        highest[c], share[c] = _highest(counts[:, c], sizes[:, c], volumes, names)
    tested = ~np.isnan(statistic) & (notes == "")[:, None]
    p = np.full(shape, np.nan)
    for own in (family == one for one in np.unique(family)):
        wanted = int(tested[own].sum() / LEVEL)
        number = min(max(RESAMPLES, wanted), MOST_RESAMPLES) if resamples is None else resamples
        patterns = np.unique(used[:, own], axis=1).T
        for present in patterns if tested[own].any() else ():
            # One set of permutations serves all conditions with the same volumes.
            at = np.flatnonzero(own & (used == present[:, None]).all(axis=0) & tested.any(axis=1)).tolist()
            if at:
                joined = np.concatenate([columns[c][:, tested[c]] for c in at], axis=1)
                # In the order of `joined`: by condition, then channel.
                where = np.zeros(shape, dtype=bool)
                where[at] = tested[at]
                p[where] = p_values(joined, volumes.of(present), number, seed)
    q, tests = corrected(p, family)
    text = np.broadcast_to(notes[:, None], shape)
    return counts.sum(axis=0), statistic, p, q, highest, share, text, used.sum(axis=0), tests


def _note(volumes: Volumes, before: Volumes) -> str:
    """Why there is no test of ``volumes``, those large enough of the ones ``before``, or ""."""
    number, whole = volumes.per_patient, before.per_patient
    patients, several = len(number), int((number > 1).sum())
    if patients < FEWEST_PATIENTS:
        large = " with volumes large enough" if patients < len(whole) else ""
        return f"{counted(patients, 'patient')}{large}: too few for a test"
    large = " large enough" if several < (whole > 1).sum() else ""
    if not several:
        return f"one volume{large} a patient: nothing shows whether patients differ"
    if several < FEWEST_PATIENTS:
        return f"{counted(several, 'patient')} with two volumes{large}: too few for a test"
    return ""


def _highest(
    counts: Counts, sizes: Counts, volumes: Volumes, names: NDArray[np.str_]
) -> tuple[NDArray[np.str_], Floats]:
    """The patient whose count is furthest above its share, and its part of the count, of each channel."""
    if not len(names):
        return np.full(counts.shape[1], "", names.dtype), np.full(counts.shape[1], np.nan)
    above, variance = np.zeros((2, len(volumes), counts.shape[1]))
    for own in (volumes.phase == one for one in np.unique(volumes.phase)):
        total = max(int(sizes[own].sum()), 1)
        rate = counts[own].sum(axis=0) / total
        n = sizes[own, None]
        above[own] = counts[own] - n * rate
        variance[own] = n * rate * (1 - rate) * (1 - n / total)
    above, variance = sum_by(above, volumes.patient), sum_by(variance, volumes.patient)
    known = variance > 1e-12
    residual = np.where(known, above / np.sqrt(np.where(known, variance, 1.0)), -np.inf)
    most = residual.argmax(axis=0)
    stands_out = residual.max(axis=0) > 1e-9
    own_count = np.take_along_axis(sum_by(counts, volumes.patient), most[None], axis=0)[0]
    part = np.where(stands_out, own_count / np.maximum(counts.sum(axis=0), 1), np.nan)
    return np.where(stands_out, names[most], "").astype(names.dtype), part
