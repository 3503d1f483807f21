"""Lazy reductions over a store: xarray in, xarray out. Loads no model and no network library.

Arrays have the dims (sample, condition, channel, [z,] y, x), the original as the first condition; see each function.
"""

from actstore.analysis.arrays import AnalysisError
from actstore.analysis.cases import cases
from actstore.analysis.difference import mad, mse, statistics
from actstore.analysis.frames import channel_frame
from actstore.analysis.heterogeneity import heterogeneity, leave_one_out
from actstore.analysis.network import in_top, stack_layers
from actstore.analysis.patient_tables import (
    certainty_table,
    dice_mean_table,
    heterogeneity_table,
    layers_table,
    leave_one_out_table,
    sensitivity_table,
    stability_table,
)
from actstore.analysis.ranking import channel_frequency, most_frequent, top_channels
from actstore.analysis.regions import regional_mad
from actstore.analysis.segmentation import dice, jaccard, mean_dice
from actstore.analysis.stability import frequency_certainty, sensitivity_to_k, set_stability
from actstore.analysis.tables import (
    cases_table,
    dice_table,
    frequency_table,
    mad_table,
    top_channels_table,
)
from actstore.analysis.uncertainty import bootstrap_mean, dice_change, layer_mean, paired_change
from actstore.rules import CaseRules

__all__ = [
    "AnalysisError",
    "CaseRules",
    "bootstrap_mean",
    "cases",
    "cases_table",
    "certainty_table",
    "channel_frame",
    "channel_frequency",
    "dice",
    "dice_change",
    "dice_mean_table",
    "dice_table",
    "frequency_certainty",
    "frequency_table",
    "heterogeneity",
    "heterogeneity_table",
    "in_top",
    "jaccard",
    "layer_mean",
    "layers_table",
    "leave_one_out",
    "leave_one_out_table",
    "mad",
    "mad_table",
    "mean_dice",
    "most_frequent",
    "mse",
    "paired_change",
    "regional_mad",
    "sensitivity_table",
    "sensitivity_to_k",
    "set_stability",
    "stability_table",
    "stack_layers",
    "statistics",
    "top_channels",
    "top_channels_table",
]
