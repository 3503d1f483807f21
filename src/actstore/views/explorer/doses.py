"""A channel's response against the strength of the perturbation."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import pandas as pd

from actstore.analysis.strengths import FEWEST_STRENGTHS
from actstore.conditions import IDENTITY_STRENGTH
from actstore.findings import Unanswerable
from actstore.reader import read_smalls
from actstore.views import marks
from actstore.views.explorer.look import Look
from actstore.views.explorer.plots import RESPONSIVE, overlay
from actstore.views.explorer.source import Source
from actstore.views.explorer.statistics import Floats

#: What makes conditions those of one sweep.
_ALIKE = ("transform", "target", "perturbation_source", "region")


class Sweep(NamedTuple):
    """The conditions of one transform and target, by rising strength."""

    transform: str
    #: Numbers of the conditions in the store, their names and strengths.
    conditions: tuple[int, ...]
    names: tuple[str, ...]
    strengths: tuple[float, ...]


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
    alike = (conditions[list(_ALIKE)] == row[list(_ALIKE)]).all(axis=1).to_numpy()
    at = np.flatnonzero(alike)
    strengths = conditions["strength"].to_numpy(float)
    at = at[np.argsort(strengths[at], kind="stable")]
    if len(at) < FEWEST_STRENGTHS:
        raise Unanswerable(
            f"no dose–response: {row['transform']} of {row['target']} has "
            f"{len(at)} strength{'s' if len(at) != 1 else ''}; "
            f"give `strengths` below [[perturb]] in the spec {FEWEST_STRENGTHS} or more values"
        )
    names = tuple(str(name) for name in conditions.index[at])
    return Sweep(str(row["transform"]), tuple(map(int, at)), names, tuple(map(float, strengths[at])))


def persisted_mad(source: Source, layer: str) -> Floats:
    """MAD of a layer as it is stored: float64 (sample, condition, channel), NaN where not applicable.

    Raises
    ------
    StoreError
        if the store's statistics are not persisted, or damaged.
    """
    source.need_statistics()
    found = next(own for own in source.store.layout.layers if own.name == layer)
    return read_smalls(source.store.storage, source.store.layout.statistic(found, "mad"), source.store.parts)


class DoseCurve:
    """Median and quartiles of MAD at each strength of a sweep.

    Parameters
    ----------
    mad
        float (sample, strength) as ``sweep.strengths``, NaN where not applicable.
    """

    def __init__(self, sweep: Sweep, mad: Floats) -> None:
        self.sweep = sweep
        known = np.isfinite(mad)
        self.samples = int(known.any(axis=1).sum())
        columns = [values[own] if own.any() else np.zeros(1) for values, own in zip(mad.T, known.T, strict=True)]
        #: Lower quartile, median and upper quartile at each strength, 0 without a sample: float64 (3, strength).
        self.quartiles: Floats = np.stack([np.quantile(own, [0.25, 0.5, 0.75]) for own in columns], axis=1)

    def at(self, x: float) -> str:
        """The condition whose strength is nearest to ``x``."""
        return self.sweep.names[int(np.abs(np.array(self.sweep.strengths) - x).argmin())]

    def drawn(self, look: Look, colour: str, condition: str, **options: Any) -> hv.Overlay:
        """The curve, 0 where the transform changes nothing, with a mark at ``condition``; ``options`` of the plot."""
        strengths = np.array(self.sweep.strengths)
        x, (low, middle, high) = strengths, self.quartiles
        identity = IDENTITY_STRENGTH.get(self.sweep.transform)
        if identity is not None and identity not in strengths:
            i = int(np.searchsorted(strengths, identity))
            x = np.insert(strengths, i, identity)
            low, middle, high = (np.insert(values, i, 0.0) for values in (low, middle, high))
        shown = pd.DataFrame({"strength": strengths, "median": self.quartiles[1].round(5)})
        top = float(high.max())
        here = strengths[[name == condition for name in self.sweep.names]].repeat(2)
        band, line, dots, mark = _styles(look, colour)
        span = float(x[-1] - x[0])
        return overlay(
            [
                band.clone((x, low, high)),
                line.clone((x, middle)),
                dots.clone(shown),
                mark.clone((here, np.array([0.0, top * 1.06])[: len(here)])),
            ],
            title=f"dose–response · n = {self.samples} samples",
            xlabel=f"strength of {self.sweep.transform}",
            ylabel="MAD (median, quartiles)",
            xlim=(float(x[0]) - 0.04 * span, float(x[-1]) + 0.04 * span),
            ylim=(0, top * 1.06 or 1.0),
            **RESPONSIVE,
            **options,
        )


@cache
def _styles(look: Look, colour: str) -> tuple[Any, ...]:
    """Empty elements whose clones are drawn alike: options are worked out once."""
    nothing = np.array([])
    return (
        marks.band(nothing, nothing, nothing, colour),
        marks.line(nothing, nothing, colour),
        marks.dots(pd.DataFrame({"strength": [], "median": []}), "strength", "median", colour, size=7),
        marks.line(nothing, nothing, look.ink, width=1, dashed=True),
    )
