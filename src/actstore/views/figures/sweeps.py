"""Strengths of one perturbation, and a channel's MAD at each of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
import pandas as pd

from actstore.analysis.evidence import PERTURBATION
from actstore.analysis.strengths import FEWEST_STRENGTHS
from actstore.conditions import IDENTITY_STRENGTH
from actstore.tables.catalogue import Unanswerable
from actstore.units import counted
from actstore.views.arrays import Bools, Floats

#: Columns in which the conditions of one sweep agree; a store has ``channels`` only where input channels are chosen.
_ALIKE = (*PERTURBATION, "region")


class Sweep(NamedTuple):
    """The conditions of one transform, target and choice of input channels, by rising strength."""

    transform: str
    #: Numbers of the conditions in the store, their names and strengths.
    conditions: tuple[int, ...]
    names: tuple[str, ...]
    strengths: tuple[float, ...]
    #: Names of the input channels joined by "+", "" for all.
    channels: str = ""


def sweep_title(transform: Hashable, target: Hashable, channels: Hashable = "") -> str:
    """``brightness(LV)``, with chosen input channels ``brightness(LV, channels=T1)``."""
    return f"{transform}({target}{f', channels={channels}' if channels else ''})"


def sweep_columns(table: pd.DataFrame) -> list[str]:
    """The columns that tell the sweeps of a table apart: ``channels`` is one where input channels are chosen."""
    return [name for name in ("transform", "target", "channels") if name in table]


def sweep_of(conditions: pd.DataFrame, condition: str) -> Sweep:
    """The conditions that differ from ``condition`` in strength only, itself among them.

    Raises
    ------
    Unanswerable
        if there are too few of them for a curve, naming what the run's spec would need.
    """
    row = conditions.loc[condition]
    if not row["target"]:
        raise Unanswerable(f"no dose–response: {condition} has no strength")
    strengths = conditions["strength"].to_numpy(float)
    alike = [name for name in _ALIKE if name in conditions]
    at = np.flatnonzero((conditions[alike] == row[alike]).all(axis=1))
    at = at[np.argsort(strengths[at], kind="stable")]
    channels = str(row.get("channels", ""))
    if len(at) < FEWEST_STRENGTHS:
        where = f" in {channels}" if channels else ""
        raise Unanswerable(
            f"no dose–response: {row['transform']} of {row['target']}{where} has {counted(len(at), 'strength')}; "
            f"list {FEWEST_STRENGTHS} or more as `strengths` below [[perturb]] in the spec"
        )
    names = tuple(str(name) for name in conditions.index[at])
    return Sweep(str(row["transform"]), tuple(map(int, at)), names, tuple(map(float, strengths[at])), channels)


def with_unchanged(mad: Floats, applies: Bools) -> Floats:
    """``mad`` (sample, strength, …) with 0 where a strength changed nothing in a sample that another one changed.

    ``applies`` is bool (sample, strength).
    """
    unchanged = ~applies & applies.any(axis=1, keepdims=True)
    return np.where(unchanged.reshape(*unchanged.shape, *[1] * (mad.ndim - 2)), mad.dtype.type(0), mad)


class DoseCurve:
    """Median and quartiles of MAD at each strength of a sweep.

    Parameters
    ----------
    mad
        float (sample, strength) as ``sweep.strengths``, NaN where not applicable.
    """

    def __init__(self, sweep: Sweep, mad: Floats) -> None:
        self.sweep = sweep
        known = ~np.isnan(mad)
        self.samples = int(known.any(axis=1).sum())
        columns = [values[own] if own.any() else np.full(1, np.nan) for values, own in zip(mad.T, known.T, strict=True)]
        with np.errstate(invalid="ignore"):
            found = np.stack([np.quantile(own, [0.25, 0.5, 0.75]) for own in columns], axis=1)
        #: Lower quartile, median and upper quartile at each strength: float64 (3, strength). NaN, a gap in the figure,
        #: where there is no MAD or that quartile is infinite.
        self.quartiles: Floats = np.where(np.isfinite(found), found, np.nan)

    @property
    def whole(self) -> tuple[Floats, Floats]:
        """Strengths (strength) and quartiles (3, strength), with 0 where the transform changes nothing."""
        strengths = np.array(self.sweep.strengths)
        identity = IDENTITY_STRENGTH.get(self.sweep.transform)
        if identity is None or identity in strengths:
            return strengths, self.quartiles
        i = int(np.searchsorted(strengths, identity))
        return np.insert(strengths, i, identity), np.insert(self.quartiles, i, 0.0, axis=1)

    @property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Ends of the axes x and y that show everything."""
        strengths, quartiles = self.whole
        margin = 0.04 * float(strengths[-1] - strengths[0])
        top = float(np.nan_to_num(quartiles[2]).max()) * 1.06 or 1.0
        return (float(strengths[0]) - margin, float(strengths[-1]) + margin), (0.0, top)
