"""Counts of scores in bins, computed on the device of the logits."""

from __future__ import annotations

import torch
from torch import Tensor

from actstore.measures.bins import (
    BIN_WIDTH,
    BINS,
    CELLS,
    FIRST_EDGE,
    PROBABILITY_BINS,
    PROBABILITY_STEP,
    Activation,
)


def count_on_device(logits: Tensor, label: Tensor, member: Tensor, activation: Activation) -> Tensor:
    """As `actstore.measures.scores.count_scores`, of a batch, asynchronously, for `actstore.measures.scores.add_cells`.

    Only whole numbers are summed, so that the order in which a device adds does not matter.

    Parameters
    ----------
    logits
        (image, class, \\*space), of any floating dtype.
    label
        (image, \\*space) int16 class index; negative where a pixel does not count.
    member
        (class, 256) uint8.

    Returns
    -------
    int64 (image, 2, class, truth, cell) on the same device.
    """
    images, classes = logits.shape[:2]
    scores = logits.float().flatten(2).clamp(-1e30, 1e30)
    labels = label.flatten(1).long()
    counted = labels >= 0
    found = torch.zeros((2, images * classes * 2 * CELLS), dtype=torch.int64, device=logits.device)
    if activation == "softmax":
        exponentials = (scores - scores.amax(1, keepdim=True)).exp()
        total = exponentials.sum(1)
    for c in range(classes):
        if activation == "softmax":
            # Over the other classes, so that nothing cancels.
            others = torch.cat([scores[:, :c], scores[:, c + 1 :]], 1).logsumexp(1)
            logit, p = scores[:, c] - others, exponentials[:, c] / total
        else:
            logit = scores[:, c]
            p = logit.sigmoid()
        at = ((logit - FIRST_EDGE) / BIN_WIDTH).clamp(0, BINS - 1).nan_to_num().long()
        share = (p * PROBABILITY_BINS).clamp(0, PROBABILITY_BINS - 1).nan_to_num().long()
        truth = member[c].long()[labels.clamp(min=0)]
        place = (torch.arange(images, device=logits.device)[:, None] * classes + c) * 2 + truth
        cell = (place * CELLS + at + share).flatten()
        steps = (p / PROBABILITY_STEP).nan_to_num().round().long()
        found[0].scatter_add_(0, cell, counted.long().flatten())
        found[1].scatter_add_(0, cell, (steps * counted).flatten())
    return found.reshape(2, images, classes, 2, CELLS).transpose(0, 1)
