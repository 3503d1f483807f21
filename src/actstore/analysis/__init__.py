"""Lazy reductions over a store: xarray in, xarray out. Loads no model and no network library.

Arrays have the dims (sample, condition, channel, [z,] y, x), the original as the first condition; see each function.
"""

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.association import association, beside_frequency
from actstore.analysis.cases import cases
from actstore.analysis.comparison import general_and_specific, shared_channels
from actstore.analysis.controls import class_sensitivity, noise_floor, noise_ratio
from actstore.analysis.difference import cosine_similarity, mad, mean_difference, mse, psnr, ssim, statistics
from actstore.analysis.dose import case_changes, dice_curve, half_loss, mad_response
from actstore.analysis.frames import channel_frame
from actstore.analysis.heterogeneity import heterogeneity, leave_one_out
from actstore.analysis.network import in_top, stack_layers
from actstore.analysis.pooling import pooled, slice_position, thirds
from actstore.analysis.ranking import channel_frequency, most_frequent, top_channels
from actstore.analysis.regions import mean_regions, regional_mad, regions_table
from actstore.analysis.relative import network_rank, pooled_std, sample_rank, standardised
from actstore.analysis.rescaling import rescaling
from actstore.analysis.rounding import significant
from actstore.analysis.segmentation import (
    class_size,
    dice,
    dice_over,
    jaccard,
    mean_dice,
    precision,
    relative_volume_difference,
    segmentation_metrics,
    sensitivity,
    specificity,
    volume_difference,
)
from actstore.analysis.stability import frequency_certainty, sensitivity_to_k, set_stability
from actstore.analysis.strengths import by_strength, doses
from actstore.analysis.surface import surface_distances
from actstore.analysis.uncertainty import bootstrap_mean, dice_change, layer_mean, paired_change
from actstore.case_rules import CaseRules
from actstore.tables.of_patients import (
    certainty_table,
    dice_mean_table,
    heterogeneity_table,
    layers_table,
    leave_one_out_table,
    relative_table,
    sensitivity_table,
    stability_table,
)
from actstore.tables.of_responses import (
    association_table,
    comparison_table,
    controls_table,
    dose_cases_table,
    dose_channels_table,
    dose_half_table,
    dose_table,
    general_specific_table,
    noise_table,
)
from actstore.tables.of_samples import (
    cases_table,
    dice_table,
    frequency_table,
    mad_table,
    rescaling_table,
    top_channels_table,
)
from actstore.tables.of_segmentation import segmentation_table, surface_table

__all__ = [
    "AnalysisError",
    "CaseRules",
    "association",
    "association_table",
    "beside_frequency",
    "bootstrap_mean",
    "by_strength",
    "case_changes",
    "cases",
    "cases_table",
    "certainty_table",
    "channel_frame",
    "channel_frequency",
    "class_sensitivity",
    "class_size",
    "comparison_table",
    "controls_table",
    "cosine_similarity",
    "dice",
    "dice_change",
    "dice_curve",
    "dice_mean_table",
    "dice_over",
    "dice_table",
    "dose_cases_table",
    "dose_channels_table",
    "dose_half_table",
    "dose_table",
    "doses",
    "frequency_certainty",
    "frequency_table",
    "general_and_specific",
    "general_specific_table",
    "half_loss",
    "heterogeneity",
    "heterogeneity_table",
    "in_top",
    "jaccard",
    "layer_mean",
    "layers_table",
    "leave_one_out",
    "leave_one_out_table",
    "mad",
    "mad_response",
    "mad_table",
    "mean_dice",
    "mean_difference",
    "mean_regions",
    "most_frequent",
    "mse",
    "network_rank",
    "noise_floor",
    "noise_ratio",
    "noise_table",
    "paired_change",
    "pooled",
    "pooled_std",
    "precision",
    "psnr",
    "regional_mad",
    "regions_table",
    "relative_table",
    "relative_volume_difference",
    "rescaling",
    "rescaling_table",
    "sample_rank",
    "segmentation_metrics",
    "segmentation_table",
    "sensitivity",
    "sensitivity_table",
    "sensitivity_to_k",
    "set_stability",
    "shared_channels",
    "significant",
    "slice_position",
    "specificity",
    "ssim",
    "stability_table",
    "stack_layers",
    "standardised",
    "statistics",
    "surface_distances",
    "surface_table",
    "thirds",
    "top_channels",
    "top_channels_table",
    "volume_difference",
]
