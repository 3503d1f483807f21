"""Per-channel statistics of tensors, computed on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from actstore.measures.names import PER_CONDITION


def reduce_on_device(activation: Tensor) -> dict[str, Tensor]:
    """Persisted statistics of (sample, condition group, condition in group, channel group, channel, \\*space).

    Returns
    -------
    name to float64 tensor on the same device, computed asynchronously: (sample, condition, channel), or (sample,
    channel) for "std". As `actstore.analysis.statistics`, summed in float64.
    """
    conditions = activation.flatten(1, 2) if activation.shape[1] == 1 else activation[:, :, 0]
    original, *others = (conditions[:, c].flatten(3) for c in range(conditions.shape[1]))
    reduced = [reduce_maps(original), *(reduce_maps(original, other) for other in others)]
    found = {name: torch.stack([values[name] for values in reduced], 1).flatten(2) for name in PER_CONDITION}
    return found | {"std": reduced[0]["std"].flatten(1)}


def reduce_maps(original: Tensor, other: Tensor | None = None) -> dict[str, Tensor]:
    """Persisted statistics of one condition's maps (…, pixel) against the original's, or of the original alone.

    Returns
    -------
    name to float64 (…) on the same device; "std" of the original only.
    """
    before = original.float()
    if other is None:
        unchanged = torch.where(before.isfinite().all(-1), 0.0, torch.nan).double()
        mean = before.mean(-1, dtype=torch.float64)
        std = (before - mean[..., None]).square().mean(-1).sqrt()
        return {"mad": unchanged, "mse": unchanged, "mean": mean, "max": before.amax(-1).double(), "std": std}
    after, size = other.float(), original.shape[-1]
    difference = after - before
    return {
        "mad": difference.abs().sum(-1, dtype=torch.float64) / size,
        "mse": difference.double().square().sum(-1) / size,
        "mean": after.mean(-1, dtype=torch.float64),
        "max": after.amax(-1).double(),
    }
