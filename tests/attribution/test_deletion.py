"""Deletion: scores of tiles deleted in an order, and a planted network whose patch a map finds first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from actstore.attribution.deletion import delete, tile_distances, tile_means
from actstore.attribution.occlusion import Windows
from actstore.attribution.saliency import saliency


@pytest.mark.parametrize("size", [(16, 16), (8, 12, 16)])
def test_of_a_linear_score_each_tile_takes_its_share(size: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 1, *size, generator=generator, dtype=torch.float64)
    image = torch.rand(1, *size, generator=generator, dtype=torch.float64)
    tiles = Windows.of(size, 4, 4)
    order = np.random.default_rng(0).permutation(np.prod(tiles.grid))
    counts = [0, 1, 3, len(order)]
    left = delete(
        lambda x: x.flatten(1) @ weights.flatten(1).T,
        image,
        torch.full_like(image, 0.25),
        tiles,
        [order, order[::-1]],
        counts,
        batch_size=3,
    )
    assert left.shape == (2, 4, 2)
    for number, way in enumerate((order, order[::-1])):
        for position, count in enumerate(counts):
            expected = image.clone()
            for tile in way[:count]:
                expected[(slice(None), *tiles.place([int(i) for i in np.unravel_index(tile, tiles.grid)]))] = 0.25
            score = (expected.flatten() @ weights.flatten(1).T).numpy()
            np.testing.assert_allclose(left[number, position], score, rtol=1e-12)


def test_means_and_distances_of_tiles() -> None:
    tiles = Windows.of((4, 6), 2, 2)
    maps = np.arange(48.0).reshape(2, 4, 6)
    maps[0, 0, 0] = np.nan
    maps[1, :2, :2] = np.nan
    found = tile_means(maps, tiles)
    assert found.shape == (2, 2, 3)
    assert found[0, 0, 0] == np.mean([1, 6, 7])
    assert found[1, 1, 2] == maps[1, 2:, 4:].mean()
    assert np.isnan(found[1, 0, 0])
    mask = np.zeros((4, 6), bool)
    mask[3, 5] = True
    distances = tile_distances(mask, tiles)
    assert distances[1, 2] == pytest.approx(np.hypot(0.5, 0.5))
    assert distances[0, 0] == pytest.approx(np.hypot(2.5, 4.5))


def test_a_map_finds_the_patch_that_a_network_reads_first() -> None:
    """Its class lies in the middle, and so looks for the patch in vain who deletes what is near."""
    size, patch = (32, 32), (slice(24, 32), slice(0, 8))
    weights = torch.zeros(size)
    weights[patch] = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    mask = torch.zeros(size, dtype=torch.bool)
    mask[12:20, 12:20] = True

    def score(inputs: Tensor) -> Tensor:
        return (inputs[:, 0] * weights).sum((1, 2))[:, None]

    image = torch.rand(1, *size, generator=torch.Generator().manual_seed(1)) + 0.5
    (maps, whole), tiles = saliency(lambda x: x, image[None], score), Windows.of(size, 8, 8)
    grad = maps[0, 0, 0].numpy()
    assert (grad[patch] > 0).all()
    assert np.count_nonzero(grad) == 64, "zero outside"
    nearest = np.argsort(tile_distances(mask.numpy(), tiles).ravel(), kind="stable")
    by_map = np.argsort(-tile_means(grad, tiles).ravel(), kind="stable")
    left = delete(score, image, torch.zeros_like(image), tiles, [by_map, nearest], [0, 1, 4])[..., 0]
    assert left[0] == pytest.approx([float(whole), 0, 0])
    assert left[1] == pytest.approx([float(whole)] * 3)
