"""Per-channel statistics of tensors, computed on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from actstore.measures.names import STATISTICS


def reduce_on_device(activation: Tensor) -> Tensor:
    """Persisted statistics of (sample, condition group, condition in group, channel group, channel, \\*space).

    Returns
    -------
    float64 (sample, statistic, condition, channel) on the same device, computed asynchronously; NaN outside of the
    original for statistics of it alone. As `actstore.analysis.statistics`, summed in float64.
    """
    conditions = activation.flatten(1, 2) if activation.shape[1] == 1 else activation[:, :, 0]
    # A layer without space has one pixel.
    original, *others = (c.reshape(*c.shape[:3], -1) for c in conditions.unbind(1))
    reduced = [reduce_maps(original), *(reduce_maps(original, other) for other in others)]
    lacking = torch.full_like(reduced[0]["mean"], torch.nan)
    return torch.stack(
        [torch.stack([values.get(name, lacking) for name in STATISTICS], 1) for values in reduced], 2
    ).flatten(3)


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
