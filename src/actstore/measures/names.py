"""Names of per-channel statistics, their order, and what each is where nothing changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

#: Persisted statistics a channel: differences from the original for every condition, then moments of the original.
DIFFERENCE_STATISTICS = ("mad", "mse")
ORIGINAL_STATISTICS = ("mean", "std")
STATISTICS = DIFFERENCE_STATISTICS + ORIGINAL_STATISTICS
#: Which values of a metric mean the most change.
Order = Literal["largest", "smallest", "magnitude"]
#: Every metric of a channel between a condition and the original. Those not persisted are reduced from the tensors.
METRICS: Mapping[str, Order] = {
    "mad": "largest",
    "mse": "largest",
    "mean_difference": "magnitude",
    "cosine": "smallest",
    "psnr": "smallest",
    "ssim": "smallest",
}
#: What each metric is between a map and itself: a channel with this value did not change, and has no rank.
UNCHANGED: Mapping[str, float] = {
    "mad": 0.0,
    "mse": 0.0,
    "mean_difference": 0.0,
    "cosine": 1.0,
    "psnr": math.inf,
    "ssim": 1.0,
}
#: Everything that a channel's maps can be reduced to.
MEASURES = (*METRICS, *ORIGINAL_STATISTICS)
