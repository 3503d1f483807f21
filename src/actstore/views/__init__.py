"""Figures of a store and of its tables as HoloViews objects, and the report made of them."""

from actstore.views.channels import frequency, layers
from actstore.views.cohort import comparison, general_specific, heterogeneity, leave_one_out
from actstore.views.cube import cube
from actstore.views.evidence import association, certainty, controls, noise, sensitivity, stability
from actstore.views.images import activation, gallery, inputs
from actstore.views.network import mad_by_layer, network
from actstore.views.paired import dice_paired
from actstore.views.response import dose, dose_cases, dose_channels, regions
from actstore.views.responses import channel_dose, mad_by_patient, strongest
from actstore.views.saving import save
from actstore.views.segmentation import cases, dice, dice_by_patient, dice_by_position, dice_change, dice_cumulative

__all__ = [
    "activation",
    "association",
    "cases",
    "certainty",
    "channel_dose",
    "comparison",
    "controls",
    "cube",
    "dice",
    "dice_by_patient",
    "dice_by_position",
    "dice_change",
    "dice_cumulative",
    "dice_paired",
    "dose",
    "dose_cases",
    "dose_channels",
    "frequency",
    "gallery",
    "general_specific",
    "heterogeneity",
    "inputs",
    "layers",
    "leave_one_out",
    "mad_by_layer",
    "mad_by_patient",
    "network",
    "noise",
    "regions",
    "save",
    "sensitivity",
    "stability",
    "strongest",
]
