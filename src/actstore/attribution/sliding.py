"""A score over an image that is larger than the network's input, as a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor

from actstore.errors import SpecError


@torch.inference_mode()
def slide(
    score: Callable[[Tensor], Tensor],
    image: Tensor,
    size: Sequence[int],
    *,
    overlap: float = 0.5,
    batch_size: int = 8,
) -> Tensor:
    """Each pixel's mean score over the patches that hold it, (class_name, \\*space), in the scores' dtype.

    Parameters
    ----------
    score
        of patches (element, input_channel, \\*size): (element, class_name), as of a classifier or of
        `actstore.attribution.scores.ClassScores`.
    image
        (input_channel, [z,] y, x)
    size
        ([z,] y, x) of a patch.
    overlap
        share of a patch's side by which neighbours overlap, in [0, 1).
    batch_size
        patches of one pass.

    Raises
    ------
    SpecError
        if a patch does not fit into the image.
    """
    space = list(image.shape[1:])
    if len(size) != len(space) or any(side > n for side, n in zip(size, space, strict=True)):
        raise SpecError(f"patches of {list(size)} do not fit into the image of {space}: give the network's own size")

    def spread(patches: Tensor) -> Tensor:
        found = score(patches)
        return found.reshape(*found.shape, *[1] * len(size)).repeat(1, 1, *size)

    found = sliding_window_inference(image[None], tuple(size), batch_size, spread, overlap=overlap)
    assert isinstance(found, Tensor)
    return found[0]
