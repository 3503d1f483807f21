"""Names of per-channel statistics, their order, and their values for an unchanged map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

#: Statistics persisted per channel: of every condition, then of the original only.
PER_CONDITION = ("mad", "mse", "mean", "max")
ORIGINAL_STATISTICS = ("std",)
STATISTICS = PER_CONDITION + ORIGINAL_STATISTICS
#: Which values of a metric mean the largest change.
Order = Literal["largest", "smallest", "magnitude"]
#: All metrics of a channel between a condition and the original. Those not persisted are reduced from the tensors.
METRICS: Mapping[str, Order] = {
    "mad": "largest",
    "mse": "largest",
    "mean_difference": "magnitude",
    "cosine": "smallest",
    "psnr": "smallest",
    "ssim": "smallest",
}
#: Value of each metric between a map and itself: a channel with this value did not change and has no rank.
UNCHANGED: Mapping[str, float] = {
    "mad": 0.0,
    "mse": 0.0,
    "mean_difference": 0.0,
    "cosine": 1.0,
    "psnr": math.inf,
    "ssim": 1.0,
}
#: All statistics of a channel's maps.
MEASURES = (*METRICS, *(name for name in STATISTICS if name not in METRICS))

#: Channels of a layer that count as top, per sample and condition, and the most frequent of these that are reported,
#: where nothing else is asked for.
TOP = 3
MOST = 7
