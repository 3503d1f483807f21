"""What is like what: layers, perturbed and original, and samples of other patients."""

from __future__ import annotations

from actstore.units import counted
from actstore.views.figures import likeness as figures
from actstore.views.figures.projections import moved_most, projection
from actstore.views.report.sentences import likeness as on
from actstore.views.report.study import Figure, Section, Study
from actstore.views.wording import notes_of, rests_on

#: Samples above which a report looks for no neighbours and draws no samples: both compare every two of them.
MOST_SAMPLES = 5000


def likeness(study: Study) -> Section:
    """Similarity of layers, where perturbations move samples, and the nearest samples of other patients."""
    missing: list[str] = []
    drawn, findings, words = [], [], []
    colours = study.colours
    similar = study.ask("similarity", missing)
    if similar is not None:
        words += [on.CKA, on.PERMUTED]
        findings += [*on.alike(similar), *on.kept(similar, study.action)]
        drawn.append(
            Figure(
                "similarity",
                lambda: figures.similarity(similar, colours),
                "Left, linear CKA of every two layers on the original; a layer in which all samples are one is like "
                "nothing, and grey. Right, CKA of each layer between samples when perturbed and on the original. "
                f"{rests_on(similar)}.",
                "Map of layers by layers, and lines over layers, one a perturbation",
                similar,
            )
        )
        words += notes_of(similar, "similarity")
    many = len(study.store.samples)
    rests = f"n = {counted(many, 'sample')}, {counted(study.store.samples['patient'].nunique(), 'patient')}."
    if many > MOST_SAMPLES:
        missing.append(
            f"{many} samples are more than a report compares one with another: `actstore table` writes neighbours and "
            "projection, docs/howto/compare.md has faiss for a million."
        )
        return Section("likeness", "What is like what", words, drawn, (), findings, missing)
    moved = study.ask("projection", missing)
    if moved is not None:
        layer = moved_most(moved)
        own = moved[moved["layer"] == layer].reset_index(drop=True)
        drawn.append(
            Figure(
                "projection",
                lambda: projection(own, colours),
                f"Samples in {layer}, in which perturbations move them furthest beside how they spread: grey on the "
                f"original, an arrow to where the perturbation moves each. {on.pictured(own, layer)} {rests}",
                "Points in the plane with arrows, one plot a perturbation",
                own,
            )
        )
    near = study.ask("neighbours", missing)
    if near is not None:
        findings += on.nearest(near, study.noun)
        layer = str(near["layer"].iloc[-1]) if moved is None else moved_most(moved)
        shown = near[near["layer"] == layer].reset_index(drop=True)
        if len(shown):
            drawn.append(
                Figure(
                    "neighbours",
                    lambda: figures.neighbours(study.store, layer, table=shown),
                    f"Left, a {study.noun} of each of the first patients; beside it the nearest of other patients in "
                    f"{layer} on the original, with the distance there. {rests}",
                    "Rows of images: a sample and its nearest",
                    shown,
                )
            )
    return Section("likeness", "What is like what", words, drawn, (), findings, missing)
