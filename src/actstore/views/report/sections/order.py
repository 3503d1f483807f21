"""The sections of a report, in the order of a paper: what was done, what came of it, how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from actstore.analysis.evidence import perturbations
from actstore.conditions import REPEAT
from actstore.views.report.sections.classification import classification
from actstore.views.report.sections.curves import curves
from actstore.views.report.sections.explanations import explained, has_explanations
from actstore.views.report.sections.interventions import has_interventions, interventions
from actstore.views.report.sections.likeness import likeness
from actstore.views.report.sections.network import activations, channels, layers, specific
from actstore.views.report.sections.optima import has_optima, optima
from actstore.views.report.sections.patients import certainty, patients
from actstore.views.report.sections.questions import association, controls, dose, regions
from actstore.views.report.sections.segmentation import failures, images, segmentation
from actstore.views.report.study import Section, Study

if TYPE_CHECKING:
    from actstore.store.store import Store

#: What makes each section, in order, by its key.
SECTIONS: dict[str, Callable[[Study], Section]] = {
    "images": images,
    "classification": classification,
    "segmentation": segmentation,
    "failures": failures,
    "curves": curves,
    "interventions": interventions,
    "channels": channels,
    "layers": layers,
    "activations": activations,
    "optima": optima,
    "explanations": explained,
    "specific": specific,
    "likeness": likeness,
    "certainty": certainty,
    "patients": patients,
    "regions": regions,
    "controls": controls,
    "dose": dose,
    "association": association,
}

#: Those that need no table of the findings: they can be drawn while these are computed.
OF_THE_STORE = ("images", "classification", "failures", "channels", "activations", "optima", "explanations")

#: Of a job that a study need not run: left out, without a word, where the store has nothing of it.
OF_JOBS: dict[str, Callable[[Store], bool]] = {
    "optima": has_optima,
    "explanations": has_explanations,
    "interventions": has_interventions,
}
#: Whose first figures the page begins with: a picture, how the prediction changes, and the network's map.
LEAD = ("images", "segmentation", "classification", "channels")
#: Sentences of the summary, the first of a section each, and which sections come first.
BRIEF = 5
LEADING = ("interventions", "segmentation", "classification", "channels", "controls")

#: Of what each pixel is predicted as: none of a classifier's report.
OF_PIXELS = ("segmentation", "failures", "regions", "dose", "association")
#: Of what does not change without a perturbation.
WITHOUT_PERTURBATION = ("segmentation", "classification", "curves", "likeness", "controls", *OF_JOBS)


def sections_of(store: Store) -> dict[str, Callable[[Study], Section]]:
    """What makes each section that a report of the store has, in order."""
    return {key: make for key, make in SECTIONS.items() if has_section(store, key)}


def has_section(store: Store, key: str) -> bool:
    """Whether a report of the store has the section."""
    if key in OF_JOBS:
        return OF_JOBS[key](store)
    if key not in WITHOUT_PERTURBATION and not len(perturbations(store.applicable)):
        return False
    if key == "classification" or key in OF_PIXELS:
        return store.classified == (key == "classification")
    return key != "controls" or not store.classified or REPEAT in store.conditions["transform"].tolist()
