"""Lazy reductions over a store: xarray in, xarray out. Loads no model and no network library.

Arrays have the dims (sample, condition, channel, [z,] y, x), the original as the first condition; see each function.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actstore.analysis.arrays import AnalysisError
    from actstore.analysis.channels.comparison import general_and_specific, shared_channels
    from actstore.analysis.channels.controls import class_sensitivity, noise_floor, noise_ratio
    from actstore.analysis.channels.dose import mad_response
    from actstore.analysis.channels.frequency import channel_frequency, most_frequent
    from actstore.analysis.channels.ranking import in_top, top_channels
    from actstore.analysis.channels.relative import network_rank, pooled_std, sample_rank, standardised
    from actstore.analysis.channels.stability import frequency_certainty, sensitivity_to_k, set_stability
    from actstore.analysis.classification import accuracy, class_cases, correct
    from actstore.analysis.curves.calibrated import calibration, expected_calibration_error, log_odds, score_totals
    from actstore.analysis.curves.counts import patient_counts, score_counts
    from actstore.analysis.curves.curves import auc, average_precision, precision_recall, roc
    from actstore.analysis.curves.summary import pixel_summary, score_summary
    from actstore.analysis.layers import layer_mean, stack_layers
    from actstore.analysis.maps.differences import cosine_similarity, mad, mean_difference, mse, psnr, ssim, statistics
    from actstore.analysis.maps.landmarks import landmarks
    from actstore.analysis.maps.mosaic import mosaic
    from actstore.analysis.maps.regions import mean_regions, regional_mad
    from actstore.analysis.maps.rescaling import rescaling
    from actstore.analysis.patients.association import association, beside_frequency
    from actstore.analysis.patients.heterogeneity import heterogeneity
    from actstore.analysis.patients.leave_one_out import leave_one_out
    from actstore.analysis.representations.embedding import embedding, pixels
    from actstore.analysis.representations.neighbours import neighbours
    from actstore.analysis.representations.projection import pca, projection, trustworthiness
    from actstore.analysis.representations.similarity import (
        cka,
        condition_similarity,
        gram_cka,
        map_gram,
        similarity,
    )
    from actstore.analysis.rounding import significant
    from actstore.analysis.segmentation.cases import cases
    from actstore.analysis.segmentation.counts import class_size
    from actstore.analysis.segmentation.dose import case_changes, dice_curve, half_loss
    from actstore.analysis.segmentation.merging import merged
    from actstore.analysis.segmentation.overlap import (
        dice,
        dice_change,
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
    from actstore.analysis.segmentation.pooling import pooled, slice_position, thirds
    from actstore.analysis.segmentation.surface import surface_distances
    from actstore.analysis.strengths import by_strength, doses
    from actstore.analysis.uncertainty.bootstrap import bootstrap_mean, paired_change
    from actstore.case_rules import CaseRules
    from actstore.tables.certainty import (
        certainty_table,
        heterogeneity_table,
        leave_one_out_table,
        sensitivity_table,
        stability_table,
    )
    from actstore.tables.channels import (
        comparison_table,
        frequency_table,
        general_specific_table,
        layers_table,
        mad_table,
        regions_table,
        relative_table,
        top_channels_table,
    )
    from actstore.tables.classification import accuracy_table
    from actstore.tables.controls import association_table, controls_table, noise_table, rescaling_table
    from actstore.tables.curves import (
        calibration_table,
        confusion_table,
        curves_table,
        precision_recall_table,
        roc_table,
    )
    from actstore.tables.doses import dose_cases_table, dose_channels_table, dose_half_table, dose_table
    from actstore.tables.rows import channel_frame
    from actstore.tables.segmentation import cases_table, dice_mean_table, dice_table, segmentation_table, surface_table

#: Where each public name is defined. A name is imported on first use: a worker loads only what it needs, and nothing
#: here imports the tables, which lie above.
_NAMES = {
    "actstore.analysis.arrays": "AnalysisError",
    "actstore.analysis.channels.comparison": "general_and_specific shared_channels",
    "actstore.analysis.channels.controls": "class_sensitivity noise_floor noise_ratio",
    "actstore.analysis.channels.dose": "mad_response",
    "actstore.analysis.channels.frequency": "channel_frequency most_frequent",
    "actstore.analysis.channels.ranking": "in_top top_channels",
    "actstore.analysis.channels.relative": "network_rank pooled_std sample_rank standardised",
    "actstore.analysis.channels.stability": "frequency_certainty sensitivity_to_k set_stability",
    "actstore.analysis.classification": "accuracy class_cases correct",
    "actstore.analysis.curves.calibrated": "calibration expected_calibration_error log_odds score_totals",
    "actstore.analysis.curves.counts": "patient_counts score_counts",
    "actstore.analysis.curves.curves": "auc average_precision precision_recall roc",
    "actstore.analysis.curves.summary": "pixel_summary score_summary",
    "actstore.analysis.layers": "layer_mean stack_layers",
    "actstore.analysis.maps.differences": "cosine_similarity mad mean_difference mse psnr ssim statistics",
    "actstore.analysis.maps.mosaic": "mosaic",
    "actstore.analysis.maps.landmarks": "landmarks",
    "actstore.analysis.maps.regions": "mean_regions regional_mad",
    "actstore.analysis.maps.rescaling": "rescaling",
    "actstore.analysis.patients.association": "association beside_frequency",
    "actstore.analysis.patients.heterogeneity": "heterogeneity",
    "actstore.analysis.patients.leave_one_out": "leave_one_out",
    "actstore.analysis.representations.embedding": "embedding pixels",
    "actstore.analysis.representations.neighbours": "neighbours",
    "actstore.analysis.representations.projection": "pca projection trustworthiness",
    "actstore.analysis.representations.similarity": "cka condition_similarity gram_cka map_gram similarity",
    "actstore.analysis.rounding": "significant",
    "actstore.analysis.segmentation.cases": "cases",
    "actstore.analysis.segmentation.counts": "class_size",
    "actstore.analysis.segmentation.dose": "case_changes dice_curve half_loss",
    "actstore.analysis.segmentation.merging": "merged",
    "actstore.analysis.segmentation.overlap": (
        "dice dice_change dice_over jaccard mean_dice precision relative_volume_difference "
        "segmentation_metrics sensitivity specificity volume_difference"
    ),
    "actstore.analysis.segmentation.pooling": "pooled slice_position thirds",
    "actstore.analysis.segmentation.surface": "surface_distances",
    "actstore.analysis.strengths": "by_strength doses",
    "actstore.analysis.uncertainty.bootstrap": "bootstrap_mean paired_change",
    "actstore.case_rules": "CaseRules",
    "actstore.tables.certainty": (
        "certainty_table heterogeneity_table leave_one_out_table sensitivity_table stability_table"
    ),
    "actstore.tables.channels": (
        "comparison_table frequency_table general_specific_table layers_table mad_table regions_table "
        "relative_table top_channels_table"
    ),
    "actstore.tables.classification": "accuracy_table",
    "actstore.tables.controls": "association_table controls_table noise_table rescaling_table",
    "actstore.tables.curves": ("calibration_table confusion_table curves_table precision_recall_table roc_table"),
    "actstore.tables.doses": "dose_cases_table dose_channels_table dose_half_table dose_table",
    "actstore.tables.rows": "channel_frame",
    "actstore.tables.segmentation": "cases_table dice_mean_table dice_table segmentation_table surface_table",
}
_MODULE = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "AnalysisError",
    "CaseRules",
    "accuracy",
    "accuracy_table",
    "association",
    "association_table",
    "auc",
    "average_precision",
    "beside_frequency",
    "bootstrap_mean",
    "by_strength",
    "calibration",
    "calibration_table",
    "case_changes",
    "cases",
    "cases_table",
    "certainty_table",
    "channel_frame",
    "channel_frequency",
    "cka",
    "class_cases",
    "class_sensitivity",
    "class_size",
    "comparison_table",
    "condition_similarity",
    "confusion_table",
    "controls_table",
    "correct",
    "cosine_similarity",
    "curves_table",
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
    "embedding",
    "expected_calibration_error",
    "frequency_certainty",
    "frequency_table",
    "general_and_specific",
    "general_specific_table",
    "gram_cka",
    "half_loss",
    "heterogeneity",
    "heterogeneity_table",
    "in_top",
    "jaccard",
    "landmarks",
    "layer_mean",
    "layers_table",
    "leave_one_out",
    "leave_one_out_table",
    "log_odds",
    "mad",
    "mad_response",
    "mad_table",
    "map_gram",
    "mean_dice",
    "mean_difference",
    "mean_regions",
    "merged",
    "mosaic",
    "most_frequent",
    "mse",
    "neighbours",
    "network_rank",
    "noise_floor",
    "noise_ratio",
    "noise_table",
    "paired_change",
    "patient_counts",
    "pca",
    "pixel_summary",
    "pixels",
    "pooled",
    "pooled_std",
    "precision",
    "precision_recall",
    "precision_recall_table",
    "projection",
    "psnr",
    "regional_mad",
    "regions_table",
    "relative_table",
    "relative_volume_difference",
    "rescaling",
    "rescaling_table",
    "roc",
    "roc_table",
    "sample_rank",
    "score_counts",
    "score_summary",
    "score_totals",
    "segmentation_metrics",
    "segmentation_table",
    "sensitivity",
    "sensitivity_table",
    "sensitivity_to_k",
    "set_stability",
    "shared_channels",
    "significant",
    "similarity",
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
    "trustworthiness",
    "volume_difference",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return __all__
