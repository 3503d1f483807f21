"""Penalties of images, against plain NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from actstore.maximisation.penalties import penalty_of
from actstore.spec.visualise import Regularizer

SIZES = [pytest.param((5, 7), id="2D"), pytest.param((3, 4, 6), id="3D")]


def images_of(size: tuple[int, ...], elements: int = 3, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(elements, channels, *size, generator=generator, dtype=torch.float64)


def made(kind: str, **options: Any) -> Any:
    if kind == "tv":
        options["apply"] = "forward"
    return penalty_of(Regularizer(kind=kind, **options))  # type: ignore[arg-type]


def by_numpy(kind: str, image: Any) -> float:
    if kind == "l1":
        return float(np.abs(image).mean())
    if kind == "l2":
        return float((image**2).mean())
    lengths = np.zeros_like(image)
    for axis in range(1, image.ndim):
        lengths += np.diff(image, axis=axis, append=np.take(image, [-1], axis)) ** 2
    return float(np.sqrt(lengths).mean())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["l1", "l2", "tv"])
def test_penalties_are_weighted_means(kind: str, size: tuple[int, ...]) -> None:
    images = images_of(size)
    found = made(kind, weight=2.5)(images)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, [2.5 * by_numpy(kind, image) for image in images.numpy()], rtol=1e-5)


def test_default_weights_are_those_of_the_spec() -> None:
    ones = torch.ones(1, 1, 4, 4)
    assert made("l1")(ones).item() == made("l2")(ones).item() == 10
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert made("tv")(ramp).item() == pytest.approx(0.1 * 3 / 4, rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["l1", "l2", "tv"])
def test_gradients_are_right(kind: str, size: tuple[int, ...]) -> None:
    assert torch.autograd.gradcheck(made(kind), images_of(size, elements=2, channels=1).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_total_variation_of_a_constant_image_has_value_and_gradient_zero(dtype: torch.dtype) -> None:
    images = torch.full((2, 1, 4, 5), 0.25, dtype=dtype, requires_grad=True)
    value = made("tv")(images)
    value.sum().backward()
    assert value.tolist() == pytest.approx([0, 0], abs=1e-12)
    assert images.grad is not None
    assert (images.grad == 0).all()


def test_the_optimum_under_l2_is_the_documented_one() -> None:
    filters = images_of((3, 4), elements=1)
    images = (filters / (2 * 1.5 / filters[0].numel())).requires_grad_()
    ((filters * images).sum() - made("l2", weight=1.5)(images).sum()).backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad, torch.zeros_like(filters))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("size", [*SIZES, (256, 256), (40, 44, 48)])
@pytest.mark.parametrize("kind", ["l1", "l2", "tv"])
def test_elements_are_independent_to_the_last_bit(kind: str, size: tuple[int, ...]) -> None:
    images = images_of(size, channels=1).float()
    alone = torch.cat([made(kind)(image[None]) for image in images])
    assert torch.equal(made(kind)(images), alone)


@pytest.mark.parametrize("regularizer", [Regularizer(kind="tv"), Regularizer(kind="rotate")], ids=["tv", "rotate"])
def test_what_is_no_penalty_is_refused(regularizer: Regularizer) -> None:
    with pytest.raises(ValueError, match=f"{regularizer.kind} is a transform, not a penalty"):
        penalty_of(regularizer)
