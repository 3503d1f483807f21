"""Converts tissue signal to a scanner's integers: coil sensitivity, blur, Rician noise, gain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from actstore.data.phantom.patient import Patient
from actstore.data.phantom.shapes import Field, Grid, smooth_field

#: Standard deviation of the in-plane point spread in pixels, and number of taps on either side.
_BLUR: Final = 0.55
_TAPS: Final = 2


@dataclass(frozen=True)
class Coil:
    """Receiver sensitivity: strong at the chest, weaker at the back, uneven in between."""

    front: float
    back: float
    depth: float
    #: (row, column), a factor.
    unevenness: Field


def draw_coil(patient: Patient, rng: np.random.Generator) -> Coil:
    """Draw the sensitivity of ``patient``'s scan from ``rng``."""
    return Coil(
        front=rng.uniform(0.5, 1.1),
        back=rng.uniform(0.1, 0.5),
        depth=rng.uniform(50.0, 80.0),
        unevenness=np.exp(rng.uniform(0.04, 0.10) * smooth_field(rng, patient.matrix, 3)),
    )


def scan(patient: Patient, coil: Coil, grid: Grid, signal: Field, rng: np.random.Generator) -> NDArray[np.int16]:
    """Raw intensities (row, column), int16, of ``signal`` (row, column); ``rng`` draws the noise.

    The magnitude of a signal with complex Gaussian noise is Rician (Gudbjartsson and Patz, MRM 34(6), 1995).
    """
    front = coil.front * np.exp(-np.maximum(grid.y + 100.0, 0.0) / coil.depth)
    back = coil.back * np.exp(-np.maximum(130.0 - grid.y, 0.0) / coil.depth)
    received = _blur(signal) * (0.8 + front + back) * coil.unevenness
    real, imaginary = patient.noise * rng.standard_normal((2, *signal.shape))
    magnitude = np.hypot(received + real, imaginary)
    raw: NDArray[np.int16] = np.rint(np.clip(patient.gain * magnitude, 0, 32767)).astype(np.int16)
    return raw


def _blur(signal: Field) -> Field:
    weights = [math.exp(-0.5 * (tap / _BLUR) ** 2) for tap in range(-_TAPS, _TAPS + 1)]
    for axis in (0, 1):
        padded = np.pad(signal, [(_TAPS, _TAPS) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        n = signal.shape[axis]
        shifted = (padded[i : i + n] if axis == 0 else padded[:, i : i + n] for i in range(len(weights)))
        signal = sum((w * part for w, part in zip(weights, shifted, strict=True)), np.zeros(())) / sum(weights)
    return signal
