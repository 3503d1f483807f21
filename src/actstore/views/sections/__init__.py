"""The sections of a report, in the order of a paper: what was done, what came of it, how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable

from actstore.views.page import Section, Study
from actstore.views.sections.network import activations, channels, layers, specific
from actstore.views.sections.patients import certainty, patients
from actstore.views.sections.questions import association, controls, dose, regions
from actstore.views.sections.segmentation import failures, images, segmentation

#: What makes each section, in order.
SECTIONS: tuple[Callable[[Study], Section], ...] = (
    images,
    segmentation,
    failures,
    channels,
    layers,
    activations,
    specific,
    certainty,
    patients,
    regions,
    controls,
    dose,
    association,
)
