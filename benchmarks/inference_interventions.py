"""Measures how often a channel is called larger than random ones of its layer, in simulated studies.

Prints a table with a row per truth and a column per number of patients: the share of studies in which any channel that
does not matter has q < 0.05 and, where some matter, the share of these that have.
"""

from __future__ import annotations

import argparse

import numpy as np
import xarray as xr

from actstore.analysis.interventions.against_random import against_random

LAYERS, CHANNELS, SLICES = 3, 12, 4
#: Effects of channels of the first layer, in standard deviations of a channel's effect in a patient.
TRUTHS = {"nothing": (), "one channel, 4": (4.0,), "two channels, 4 and 2": (4.0, 2.0)}


def study(rng: np.random.Generator, patients: int, effects: tuple[float, ...]) -> xr.DataArray:
    """Effects (sample, condition, channel, class_name): patients differ in level and spread, and have heavy tails."""
    width = LAYERS * CHANNELS
    spread = np.exp(0.5 * rng.standard_normal((patients, 1, 1)))
    level = rng.standard_normal((patients, SLICES, 1))
    own = rng.standard_t(3, (patients, 1, width)) / np.sqrt(3)
    own[..., : len(effects)] += effects
    values = spread * (own + rng.standard_normal((patients, SLICES, width)) / 2 + level)
    return xr.DataArray(
        values.reshape(patients * SLICES, 1, width, 1),
        dims=("sample", "condition", "channel", "class_name"),
        coords={
            "patient": ("sample", np.repeat(np.arange(patients), SLICES).astype(str)),
            "layer": ("channel", np.repeat([f"L{i + 1:02d}" for i in range(LAYERS)], CHANNELS)),
        },
    )


def found(patients: int, effects: tuple[float, ...], studies: int) -> str:
    rng = np.random.default_rng(patients)
    wrong, right = 0, 0
    for _ in range(studies):
        q = against_random(study(rng, patients, effects), resamples=1999)["q"].values.ravel() < 0.05
        right += int(q[: len(effects)].sum())
        wrong += bool(q[len(effects) :].any())
    planted = f" / {right / studies / len(effects):.2f}" if effects else ""
    return f"{wrong / studies:.3f}{planted}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=400)
    options.add_argument("--patients", type=int, nargs="+", default=[5, 6, 10, 20])
    given = options.parse_args()
    print("| truth | " + " | ".join(map(str, given.patients)) + " |\n" + "|---" * (len(given.patients) + 1) + "|")
    for name, effects in TRUTHS.items():
        cells = [found(patients, effects, given.studies) for patients in given.patients]
        print("| " + " | ".join((name, *cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
