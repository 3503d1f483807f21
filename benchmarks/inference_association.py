"""Measures the false positive rate and the power of the test of association.

Simulated studies have two volumes of ten slices per patient; scores of 20 channels and the loss of Dice are first-order
autoregressive walks along the stack. The test of `actstore.analysis.association` is compared with its predecessor: one
rank correlation per patient over all its slices, with the larger p of Student's t and of the normal distribution with
variance 1.06/(n - 3).
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from actstore.analysis import association

Floats = NDArray[np.float64]

SLICES, VOLUMES, CHANNELS = 10, 2, 20
#: Patients per study to number of studies.
STUDIES = {6: 2000, 20: 1000, 100: 500}
#: Studies simulated at once, and studies with a planted effect.
BATCH, WITH_PLANTED = 250, 250
LEVELS = (0.05, 0.01, 0.001)
PLANTED = 0


def walk(rng: np.random.Generator, patients: int, shape: tuple[int, ...], by: float) -> Floats:
    """Standard normal values with correlation ``by`` between neighbouring slices of a volume: (sample, *shape)."""
    steps = rng.normal(size=(SLICES, patients * VOLUMES, *shape))
    for i in range(1, SLICES):
        steps[i] = by * steps[i - 1] + np.sqrt(1 - by**2) * steps[i]
    return np.moveaxis(steps, 0, 1).reshape(-1, *shape)


def simulate(
    rng: np.random.Generator, patients: int, studies: int, *, by: float, shift: float = 0.0, planted: float = 0.0
) -> tuple[Floats, Floats]:
    """Score (sample, study, channel) and loss (sample, study).

    ``shift`` is added to both in the second volume, in standard deviations; ``planted`` is the correlation of the first
    channel with the loss within a volume.
    """
    loss = walk(rng, patients, (studies,), by)
    score = walk(rng, patients, (studies, CHANNELS), by)
    score[..., PLANTED] = planted * loss + np.sqrt(1 - planted**2) * score[..., PLANTED]
    second = np.tile(np.repeat([0.0, shift], SLICES), patients)
    return score + second[:, None, None], loss + second[:, None]


def now(score: Floats, loss: Floats, patients: int) -> tuple[Floats, ...]:
    """p, q and whether the interval excludes 0 (study, channel), by the package; each study is a separate family."""
    studies = loss.shape[1]
    kinds = ["original", *(f"study{i}" for i in range(studies))]
    coords = {
        "patient": ("sample", np.arange(patients).repeat(SLICES * VOLUMES).astype(str)),
        "frame": ("sample", np.tile(np.arange(VOLUMES).repeat(SLICES), patients)),
        "condition": kinds,
        "transform": ("condition", kinds),
        "target": ("condition", ["", *["LV"] * studies]),
    }
    # Any original will do, since the loss is subtracted from it.
    original = np.random.default_rng(0).normal(size=(len(loss), 1))
    both = np.concatenate([original, original - loss], axis=1)[..., None]
    dice = xr.DataArray(both, dims=("sample", "condition", "class_name"), coords={**coords, "class_name": ["LV"]})
    values = np.concatenate([np.zeros((len(loss), 1, CHANNELS)), score], axis=1)
    found = association(xr.DataArray(values, dims=("sample", "condition", "channel"), coords=coords), dice)
    return found["p"].values, found["q"].values, ((found["low"] > 0) | (found["high"] < 0)).values


def before(score: Floats, loss: Floats, patients: int) -> tuple[Floats, ...]:
    """As :func:`now` for the package's former test, with the interval of the same p."""
    n = SLICES * VOLUMES
    first = stats.rankdata(score.reshape(patients, n, *score.shape[1:]), axis=1) - (n + 1) / 2
    second = stats.rankdata(loss.reshape(patients, n, -1), axis=1)[..., None] - (n + 1) / 2
    r = (first * second).sum(axis=1) / np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    nearest = 1 - 6 / (n * (n**2 - 1))
    z = np.arctanh(np.clip(r, -nearest, nearest))
    by_t = stats.ttest_1samp(z, 0, axis=0).pvalue
    by_normal = 2 * stats.norm.sf(np.abs(z.mean(axis=0)) / np.sqrt(1.06 / (n - 3) / patients))
    p = np.fmax(by_t, by_normal)
    return p, stats.false_discovery_control(p, axis=1), p < 0.05


def tested(seed: tuple[int, ...], patients: int, studies: int, **options: float) -> dict[str, tuple[Floats, ...]]:
    """p, q and whether the interval excludes 0 (study, channel) for both tests on the same studies."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[tuple[Floats, ...]]] = {"before": [], "now": []}
    for _ in range(0, studies, BATCH):
        study = simulate(rng, patients, BATCH, **options)
        parts["before"].append(before(*study, patients))
        parts["now"].append(now(*study, patients))
    return {name: tuple(map(np.concatenate, zip(*found, strict=True))) for name, found in parts.items()}


def null_rates(seed: int) -> None:
    columns = (*(f"p < {level}" for level in LEVELS), "a q < 0.05", "interval without 0", "null tests")
    print(f"| along the stack | patients | test | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|---|")
    cases = {
        "independent": {"by": 0.0},
        "AR 0.9": {"by": 0.9},
        "AR 0.97": {"by": 0.97},
        "independent, one volume 1.5 sd higher in both": {"by": 0.0, "shift": 1.5},
    }
    for case, (label, options) in enumerate(cases.items()):
        for patients, studies in STUDIES.items():
            for name, (p, q, without) in tested((seed, case, patients), patients, studies, **options).items():
                rates = [f"{(p < level).mean():.2g}" for level in LEVELS]
                rates += [f"{(q < 0.05).any(axis=1).mean():.2g}", f"{without.mean():.2g}", f"{p.size:,}"]
                print(f"| {label} | {patients} | {name} | {' | '.join(rates)} |", flush=True)


def power(seed: int) -> None:
    print("\n| along the stack | patients | planted r | test | p < 0.05 | q < 0.05 |")
    print("|---|---|---|---|---|---|")
    for label, by in (("independent", 0.0), ("AR 0.9", 0.9)):
        for patients, planted in [(n, r) for n in STUDIES for r in (0.3, 0.6)]:
            tests = tested((seed, 9, patients), patients, WITH_PLANTED, by=by, planted=planted)
            for name, (p, q, _) in tests.items():
                found = [f"{(values[:, PLANTED] < 0.05).mean():.2f}" for values in (p, q)]
                print(f"| {label} | {patients} | {planted} | {name} | {' | '.join(found)} |", flush=True)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--only", choices=["null", "power"], help="one of the two tables")
    options = made.parse_args()
    start = time.perf_counter()
    if options.only != "power":
        null_rates(options.seed)
    if options.only != "null":
        power(options.seed)
    print(f"\n`python {' '.join(sys.argv)}`, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
