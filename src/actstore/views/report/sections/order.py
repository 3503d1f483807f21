"""The sections of a report, in the order of a paper: what was done, what came of it, how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable

from actstore.views.report.sections.network import activations, channels, layers, specific
from actstore.views.report.sections.patients import certainty, patients
from actstore.views.report.sections.questions import association, controls, dose, regions
from actstore.views.report.sections.segmentation import failures, images, segmentation
from actstore.views.report.study import Section, Study

#: What makes each section, in order, by its key.
SECTIONS: dict[str, Callable[[Study], Section]] = {
    "images": images,
    "segmentation": segmentation,
    "failures": failures,
    "channels": channels,
    "layers": layers,
    "activations": activations,
    "specific": specific,
    "certainty": certainty,
    "patients": patients,
    "regions": regions,
    "controls": controls,
    "dose": dose,
    "association": association,
}

#: Those that need no table of the findings: they can be drawn while these are computed.
OF_THE_STORE = ("images", "failures", "channels", "activations")
