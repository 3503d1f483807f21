"""Random transforms of images, against SciPy, NumPy and torch's own interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from actstore.errors import SpecError
from actstore.maximisation.transforms import Transform, transform_of
from actstore.spec.visualise import Regularizer

#: Neither square nor cubic, with even and odd lengths.
PLANE, VOLUME = (11, 16), (6, 9, 8)
SIZES = [pytest.param(PLANE, id="2D"), pytest.param(VOLUME, id="3D")]
MODES = ["nearest", "bilinear", "bicubic"]
MOVING = ["translate", "rotate", "resize", "crop"]
RANDOM = ["brightness", *MOVING]


def with_modes(*sizes: tuple[int, ...]) -> list[Any]:
    """Sizes with the modes that they have."""
    return [
        pytest.param(mode, size, id=f"{mode}-{len(size)}D-{size[0]}")
        for size in sizes
        for mode in MODES
        if mode != "bicubic" or len(size) == 2
    ]


def images_of(size: tuple[int, ...], elements: int = 2, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(elements, channels, *size, generator=generator)


def ramps_of(size: tuple[int, ...]) -> Tensor:
    """An image whose input channels are the pixel's position along each axis, about the centre."""
    axes = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def numbers_of(transform: Transform, elements: int) -> Tensor:
    return torch.rand(elements, transform.numbers, generator=torch.Generator().manual_seed(1))


def made(kind: str, dims: int, bounds: tuple[float, float] | None = (0.0, 1.0), **options: Any) -> Transform:
    return transform_of(Regularizer(kind=kind, **options), dims, bounds)  # type: ignore[arg-type]


def at(kind: str, images: Tensor, *values: float, mode: str | None = None, **options: Any) -> Tensor:
    """``kind`` with the given random values, as many as one element needs."""
    low, high = min(values) - 1, max(values) + 1
    if kind in ("resize", "brightness"):
        low = min(values) / 2
    transform = made(kind, images.ndim - 2, range=(low, high), **({"mode": mode} if mode else {}), **options)
    uniform = torch.tensor([[(value - low) / (high - low) for value in values]], dtype=torch.float64)
    assert transform.numbers == len(values)
    return transform(images, uniform.expand(len(images), -1))


def inner(images: Any, border: int = 2) -> Any:
    return images[(slice(None), slice(None), *[slice(border, -border)] * (images.ndim - 2))]


@pytest.mark.parametrize(("mode", "size"), with_modes(PLANE, (192, 140), VOLUME))
@pytest.mark.parametrize(("kind", "neutral"), [*zip(MOVING, (0, 0, 1, 1), strict=True)])
def test_nothing_changes_at_the_neutral_number(kind: str, neutral: int, mode: str, size: tuple[int, ...]) -> None:
    images = images_of(size)
    transform = made(kind, len(size), range=(neutral, neutral), mode=mode)
    # Positions are rounded in single precision: to about 1e-5 of a pixel at 192 of them.
    torch.testing.assert_close(transform(images, numbers_of(transform, 2)), images, rtol=0, atol=2e-7 * max(size))


@pytest.mark.parametrize("size", SIZES)
def test_whole_shifts_are_those_of_numpy(size: tuple[int, ...]) -> None:
    images = images_of(size).double()
    shifts = (2, -3, 1)[: len(size)]
    expected = np.roll(images.numpy(), shifts, tuple(range(2, images.ndim)))
    for mode in ("nearest", "bilinear"):
        np.testing.assert_allclose(inner(at("translate", images, *shifts, mode=mode), 3), inner(expected, 3), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_parts_of_pixels_and_repeated_borders_are_those_of_scipy(size: tuple[int, ...]) -> None:
    images = images_of(size).double()
    shifts = (1.25, -4.6, 0.5)[: len(size)]
    expected = ndimage.shift(images.numpy(), (0, 0, *shifts), order=1, mode="nearest")
    np.testing.assert_allclose(at("translate", images, *shifts), expected, atol=1e-5)


@pytest.mark.parametrize("angle", [-30, 17, 90])
def test_rotations_are_those_of_scipy_in_2d(angle: float) -> None:
    images = images_of(PLANE).double()
    expected = ndimage.rotate(images.numpy(), angle, axes=(3, 2), reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(at("rotate", images, angle), expected, atol=1e-5)


@pytest.mark.parametrize(("about", "axes"), [(0, (4, 3)), (1, (4, 2)), (2, (3, 2))], ids=["z", "y", "x"])
def test_rotations_are_those_of_scipy_in_3d(about: int, axes: tuple[int, int]) -> None:
    images = images_of(VOLUME).double()
    expected = ndimage.rotate(images.numpy(), 25, axes=axes, reshape=False, order=1, mode="nearest")
    angles = [25 if axis == about else 0 for axis in range(3)]
    np.testing.assert_allclose(at("rotate", images, *angles), expected, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_quarter_turns_are_those_of_numpy(mode: str) -> None:
    square = images_of((9, 9)).double()
    np.testing.assert_allclose(at("rotate", square, 90, mode=mode), np.rot90(square, axes=(2, 3)), atol=1e-6)
    if mode != "bicubic":
        cube = images_of((8, 8, 8)).double()
        turned = np.rot90(np.rot90(np.rot90(cube, axes=(3, 4)), axes=(2, 4)), axes=(2, 3))
        np.testing.assert_allclose(at("rotate", cube, 90, 90, 90, mode=mode), turned, atol=1e-6)
        twice = np.rot90(np.rot90(cube, axes=(3, 4)), 3, axes=(2, 3))
        np.testing.assert_allclose(at("rotate", cube, 90, 0, -90, mode=mode), twice, atol=1e-6)


def test_rotations_do_not_shear_what_is_not_square() -> None:
    """Turned back and forth, a smooth image is nearly itself; distances between pixels stay."""
    turned = at("rotate", ramps_of((40, 25)), 30)[0]
    lengths = torch.diff(turned, dim=1)[:, 18:22, 10:15].square().sum(0)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))


@pytest.mark.parametrize(("mode", "size"), with_modes((12, 16), (8, 12, 4)))
def test_scales_are_those_of_interpolate(mode: str, size: tuple[int, ...]) -> None:
    images = images_of(size).double()
    torch_mode = {"nearest": "nearest-exact", "bilinear": "trilinear" if len(size) == 3 else "bilinear"}.get(mode, mode)
    larger: Any = interpolate(images, scale_factor=2, mode=torch_mode)
    middle = larger[(..., *(slice(n // 2, n // 2 + n) for n in size))]
    found = at("resize", images, 2, mode=mode, bounds=None)
    torch.testing.assert_close(found, middle, rtol=0, atol=1e-6)


def test_a_smaller_image_is_surrounded_by_its_border() -> None:
    images = images_of((16, 12)).double()
    found = at("resize", images, 0.5)
    halved: Any = interpolate(images, scale_factor=0.5, mode="bilinear")
    torch.testing.assert_close(found[..., 4:12, 3:9], halved, rtol=0, atol=1e-6)
    torch.testing.assert_close(found[..., 0, 0], images[..., 0, 0])


def test_cubic_interpolation_stays_within_the_bounds() -> None:
    images = images_of(PLANE).round()
    free, bounded = at("resize", images, 2, mode="bicubic", bounds=None), at("resize", images, 2, mode="bicubic")
    assert free.min() < 0
    assert free.max() > 1
    torch.testing.assert_close(bounded, free.clamp(0, 1))


@pytest.mark.parametrize("size", SIZES)
def test_shifts_angles_and_scales_lie_in_their_ranges(size: tuple[int, ...]) -> None:
    dims = len(size)
    elements = 400
    ramps = ramps_of(size).expand(elements, *[-1] * (dims + 1))
    centre = tuple(n // 2 for n in size)

    def steps(images: Tensor) -> Tensor:
        """How each ramp changes from the middle along each axis (element, ramp, axis)."""
        here = images[(..., *centre)]
        return torch.stack([images[(..., *centre[:a], centre[a] + 1, *centre[a + 1 :])] - here for a in range(dims)], 2)

    def spread(values: Tensor, low: float, high: float) -> None:
        assert low - 1e-5 <= values.min() < low + 0.03 * (high - low)
        assert high - 0.03 * (high - low) < values.max() <= high + 1e-5

    translate = made("translate", dims, bounds=None, range=(-1.5, 0.5))
    moved = translate(ramps, numbers_of(translate, elements))
    for axis in range(dims):
        spread((ramps - moved)[(slice(None), axis, *centre)], -1.5, 0.5)
    resize = made("resize", dims, bounds=None, range=(0.65, 2))
    slopes = steps(resize(ramps, numbers_of(resize, elements)))
    spread(1 / slopes[:, 0, 0], 0.65, 2)
    torch.testing.assert_close(slopes, slopes[:, :1, :1] * torch.eye(dims, dtype=slopes.dtype).expand_as(slopes))
    rotate = made("rotate", dims, bounds=None, range=(-10, 40))
    slopes = steps(rotate(ramps, numbers_of(rotate, elements)))
    torch.testing.assert_close(slopes @ slopes.mT, torch.eye(dims, dtype=slopes.dtype).expand_as(slopes))
    if dims == 2:
        spread(torch.rad2deg(torch.atan2(slopes[:, 0, 1], slopes[:, 0, 0])), -10, 40)


def boxes(found: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Along each axis, sides of the boxes in sides of the image and their middles, of ramps that a crop made."""
    sides, middles = [], []
    for axis, length in enumerate(found.shape[2:]):
        line = found[:, axis].movedim(axis + 1, -1)[(slice(None), *[0] * (found.ndim - 3))]
        # Around the centre, away from the border.
        below, above = line[:, length // 2 - 1], line[:, length // 2]
        sides.append(above - below)
        middles.append(below + sides[-1] * ((length - 1) / 2 - (length // 2 - 1)))
    return sides, middles


@pytest.mark.parametrize("size", SIZES)
def test_crops_have_the_share_the_ratio_and_a_place_inside(size: tuple[int, ...]) -> None:
    elements, dims = 600, len(size)
    ramps = ramps_of(size).expand(elements, *[-1] * (dims + 1))
    crop = made("crop", dims, bounds=None, range=(0.3, 1.0))
    numbers = numbers_of(crop, elements)
    sides, middles = boxes(crop(ramps, numbers))
    torch.testing.assert_close(torch.stack(sides).prod(0), 0.3 + 0.7 * numbers[:, 0].double(), rtol=1e-5, atol=0)
    ratios = [sides[-1] / sides[-2]]
    if dims == 3:
        ratios.append(sides[0] / (sides[1] * sides[2]).sqrt())
    for ratio in ratios:
        assert 3 / 4 - 1e-6 < ratio.min() < 0.77
        assert 1.3 < ratio.max() < 4 / 3 + 1e-6
        assert abs(ratio.log().mean()) < 0.03
    for side, middle, length in zip(sides, middles, size, strict=True):
        reach = (middle.abs() + side * length / 2) / (length / 2)
        assert 0.99 < reach.max() < 1 + 1e-6


@pytest.mark.parametrize(
    ("size", "ratios", "powers"),
    [
        pytest.param(PLANE, (0,), (0, 1), id="2D-high"),
        pytest.param(PLANE, (1,), (1, 0), id="2D-wide"),
        pytest.param(VOLUME, (1, 0.5), (0, 1 / 2, 1 / 2), id="3D-deep"),
        pytest.param(VOLUME, (0, 0.5), (1, 0, 0), id="3D-flat"),
        pytest.param(VOLUME, (2 / 3, 1), (1 / 3, 2 / 3, 0), id="3D-long"),
    ],
)
def test_a_large_crop_has_the_ratio_for_which_there_is_room(
    size: tuple[int, ...], ratios: tuple[float, ...], powers: tuple[float, ...]
) -> None:
    """At the limits of a ratio, a side of the box is one of the image; sides are powers of the share."""
    crop = made("crop", len(size), bounds=None, range=(0.9, 0.9))
    sides, _ = boxes(crop(ramps_of(size), torch.tensor([[0.0, *ratios, *[0.5] * len(size)]], dtype=torch.float64)))
    np.testing.assert_allclose(torch.cat(sides), 0.9 ** np.array(powers), rtol=1e-6)


def test_a_crop_is_stretched_to_the_size() -> None:
    """A box of half the sides, at the corner: as torch stretches the same pixels."""
    images = images_of((12, 16)).double()
    crop = made("crop", 2, range=(0.25, 0.25))
    found = crop(images, torch.tensor([[0.0, 0.5, 0.0, 0.5]]).expand(2, -1))
    expected: Any = interpolate(images[..., :6, 4:12], size=(12, 16), mode="bilinear")
    torch.testing.assert_close(found[..., :-1, 1:-1], expected[..., :-1, 1:-1], rtol=0, atol=1e-6)


def test_brightness_scales_from_the_lowest_intensity() -> None:
    images = images_of(PLANE) * 4 - 1
    np.testing.assert_allclose(at("brightness", images, 0.5, bounds=(-1.0, 3.0)), -1 + 0.5 * (images + 1), rtol=1e-5)
    np.testing.assert_allclose(
        at("brightness", images, 2, bounds=(-1.0, 3.0)), (2 * images + 1).clamp(-1, 3), rtol=1e-5
    )
    np.testing.assert_allclose(at("brightness", images, 2, bounds=None), 2 * images, rtol=1e-5)
    one = made("brightness", 2, range=(1, 1))
    torch.testing.assert_close(one(images_of(PLANE), numbers_of(one, 2)), images_of(PLANE), rtol=0, atol=1e-7)
    ones = torch.ones(500, 1, 2, 2)
    wide = made("brightness", 2, bounds=None)
    factors = wide(ones, numbers_of(wide, 500))[:, 0, 0, 0]
    assert 0 <= factors.min() < 0.02
    assert 1.98 < factors.max() <= 2


@pytest.mark.parametrize(("mode", "size"), with_modes((4, 5), (3, 4, 3)))
@pytest.mark.parametrize("kind", MOVING)
def test_gradients_are_right(kind: str, mode: str, size: tuple[int, ...]) -> None:
    transform = made(kind, len(size), bounds=None, mode=mode)
    images, uniform = images_of(size, channels=1).double().requires_grad_(), numbers_of(transform, 2)
    assert torch.autograd.gradcheck(lambda given: transform(given, uniform), images)


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_gradients_of_brightness_are_right(bounds: tuple[float, float] | None) -> None:
    brightness = made("brightness", 2, bounds)
    images, uniform = images_of((4, 5)).double().requires_grad_(), numbers_of(brightness, 2)
    assert torch.autograd.gradcheck(lambda given: brightness(given, uniform), images)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", RANDOM)
def test_elements_are_independent_to_the_last_bit(kind: str, size: tuple[int, ...]) -> None:
    transform = made(kind, len(size))
    images, uniform = images_of(size, elements=5), numbers_of(transform, 5)

    def passed(chosen: slice) -> tuple[Tensor, Tensor]:
        given = images[chosen].clone().requires_grad_()
        found = transform(given, uniform[chosen])
        found.square().sum().backward()
        assert given.grad is not None
        return found.detach(), given.grad

    whole, alone = passed(slice(None)), [passed(slice(i, i + 1)) for i in range(5)]
    for together, parts in zip(whole, zip(*alone, strict=True), strict=True):
        assert torch.equal(together, torch.cat(parts))
    assert not torch.equal(transform(images[:1], uniform[1:2]), whole[0][:1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [*RANDOM, "tv", "switching_bilateral"])
def test_shape_and_dtype_stay(kind: str, size: tuple[int, ...]) -> None:
    transform = made(kind, len(size))
    for images in (images_of(size), images_of(size).double()):
        found = transform(images, numbers_of(transform, 2))
        assert (found.shape, found.dtype) == (images.shape, images.dtype)


@pytest.mark.parametrize("kind", MOVING)
def test_bicubic_is_refused_in_3d(kind: str) -> None:
    with pytest.raises(SpecError) as caught:
        made(kind, 3, mode="bicubic")
    assert str(caught.value) == (
        f'visualise.regularize: {kind} with mode = "bicubic" is a 2D transform, and the network is 3D: '
        'set mode = "bilinear"'
    )


@pytest.mark.parametrize("regularizer", [Regularizer(kind="l1"), Regularizer(kind="tv", apply="forward")])
def test_penalties_are_refused(regularizer: Regularizer) -> None:
    with pytest.raises(ValueError, match=f"{regularizer.kind} is a penalty, not a transform"):
        transform_of(regularizer, 2, None)
