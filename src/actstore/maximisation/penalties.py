"""Penalties: what is subtracted from the objective of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from actstore.spec.visualise import Regularizer

#: Smooths the total variation, in units of intensity: a constant image would have no finite gradient otherwise.
EPSILON = 1e-6

Penalty = Callable[[Tensor], Tensor]


def is_penalty(regularizer: Regularizer) -> bool:
    """Whether a regulariser is subtracted from the objective."""
    return regularizer.kind in _PENALTIES and not regularizer.on_image


def penalty_of(regularizer: Regularizer) -> Penalty:
    """The weighted penalty of "l1", "l2", or "tv" with ``apply = "forward"``.

    Returns
    -------
    a function of images (element, input_channel, [z,] y, x) of floats that returns the penalty (element) of each, in
    the images' dtype: ``weight`` times a mean over the pixels of all input channels. A mean, so that a weight does the
    same at every size. Under "l2", an objective ``(w * image).sum()`` has its optimum at
    ``image = w / (2 * weight / n)``, n being the number of values of an image.

    Raises
    ------
    ValueError
        for a kind that is no penalty.
    """
    if not is_penalty(regularizer):
        raise ValueError(f"{regularizer.kind} is a transform, not a penalty")
    penalty, weight = _PENALTIES[regularizer.kind], regularizer.strength
    return lambda images: weight * penalty(images)


def l1(images: Tensor) -> Tensor:
    """Mean of the absolute intensities of each image (element)."""
    return _mean(images.abs())


def l2(images: Tensor) -> Tensor:
    """Mean of the squared intensities of each image (element)."""
    return _mean(images.square())


def total_variation(images: Tensor) -> Tensor:
    """Mean over pixels of the length of the gradient, of each image (element); 0 for a constant image.

    Isotropic, by differences to the next pixel along each axis, 0 behind the last one: as in scikit-image's
    ``denoise_tv_chambolle``. Each input channel has its own.
    """
    squares = torch.zeros_like(images)
    for axis in range(2, images.ndim):
        last = images.narrow(axis, -1, 1)
        squares = squares + images.diff(dim=axis, append=last).square()
    return _mean((squares + EPSILON**2).sqrt() - EPSILON)


def _mean(values: Tensor) -> Tensor:
    """The mean of each element (element), the same to the last bit whatever else is in the batch.

    One axis after another: torch splits the sum of a lone element among threads, which rounds it differently.
    """
    while values.ndim > 1:
        values = values.mean(-1)
    return values


_PENALTIES: Mapping[str, Penalty] = {"l1": l1, "l2": l2, "tv": total_variation}
