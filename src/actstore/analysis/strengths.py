"""Conditions in the order of their strength, seen from the strength that changes nothing (the identity)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis.arrays import AnalysisError, coordinate, is_original, require_dims
from actstore.analysis.evidence import PERTURBATION, perturbations
from actstore.conditions import IDENTITY_STRENGTH

#: Strengths beside the original from which on a transform of a target counts as a sweep.
FEWEST_STRENGTHS = 3
#: Lower and higher strengths than the identity.
SIDES = ("below", "above")


class Dose(NamedTuple):
    """A transform of a target class (its source, its input channels) that is applied at several strengths."""

    transform: str
    target: str
    source: str = ""
    #: Their names joined by "+", "" for all.
    channels: str = ""


def doses(array: xr.DataArray | xr.Dataset) -> list[Dose]:
    """Transforms and targets with at least :data:`FEWEST_STRENGTHS` strengths that change something, in order.

    Those of a transform whose strength that changes nothing is not known are left out.

    Raises
    ------
    AnalysisError
        if a coordinate along condition is missing.

    Examples
    --------
    >>> [(dose.transform, dose.target) for dose in analysis.doses(store.confusion)]
    [('brightness', 'LV'), ('brightness', 'RV')]
    """
    found = dict.fromkeys(_doses(array))
    swept = [dose for dose in found if dose.transform in IDENTITY_STRENGTH]
    return [d for d in swept if len(_positions(array, d, IDENTITY_STRENGTH[d.transform])) >= FEWEST_STRENGTHS]


def by_strength(
    array: xr.DataArray,
    transform: str,
    target: str,
    *,
    source: str = "",
    channels: str = "",
    identity: float | None = None,
    applicable: xr.DataArray | None = None,
) -> xr.DataArray:
    """The conditions of one transform and target in order of their strength, the original among them; lazy.

    Parameters
    ----------
    array
        (sample, condition, …): a Dice, a score or the cases.
    transform, target, source, channels
        Which conditions, ``channels`` as in :attr:`actstore.store.store.Store.conditions`; controls are none of them.
    identity
        Strength at which the transform changes nothing; known for the built-in ones. The original stands there, also
        in place of a condition of that strength.
    applicable
        bool (sample, condition), of the same conditions. A strength that does not apply to a sample to which another
        one does left its input as it was: with ``applicable``, the original's values stand there too, so that a curve
        rests on the same samples everywhere; without, they are missing.

    Returns
    -------
    xarray.DataArray
        (sample, strength, …) with the coordinate ``strength`` rising and the scalar coordinates ``transform``,
        ``target``, ``perturbation_source``, where conditions have it ``channels``, and ``identity``. Empty (NaN, 0, "")
        at every strength for a sample without the target, which is one where every perturbation is empty.

    Raises
    ------
    AnalysisError
        if there is no such condition or no original, no identity is known, or a dimension or coordinate is missing.

    Examples
    --------
    >>> curve = analysis.by_strength(findings.dice, "brightness", "LV")
    >>> curve["strength"].values.tolist()
    [0.1, 0.5, 1.0, 1.5]
    """
    require_dims(array, ["sample", "condition"])
    dose = Dose(transform, target, source, channels)
    identity = IDENTITY_STRENGTH.get(transform) if identity is None else identity
    if identity is None:
        raise AnalysisError(f"at which strength {transform!r} changes nothing is not known: give identity=")
    at, original = _positions(array, dose, identity), np.flatnonzero(is_original(array).values)
    if not len(at):
        known = ", ".join(dict.fromkeys(map(_named, _doses(array)))) or "none"
        raise AnalysisError(f"no condition {_named(dose)} that changes something: there are {known}")
    if not len(original):
        raise AnalysisError("no original among the conditions: a curve starts there, keep it in the selection")
    strengths = np.r_[array.coords["strength"].values[at], identity]
    along = [str(name) for name, coord in array.coords.items() if "condition" in coord.dims]
    bare = array.drop_vars(along).rename(condition="strength")
    blank: Any = np.nan if bare.dtype.kind == "f" else np.zeros((), bare.dtype)[()]
    changed, first = bare.isel(strength=at), bare.isel(strength=original[:1])
    filled = changed.notnull() if bare.dtype.kind == "f" else changed != blank
    present = filled.any([d for d in bare.dims if d != "sample"])
    if applicable is not None:
        applies = xr.DataArray(applicable.isel(condition=at).transpose("sample", "condition").variable)
        applies = applies.rename(condition="strength")
        present = applies.any("strength")
        changed = changed.where(applies | ~present, first.isel(strength=0)).astype(bare.dtype)
    first = first.where(present, blank).astype(bare.dtype)
    curve = xr.concat([changed, first], "strength").transpose(*bare.dims)
    curve = curve.assign_coords(strength=strengths).isel(strength=np.argsort(strengths, kind="stable"))
    curve = curve.assign_coords(
        transform=transform, target=target, perturbation_source=source, identity=float(identity)
    )
    return curve.assign_coords(channels=channels) if "channels" in array.coords else curve


def _named(dose: Dose) -> str:
    return f"{dose.transform}({dose.target}{f', channels={dose.channels}' if dose.channels else ''})"


def _doses(array: xr.DataArray | xr.Dataset) -> list[Dose]:
    """The dose of every condition that changes a target class."""
    at = perturbations(array)
    for name in ("transform", "strength"):
        coordinate(array, name, "condition", "take the conditions of an opened store")
    columns = [
        array.coords[name].values[at].tolist() if name in array.coords else [""] * len(at) for name in PERTURBATION
    ]
    return [Dose(*map(str, row)) for row in zip(*columns, strict=True)]


def _positions(array: xr.DataArray | xr.Dataset, dose: Dose, identity: float) -> NDArray[np.intp]:
    """The conditions of ``dose`` that change something."""
    of = np.array([found == dose for found in _doses(array)], dtype=bool)
    at = perturbations(array)[of]
    return np.asarray(at[array.coords["strength"].values[at] != identity])


def identity_of(curve: xr.DataArray) -> float:
    """The strength of ``curve`` at which nothing is changed.

    Raises
    ------
    AnalysisError
        if ``curve`` is not of :func:`by_strength`.
    """
    if "strength" not in curve.dims or "identity" not in curve.coords:
        raise AnalysisError(f"{curve.name or 'curve'} has no dimension 'strength' with an identity: use by_strength")
    return float(curve.coords["identity"])


def outward(strengths: NDArray[Any], identity: float, side: str) -> NDArray[np.intp]:
    """Positions from the identity outwards on one side; ``strengths`` rise."""
    start = int(np.flatnonzero(strengths == identity)[0])
    return np.arange(start, -1, -1) if side == "below" else np.arange(start, len(strengths))


def first_reached(rising: NDArray[Any], at: NDArray[Any], level: NDArray[Any]) -> NDArray[np.float64]:
    """Where ``rising`` (…, point), drawn straight between points ``at``, first reaches ``level`` (…); NaN if never."""
    over = rising >= level[..., None]
    over[..., 0] = False
    j = np.maximum(over.argmax(axis=-1), 1)
    if rising.shape[-1] < 2:
        return np.full(rising.shape[:-1], np.nan)
    before, after = (np.take_along_axis(rising, i[..., None], axis=-1)[..., 0] for i in (j - 1, j))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(np.isinf(after), 1.0, (level - before) / (after - before))
    return np.where(over.any(axis=-1), at[j - 1] + share * (at[j] - at[j - 1]), np.nan)
