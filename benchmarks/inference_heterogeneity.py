"""Measures errors and power of the test for differing patients, on simulated studies with smooth stacks of slices.

Every study has 32 channels and 10 slices a volume. A channel's response is Gaussian, correlated along the stack from
slice to slice (first-order autoregression), with its own level, a trend along the stack that all patients share, and a
shift between phases of 1 standard deviation. The 8 highest of a slice are its top. Prints a table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from actstore.analysis import heterogeneity

CHANNELS, TOP, SLICES = 32, 8, 10
LEVEL = 0.05


@dataclass(frozen=True)
class Truth:
    """The true effects in a study, in standard deviations of a slice."""

    name: str
    every: float = 0.0
    one: float = 0.0
    volumes: int = 2
    #: Fewest and most slices per volume; all volumes of a patient have the same number.
    sizes: tuple[int, int] = (SLICES, SLICES)


TRUTHS = (
    Truth("nothing"),
    Truth("nothing; 5 to 12 slices", sizes=(5, 12)),
    Truth("nothing; 3 to 15 slices", sizes=(3, 15)),
    Truth("patients differ, 0.5", every=0.5),
    Truth("patients differ, 1", every=1.0),
    Truth("one patient, 1.5", one=1.5),
    Truth("one patient, 3", one=3.0),
    Truth("nothing; 4 volumes", volumes=4),
    Truth("patients differ, 0.5; 4 volumes", every=0.5, volumes=4),
    Truth("one patient, 1.5; 4 volumes", one=1.5, volumes=4),
    Truth("one patient, 3; 4 volumes", one=3.0, volumes=4),
)


def studies(truth: Truth, patients: int, smooth: float, number: int, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """``number`` studies side by side: member (sample, condition, channel) and applicable (sample, condition)."""
    rng = np.random.default_rng(seed)
    most = truth.sizes[1]
    slices = rng.integers(truth.sizes[0], most + 1, (patients, 1, number))
    shape = (patients, truth.volumes, number, CHANNELS)
    there = np.empty((patients, truth.volumes, most, number), dtype=bool)
    member = np.empty((patients, truth.volumes, most, number, CHANNELS), dtype=bool)
    level = 0.5 * rng.normal(size=(number, CHANNELS)) + rng.normal(size=(1, truth.volumes, number, CHANNELS))
    level = level + truth.every * rng.normal(size=(patients, 1, number, CHANNELS))
    level[0, :, :, 0] += truth.one
    trend = 0.5 * rng.normal(size=(number, CHANNELS))
    state: NDArray[Any] = rng.normal(size=shape)
    for place in range(most):
        if place:
            state = smooth * state + np.sqrt(1 - smooth**2) * rng.normal(size=shape)
        along = np.clip(2 * place / (slices - 1) - 1, -1, 1)[..., None]
        response = state + level + trend * along
        member[:, :, place] = response >= np.partition(response, -TOP, axis=-1)[..., -TOP, None]
        there[:, :, place] = place < slices
    samples = patients * truth.volumes * most
    patient, frame, _ = (axis.ravel() for axis in np.indices(there.shape[:3]))
    names = [f"study{i}" for i in range(number)]
    coords = {
        "patient": ("sample", patient.astype(str)),
        "frame": ("sample", frame),
        "condition": names,
        "target": ("condition", names),
    }
    return (
        xr.DataArray(member.reshape(samples, number, CHANNELS), dims=("sample", "condition", "channel"), coords=coords),
        xr.DataArray(there.reshape(samples, number), dims=("sample", "condition")),
    )


def cell(truth: Truth, patients: int, smooth: float, number: int, resamples: int) -> str:
    """Share of tests with p < 0.05, then with q ≤ 0.05: without an effect, of studies with any; else of true effects.

    If one patient differs, only that channel counts, and the third number is how often the patient is `highest`.
    """
    member, applicable = studies(truth, patients, smooth, number, seed=patients)
    found = heterogeneity(member, applicable=applicable, resamples=resamples)
    own = slice(0, 1) if truth.one else slice(None)
    p, low = found["p"].values[:, own], found["q"].values[:, own] <= LEVEL
    parts = [(p < LEVEL).sum() / (~np.isnan(p)).sum(), (low if truth.one or truth.every else low.any(axis=1)).mean()]
    if truth.one:
        parts.append((found["highest"].values[:, 0] == "0").mean())
    return " / ".join(f"{part:.2f}" for part in parts)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--studies", type=int, default=400)
    options.add_argument("--resamples", type=int, default=1999)
    options.add_argument("--patients", type=int, nargs="+", default=[6, 20, 100])
    options.add_argument("--smooth", type=float, nargs="+", default=[0.0, 0.9, 0.97])
    given = options.parse_args()
    head = ("truth", "smooth", *(f"{n} patients" for n in given.patients))
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for truth in TRUTHS:
        for smooth in given.smooth:
            cells = [cell(truth, n, smooth, given.studies, given.resamples) for n in given.patients]
            print("| " + " | ".join((truth.name, f"{smooth:g}", *cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
