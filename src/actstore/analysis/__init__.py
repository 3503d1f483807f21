"""Lazy reductions over a store: xarray in, xarray out. Loads no model and no network library.

Arrays have the dims (sample, condition, channel, [z,] y, x), the original as the first condition; see each function.
"""

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.cases import cases
from actstore.analysis.difference import cosine_similarity, mad, mean_difference, mse, psnr, ssim, statistics
from actstore.analysis.network import in_top, stack_layers
from actstore.analysis.pooling import pooled, slice_position, thirds
from actstore.analysis.ranking import channel_frequency, most_frequent, top_channels
from actstore.analysis.segmentation import (
    dice,
    jaccard,
    mean_dice,
    precision,
    relative_volume_difference,
    segmentation_metrics,
    sensitivity,
    specificity,
    volume_difference,
)
from actstore.analysis.segmentation_tables import segmentation_table, surface_table
from actstore.analysis.surface import surface_distances
from actstore.analysis.tables import (
    cases_table,
    dice_table,
    frequency_table,
    mad_table,
    top_channels_table,
)
from actstore.rules import CaseRules

__all__ = [
    "AnalysisError",
    "CaseRules",
    "cases",
    "cases_table",
    "channel_frequency",
    "cosine_similarity",
    "dice",
    "dice_table",
    "frequency_table",
    "in_top",
    "jaccard",
    "mad",
    "mad_table",
    "mean_dice",
    "mean_difference",
    "most_frequent",
    "mse",
    "pooled",
    "precision",
    "psnr",
    "relative_volume_difference",
    "segmentation_metrics",
    "segmentation_table",
    "sensitivity",
    "slice_position",
    "specificity",
    "ssim",
    "stack_layers",
    "statistics",
    "surface_distances",
    "surface_table",
    "thirds",
    "top_channels",
    "top_channels_table",
    "volume_difference",
]
