"""Numbers of many samples behind the cohort's figures and table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.units import counted
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import DICE_DECIMALS, MAD_DIGITS, State, shown_dice
from actstore.views.explorer.statistics import Bools, Floats

#: Dots of one plot above which the samples outside of the subset are thinned out, and how many of those stay.
MOST_DOTS = 4000
FEWEST_OTHERS = 1000


class Spread(NamedTuple):
    """Quartiles over samples: float (layer), NaN where no sample has a value."""

    low: Floats
    median: Floats
    high: Floats


def nearest(xs: Floats, ys: Floats, x: float, y: float) -> int | None:
    """Which of the points (``xs``, ``ys``) lies nearest to (``x``, ``y``), of NaN none; None if there is none."""
    away = (xs - x) ** 2 + (ys - y) ** 2
    return int(np.nanargmin(away)) if np.isfinite(away).any() else None


def drawn_others(chosen: Bools) -> NDArray[np.intp]:
    """Numbers of the samples outside of the subset that are drawn: all, or evenly as many as there is room for."""
    others: NDArray[np.intp] = np.flatnonzero(~chosen)
    room = max(MOST_DOTS - int(chosen.sum()), FEWEST_OTHERS)
    if len(others) <= room:
        return others
    evenly: NDArray[np.intp] = others[np.linspace(0, len(others) - 1, room).round().astype(int)]
    return evenly


def spread(values: Floats) -> Spread:
    """Quartiles of ``values``, float (sample, layer), over the samples."""
    found = np.full((3, values.shape[1]), np.nan)
    known = np.isfinite(values).any(axis=0)
    if known.any():
        found[:, known] = np.nanquantile(values[:, known], [0.25, 0.5, 0.75], axis=0)
    return Spread(*found)


def case_counts(cases: NDArray[np.str_], chosen: Bools) -> pd.DataFrame:
    """How many samples fail in which way, the most usual first: columns ``case, samples, chosen``."""
    names, which = np.unique(cases, return_inverse=True)
    counted = pd.DataFrame(
        {
            "case": names,
            "samples": np.bincount(which, minlength=len(names)),
            "chosen": np.bincount(which[chosen], minlength=len(names)),
        }
    )
    known = counted[counted["case"] != ""]
    return known.sort_values("samples", ascending=False, kind="stable", ignore_index=True)


def samples_table(samples: pd.DataFrame, case: NDArray[np.str_], original: Floats, perturbed: Floats) -> pd.DataFrame:
    """A row a sample, by its number: ``patient, frame, slice, case, original, perturbed, change``, the worst first."""
    values: Mapping[str, Any] = {
        "case": case,
        # + 0 makes 0 of a small negative number.
        "original": shown_dice(original),
        "perturbed": shown_dice(perturbed),
        "change": shown_dice(perturbed - original) + 0.0,
    }
    return samples[["patient", "frame", "slice"]].assign(**values).sort_values("change", kind="stable")


def in_words(source: Source, state: State, subset: Bools) -> str:
    """The subset as a sentence: how many samples, and what they were chosen by."""
    n, of = int(subset.sum()), int(source.applicable[:, source.condition(state.condition)].sum())
    parts = []
    if not of:
        parts.append(f"{state.condition} applies to no sample")
    elif not state.narrowed:
        patients = source.samples["patient"][subset].nunique()
        parts.append(f"{counted(n, 'sample')} of {counted(patients, 'patient')}")
    else:
        parts.append(f"{n} of {counted(of, 'sample')}" if n else f"no sample of {of} is in this selection")
    if state.case:
        parts.append(f"case {state.case}")
    if state.dice:
        name, left, right, low, high = state.dice
        d = DICE_DECIMALS
        parts.append(f"Dice {name} {left:.{d}f}–{right:.{d}f} → {low:.{d}f}–{high:.{d}f}")
    if state.mad:
        parts.append(f"MAD {state.mad.layer} {state.mad.low:.{MAD_DIGITS}g}–{state.mad.high:.{MAD_DIGITS}g}")
    return " · ".join(parts)
