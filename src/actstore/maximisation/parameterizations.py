"""What the optimiser changes, and how it becomes images: pixels, a spectrum, or the phase of a spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actstore.spec.visualise import Visualise

#: Standard deviation of the first image's pixels, in ranges of intensity.
START_NOISE = 0.1
#: Standard deviation of the spectrum of a first image, and the factor of an image before its sigmoid, as in Lucid.
SPECTRUM_NOISE, SPECTRUM_GAIN = 0.01, 0.25
#: How close to its limits a sigmoid's image is set.
MARGIN = 1e-4


class Parameterization(Protocol):
    """Images of a batch of elements as a function of the numbers that an optimiser changes."""

    #: The leaf that is optimised, (element, …) float32.
    values: Tensor
    #: What ``values`` are counted in: a step is as many of these.
    unit: float

    def images(self) -> Tensor:
        """(element, input_channel, [z,] y, x) float32, differentiable in ``values``."""
        ...

    def assign(self, images: Tensor) -> None:
        """Set ``values`` so that `images` gives these images, as far as it can."""
        ...

    def project(self) -> None:
        """Bring ``values`` back to where they may be, after a step."""
        ...


class Pixels:
    """The images themselves; clamped to ``bounds``, and to a ball about 0 with that radius, after each step."""

    def __init__(self, start: Tensor, bounds: tuple[float, float] | None, ball: float | None = None) -> None:
        self._bounds, self._ball = bounds, ball
        low, high = bounds or (-1.0, 1.0)
        middle = (low + high) / 2 if bounds else 0.0
        # A step of fixed length would not leave the start where intensities reach to thousands.
        self.unit = high - low if bounds else 1.0
        self.values = (middle + START_NOISE * (high - low) * start).requires_grad_()
        self.project()

    def images(self) -> Tensor:
        return self.values

    @torch.no_grad()
    def assign(self, images: Tensor) -> None:
        self.values.copy_(images)
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        if self._ball is not None:
            norm = self.values.flatten(1).norm(dim=1).reshape(-1, *[1] * (self.values.ndim - 1))
            self.values.mul_(torch.clamp(self._ball / norm.clamp_min(1e-30), max=1.0))
        if self._bounds is not None:
            self.values.clamp_(*self._bounds)


class Fourier:
    """The spectrum of the images, each frequency scaled by its inverse; a sigmoid keeps them within ``bounds``.

    As Lucid's ``fft_image``: steps of one size then change low frequencies more than high ones.
    """

    unit = 1.0

    def __init__(self, start: Tensor, size: Sequence[int], bounds: tuple[float, float] | None) -> None:
        self._size, self._bounds = tuple(size), bounds
        self._scale = _inverse_frequency(size).to(start.device)
        self.values = (SPECTRUM_NOISE * start).requires_grad_()

    def images(self) -> Tensor:
        spectrum = torch.view_as_complex(self.values) * self._scale
        images: Tensor = SPECTRUM_GAIN * torch.fft.irfftn(spectrum, s=self._size, dim=_axes(self._size))
        if self._bounds is None:
            return images
        low, high = self._bounds
        images = low + (high - low) * images.sigmoid()
        return images

    @torch.no_grad()
    def assign(self, images: Tensor) -> None:
        if self._bounds is not None:
            low, high = self._bounds
            images = ((images - low) / (high - low)).clamp(MARGIN, 1 - MARGIN).logit()
        spectrum = torch.fft.rfftn(images / SPECTRUM_GAIN, dim=_axes(self._size)) / self._scale
        self.values.copy_(torch.view_as_real(spectrum))

    def project(self) -> None:
        pass


class Phase:
    """The phase of the images' spectrum, whose magnitude stays that of natural inputs; clamped to ``bounds``.

    Magnitude constrained optimisation (MACO) of Fel et al., NeurIPS 2023. The mean stays as well, with its sign:
    inputs after z-scores may have one below 0.
    """

    unit = 1.0

    def __init__(
        self, start: Tensor, size: Sequence[int], bounds: tuple[float, float] | None, magnitude: Tensor
    ) -> None:
        self._size, self._bounds, self._magnitude = tuple(size), bounds, magnitude.abs()
        self._fixed = math.pi * (magnitude < 0)
        self._turns = torch.ones(magnitude.shape[1:], device=start.device)
        self._turns[(0,) * len(self._size)] = 0
        self.values = (math.pi * start).requires_grad_()

    def images(self) -> Tensor:
        spectrum = torch.polar(self._magnitude.expand_as(self.values), self.values * self._turns + self._fixed)
        images: Tensor = torch.fft.irfftn(spectrum, s=self._size, dim=_axes(self._size))
        return images if self._bounds is None else images.clamp(*self._bounds)

    @torch.no_grad()
    def assign(self, images: Tensor) -> None:
        self.values.copy_(torch.fft.rfftn(images, dim=_axes(self._size)).angle())

    def project(self) -> None:
        pass


def parameterization_of(
    settings: Visualise,
    seeds: Sequence[int],
    channels: int,
    size: Sequence[int],
    bounds: tuple[float, float] | None,
    magnitude: NDArray[np.float32] | None,
    device: torch.device,
) -> Parameterization:
    """The first images of a batch, one element a seed, from random numbers of its own.

    Parameters
    ----------
    magnitude
        (input_channel, \\*frequency) float32 for "maco", as `mean_magnitude` gives it.
    """
    kind = settings.parameterization
    if kind == "pixel":
        start = _noise(seeds, (channels, *size), uniform=False)
        return Pixels(start.to(device), bounds, None if settings.ball is None else float(settings.ball))
    half = (*size[:-1], size[-1] // 2 + 1)
    if kind == "fourier":
        return Fourier(_noise(seeds, (channels, *half, 2), uniform=False).to(device), size, bounds)
    assert magnitude is not None
    start = _noise(seeds, (channels, *half), uniform=True)
    return Phase(start.to(device), size, bounds, torch.from_numpy(magnitude).to(device))


def mean_magnitude(images: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Mean magnitude of the spectra of ``images`` (sample, input_channel, \\*space): (input_channel, \\*frequency).

    At frequency 0 the mean of the sums of intensities with their sign, since that of a mean is no matter of phase.
    """
    axes = tuple(range(-dims, 0))
    zero: Any = (slice(None), *[0] * dims)
    total = np.zeros((), np.float64)
    for image in images:
        spectrum = np.fft.rfftn(image.astype(np.float64), axes=axes)
        magnitude = np.abs(spectrum)
        magnitude[zero] = spectrum[zero].real
        total = total + magnitude
    return np.asarray(total / len(images), np.float32)


def _noise(seeds: Sequence[int], shape: Sequence[int], *, uniform: bool) -> Tensor:
    """(element, \\*shape), drawn on the CPU: normal, or uniform in [-1, 1)."""
    draws = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(*shape, generator=generator) if uniform else torch.randn(*shape, generator=generator)
        draws.append(2 * drawn - 1 if uniform else drawn)
    return torch.stack(draws)


def _axes(size: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(-len(size), 0))


def _inverse_frequency(size: Sequence[int]) -> Tensor:
    """(\\*frequency) float32: the square root of the number of pixels over the frequency, at least one period."""
    last = torch.fft.rfftfreq(size[-1])
    squares = last**2
    for axis, n in enumerate(reversed(size[:-1]), start=1):
        squares = squares + torch.fft.fftfreq(n).reshape(-1, *[1] * axis) ** 2
    scale: Tensor = math.sqrt(math.prod(size)) / squares.sqrt().clamp_min(1 / max(size))
    return scale
