"""A score as a map over a larger image: the mean over the patches that hold a pixel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from actstore.attribution.sliding import slide
from actstore.errors import SpecError


@pytest.mark.parametrize(("space", "size"), [((20, 24), (8, 8)), ((10, 12, 8), (6, 4, 8))])
def test_each_pixel_has_the_mean_of_its_patches(space: tuple[int, ...], size: tuple[int, ...]) -> None:
    image = torch.rand(2, *space, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = slide(lambda patches: patches.flatten(2).amax(2), image, size, overlap=0.5, batch_size=3)
    assert found.shape == image.shape
    total, count = np.zeros(image.shape), np.zeros(space)
    starts = [sorted({*range(0, n - side, side // 2), n - side}) for n, side in zip(space, size, strict=True)]
    for first in itertools.product(*starts):
        at = tuple(slice(start, start + side) for start, side in zip(first, size, strict=True))
        own = image[(slice(None), *at)].flatten(1).amax(1).numpy()
        total[(slice(None), *at)] += own.reshape(2, *[1] * len(space))
        count[at] += 1
    np.testing.assert_allclose(found.numpy(), total / count, rtol=1e-6)


def test_a_patch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match=r"patches of \[32, 32\] do not fit into the image of \[20, 24\]: give the net"):
        slide(lambda patches: patches.flatten(1), torch.zeros(1, 20, 24), (32, 32))
