"""Occlusion: exact of a linear network, at the place of a planted one, and of one grid of windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from actstore.attribution.occlusion import Windows, filling, occlude
from actstore.attribution.saliency import saliency
from actstore.attribution.scores import ClassScores, masks_of
from actstore.errors import SpecError
from actstore.networks.heads import Head


def test_windows_end_with_the_input() -> None:
    windows = Windows.of((10, 7), 4, 3)
    assert windows.starts == ((0, 3, 6), (0, 3))
    assert Windows.of((11, 7), 4, 3).starts == ((0, 3, 6, 7), (0, 3))
    assert windows.place((2, 1)) == (slice(6, 10), slice(3, 7))
    assert Windows.of((256, 256), 16, 8).grid == (31, 31), "961 windows"
    assert Windows.of((8, 16, 16), (4, 8, 8), 4).grid == (2, 3, 3)


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (40, 8, r"window = \[40, 40\] is larger than the input of \[32, 32\]: give a side that fits into it"),
        (8, 0, r"stride = \[0, 0\]: give 2 numbers of pixels from 1 on"),
        ((8, 8, 8), 4, r"window = \[8, 8, 8\]: give 2 numbers"),
    ],
)
def test_windows_that_cannot_be(window: int | tuple[int, ...], stride: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Windows.of((32, 32), window, stride)


@pytest.mark.parametrize("size", [(12, 9), (6, 8, 7)])
def test_of_a_linear_network_the_drop_is_what_the_window_held(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
    image = torch.rand(1, *size, generator=generator, dtype=torch.float64)

    def score(inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ weights.flatten(1).T

    windows = Windows.of(size, 4, 3)
    filled = torch.full_like(image, 0.25)
    found, _ = occlude(score, image, filled, windows, batch_size=5)
    assert found.shape == (2, *windows.grid)
    for index in np.ndindex(*windows.grid):
        at = (slice(None), *windows.place(index))
        expected = (weights[(slice(None), *at)] * (image[at] - 0.25)).flatten(1).sum(1)
        np.testing.assert_allclose(found[(slice(None), *index)], expected, rtol=1e-12, atol=1e-12)


def test_windows_that_are_not_chosen_are_not_tried() -> None:
    seen = []

    def score(inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        return inputs.flatten(1).sum(1, keepdim=True)

    windows = Windows.of((8, 8), 4, 4)
    chosen = windows.touching([(0, 3), (0, 8)])
    assert chosen.tolist() == [[True, True], [False, False]]
    found, whole = occlude(score, torch.ones(1, 8, 8), torch.zeros(1, 8, 8), windows, chosen=chosen)
    assert found.tolist() == [[[16.0, 16.0], [pytest.approx(math.nan, nan_ok=True)] * 2]]
    assert whole.tolist() == [64.0]
    assert seen == [1, 2], "one pass of the input, one of both windows"
    spread = windows.spread(found)
    assert spread.shape == (1, 8, 8)
    assert (spread[0, :4] == 16).all()
    assert np.isnan(spread[0, 4:]).all()


def test_a_pixel_has_the_mean_of_the_windows_that_hide_it() -> None:
    windows = Windows.of((6,), 4, 2)
    assert windows.spread(np.array([2.0, 4.0], np.float32)).tolist() == [2.0, 2.0, 3.0, 3.0, 4.0, 4.0]


def test_what_stands_in_a_window() -> None:
    image = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    area = [(0, 2), (0, 4)]
    assert filling(image, "mean", (2, 2), area)[:, 3, 3].tolist() == [3.5, 19.5]
    assert (filling(image, -1, (2, 2), area) == -1).all()
    blurred = filling(image, "blur", (2, 2), area)
    assert blurred.shape == image.shape
    assert blurred.std() < image.std()


class Planted(nn.Module):
    """Class 1 where the mean of one patch of 4 x 4 is high; all else is not looked at."""

    def forward(self, x: Tensor) -> Tensor:
        high = x[:, :, 8:12, 4:8].relu().mean((1, 2, 3)).reshape(-1, 1, 1, 1)
        return torch.cat([torch.zeros_like(x), high.expand_as(x)], 1)


def test_a_planted_patch_is_found_by_occlusion_and_by_the_gradient() -> None:
    network = Planted()
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(3)) + 0.5
    scores = ClassScores(Head("argmax", 2, 2), ((1,),), (0,), "probability")
    score = scores.within(torch.ones(1, 1, 16, 16, dtype=torch.bool))
    windows = Windows.of((16, 16), 4, 4)
    drops, _ = occlude(lambda x: score(network(x)), image, torch.zeros_like(image), windows)
    assert np.unravel_index(drops[0].argmax(), windows.grid) == (2, 1)
    assert np.count_nonzero(drops) == 1
    maps, _ = saliency(network, image[None], score, "guided")
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[8:12, 4:8] = True
    assert bool((maps[0, 0, 0][inside] > 0).all())
    assert bool((maps[0, 0, 0][~inside] == 0).all())


class TestScores:
    logits = torch.tensor([[[[0.0, 1.0]], [[2.0, 0.0]], [[1.0, 1.0]]]])

    def test_probability_and_logit_of_classes_and_regions(self) -> None:
        head, members = Head("argmax", 3, 2), ((1,), (1, 2))
        shares = self.logits.softmax(1)
        found = ClassScores(head, members, (0, 1), "probability").maps(self.logits)
        torch.testing.assert_close(found[:, 0], shares[:, 1])
        torch.testing.assert_close(found[:, 1], 1 - shares[:, 0])
        found = ClassScores(head, members, (0, 1), "logit").maps(self.logits)
        torch.testing.assert_close(found[:, 0], self.logits[:, 1])
        torch.testing.assert_close(found[:, 1], self.logits[:, 1:].logsumexp(1))

    def test_sigmoids_of_regions(self) -> None:
        head = Head("regions", 3, 2, order=(1, 2, 3))
        found = ClassScores(head, ((1, 2, 3), (3,)), (0, 2), "probability").maps(self.logits)
        torch.testing.assert_close(found, self.logits[:, [0, 2]].sigmoid())

    def test_an_empty_mask_is_nan_and_leaves_the_others_alone(self) -> None:
        head, members = Head("argmax", 3, 2), ((1,), (2,))
        masks = masks_of(torch.tensor([[[1, 0]]], dtype=torch.uint8), members)
        assert masks.tolist() == [[[[True, False]], [[False, False]]]]
        inputs = self.logits.clone()
        score = ClassScores(head, members, (0, 1), "logit").within(masks)
        maps, scores = saliency(lambda x: x, inputs, score)
        assert scores[0].tolist() == [2.0, pytest.approx(math.nan, nan_ok=True)]
        assert maps[0, 0].tolist() == [[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]]
        assert (maps[0, 1] == 0).all()
