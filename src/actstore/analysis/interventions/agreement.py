"""Whether the channels that change most are those that matter: two rankings of the channels of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import require_dims, require_positive
from actstore.analysis.channels.ranking import chosen, highest
from actstore.analysis.evidence import FEWEST_PATIENTS, corrected, families, note, patients_of
from actstore.analysis.grouping import Bools, Counts, Floats, count_by, sample_mean, sum_by
from actstore.analysis.layers import layer_coords, layer_slices
from actstore.analysis.uncertainty.bootstrap import interval, require_confidence
from actstore.analysis.uncertainty.resamples import RESAMPLES, patient_draws

_NOTE = np.dtype("U64")
_ENDS = ("low", "high", "error")
#: What channels are ranked by, beside their effect.
RANKINGS = ("frequency", "mad")


def rankings(member: xr.DataArray, mad: xr.DataArray, effect: xr.DataArray) -> xr.Dataset:
    """Where each channel stands in its layer: by frequency among the top, by mean MAD and by the effect of editing it.

    Parameters
    ----------
    member
        bool (sample, condition, channel): whether a channel is among the top, over the samples of ``mad``.
    mad
        (sample, condition, channel), NaN where a condition does not apply.
    effect
        (condition, channel), of one class, with ``layer`` along channel.

    Returns
    -------
    xarray.Dataset
        (condition, channel): ``frequency``, ``mad`` and ``effect`` float64; ``frequency_rank``, ``mad_rank`` and
        ``effect_rank``, 1 for the largest of the layer, the lower channel first among equals.

    Raises
    ------
    AnalysisError
        if a dimension is missing.
    """
    require_dims(mad, ["sample", "condition", "channel"])
    dims = ("condition", "channel")
    applies = mad.notnull().any("channel")
    found = {
        "frequency": sample_mean(member.astype(np.float64).where(applies)),
        "mad": sample_mean(mad),
        "effect": effect,
    }
    values = {name: array.transpose(*dims).values for name, array in found.items()}
    slices = list(layer_slices(effect).values())
    ranks = {f"{name}_rank": _ranks(array, slices) for name, array in values.items()}
    return xr.Dataset({name: (dims, array) for name, array in {**values, **ranks}.items()}, coords=effect.coords)


def agreement(
    member: xr.DataArray,
    mad: xr.DataArray,
    part: xr.DataArray,
    most: int,
    *,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Whether the most frequent channels of a layer are those with the largest effects.

    ``frequent`` are the ``most`` channels that are most often among the top, without those that never are, and
    ``large`` the ``most`` with the largest effect, without those not above 0. If the rankings were unrelated,
    ``shared`` would be hypergeometric: ``expected`` is its mean, and p the probability of sharing as many or more.
    Spearman's correlation is over the channels of the layer, of means over all patients; in its interval patients are
    resampled, with which ranks get noisier: it leans towards 0.

    Parameters
    ----------
    member, mad
        as for :func:`rankings`, with ``patient``.
    part
        (sample, condition, channel): Dice that is lost, comes back or is gained as each channel alone is edited, with
        ``layer`` along channel. Its samples may be fewer than those of ``mad``; conditions and channels are the same.
        Patients with samples of both count.
    most
        size of the sets.
    resamples, confidence, seed
        as for :func:`actstore.analysis.bootstrap_mean`.

    Returns
    -------
    xarray.Dataset
        (condition, layer): ``frequent``, ``large``, ``shared``, ``samples``, ``patients`` and ``tests`` int64;
        ``expected``, ``p``, ``q`` corrected as :func:`actstore.analysis.evidence.corrected`, ``spearman_frequency``
        and ``spearman_mad``, each with ``…_low``, ``…_high`` and ``…_error``; ``note``. No p where a set holds no
        channel or every channel; no correlation where either does not vary.

    Raises
    ------
    AnalysisError
        if ``patient`` or a dimension is missing, or an argument is out of range.
    """
    most = require_positive("most", most)
    level = require_confidence(confidence)
    known = patients_of(part)[1].tolist()
    applies = mad.notnull().any("channel")
    changed = {name: _sums(array, applies, known) for name, array in (("frequency", member), ("mad", mad))}
    sums = {name: found for name, (found, _) in changed.items()}
    sums["effect"], counts = _sums(part, part.notnull().any("channel"), known)
    counts = np.where(changed["mad"][1] > 0, counts, 0)
    slices = list(layer_slices(part).values())
    shape = (part.sizes["condition"], len(slices))
    found = _Found.empty(shape)
    for c in range(shape[0]):
        there = counts[:, c] > 0
        for k, where in enumerate(slices):
            own = {name: array[there, c, where] for name, array in sums.items()}
            found.sets(c, k, {name: array.sum(axis=0) for name, array in own.items()}, most)
            found.correlations(c, k, own, resamples, level, seed)
    variables = {name: (("condition", "layer"), array) for name, array in found.values.items()}
    rests = {"samples": counts.sum(axis=0), "patients": (counts > 0).sum(axis=0)}
    q, tests = corrected(found.values["p"], families(part))
    coords = {name: coord for name, coord in part.coords.items() if coord.dims == ("condition",)}
    return xr.Dataset(
        {
            **variables,
            **{name: ("condition", values) for name, values in rests.items()},
            "q": (("condition", "layer"), q),
            "tests": ("condition", tests),
        },
        coords={**coords, **layer_coords(part)},
    )


@dataclass(frozen=True)
class _Found:
    """Results of each condition and layer, filled one by one."""

    values: dict[str, NDArray[Any]]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> _Found:
        numbers = {name: np.zeros(shape, dtype=np.int64) for name in ("frequent", "large", "shared")}
        names = [f"spearman_{name}{end}" for name in RANKINGS for end in ("", *(f"_{e}" for e in _ENDS))]
        unknown = {name: np.full(shape, np.nan) for name in ("expected", "p", *names)}
        return cls({**numbers, **unknown, "note": np.zeros(shape, dtype=_NOTE)})

    def sets(self, c: int, k: int, own: Mapping[str, Floats], most: int) -> None:
        """The sets of channels, of sums over samples."""
        from scipy import stats

        frequent, large = (_largest(own[name], most) for name in ("frequency", "effect"))
        sizes, channels = (int(frequent.sum()), int(large.sum())), len(frequent)
        shared = int((frequent & large).sum())
        for name, number in zip(("frequent", "large", "shared"), (*sizes, shared), strict=True):
            self.values[name][c, k] = number
        self.values["expected"][c, k] = sizes[0] * sizes[1] / channels
        if min(sizes) > 0 and max(sizes) < channels:
            self.values["p"][c, k] = stats.hypergeom.sf(shared - 1, channels, *sizes)
        else:
            which = "no channel" if min(sizes) == 0 else "every channel"
            self.values["note"][c, k] = f"a set holds {which} of the layer: nothing to test"

    def correlations(self, c: int, k: int, own: Mapping[str, Floats], resamples: int, level: float, seed: int) -> None:
        """Rank correlations over channels, of sums of each patient (patient, channel)."""
        effect = own["effect"]
        patients = len(effect)
        draws = patient_draws(patients, resamples, seed) if patients >= FEWEST_PATIENTS else None
        drawn = None if draws is None else draws.weights @ effect
        for name in RANKINGS:
            key = f"spearman_{name}"
            value = float(_spearman(own[name].sum(axis=0)[None], effect.sum(axis=0)[None])[0])
            self.values[key][c, k] = value
            if draws is None or drawn is None or np.isnan(value):
                continue
            over = _spearman(draws.weights @ own[name], drawn)
            # A draw in which a ranking does not vary shows no agreement.
            ends = interval(np.nan_to_num(over), draws, level)
            for end, number in zip(_ENDS, ends, strict=True):
                self.values[f"{key}_{end}"][c, k] = number
        if draws is None and not self.values["note"][c, k]:
            self.values["note"][c, k] = str(note(patients, "interval"))


def _sums(array: xr.DataArray, used: xr.DataArray, known: list[str]) -> tuple[Floats, Counts]:
    """Sums over the samples in use of each of the ``known`` patients (patient, condition, channel), and how many."""
    number, names = patients_of(array)
    code = np.array([known.index(name) if name in known else len(known) for name in names.tolist()])[number]
    # One cell of each patient, so that every number occurs.
    every = np.r_[code, np.arange(len(known) + 1)]
    there = used.transpose("sample", "condition").values
    values = array.transpose("sample", "condition", "channel").values.astype(np.float64)
    values = np.where(there[..., None], np.nan_to_num(values), 0.0)
    padded = [
        np.concatenate([part, np.zeros((len(known) + 1, *part.shape[1:]), part.dtype)]) for part in (values, there)
    ]
    return sum_by(padded[0], every)[:-1], count_by(padded[1], every)[:-1]


def _largest(values: Floats, most: int) -> Bools:
    """The ``most`` largest of ``values`` (channel) above 0, the lower channel first among equals."""
    return chosen(highest(np.where(values > 0, values, np.nan), min(most, len(values))), len(values))


def _ranks(values: Floats, slices: list[slice]) -> Floats:
    """Rank within the layer (condition, channel), 1 for the largest; NaN where a value is."""
    ranks = np.full(values.shape, np.nan)
    for where in slices:
        own = values[:, where]
        order = np.argsort(np.where(np.isnan(own), np.inf, -own), axis=1, kind="stable")
        place = np.argsort(order, axis=1, kind="stable") + 1.0
        ranks[:, where] = np.where(np.isnan(own), np.nan, place)
    return ranks


def _spearman(first: Floats, second: Floats) -> Floats:
    """Rank correlation of each row of ``first`` and ``second`` (row, channel); NaN where either does not vary."""
    from scipy import stats

    a, b = (stats.rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (first, second))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    r = np.full(scale.shape, np.nan)
    np.divide((a * b).sum(axis=-1), scale, out=r, where=scale > 0)
    return r
