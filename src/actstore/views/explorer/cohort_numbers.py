"""Numbers of many samples behind the cohort's figures and table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actstore.tables.rows import sample_columns
from actstore.units import counted
from actstore.views.arrays import Bools, Floats
from actstore.views.explorer.html import failure
from actstore.views.explorer.source import Source
from actstore.views.explorer.state import DICE_DECIMALS, MAD_DIGITS, State, shown_dice

#: Dots of one plot above which the samples outside of the subset are thinned out, and how many of those stay.
MOST_DOTS = 4000
FEWEST_OTHERS = 1000


def nearest(xs: Floats, ys: Floats, x: float, y: float) -> int | None:
    """The number of the point (``xs``, ``ys``) nearest to (``x``, ``y``), or None where all are NaN."""
    away = (xs - x) ** 2 + (ys - y) ** 2
    return int(np.nanargmin(away)) if np.isfinite(away).any() else None


def drawn_others(chosen: Bools) -> NDArray[np.intp]:
    """Numbers of the samples outside the subset to draw: all, or an even selection where there are too many."""
    others: NDArray[np.intp] = np.flatnonzero(~chosen)
    room = max(MOST_DOTS - int(chosen.sum()), FEWEST_OTHERS)
    if len(others) <= room:
        return others
    evenly: NDArray[np.intp] = others[np.linspace(0, len(others) - 1, room).round().astype(int)]
    return evenly


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
    """A row a sample, by its number: ``patient, frame, slice[, patch][, image_name, label]``, then ``case, original,
    perturbed, change``.

    The worst first: the largest loss, or, where there is no change at all, the least value.
    """
    values: Mapping[str, Any] = {
        "case": [failure(name) for name in case],
        # -0.0 + 0.0 is 0.0.
        "original": shown_dice(original),
        "perturbed": shown_dice(perturbed),
        "change": shown_dice(perturbed - original) + 0.0,
    }
    first = "original" if np.array_equal(original, perturbed, equal_nan=True) else "change"
    names = [*sample_columns(samples), *(name for name in ("image_name", "label") if name in samples)]
    return samples[names].assign(**values).sort_values(first, kind="stable")


def in_words(source: Source, state: State, subset: Bools) -> str:
    """The subset as a sentence: how many samples, and how they were chosen."""
    n, of = int(subset.sum()), int(source.applicable[:, source.condition(state.condition)].sum())
    parts = []
    if not of:
        parts.append(f"{state.condition} applies to no sample")
    elif not state.narrowed:
        patients = source.samples["patient"][subset].nunique()
        every = len(source.samples)
        rest = f", of {every} in all: those that {state.condition} applies to" if n < every else ""
        parts.append(f"{counted(n, source.noun)} of {counted(patients, 'patient')}{rest}")
    else:
        parts.append(f"{n} of {counted(of, source.noun)}" if n else f"no {source.noun} of {of} is in this selection")
    if state.case:
        parts.append(f"kind of failure: {failure(state.case)}")
    if state.dice:
        name, left, right, low, high = state.dice
        d = DICE_DECIMALS
        parts.append(f"Dice {name} {left:.{d}f}–{right:.{d}f} → {low:.{d}f}–{high:.{d}f}")
    if state.mad:
        parts.append(f"MAD {state.mad.layer} {state.mad.low:.{MAD_DIGITS}g}–{state.mad.high:.{MAD_DIGITS}g}")
    return " · ".join(parts)
