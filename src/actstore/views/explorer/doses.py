"""A channel's response against the strength of the perturbation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.analysis.strengths import FEWEST_STRENGTHS
from actstore.conditions import IDENTITY_STRENGTH
from actstore.tables.catalogue import Unanswerable
from actstore.units import counted
from actstore.views import marks
from actstore.views.explorer.look import Look
from actstore.views.explorer.plots import RESPONSIVE, Plot
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


def still(mad: Floats, applies: NDArray[np.bool_]) -> Floats:
    """``mad`` (sample, strength, …), 0 where a strength left a sample as it was that another strength applies to.

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
        known = np.isfinite(mad)
        self.samples = int(known.any(axis=1).sum())
        columns = [values[own] if own.any() else np.zeros(1) for values, own in zip(mad.T, known.T, strict=True)]
        #: Lower quartile, median and upper quartile at each strength, 0 without a sample: float64 (3, strength).
        self.quartiles: Floats = np.stack([np.quantile(own, [0.25, 0.5, 0.75]) for own in columns], axis=1)

    @property
    def whole(self) -> tuple[Floats, Floats]:
        """Strengths (strength) and quartiles (3, strength), with 0 where the transform changes nothing."""
        strengths = np.array(self.sweep.strengths)
        identity = IDENTITY_STRENGTH.get(self.sweep.transform)
        if identity is None or identity in strengths:
            return strengths, self.quartiles
        i = int(np.searchsorted(strengths, identity))
        return np.insert(strengths, i, identity), np.insert(self.quartiles, i, 0.0, axis=1)


class CurvePlot(Plot):
    """The figure of a curve; a tap finds the condition of the nearest strength."""

    def __init__(self, look: Look, go: Callable[[str], None]) -> None:
        nothing = np.array([])
        dots = pd.DataFrame({"strength": [], "median": []})
        parts = [
            marks.band(nothing, nothing, nothing, look.accent),
            marks.line(nothing, nothing, look.accent),
            marks.dots(dots, "strength", "median", look.accent, size=7).opts(
                hover_tooltips=[("strength", "@strength"), ("median", "@median{0.00000}")], backend="bokeh"
            ),
            marks.line(nothing, nothing, look.ink, width=1, dashed=True),
        ]
        super().__init__(parts, look, go, xlabel="strength", ylabel="MAD (median, quartiles)", **RESPONSIVE)
        self.curve: DoseCurve | None = None

    def at(self, x: float, y: float) -> str | None:
        """The condition whose strength is nearest to ``x``."""
        if self.curve is None:
            return None
        sweep = self.curve.sweep
        return sweep.names[int(np.abs(np.array(sweep.strengths) - x).argmin())]

    def show(self, curve: DoseCurve, condition: str, colour: str) -> None:
        """Draw a curve in a colour, with a mark at ``condition``."""
        self.curve, sweep, live = curve, curve.sweep, self.live
        x, (low, middle, high) = curve.whole
        top, span = float(high.max()) * 1.06 or 1.0, float(x[-1] - x[0])
        live.style(0, fill_color=colour)
        live.style(1, line_color=colour)
        live.style(2, line_color=colour, fill_color=colour)
        live.put(0, x=np.append(x, x[::-1]), y=np.append(low, high[::-1]))
        live.put(1, x=x, y=middle)
        live.put(2, strength=np.array(sweep.strengths), median=curve.quartiles[1])
        live.put(3, x=[sweep.strengths[sweep.names.index(condition)]] * 2, y=[0.0, top])
        live.figure.xaxis[0].axis_label = f"strength of {sweep.transform}"
        self.reach((float(x[0]) - 0.04 * span, float(x[-1]) + 0.04 * span), (0.0, top))
        self.told(f"dose–response · n = {counted(curve.samples, 'sample')}")
