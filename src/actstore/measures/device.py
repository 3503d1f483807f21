"""Per-channel statistics of tensors, computed on their device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reduce_on_device(activation: Tensor) -> dict[str, Tensor]:
    """Persisted statistics of (sample, condition group, condition in group, channel group, channel, \\*space).

    Returns
    -------
    name to float64 tensor on the same device, computed asynchronously: (sample, condition, channel), or (sample,
    channel) for "std". As `actstore.analysis.statistics`, summed in float64.
    """
    conditions = activation.flatten(1, 2) if activation.shape[1] == 1 else activation[:, :, 0]
    size = math.prod(conditions.shape[4:])

    def maps(condition: int) -> Tensor:
        """(sample, channel group, channel, pixel) of one condition, in the precision of differences."""
        return conditions[:, condition].flatten(3).float()

    original = maps(0)
    finite = torch.where(original.isfinite().all(-1), 0.0, torch.nan).double()
    mean, largest = [original.mean(-1, dtype=torch.float64)], [original.amax(-1).double()]
    std = (original - mean[0][..., None]).square().mean(-1).sqrt()
    mad, mse = [finite], [finite]
    for condition in range(1, conditions.shape[1]):
        other = maps(condition)
        difference = other - original
        mad.append(difference.abs().sum(-1, dtype=torch.float64) / size)
        mse.append(difference.double().square().sum(-1) / size)
        mean.append(other.mean(-1, dtype=torch.float64))
        largest.append(other.amax(-1).double())
    found = {"mad": mad, "mse": mse, "mean": mean, "max": largest}
    return {name: torch.stack(values, 1).flatten(2) for name, values in found.items()} | {"std": std.flatten(1)}
