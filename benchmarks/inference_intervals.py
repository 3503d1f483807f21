"""Measures how often 95 % intervals over patients contain the truth, in simulated studies of 6 to 17 samples a patient.

Prints a table with a row per kind of values and a column per number of patients.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis import bootstrap_mean

FEWEST, MOST = 6, 17
Values = NDArray[Any]
Draw = Callable[[np.random.Generator, tuple[int, int, int]], Values]


def normal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Values:
    return rng.normal(size=(shape[0], 1, shape[2])) + rng.normal(size=shape)


def alike(rng: np.random.Generator, shape: tuple[int, int, int]) -> Values:
    return rng.random(shape) < 0.4


def differing(rng: np.random.Generator, shape: tuple[int, int, int]) -> Values:
    return rng.random(shape) < rng.beta(2, 3, (shape[0], 1, shape[2]))


def dice(rng: np.random.Generator, shape: tuple[int, int, int]) -> Values:
    level = rng.beta(12, 2, (shape[0], 1, shape[2]))
    return rng.beta(20 * level, 20 * (1 - level), shape)


def mad(rng: np.random.Generator, shape: tuple[int, int, int]) -> Values:
    return np.exp(0.7 * rng.normal(size=(shape[0], 1, shape[2])) + 0.3 * rng.normal(size=shape))


def rare(rng: np.random.Generator, shape: tuple[int, int, int]) -> Values:
    return rng.random(shape) < rng.beta(0.3, 2.7, (shape[0], 1, shape[2]))


#: Values to draw (patient, sample, study), and their mean.
KINDS: dict[str, tuple[Draw, float]] = {
    "normal, patients differ": (normal, 0.0),
    "on top in 4 of 10 samples, patients alike": (alike, 0.4),
    "on top in 4 of 10 samples, patients differ": (differing, 0.4),
    "Dice around 0.86, skewed": (dice, 12 / 14),
    "skewed as MAD (log-normal, σ = 0.7)": (mad, float(np.exp((0.7**2 + 0.3**2) / 2))),
    "on top in 1 of 10 samples, mostly of a few patients": (rare, 0.1),
}


def coverage(draw: Draw, truth: float, patients: int, studies: int) -> float:
    """The share of ``studies`` whose interval contains ``truth``."""
    rng = np.random.default_rng(patients)
    values = draw(rng, (patients, MOST, studies)).astype(np.float64)
    there = np.arange(MOST)[:, None] < rng.integers(FEWEST, MOST + 1, (patients, 1, studies))
    flat = np.where(there, values, np.nan).reshape(-1, studies)
    patient = ("sample", np.repeat(np.arange(patients), MOST).astype(str))
    found = bootstrap_mean(xr.DataArray(flat, dims=("sample", "study"), coords={"patient": patient}))
    # Means of equal numbers may differ in the last digit.
    return float(((found["low"] <= truth + 1e-12) & (truth - 1e-12 <= found["high"])).mean())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=4000)
    options.add_argument("--patients", type=int, nargs="+", default=[5, 6, 7, 8, 10, 20, 50])
    given = options.parse_args()
    print("| values | " + " | ".join(map(str, given.patients)) + " |\n" + "|---" * (len(given.patients) + 1) + "|")
    for name, (draw, truth) in KINDS.items():
        cells = [f"{coverage(draw, truth, patients, given.studies):.2f}" for patients in given.patients]
        print("| " + " | ".join((name, *cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
