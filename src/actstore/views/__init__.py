"""Figures of a store and of its tables as HoloViews objects, and the report made of them."""

from actstore.views.figures.channels import frequency, layers
from actstore.views.figures.classification import accuracy, classified
from actstore.views.figures.cube import cube
from actstore.views.figures.curves import calibration, confusion, precision_recall, roc
from actstore.views.figures.doses import dose, dose_cases, dose_channels
from actstore.views.figures.evidence import association, certainty, controls, noise, sensitivity, stability
from actstore.views.figures.explanations import explanation, focus, projections
from actstore.views.figures.groups import comparison, general_specific, heterogeneity, leave_one_out
from actstore.views.figures.images import activation, gallery, inputs
from actstore.views.figures.interventions import agreement, effects, rankings
from actstore.views.figures.likeness import filters, neighbours, similarity
from actstore.views.figures.network import mad_by_layer, network
from actstore.views.figures.one_channel import channel_dose, mad_by_patient, strongest
from actstore.views.figures.optima import optima
from actstore.views.figures.optimum import optimum
from actstore.views.figures.orders import areas, cumulative
from actstore.views.figures.projections import projection
from actstore.views.figures.regions import regions
from actstore.views.figures.saving import save
from actstore.views.figures.segmentation import (
    cases,
    dice,
    dice_by_patient,
    dice_by_position,
    dice_change,
    dice_cumulative,
    dice_paired,
)
from actstore.views.figures.trust import deletion, randomisation

__all__ = [
    "accuracy",
    "activation",
    "agreement",
    "areas",
    "association",
    "calibration",
    "cases",
    "certainty",
    "channel_dose",
    "classified",
    "comparison",
    "confusion",
    "controls",
    "cube",
    "cumulative",
    "deletion",
    "dice",
    "dice_by_patient",
    "dice_by_position",
    "dice_change",
    "dice_cumulative",
    "dice_paired",
    "dose",
    "dose_cases",
    "dose_channels",
    "effects",
    "explanation",
    "filters",
    "focus",
    "frequency",
    "gallery",
    "general_specific",
    "heterogeneity",
    "inputs",
    "layers",
    "leave_one_out",
    "mad_by_layer",
    "mad_by_patient",
    "neighbours",
    "network",
    "noise",
    "optima",
    "optimum",
    "precision_recall",
    "projection",
    "projections",
    "randomisation",
    "rankings",
    "regions",
    "roc",
    "save",
    "sensitivity",
    "similarity",
    "stability",
    "strongest",
]
