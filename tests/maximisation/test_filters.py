"""Filters of images, against scikit-image, a plain loop over pixels, and planted faults."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from actstore.maximisation.filters import SwitchingBilateral, TotalVariation
from actstore.maximisation.penalties import total_variation
from actstore.maximisation.transforms import transform_of
from actstore.spec.visualise import Regularizer

SIZES = [pytest.param((15, 18), id="2D"), pytest.param((9, 8, 10), id="3D")]
UNIT = (0.0, 1.0)
NONE = torch.empty(1, 0)


def noisy(size: tuple[int, ...], elements: int = 1, channels: int = 1) -> Tensor:
    """A bright block on a slope, with Gaussian noise and impulses."""
    generator = np.random.default_rng(0)
    image = np.broadcast_to(np.linspace(0.1, 0.3, size[-1]), (elements, channels, *size)).copy()
    image[(..., *(slice(n // 3, 2 * n // 3) for n in size))] += 0.5
    image += generator.normal(0, 0.03, image.shape)
    impulses = generator.random(image.shape) < 0.05
    image[impulses] = generator.random(impulses.sum()) > 0.5
    return torch.from_numpy(image.clip(0, 1)).float()


def by_loops(image: Any, bounds: tuple[float, float]) -> Any:
    """The switching bilateral filter of one image as its docstring has it, pixel by pixel."""
    dims, unit = image.ndim, (bounds[1] - bounds[0]) / 255
    padded, result = np.pad(image, 2, mode="edge"), image.copy()
    for pixel in np.ndindex(*image.shape):
        window = padded[tuple(slice(p, p + 5) for p in pixel)]
        corners = list(product((0, 2), repeat=dims))
        medians = np.array([np.median(window[tuple(slice(c, c + 3) for c in corner)]) for corner in corners])
        ordered, half = np.sort(medians), len(medians) // 2
        below, above, edge = ordered[half - 1], ordered[half], ordered[-1] - ordered[0] >= 35 * unit
        reference = (below + above) / 2
        if above - below >= 35 * unit:
            shifts = list(product((-1, 1), repeat=dims))
            for axis in range(dims):
                if len({(corner[axis], median <= below) for corner, median in zip(corners, medians, strict=True)}) == 2:
                    shifts = [s for s in product(range(-2, 3), repeat=dims) if np.count_nonzero(s) == 1 and not s[axis]]
            along = np.mean([window[tuple(2 + s for s in shift)] for shift in shifts])
            reference = below if abs(along - below) <= abs(along - above) else above
        difference = abs(image[pixel] - reference) / unit
        if difference >= (15 if edge else 5):
            about = reference if difference >= (30 if edge else 25) else image[pixel]
            space = sum(g**2 for g in np.meshgrid(*[np.arange(-2, 3)] * dims)) / (2 * (3 if edge else 1) ** 2)
            weights = np.exp(-space - (window - about) ** 2 / (2 * (40 * unit) ** 2))
            result[pixel] = (weights * window).sum() / weights.sum()
    return result


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bounds", [UNIT, (-0.5, 2.0), None])
def test_the_switching_filter_is_that_of_its_definition(
    size: tuple[int, ...], bounds: tuple[float, float] | None
) -> None:
    image = noisy(size).double()
    found = SwitchingBilateral(bounds)(image, NONE)[0, 0]
    expected = by_loops(image[0, 0].numpy(), bounds or (image.min().item(), image.max().item()))
    assert (expected != image[0, 0].numpy()).mean() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("impulse", [0.0, 1.0])
def test_impulses_in_a_flat_region_go(size: tuple[int, ...], impulse: float) -> None:
    clean = torch.full((1, 1, *size), 0.4)
    image = clean.clone()
    for where in ((1,) * len(size), (0, *(n - 1 for n in size[1:])), tuple(n // 2 for n in size)):
        image[(0, 0, *where)] = impulse
    found = SwitchingBilateral(UNIT)(image, NONE)
    assert (image - clean).abs().max() >= 0.4
    torch.testing.assert_close(found, clean, rtol=0, atol=0.01)


def step(size: tuple[int, ...], axis: int, at: int) -> Tensor:
    image = torch.full(size, 0.2)
    image.narrow(axis, at, size[axis] - at).fill_(0.8)
    return image[None, None]


@pytest.mark.parametrize("size", SIZES)
def test_a_step_stays_where_it_is_and_impulses_beside_it_go(size: tuple[int, ...]) -> None:
    middle = [n // 2 for n in size]
    for axis, at in enumerate(middle):
        clean = step(size, axis, at)
        assert torch.equal(SwitchingBilateral(UNIT)(clean, NONE), clean)
        cases = [(side, impulse) for side in (at - 1, at) for impulse in (0.0, 1.0)]
        images = clean.repeat(len(cases), *[1] * (len(size) + 1))
        for i, (side, impulse) in enumerate(cases):
            images[(i, 0, *middle[:axis], side, *middle[axis + 1 :])] = impulse
        found = SwitchingBilateral(UNIT)(images, NONE)
        torch.testing.assert_close(found, clean.expand_as(images), rtol=0, atol=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_a_smooth_image_is_not_touched(size: tuple[int, ...]) -> None:
    y, x = torch.linspace(-1, 1, size[-2])[:, None], torch.linspace(-1, 1, size[-1])
    image = (0.5 + 0.06 * x + 0.05 * torch.sin(2 * y)).expand(1, 1, *size)
    assert torch.equal(SwitchingBilateral(UNIT)(image, NONE), image)


@pytest.mark.parametrize(("size", "reach"), [((15, 18), 0), ((13, 12, 14), 1)], ids=["2D", "3D"])
def test_a_block_loses_at_most_its_corners(size: tuple[int, ...], reach: int) -> None:
    """In 3D also its rims, which are corners seen along the rim. The middle of each face stays."""
    block = torch.full((1, 1, *size), 0.2)
    block[(..., *(slice(2, -2) for _ in size))] = 0.8
    changed = (SwitchingBilateral(UNIT)(block, NONE) != block)[0, 0]
    depths = [torch.minimum(torch.arange(n) - 2, n - 3 - torch.arange(n)) for n in size]
    near = torch.stack(torch.meshgrid(*[(d >= 0) & (d <= reach) for d in depths], indexing="ij")).sum(0)
    assert changed.any()
    assert not changed[near < 2].any()


def test_gaussian_noise_gets_weaker() -> None:
    image = (0.5 + 0.05 * torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert SwitchingBilateral(UNIT)(image, NONE).std() < 0.6 * image.std()


def test_thresholds_scale_with_the_bounds() -> None:
    image = noisy((15, 18))
    found = SwitchingBilateral(UNIT)(image, NONE)
    larger = SwitchingBilateral((-100.0, 300.0))(image * 400 - 100, NONE)
    torch.testing.assert_close(larger, found * 400 - 100, rtol=1e-4, atol=1e-3)


def test_what_has_no_contrast_or_lies_far_outside_stays_finite() -> None:
    constant = torch.full((1, 2, 6, 7), 3.0)
    assert torch.equal(SwitchingBilateral(None)(constant, NONE), constant)
    far = noisy((15, 18)) * 1e6
    assert SwitchingBilateral(UNIT)(far, NONE).isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_tv_is_that_of_scikit_image(size: tuple[int, ...]) -> None:
    images = noisy(size, elements=2, channels=2)
    denoise = transform_of(Regularizer(kind="tv", weight=0.2), len(size), UNIT)
    found = denoise(images, NONE)
    assert found.dtype == torch.float32
    for image, result in zip(images, found, strict=True):
        np.testing.assert_array_equal(result, denoise_tv_chambolle(image.numpy(), weight=0.2, channel_axis=0))
    assert (total_variation(found) < 0.5 * total_variation(images)).all()
    larger = transform_of(Regularizer(kind="tv", weight=800), len(size), (0.0, 4000.0))(images * 4000, NONE)
    torch.testing.assert_close(larger, found * 4000, rtol=1e-4, atol=0.1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bounds", [UNIT, None])
@pytest.mark.parametrize("kind", ["tv", "switching_bilateral"])
def test_elements_are_independent(kind: str, bounds: tuple[float, float] | None, size: tuple[int, ...]) -> None:
    images = noisy(size, elements=3, channels=2)
    images[1] *= 0.3
    filtered = transform_of(Regularizer(kind=kind), len(size), bounds)  # type: ignore[arg-type]
    alone = torch.cat([filtered(image[None], NONE) for image in images])
    assert torch.equal(filtered(images, NONE.expand(3, 0)), alone)


@pytest.mark.parametrize("made", [TotalVariation(0.1), SwitchingBilateral(UNIT)], ids=["tv", "switching_bilateral"])
def test_no_gradient_and_no_random_number_is_needed(made: Any) -> None:
    images = noisy((8, 9)).requires_grad_()
    found = made(images, NONE)
    assert made.numbers == 0
    assert not found.requires_grad
    assert found.data_ptr() != images.data_ptr()
