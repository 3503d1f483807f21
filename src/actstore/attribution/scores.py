"""The score of a class in each input: its logit or probability, averaged over pixels that are held fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from actstore.networks.heads import Head

Kind = Literal["probability", "logit"]
#: Of logits (element, class or region, \\*space) the score of each element and class, (element, class_name), and its
#: gradient through.
Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ClassScores:
    """Scores of several classes.

    A class that the head has no channel of its own for, as a region of exclusive classes, has the sum of their
    probabilities, and the logarithm of the sum of their exponentials as its logit.
    """

    head: Head
    #: Of each class, its exclusive classes as indices, and its number among classes and regions.
    members: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]
    kind: Kind

    def maps(self, logits: Tensor) -> Tensor:
        """Logit or probability in each pixel: (element, class_name, \\*space), in float32 at least.

        Of a classifier (element, class_name).
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.head.kind == "argmax":
            if self.kind == "logit":
                return torch.stack([logits[:, list(own)].logsumexp(1) for own in self.members], 1)
            shares = logits.softmax(1)
            return torch.stack([shares[:, list(own)].sum(1) for own in self.members], 1)
        if self.head.kind == "sigmoid" and not self.head.dims:
            # Of a classifier with one logit, which the first class lowers.
            logits = torch.cat([-logits, logits], 1)[:, [own[0] for own in self.members]]
            return logits if self.kind == "logit" else logits.sigmoid()
        own = logits if self.head.kind == "sigmoid" else logits[:, list(self.numbers)]
        return own if self.kind == "logit" else own.sigmoid()

    def within(self, masks: Tensor) -> Score:
        """Averages over ``masks``, bool (element, class_name, \\*space); NaN where a mask is empty."""
        flat = masks.flatten(2)
        pixels = flat.sum(2)
        weights = flat / pixels.clamp_min(1)[..., None]

        def score(logits: Tensor) -> Tensor:
            if logits.ndim == 2:
                # A classifier's, which are of the whole input.
                return self.maps(logits).masked_fill(pixels == 0, torch.nan)
            return (self.maps(logits).flatten(2) * weights).sum(2).masked_fill(pixels == 0, torch.nan)

        return score


def masks_of(classes: Tensor, members: Sequence[Sequence[int]]) -> Tensor:
    """Where a prediction (element, \\*space) is each class: bool (element, class_name, \\*space)."""
    return torch.stack([torch.isin(classes, classes.new_tensor(own)) for own in members], 1)
